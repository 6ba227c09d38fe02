package import PostgresWire

/// Walks over client messages that are passed on, or thrown away, without being understood: only their headers are read.
///
/// It serves units that do not fit a buffer, copying in, and the rest of a unit that has failed.
package struct PassThrough: Sendable {
    /// What ends it.
    package enum Ending: Sendable, Equatable {
        /// The present message, or the next when none is begun.
        case message
        /// One message of the extended protocol, behind which its unit goes on.
        case oversized
        case sync
        /// CopyDone or CopyFail. Where the extended protocol is used, the unit goes on behind it.
        case copy(isExtended: Bool)
    }

    package struct Scan: Sendable, Equatable {
        /// Bytes that belong to it.
        package var count = 0
        /// Whether it ends with them.
        package var isOver = false
        package var terminates = false
        package var violation: ErrorMessage?
    }

    package private(set) var ending: Ending
    /// Bytes of the present message still to come.
    package private(set) var remaining = 0
    private var presentIsLast = false
    private var hasEndedCopy = false
    package init(ending: Ending) {
        self.ending = ending
    }

    /// Takes the client's unread bytes, as many as belong here.
    package mutating func scan(_ bytes: RawSpan) -> Scan {
        var scan = Scan()
        while scan.count < bytes.byteCount {
            if remaining > 0 {
                let count = min(remaining, bytes.byteCount - scan.count)
                remaining -= count
                scan.count += count
            } else {
                guard let header = MessageHeader(bytes, at: scan.count) else { return scan }
                guard let type = FrontendMessage(rawValue: header.type), header.length >= 4,
                    header.length <= type.lengthLimit
                else {
                    scan.violation = ErrorMessage(
                        .fatal,
                        .protocolViolation,
                        "invalid frontend message type \(header.type) or length \(header.length)"
                    )
                    return scan
                }
                if type == .terminate {
                    scan.terminates = true
                    return scan
                }
                begin(type)
                scan.count += MessageHeader.size
                remaining = header.bodySize
            }
            if remaining == 0, presentIsLast {
                scan.isOver = true
                return scan
            }
        }
        return scan
    }

    private mutating func begin(_ type: FrontendMessage) {
        switch ending {
        case .message, .oversized:
            presentIsLast = true
        case .sync:
            hasEndedCopy = hasEndedCopy || type == .copyDone || type == .copyFail
            presentIsLast = type == .sync
        case .copy:
            guard type == .copyDone || type == .copyFail else { return }
            hasEndedCopy = true
            presentIsLast = true
        }
    }

    /// The server waits for copy data, which may have begun to pass.
    package mutating func copyBegan(isExtended: Bool) {
        guard !hasEndedCopy else { return }
        ending = .copy(isExtended: isExtended)
        presentIsLast = false
    }

    /// The answer is complete: nothing follows but the rest of the present message. Returns whether there is none.
    package mutating func answerEnded() -> Bool {
        ending = .message
        presentIsLast = true
        return remaining == 0
    }

    /// The unit has failed: what is left of it, up to Sync, belongs here.
    package mutating func unitFailed() {
        guard ending == .oversized else { return }
        ending = .sync
        presentIsLast = false
    }

    /// The copy has failed on the server, which now drops copy messages: up to Sync in the extended protocol, or else only
    /// the rest of the present message is waited for. Returns whether nothing more belongs here.
    package mutating func copyFailed() -> Bool {
        guard case .copy(let isExtended) = ending else { return false }
        ending = isExtended ? .sync : .message
        presentIsLast = !isExtended
        return !isExtended && remaining == 0
    }
}
