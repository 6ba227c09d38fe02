/// A position in the write-ahead log: bytes since the log began, on some timeline.
///
/// Text form as in PostgreSQL's `pg_lsn` type: two hexadecimal halves, `16/B374D848`.
/// Source: PostgreSQL manual, "pg_lsn Type".
package struct LSN: Hashable, Comparable, Sendable, RawRepresentable {
    package let rawValue: UInt64

    package init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// Parses PostgreSQL's text form; `nil` when the text is not one.
    package init?(_ text: some StringProtocol) {
        let halves = text.split(separator: "/", omittingEmptySubsequences: false)
        guard halves.count == 2, let high = Self.half(halves[0]), let low = Self.half(halves[1]) else { return nil }
        self.init(rawValue: UInt64(high) << 32 | UInt64(low))
    }

    /// One to eight hexadecimal digits; a sign, which Swift would read, is none.
    private static func half(_ text: some StringProtocol) -> UInt32? {
        guard (1...8).contains(text.utf8.count), let first = text.first, first.isHexDigit else { return nil }
        return UInt32(text, radix: 16)
    }

    package static func < (left: LSN, right: LSN) -> Bool {
        left.rawValue < right.rawValue
    }

    /// Bytes from `other` up to this position; 0 when `other` is ahead.
    package func bytes(since other: LSN) -> UInt64 {
        self > other ? rawValue - other.rawValue : 0
    }
}

extension LSN: CustomStringConvertible {
    package var description: String {
        String(rawValue >> 32, radix: 16, uppercase: true) + "/"
            + String(rawValue & 0xFFFF_FFFF, radix: 16, uppercase: true)
    }
}

extension LSN: Codable {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let lsn = LSN(text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "\(text) is not an LSN")
        }
        self = lsn
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

extension LSN {
    /// The end of the last record before this insert position.
    ///
    /// At the start of a page the insert position is behind the page's header (24 bytes; 40 for a segment's first page),
    /// while replay stops at the boundary: an idle standby would never reach it. Nothing else ends there, for a record
    /// that goes on from the page before has at least a byte behind the header.
    ///
    /// Source: PostgreSQL's `xlog_internal.h`, `SizeOfXLogShortPHD` and `SizeOfXLogLongPHD`.
    ///
    /// - Parameter segmentSize: `wal_segment_size` in bytes.
    package func endOfLastRecord(segmentSize: UInt64) -> LSN {
        let pageOffset = rawValue % 8192
        let header: UInt64 = segmentSize > 0 && rawValue % segmentSize < 8192 ? 40 : 24
        return pageOffset == header ? LSN(rawValue: rawValue - header) : self
    }
}
