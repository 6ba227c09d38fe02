import Glibc

/// The types of messages a client sends.
///
/// Source: PostgreSQL manual, "Message Formats".
package enum FrontendMessage: UInt8, Sendable {
    case bind = 0x42  // B
    case close = 0x43  // C
    case copyData = 0x64  // d
    case copyDone = 0x63  // c
    case copyFail = 0x66  // f
    case describe = 0x44  // D
    case execute = 0x45  // E
    case flush = 0x48  // H
    case functionCall = 0x46  // F
    case parse = 0x50  // P
    case password = 0x70  // p, also SASL responses
    case query = 0x51  // Q
    case sync = 0x53  // S
    case terminate = 0x58  // X

    /// The longest length a message of this type may announce, as PostgreSQL limits it (`PQ_SMALL_MESSAGE_LIMIT`,
    /// `PQ_LARGE_MESSAGE_LIMIT` in libpq.h).
    package var lengthLimit: Int {
        switch self {
        case .bind, .copyData, .functionCall, .parse, .query: 0x3FFF_FFFE
        case .close, .copyDone, .copyFail, .describe, .execute, .flush, .sync, .terminate: 10_000
        case .password: 65_535
        }
    }
}

/// The types of messages a server sends.
package enum BackendMessage: UInt8, Sendable {
    case authentication = 0x52  // R
    case backendKeyData = 0x4B  // K
    case bindComplete = 0x32  // 2
    case closeComplete = 0x33  // 3
    case commandComplete = 0x43  // C
    case copyBothResponse = 0x57  // W
    case copyData = 0x64  // d
    case copyDone = 0x63  // c
    case copyInResponse = 0x47  // G
    case copyOutResponse = 0x48  // H
    case dataRow = 0x44  // D
    case emptyQueryResponse = 0x49  // I
    case errorResponse = 0x45  // E
    case functionCallResponse = 0x56  // V
    case negotiateProtocolVersion = 0x76  // v
    case noData = 0x6E  // n
    case noticeResponse = 0x4E  // N
    case notificationResponse = 0x41  // A
    case parameterDescription = 0x74  // t
    case parameterStatus = 0x53  // S
    case parseComplete = 0x31  // 1
    case portalSuspended = 0x73  // s
    case readyForQuery = 0x5A  // Z
    case rowDescription = 0x54  // T
}

/// Transaction status as ReadyForQuery reports it.
package enum TransactionStatus: UInt8, Sendable {
    case idle = 0x49  // I
    case inTransaction = 0x54  // T
    case failed = 0x45  // E
}

/// A message's header: one type byte and a big-endian length that counts itself and the body.
package struct MessageHeader: Sendable, Equatable {
    package static let size = 5

    package var type: UInt8
    /// As announced on the wire: body and the four length bytes.
    package var length: Int

    /// Header and body together.
    package var totalSize: Int { length + 1 }
    package var bodySize: Int { length - 4 }

    package init(type: UInt8, length: Int) {
        self.type = type
        self.length = length
    }

    /// Reads the header at `offset`; `nil` when fewer than five bytes are there.
    @inlinable
    package init?(_ bytes: RawSpan, at offset: Int) {
        guard offset + 5 <= bytes.byteCount else { return nil }
        type = bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
        let raw = bytes.unsafeLoadUnaligned(fromByteOffset: offset + 1, as: UInt32.self)
        length = Int(Int32(bitPattern: UInt32(bigEndian: raw)))
    }
}

extension RawSpan {
    /// The big-endian 32-bit integer at `offset`; traps outside the span.
    package func int32(at offset: Int) -> Int32 {
        Int32(bitPattern: UInt32(bigEndian: unsafeLoadUnaligned(fromByteOffset: offset, as: UInt32.self)))
    }

    package func byte(at offset: Int) -> UInt8 {
        unsafeLoad(fromByteOffset: offset, as: UInt8.self)
    }

    /// Where the zero byte is that ends the string at `offset`, or `nil` when there is none before `end`.
    package func terminator(from offset: Int, before end: Int) -> Int? {
        guard offset < end else { return nil }
        return extracting(offset..<end).withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress, let found = memchr(start, 0, bytes.count) else { return nil }
            return offset + (UnsafeRawPointer(found) - start)
        }
    }

    /// The bytes of a range, copied.
    package func array(_ range: Range<Int>) -> [UInt8] {
        extracting(range).withUnsafeBytes { Array($0) }
    }

    /// The text of a range.
    package func string(_ range: Range<Int>) -> String {
        extracting(range).withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
    }
}
