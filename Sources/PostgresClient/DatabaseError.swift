/// Why an administrative connection or query failed.
package struct DatabaseError: Error, Sendable, Equatable {
    /// What kind of thing went wrong, and so whether the connection can still be used.
    package enum Kind: Sendable, Equatable {
        /// No session was established: refused, unreachable, rejected, or starting up (`sqlState` 57P03 when known).
        case connect
        /// The session broke. The connection is closed; what was in flight may or may not have been executed.
        case connectionLost
        /// The deadline passed. The connection is closed, because the answer could still arrive.
        case timedOut
        /// The calling task was cancelled or `close()` was called. The connection is closed.
        case closed
        /// The server answered with an error. The connection stays usable.
        case server
    }

    package var kind: Kind
    /// Five characters, PostgreSQL manual, appendix "PostgreSQL Error Codes". `nil` when the error is not the server's.
    package var sqlState: String?
    package var message: String
    package var detail: String?
    package var hint: String?

    package init(
        kind: Kind,
        sqlState: String? = nil,
        message: String,
        detail: String? = nil,
        hint: String? = nil
    ) {
        self.kind = kind
        self.sqlState = sqlState
        self.message = message
        self.detail = detail
        self.hint = hint
    }
}

extension DatabaseError: CustomStringConvertible {
    package var description: String {
        var text = message
        if let sqlState { text += " (SQLSTATE \(sqlState))" }
        if let detail { text += "\nDETAIL: \(detail)" }
        if let hint { text += "\nHINT: \(hint)" }
        return text
    }
}
