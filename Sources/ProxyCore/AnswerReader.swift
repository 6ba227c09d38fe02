package import PostgresWire

/// Walks over a server's answer: headers are looked at, bodies only where a decision hangs on them.
package struct AnswerReader: Sendable {
    package enum Step: Sendable, Equatable {
        /// All bytes were looked at; a body may go on in the next ones.
        case end
        /// From the offset on, more bytes are needed to see a header or a message that must be seen whole.
        case incomplete
        /// One message, whole or (for types that may be long) as much as is there.
        case message(BackendMessage, Range<Int>)
        /// Not a message of protocol 3.
        case garbage
    }

    /// Bytes of a message that was begun and is passed on without being looked at.
    package private(set) var bodyRemaining = 0

    package init() {}

    /// Looks at the next message from `offset` on, skipping rows and copy data, and moves `offset` behind it.
    ///
    /// - Parameters:
    ///   - limit: a message longer than this is passed on in parts, whatever its type.
    ///   - wantsRows: rows, too, are to be seen whole.
    package mutating func next(_ bytes: RawSpan, offset: inout Int, limit: Int, wantsRows: Bool = false) -> Step {
        if bodyRemaining > 0 {
            let count = min(bodyRemaining, bytes.byteCount - offset)
            bodyRemaining -= count
            offset += count
        }
        guard offset < bytes.byteCount else { return .end }
        guard let header = MessageHeader(bytes, at: offset) else { return .incomplete }
        guard let type = BackendMessage(rawValue: header.type), header.length >= 4,
            type != .readyForQuery || header.bodySize == 1
        else { return .garbage }
        let start = offset
        let end = start + header.totalSize
        if end <= bytes.byteCount {
            offset = end
            return .message(type, start..<end)
        }
        if wantsRows || Self.mustBeSeenWhole(type), header.totalSize <= limit {
            return .incomplete
        }
        bodyRemaining = end - bytes.byteCount
        offset = bytes.byteCount
        return .message(type, start..<bytes.byteCount)
    }

    /// Skips whole rows and copy data; returns whether any was there.
    package mutating func skipRows(_ bytes: RawSpan, offset: inout Int) -> Bool {
        guard bodyRemaining == 0 else { return false }
        let start = offset
        while let header = MessageHeader(bytes, at: offset),
            header.type == BackendMessage.dataRow.rawValue || header.type == BackendMessage.copyData.rawValue,
            header.length >= 4, offset + header.totalSize <= bytes.byteCount
        {
            offset += header.totalSize
        }
        return offset > start
    }

    private static func mustBeSeenWhole(_ type: BackendMessage) -> Bool {
        switch type {
        case .copyData, .dataRow, .functionCallResponse, .parameterDescription, .rowDescription:
            false
        case .authentication, .backendKeyData, .bindComplete, .closeComplete, .commandComplete, .copyBothResponse,
            .copyDone, .copyInResponse, .copyOutResponse, .emptyQueryResponse, .errorResponse,
            .negotiateProtocolVersion, .noData, .noticeResponse, .notificationResponse, .parameterStatus,
            .parseComplete, .portalSuspended, .readyForQuery:
            true
        }
    }
}

extension BackendMessage {
    /// Whether an answer that begins with this message may still turn out to be an error and nothing else, so that it is
    /// held back until more is known.
    package var isPrologue: Bool {
        switch self {
        case .parseComplete, .bindComplete, .closeComplete, .rowDescription, .parameterDescription, .noData,
            .noticeResponse, .parameterStatus:
            true
        case .authentication, .backendKeyData, .commandComplete, .copyBothResponse, .copyData, .copyDone,
            .copyInResponse, .copyOutResponse, .dataRow, .emptyQueryResponse, .errorResponse, .functionCallResponse,
            .negotiateProtocolVersion, .notificationResponse, .portalSuspended, .readyForQuery:
            false
        }
    }
}
