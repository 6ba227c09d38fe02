/// A place in the write-ahead log that a reader must see: what was written before it is visible on every database that has
/// replayed it.
///
/// Written as `TIMELINE/HIGH/LOW`, hexadecimal numbers: an LSN as PostgreSQL writes it behind its timeline. Only tokens of one
/// timeline can be compared: after a failover, part of the old one may be lost. Source: PostgreSQL manual, "Write-Ahead Log
/// Internals" and "Timelines".
public struct FreshnessToken: Hashable, Sendable {
    public let timeline: UInt32
    /// Bytes from the beginning of the log.
    public let position: UInt64

    public init(timeline: UInt32, position: UInt64) {
        self.timeline = timeline
        self.position = position
    }

    /// Whether who has replayed up to this token sees what was written before `other`. On another timeline nobody knows.
    public func covers(_ other: FreshnessToken) -> Bool {
        timeline == other.timeline && position >= other.position
    }
}

extension FreshnessToken: LosslessStringConvertible {
    public init?(_ description: String) {
        let parts = description.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 3, parts.allSatisfy({ $0.utf8.allSatisfy(\.isHexadecimalDigit) }),
            let timeline = UInt32(parts[0], radix: 16), let high = UInt32(parts[1], radix: 16),
            let low = UInt32(parts[2], radix: 16)
        else { return nil }
        self.init(timeline: timeline, position: UInt64(high) << 32 | UInt64(low))
    }

    public var description: String {
        [UInt64(timeline), position >> 32, position & 0xFFFF_FFFF]
            .map { String($0, radix: 16, uppercase: true) }.joined(separator: "/")
    }
}

extension UInt8 {
    fileprivate var isHexadecimalDigit: Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self)
            || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(self | 0x20)
    }
}
