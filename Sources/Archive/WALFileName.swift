/// The name of a file that PostgreSQL archives.
///
/// Source: PostgreSQL manual, "Continuous Archiving and Point-in-Time Recovery (PITR)"; `access/xlog_internal.h`.
package struct WALFileName: Sendable, Hashable {
    package enum Kind: Sendable, Hashable {
        /// A complete segment, `000000010000000000000003`.
        case segment
        /// The last segment of a timeline that ended in a promotion, `….partial`.
        case partialSegment
        /// Which timeline branched off where, `00000002.history`.
        case timelineHistory
        /// Where a base backup began and ended, `000000010000000000000003.00000028.backup`.
        case backupHistory
    }

    package let text: String
    package let kind: Kind
    package let timeline: UInt32
    /// The 16 hexadecimal digits after the timeline, as one number. 0 for a timeline history file.
    package let position: UInt64

    /// Recognises a name; `nil` for one that PostgreSQL never gives, such as one with a path in it.
    package init?(_ text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        let digits = parts[0].utf8.count
        switch (digits, parts.count) {
        case (24, 1): kind = .segment
        case (24, 2) where parts[1] == "partial": kind = .partialSegment
        case (24, 3) where parts[2] == "backup" && parts[1].utf8.count == 8 && parts[1].isUpperHexadecimal:
            kind = .backupHistory
        case (8, 2) where parts[1] == "history": kind = .timelineHistory
        default: return nil
        }
        guard parts[0].isUpperHexadecimal, let timeline = UInt32(parts[0].prefix(8), radix: 16) else { return nil }
        self.text = text
        self.timeline = timeline
        position = UInt64(parts[0].dropFirst(8), radix: 16) ?? 0
    }

    /// Where in the WAL a segment begins, given the size of one.
    package func startPosition(segmentSize: UInt64) -> UInt64 {
        (position >> 32) << 32 + (position & 0xFFFF_FFFF) * segmentSize
    }
}

extension WALFileName: Comparable {
    /// By timeline, then by position: the order in which PostgreSQL wrote them.
    package static func < (left: WALFileName, right: WALFileName) -> Bool {
        (left.timeline, left.position, left.text) < (right.timeline, right.position, right.text)
    }
}

extension Substring {
    fileprivate var isUpperHexadecimal: Bool {
        utf8.allSatisfy { (0x30...0x39).contains($0) || (0x41...0x46).contains($0) }
    }
}
