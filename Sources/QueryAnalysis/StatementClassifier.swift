/// Classifies the statements of one query string, in one pass over its tokens.
///
/// The first word decides what kind of statement it is. A query (SELECT, VALUES, TABLE, WITH) is then a read unless one
/// of its tokens speaks against it (`StatementClassifier+Scan.swift`). This is sound because the grammar cannot express
/// a write inside a query without one of these tokens: INTO, INSERT, UPDATE, DELETE or MERGE as a key word, FOR with a
/// lock strength, or a call. Everything that does not follow the grammar is refused by the server, whoever gets it.
struct StatementClassifier {
    private(set) var lexer: Lexer
    /// The next token, not handled yet.
    private(set) var token: Token
    let functions: FunctionCatalog
    /// Of the names that hide something: most databases have none, and every name is asked about.
    let hiddenShapes: UInt64

    /// The verdict on the current statement so far.
    private(set) var effect: StatementEffect = .empty
    private(set) var reason = ""
    /// Of all statements.
    var traits = StatementTraits.none

    /// Whether reasons are wanted, which have to be put into words.
    let explains: Bool

    init(_ lexer: Lexer, functions: FunctionCatalog, explains: Bool) {
        self.explains = explains
        var lexer = lexer
        token = lexer.next()
        self.lexer = lexer
        self.functions = functions
        hiddenShapes = functions.hiddenShapes
    }

    mutating func classification() -> Classification {
        var total = Classification(effect: .empty, reason: "holds no statement", statements: 0)
        var controlsTransaction = false
        while true {
            while token.kind == .semicolon { advance() }
            if token.kind == .end { break }
            total.statements += 1
            (effect, reason) = (.empty, "")
            statement()
            if let failure = lexer.failure { raise(to: .write, failure.rawValue) }
            switch effect {
            case .transactionControl, .transactionEnd, .beginReadOnly, .begin: controlsTransaction = true
            case .empty, .read, .primaryRead, .write, .sessionState: break
            }
            if effect > total.effect { (total.effect, total.reason) = (effect, reason) }
            if lexer.failure != nil { break }
        }
        if let doubt = lexer.doubt, total.effect < .write { (total.effect, total.reason) = (.write, doubt.rawValue) }
        if total.statements > 1, controlsTransaction, total.effect < .write {
            (total.effect, total.reason) = (.write, "controls a transaction among several statements")
        }
        if lexer.hints.contains(.primary), total.effect == .read || total.effect == .beginReadOnly {
            (total.effect, total.reason) = (
                total.effect == .read ? .primaryRead : .begin, "a comment asks for the primary"
            )
        } else if lexer.hints.contains(.standby), total.effect == .read {
            traits.insert(.wantsStandby)
            total.reason = "a comment asks for a standby"
        }
        if lexer.hints.contains(.maxStaleness) { traits.insert(.limitsStaleness) }
        total.traits = traits
        return total
    }

    // MARK: - Steps

    mutating func advance() { token = lexer.next() }

    /// Raises the effect of the current statement, never lowers it. The first reason for an effect is kept.
    mutating func raise(to effect: StatementEffect, _ reason: @autoclosure () -> String) {
        guard effect > self.effect else { return }
        self.effect = effect
        if explains { self.reason = reason() }
    }

    /// The token after the next, without taking any.
    func following() -> Token {
        var lexer = lexer
        return lexer.next()
    }

    var isAtEnd: Bool { token.kind == .end || token.kind == .semicolon || token.kind == .invalid }

    mutating func skipToEnd() {
        while !isAtEnd { advance() }
    }

    // MARK: - Statements

    private mutating func statement() {
        switch token.entry.start {
        case .other:
            if token.kind == .openParenthesis {
                query()
            } else {
                let name = firstWord
                raise(to: .write, "\(name) is not a read")
                if lexer.matches(token, "drop") { noteDatabase(following()) }
                scan(.definition)
            }
        case .query: query()
        case .explain: explain()
        case .copy: copy()
        case .show: show()
        case .cursor: simple(.primaryRead, "uses a cursor, which is on the primary")
        case .begin, .start: begin()
        case .end, .rollback: transactionEnd()
        case .savepoint: simple(.transactionControl, "controls a transaction")
        case .set: set()
        case .prepare: prepare()
        case .declare: declare()
        case .create: create()
        case .alter:
            raise(to: .write, "ALTER is not a read")
            noteDatabase(following())
            scan(.alteration)
        case .change:
            let name = firstWord
            raise(to: .write, "\(name) is not a read")
            scan(.query)
        case .session:
            let name = firstWord
            if lexer.matches(token, "execute") || lexer.matches(token, "do") || lexer.matches(token, "call") {
                traits.insert(.mayTakeFromSequence)
            }
            if lexer.matches(token, "do") { noteCode() }
            if lexer.matches(token, "execute") || (lexer.matches(token, "deallocate") && !endsAllStatements()) {
                traits.insert(.namesStatements)
            } else if lexer.matches(token, "load") {
                traits.insert(.cannotBeDiscarded)
            } else if lexer.matches(token, "reset") {
                noteEndpointSetting(following())
            }
            simple(.sessionState, "\(name) may leave state in the session")
        }
    }

    /// The first word of the statement for a reason.
    private var firstWord: String {
        guard explains else { return "" }
        if token.keyword == .insert { return "INSERT" }
        if token.keyword == .update { return "UPDATE" }
        if token.keyword == .delete { return "DELETE" }
        return token.entry.traits.contains(.keyword) ? lexer.name(token).uppercased() : "this"
    }

    private mutating func simple(_ effect: StatementEffect, _ reason: @autoclosure () -> String) {
        raise(to: effect, reason())
        skipToEnd()
    }

    /// Whether this DEALLOCATE names none, but ALL. Drivers say it after a rollback.
    private func endsAllStatements() -> Bool {
        var (lexer, name) = (lexer, following())
        if lexer.matches(name, "prepare") {
            _ = lexer.next()
            name = lexer.next()
        }
        return name.keyword == .all
    }

    /// The code of DO.
    private mutating func noteCode() {
        while !isAtEnd {
            if token.kind == .string { noteSequence(in: token) }
            advance()
        }
    }

    private mutating func query() {
        raise(to: .read, "only reads")
        if !beginsQuery() { raise(to: .write, "is not understood") }
        scan(.query)
    }

    /// Whether a query begins here, or within the parentheses that open here.
    private func beginsQuery() -> Bool {
        var (lexer, token) = (lexer, token)
        while token.kind == .openParenthesis { token = lexer.next() }
        return token.entry.start == .query
    }

    /// EXPLAIN without ANALYZE does not run the statement, but is as rare as it is easy to mistake: it counts as one
    /// that does.
    private mutating func explain() {
        advance()
        if token.kind == .openParenthesis, lexer.matches(following(), "route") { traits.insert(.isEndpointCommand) }
        if token.kind == .openParenthesis, following().entry.start != .query, following().kind != .openParenthesis {
            while !isAtEnd, token.kind != .closeParenthesis { advance() }
            advance()
        } else {
            while token.keyword == .analyze || token.keyword == .analyse || token.keyword == .verbose { advance() }
        }
        switch token.entry.start {
        case .query: query()
        case .create: create()
        case .declare: declare()
        case .session:
            if lexer.matches(token, "execute") { traits.insert(.namesStatements) }
            simple(.sessionState, "explains what may leave state in the session")
        case .change:
            raise(to: .write, "explains a write")
            scan(.query)
        case .other where token.kind == .openParenthesis: query()
        case .other, .explain, .copy, .show, .cursor, .begin, .start, .end, .rollback, .savepoint, .set, .prepare,
            .alter:
            simple(.write, "explains what is not a read")
        }
    }

    /// COPY to the client is a read; to a file, to a program or from anywhere is not.
    private mutating func copy() {
        advance()
        if token.kind == .openParenthesis {
            raise(to: .read, "only reads")
            if !beginsQuery() { raise(to: .write, "copies the result of a write") }
            scan(.copiedQuery)
        } else {
            raise(to: .read, "only reads")
            while !isAtEnd, token.keyword != .to, token.keyword != .from {
                checkRelation(token)
                advance()
            }
        }
        let isFrom = token.keyword == .from
        advance()
        if isFrom {
            raise(to: .write, "COPY FROM is not a read")
            traits.insert(.mayTakeFromSequence)
        } else if token.keyword != .stdout {
            raise(to: .write, "COPY to a file or program is not a read")
        }
        skipToEnd()
    }

    /// Settings are those of the session wherever it is, but for those that tell a standby from the primary.
    private mutating func show() {
        advance()
        noteEndpointSetting(token)
        if lexer.matches(token, "learned") { traits.insert(.isEndpointCommand) }
        if token.keyword == .all || token.keyword == .transaction || isSettingOfStandby(token) {
            raise(to: .primaryRead, "shows a setting that differs on a standby")
        }
        simple(.read, "shows a setting")
    }

    func isSettingOfStandby(_ token: Token) -> Bool {
        lexer.hasPrefix(token, "transaction_") || lexer.hasPrefix(token, "default_transaction_")
            || lexer.matches(token, "in_hot_standby")
    }

    private mutating func noteDatabase(_ token: Token) {
        if lexer.matches(token, "database") { traits.insert(.changesDatabases) }
    }

    // MARK: - Transactions

    private mutating func begin() {
        let isStart = token.entry.start == .start
        advance()
        if isStart, token.keyword != .transaction { return simple(.write, "START is not a read") }
        if token.keyword == .work || token.keyword == .transaction { advance() }
        var (isReadOnly, mayRunOnStandby) = (false, true)
        while !isAtEnd {
            if token.keyword == .serializable || token.keyword == .write { mayRunOnStandby = false }
            let isRead = token.keyword == .read
            advance()
            if isRead, token.keyword == .only { isReadOnly = true }
        }
        if isReadOnly, mayRunOnStandby {
            raise(to: .beginReadOnly, "begins a read-only transaction")
        } else {
            raise(to: .begin, "begins a transaction")
        }
    }

    /// COMMIT and ROLLBACK, but for those of prepared transactions and ROLLBACK TO.
    private mutating func transactionEnd() {
        let isRollback = token.entry.start == .rollback
        advance()
        if token.keyword == .prepared { return simple(.write, "ends a prepared transaction") }
        if token.keyword == .work || token.keyword == .transaction { advance() }
        if isRollback, token.keyword == .to { return simple(.transactionControl, "controls a transaction") }
        if !isAtEnd, token.keyword != .and { return simple(.write, "is not understood") }
        simple(.transactionEnd, "ends a transaction")
    }

    private mutating func prepare() {
        advance()
        if token.keyword == .transaction, following().kind == .string {
            return simple(.write, "PREPARE TRANSACTION is not a read")
        }
        traits.insert(.namesStatements)
        simple(.sessionState, "PREPARE leaves a prepared statement in the session")
    }

    // MARK: - Session state

    /// SET LOCAL, SET TRANSACTION and SET CONSTRAINTS die with the transaction. But `local.x`, say, is a setting like
    /// any.
    private mutating func set() {
        advance()
        let next = following()
        if lexer.matches(token, "seed") { traits.insert(.cannotBeDiscarded) }
        noteEndpointSetting(token.keyword == .local || lexer.matches(token, "session") ? next : token)
        let isLocal = (token.keyword == .local || token.keyword == .constraints) && namesSetting(next)
        let isMode = next.keyword == .isolation || next.keyword == .read || next.keyword == .not
        let isCharacteristic = isMode || next.keyword == .deferrable || next.keyword == .snapshot
        if isLocal || (token.keyword == .transaction && isCharacteristic) {
            simple(.transactionControl, "sets something for the transaction")
        } else {
            simple(.sessionState, "SET may leave state in the session")
        }
    }

    private mutating func noteEndpointSetting(_ token: Token) {
        if lexer.hasPrefix(token, "slipstream") { traits.insert(.isEndpointCommand) }
    }

    private func namesSetting(_ token: Token) -> Bool {
        token.kind == .quotedIdentifier || (token.kind == .word && token.keyword != .to)
    }

    private mutating func declare() {
        raise(to: .write, "declares a cursor")
        while !isAtEnd, token.keyword != .for {
            if token.keyword == .hold { raise(to: .sessionState, "declares a cursor WITH HOLD") }
            advance()
        }
        scan(.query)
    }

    private mutating func create() {
        raise(to: .write, "CREATE is not a read")
        advance()
        noteDatabase(token)
        while token.keyword.precedesKindOfObject {
            if token.keyword == .temp || token.keyword == .temporary {
                raise(to: .sessionState, "creates something temporary")
            }
            advance()
        }
        if token.keyword == .table || token.keyword == .materialized { return scan(.createTableAs) }
        if token.keyword == .schema { return scan(.createSchema) }
        scan(.definition)
    }
}
