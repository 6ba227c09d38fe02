/// What a query string does, as far as routing is concerned. Ordered: of several statements in one string the greatest counts.
package enum StatementEffect: UInt8, Sendable, Comparable {
    /// Nothing at all: an empty string, or only comments.
    case empty
    /// Proven to read only and to leave no state behind: may run on any node.
    case read
    /// Reads only and leaves no state, but means something else on a standby: the primary, and no write.
    case primaryRead
    /// SAVEPOINT, RELEASE, ROLLBACK TO: only meaningful inside a transaction, where the server is settled.
    case transactionControl
    /// COMMIT, END, ROLLBACK, ABORT (with AND CHAIN too).
    case transactionEnd
    /// BEGIN or START TRANSACTION with READ ONLY and not SERIALIZABLE: may run on a standby.
    case beginReadOnly
    /// Any other BEGIN or START TRANSACTION.
    case begin
    /// May write, or is not understood: the primary.
    case write
    /// May leave state behind in the server session (SET, LISTEN, PREPARE, temporary tables, DO, CALL, volatile functions
    /// of the user, …), and may write.
    case sessionState

    package static func < (left: StatementEffect, right: StatementEffect) -> Bool { left.rawValue < right.rawValue }
}

/// The verdict on one query string.
package struct Classification: Sendable, Equatable {
    package var effect: StatementEffect
    /// Why, in words for a person: "calls the volatile function nextval".
    package var reason: String
    /// How many statements the string holds.
    package var statements: Int

    package init(effect: StatementEffect, reason: String, statements: Int = 1) {
        self.effect = effect
        self.reason = reason
        self.statements = statements
    }
}

/// Classifies one simple-query string or the text of one Parse.
///
/// Sound, not complete: it may call a read a write, never the reverse.
///
/// - Parameters:
///   - sql: the text in UTF-8 (or any ASCII superset), without its terminating zero.
///   - functions: the functions of the session's database.
package func classify(_ sql: UnsafeRawBufferPointer, functions: FunctionCatalog) -> Classification {
    Classification(effect: .write, reason: "not analysed")
}

extension Classification {
    /// As the free function, for text at hand.
    package static func of(_ sql: String, functions: FunctionCatalog = FunctionCatalog()) -> Classification {
        var sql = sql
        return sql.withUTF8 { classify(UnsafeRawBufferPointer($0), functions: functions) }
    }
}
