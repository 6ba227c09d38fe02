/// A statement that begins or ends a transaction, and says nothing more.
///
/// Only the forms whose answer is always the same: what asks for an isolation level other than READ COMMITTED, for READ ONLY,
/// for DEFERRABLE or for AND CHAIN is none, and neither is a BEGIN whose comment asks for the primary.
package enum TransactionCommand: Sendable {
    case begin, startTransaction, commit, rollback

    /// Reads one statement; `nil` when it is another one, or more than one.
    package init?(_ sql: UnsafeRawBufferPointer) {
        guard let base = sql.baseAddress else { return nil }
        let text = UnsafeBufferPointer(start: base.assumingMemoryBound(to: UInt8.self), count: sql.count)
        var reader = TransactionReader(Lexer(text))
        guard let command = reader.command() else { return nil }
        self = command
    }

    package var begins: Bool { self == .begin || self == .startTransaction }

    /// What CommandComplete says of it.
    package var tag: StaticString {
        switch self {
        case .begin: "BEGIN"
        case .startTransaction: "START TRANSACTION"
        case .commit: "COMMIT"
        case .rollback: "ROLLBACK"
        }
    }
}

private struct TransactionReader {
    private var lexer: Lexer
    private var token: Token

    init(_ lexer: Lexer) {
        var lexer = lexer
        token = lexer.next()
        self.lexer = lexer
    }

    private mutating func advance() { token = lexer.next() }

    /// Takes the present token if it is this key word.
    private mutating func takes(_ word: StaticString) -> Bool {
        guard token.kind == .word, lexer.matches(token, word) else { return false }
        advance()
        return true
    }

    mutating func command() -> TransactionCommand? {
        let command: TransactionCommand
        switch token.entry.start {
        case .begin:
            command = .begin
            advance()
            _ = takes("work") || takes("transaction")
        case .start:
            command = .startTransaction
            advance()
            guard takes("transaction") else { return nil }
        case .end, .rollback:
            command = token.entry.start == .end ? .commit : .rollback
            advance()
            _ = takes("work") || takes("transaction")
        case .other, .query, .explain, .copy, .show, .cursor, .savepoint, .set, .prepare, .declare, .create, .alter,
            .change, .session:
            return nil
        }
        if command.begins, !modes() { return nil }
        while token.kind == .semicolon { advance() }
        guard token.kind == .end, lexer.failure == nil, lexer.doubt == nil else { return nil }
        return command.begins && lexer.hints.contains(.primary) ? nil : command
    }

    /// Whether all modes up to the end are those of a plain BEGIN, or none. There may be commas between them.
    private mutating func modes() -> Bool {
        var isFirst = true
        while token.kind != .end, token.kind != .semicolon {
            if !isFirst, token.kind == .comma { advance() }
            isFirst = false
            if takes("isolation") {
                guard takes("level"), takes("read"), takes("committed") else { return false }
            } else if takes("read") {
                guard takes("write") else { return false }
            } else if takes("not") {
                guard takes("deferrable") else { return false }
            } else {
                return false
            }
        }
        return true
    }
}
