/// Five characters that say what kind of error it is.
///
/// Source: PostgreSQL manual, appendix "PostgreSQL Error Codes".
package struct SQLState: Hashable, Sendable, CustomStringConvertible, ExpressibleByStringLiteral {
    package let code: String

    package init(_ code: String) { self.code = code }
    package init(stringLiteral value: StaticString) { code = value.description }

    package var description: String { code }

    package static let successfulCompletion: SQLState = "00000"
    package static let connectionFailure: SQLState = "08006"
    package static let transactionResolutionUnknown: SQLState = "08007"
    package static let protocolViolation: SQLState = "08P01"
    package static let featureNotSupported: SQLState = "0A000"
    package static let invalidParameterValue: SQLState = "22023"
    package static let readOnlyTransaction: SQLState = "25006"
    package static let noActiveTransaction: SQLState = "25P01"
    package static let duplicatePreparedStatement: SQLState = "42P05"
    package static let inFailedTransaction: SQLState = "25P02"
    package static let invalidAuthorization: SQLState = "28000"
    package static let invalidPassword: SQLState = "28P01"
    package static let idleInTransactionSessionTimeout: SQLState = "25P03"
    package static let transactionTimeout: SQLState = "25P04"
    package static let tooManyConnections: SQLState = "53300"
    package static let programLimitExceeded: SQLState = "54000"
    package static let undefinedObject: SQLState = "42704"
    package static let cannotChangeParameter: SQLState = "55P02"
    package static let queryCanceled: SQLState = "57014"
    package static let adminShutdown: SQLState = "57P01"
    package static let cannotConnectNow: SQLState = "57P03"
}

/// An ErrorResponse or NoticeResponse.
package struct ErrorMessage: Error, Sendable, Equatable {
    package enum Severity: String, Sendable {
        case error = "ERROR"
        case fatal = "FATAL"
        case warning = "WARNING"
        case notice = "NOTICE"
    }

    package var severity: Severity
    package var state: SQLState
    package var message: String
    package var detail: String?
    package var hint: String?

    package init(
        _ severity: Severity,
        _ state: SQLState,
        _ message: String,
        detail: String? = nil,
        hint: String? = nil
    ) {
        self.severity = severity
        self.state = state
        self.message = message
        self.detail = detail
        self.hint = hint
    }

    package var asWarning: ErrorMessage { ErrorMessage(.warning, state, message, detail: detail, hint: hint) }
    package var asFatal: ErrorMessage { ErrorMessage(.fatal, state, message, detail: detail, hint: hint) }

    /// The message as it goes over the wire.
    package func write(to writer: inout MessageWriter) {
        let type: BackendMessage =
            switch severity {
            case .error, .fatal: .errorResponse
            case .warning, .notice: .noticeResponse
            }
        writer.message(type) { writer in
            for (field, value) in [
                ("S", severity.rawValue), ("V", severity.rawValue), ("C", state.code), ("M", message), ("D", detail),
                ("H", hint),
            ] as [(Unicode.Scalar, String?)] {
                guard let value else { continue }
                writer.byte(UInt8(ascii: field))
                writer.string(value)
            }
            writer.byte(0)
        }
    }

    package var bytes: [UInt8] {
        var writer = MessageWriter()
        write(to: &writer)
        return writer.bytes
    }
}

/// A server's ErrorResponse or NoticeResponse, as far as it has to be understood.
package struct ServerErrorFields: Sendable, Equatable {
    package private(set) var severity = ""
    package private(set) var state = SQLState("")
    package private(set) var message = ""
    /// The function of the server's source that reports it: unlike the message, in no language.
    package private(set) var routine = ""

    /// Whether the server ends the connection with it.
    package var isFatal: Bool { severity == "FATAL" || severity == "PANIC" }

    /// Parses the body; fields that are malformed are left out.
    package init(body: RawSpan) {
        var offset = 0
        while offset < body.byteCount, body.byte(at: offset) != 0 {
            guard let end = body.terminator(from: offset + 1, before: body.byteCount) else { return }
            let value = body.string(offset + 1..<end)
            switch body.byte(at: offset) {
            case UInt8(ascii: "V"): severity = value
            case UInt8(ascii: "S"): if severity.isEmpty { severity = value }
            case UInt8(ascii: "C"): state = SQLState(value)
            case UInt8(ascii: "M"): message = value
            case UInt8(ascii: "R"): routine = value
            default: break  // fields PostgreSQL may add must be ignored
            }
            offset = end + 1
        }
    }
}
