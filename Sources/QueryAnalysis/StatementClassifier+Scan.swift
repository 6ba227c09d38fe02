/// How far, and for what, the rest of a statement is searched.
enum ScanScope {
    /// Runs what it says: every call counts.
    case query
    /// Likewise, up to the TO after it.
    case copiedQuery
    /// Runs nothing now. It may hold semicolons in parentheses (CREATE RULE) or in a body (BEGIN ATOMIC).
    case definition
    /// May run a default, but is full of parentheses that are no calls: only functions that are known count.
    case alteration
    /// A definition up to its AS, a query from there.
    case createTableAs
    /// A definition that may hold others.
    case createSchema
}

/// What came before a token, as far as it tells a call from other names with parentheses after them.
private enum Previous {
    case start, identifier, keyword, string, other
    case `as`, into, with
    case dot, comma, typecast, openParenthesis, closeParenthesis
}

private struct Scan {
    var scope: ScanScope
    var previous = Previous.start
    /// What came before the first name of a dotted one.
    var beforeName = Previous.start
    var countsCalls: Bool
    var depth = 0
    /// The depths at which the list of a WITH has begun and its query has not, as bits.
    var withLists: UInt64 = 0
    /// The depths within the parentheses of a DISTINCT ON, as bits.
    var distinctLists: UInt64 = 0
    var beginsDistinctList = false
    /// In an INSERT before its query.
    var isBeforeQuery: Bool
    /// In an INSERT or MERGE before its INTO.
    var isBeforeTarget = false
    /// BEGIN ATOMIC and CASE without their END.
    var openBodies = 0

    init(_ scope: ScanScope, isInsert: Bool) {
        self.scope = scope
        isBeforeQuery = isInsert
        countsCalls =
            switch scope {
            case .query, .copiedQuery, .alteration: true
            case .definition, .createTableAs, .createSchema: false
            }
    }

    /// Deeper than 63 nothing is remembered, and every doubtful name is a call.
    var bit: UInt64 { depth < 64 ? 1 << UInt64(depth) : 0 }

    /// A semicolon ends the statement.
    var endsAtSemicolon: Bool {
        switch scope {
        case .query, .copiedQuery, .alteration, .createTableAs: true
        case .definition, .createSchema: depth == 0 && openBodies == 0
        }
    }
}

extension StatementClassifier {
    /// Searches the rest of the statement for everything that speaks against a read.
    mutating func scan(_ scope: ScanScope) {
        var scan = Scan(scope, isInsert: token.keyword == .insert)
        while true {
            let current = token
            switch current.kind {
            case .end, .invalid: return finish(scan)
            case .semicolon:
                if scan.endsAtSemicolon { return finish(scan) }
                advance()
                scan.previous = .start
            case .word:
                let endsCopied = current.keyword == .to || current.keyword == .from
                if scope == .copiedQuery, scan.depth == 0, endsCopied { return }
                advance()
                word(current, &scan)
            case .quotedIdentifier:
                advance()
                beginName(&scan)
                name(current, &scan)
                scan.previous = .identifier
            case .openParenthesis:
                advance()
                open(&scan)
            case .closeParenthesis:
                advance()
                close(&scan)
            case .comma: step(&scan, .comma)
            case .dot: step(&scan, .dot)
            case .typecast: step(&scan, .typecast)
            case .string:
                if !scan.countsCalls { noteSequence(in: current) }
                step(&scan, .string)
            case .number, .parameter, .symbol: step(&scan, .other)
            }
        }
    }

    private mutating func finish(_ scan: Scan) {
        if scan.depth != 0 { raise(to: .write, "has unbalanced parentheses") }
    }

    private mutating func step(_ scan: inout Scan, _ previous: Previous) {
        advance()
        scan.previous = previous
    }

    // MARK: - Parentheses

    private func open(_ scan: inout Scan) {
        // The query of a WITH may stand in parentheses.
        if scan.previous == .closeParenthesis { scan.withLists &= ~scan.bit }
        scan.depth += 1
        scan.withLists &= ~scan.bit
        scan.distinctLists &= ~scan.bit
        if scan.beginsDistinctList {
            scan.distinctLists |= scan.bit
            scan.beginsDistinctList = false
        }
        scan.previous = .openParenthesis
    }

    private mutating func close(_ scan: inout Scan) {
        guard scan.depth > 0 else {
            raise(to: .write, "has unbalanced parentheses")
            scan.previous = .other
            return
        }
        // After DISTINCT ON (…) comes an expression, after any other parenthesis an alias.
        let precedesExpression = scan.bit == 0 || scan.distinctLists & scan.bit != 0
        scan.previous = precedesExpression ? .other : .closeParenthesis
        scan.depth -= 1
    }

    // MARK: - Words

    private func beginName(_ scan: inout Scan) {
        if scan.previous != .dot { scan.beforeName = scan.previous }
    }

    private mutating func word(_ word: Token, _ scan: inout Scan) {
        beginName(&scan)
        if scan.previous == .dot || scan.previous == .as {
            // Any word is a plain name here (ColLabel), reserved or not.
            name(word, &scan)
            scan.previous = .identifier
            return
        }
        var previous: Previous = word.entry.traits.contains(.keyword) ? .keyword : .identifier
        if word.keyword != .none { keyword(word.keyword, &scan, &previous) }
        name(word, &scan)
        scan.previous = previous
    }

    private mutating func keyword(_ keyword: Keyword, _ scan: inout Scan, _ previous: inout Previous) {
        switch keyword {
        case .into:
            let isTemporary = token.keyword.precedesKindOfObject && token.keyword != .unlogged
            if isTemporary, !scan.isBeforeTarget { raise(to: .sessionState, "selects into a temporary table") }
            raise(to: .write, "SELECT INTO is not a read")
            scan.isBeforeTarget = false
            previous = .into
        case .insert, .update, .delete, .merge:
            raise(to: .write, "has a data-modifying part")
            traits.insert(.mayTakeFromSequence)
            scan.isBeforeTarget = keyword == .insert || keyword == .merge
        case .for:
            let isLock = token.keyword == .update || token.keyword == .share
            if isLock || token.keyword == .no || token.keyword == .key { raise(to: .write, "has a locking clause") }
        case .with:
            let isOfTable = token.keyword == .ordinality || token.keyword == .ties || token.keyword == .time
            if !isOfTable, scan.previous == .start || scan.previous == .openParenthesis || scan.isBeforeQuery {
                scan.withLists |= scan.bit
                previous = .with
            }
        case .recursive:
            if scan.previous == .with, token.kind != .openParenthesis, token.keyword != .as { previous = .with }
        case .select, .values, .table:
            scan.withLists &= ~scan.bit
            scan.isBeforeQuery = false
        case .by:
            scan.withLists &= ~scan.bit
        case .distinct:
            scan.beginsDistinctList = token.keyword == .on
        case .uescape:
            if scan.previous != .string { raise(to: .write, "has a name with Unicode escapes") }
        case .as:
            previous = .as
            let beginsQuery = token.entry.start == .query || token.kind == .openParenthesis
            if scan.scope == .createTableAs, scan.depth == 0, !scan.countsCalls {
                if token.keyword == .execute {
                    traits.insert(.namesStatements)
                    raise(to: .sessionState, "executes a prepared statement")
                }
                if beginsQuery {
                    scan.countsCalls = true
                    previous = .start
                }
            }
        case .temp, .temporary:
            if scan.scope == .createSchema { raise(to: .sessionState, "creates something temporary") }
        case .begin:
            if scan.scope == .definition, token.keyword == .atomic { scan.openBodies += 1 }
        case .case:
            if scan.openBodies > 0 { scan.openBodies += 1 }
        case .end:
            if scan.openBodies > 0 { scan.openBodies -= 1 }
        case .none, .all, .analyse, .analyze, .and, .atomic, .constraints, .deferrable, .execute, .from, .global, .hold,
            .isolation,
            .key, .local, .materialized, .no, .not, .on, .only, .or, .ordinality, .prepared, .read, .replace, .schema,
            .serializable, .share, .snapshot, .stdout, .ties, .time, .to, .transaction, .unlogged, .verbose, .work,
            .write:
            break
        }
    }

    // MARK: - Names

    /// A name, of which the token after it tells whether it is called.
    private mutating func name(_ name: Token, _ scan: inout Scan) {
        guard token.kind == .openParenthesis else {
            checkRelation(name)
            if scan.countsCalls, scan.previous == .dot, token.kind != .dot { checkAttribute(name) }
            return
        }
        if scan.countsCalls {
            if lexer.tellsTransactionTime(name) { traits.insert(.tellsTransactionTime) }
            if isCall(name, scan) { call(name, scan) }
        } else {
            noteSequence(name)
        }
    }

    /// What is defined may ask for the last value of a sequence when it is used: a default, a view, a rule.
    private mutating func noteSequence(_ name: Token) {
        if lexer.matches(name, "currval") || lexer.matches(name, "lastval") { traits.insert(.asksSequence) }
    }

    /// Likewise code, which stands in a string.
    mutating func noteSequence(in string: Token) {
        if lexer.contains(string, "currval") || lexer.contains(string, "lastval") { traits.insert(.asksSequence) }
    }

    /// Whether parentheses after this name are those of a call, and not of a list of columns or a type modifier.
    private func isCall(_ name: Token, _ scan: Scan) -> Bool {
        let isQualified = scan.previous == .dot
        if !isQualified, name.entry.traits.contains(.namesNoFunction) { return false }
        switch scan.beforeName {
        case .as, .typecast, .into: return false
        // `FROM t alias (column)`, `WITH name (column) AS`: expressions never follow another without something between.
        case .identifier, .closeParenthesis, .with: return isQualified
        case .comma: return isQualified || scan.withLists & scan.bit == 0
        case .start, .keyword, .string, .other, .dot, .openParenthesis: return true
        }
    }

    private mutating func call(_ token: Token, _ scan: Scan) {
        let name = lexer.name(token)
        if name == "pg_prepared_statement" { traits.insert(.namesStatements) }
        if name == "currval" || name == "lastval" { traits.insert(.asksSequence) }
        if name == "setseed" { traits.insert(.cannotBeDiscarded) }
        guard let called = functions.effect(of: name) else {
            traits.insert(.mayTakeFromSequence)
            if scan.scope == .alteration || (scan.previous != .dot && token.entry.traits.contains(.opensClause)) {
                return
            }
            return raise(to: .sessionState, "calls \(name), which is not known here")
        }
        if called.mayWrite { traits.insert(.mayHideWrite) }
        switch called.effect {
        case .empty: break
        case .read:
            // Which setting a parameter names is not known.
            if name == "current_setting", isSettingOfStandby(following()) || following().kind != .string {
                raise(to: .primaryRead, "asks for a setting that differs on a standby")
            }
        case .primaryRead, .transactionControl, .transactionEnd, .beginReadOnly, .begin:
            raise(to: .primaryRead, "calls \(name), which means something else on a standby")
        case .write:
            traits.insert(.mayTakeFromSequence)
            raise(to: .write, "calls the volatile function \(name)")
        case .sessionState:
            traits.insert(.mayTakeFromSequence)
            if name == "set_config", isLocalSetting(), !functions.isUsersVolatile(name) {
                raise(to: .primaryRead, "sets something for the transaction")
            } else {
                raise(to: .sessionState, "calls \(name), which may leave state in the session")
            }
        }
    }

    /// Whether the arguments that open here are those of `set_config(…, …, true)`.
    private func isLocalSetting() -> Bool {
        var (lexer, depth, commas) = (lexer, 1, 0)
        while commas < 2 {
            switch lexer.next().kind {
            case .openParenthesis: depth += 1
            case .closeParenthesis: depth -= 1
            case .comma where depth == 1: commas += 1
            case .end, .semicolon, .invalid: return false
            case .word, .quotedIdentifier, .string, .number, .parameter, .comma, .dot, .typecast, .symbol: break
            }
            if depth == 0 { return false }
        }
        let last = lexer.next()
        return last.kind == .word && lexer.matches(last, "true") && lexer.next().kind == .closeParenthesis
    }

    /// `SELECT t.f FROM t` calls `f(t)` when `t` has no column `f`.
    private mutating func checkAttribute(_ token: Token) {
        guard functions.mayHaveVolatile(shape: lexer.shape(token)) else { return }
        let name = lexer.name(token)
        if functions.isUsersVolatile(name) { raise(to: .sessionState, "may call the volatile function \(name)") }
    }

    /// A name that, if it is a relation's, shows something of one server or one session.
    ///
    /// That a name is a sequence no text can tell, but these columns are only a sequence's: a standby shows values up
    /// to 32 ahead.
    mutating func checkRelation(_ token: Token) {
        if hiddenShapes != 0 { checkHidden(token) }
        // Most names begin otherwise.
        let first = lexer.first(token)
        if first == UInt8(ascii: "p"), lexer.hasPrefix(token, "pg_") {
            if lexer.matches(token, "pg_temp") || lexer.hasPrefix(token, "pg_temp_") {
                raise(to: effect < .write ? .primaryRead : .sessionState, "names a temporary relation")
            } else if lexer.differsBetweenServers(token) {
                let name = lexer.name(token)
                if name == "pg_prepared_statements" { traits.insert(.namesStatements) }
                raise(to: .primaryRead, "reads \(name), which differs between servers")
            }
        } else if first == UInt8(ascii: "l") && lexer.matches(token, "last_value")
            || first == UInt8(ascii: "i") && lexer.matches(token, "is_called")
        {
            raise(to: .primaryRead, "reads a sequence, which is ahead on a standby")
        } else if first == UInt8(ascii: "c") || first == UInt8(ascii: "l"), lexer.tellsTransactionTime(token) {
            traits.insert(.tellsTransactionTime)
        }
    }

    /// A view, a table with row security or a type may run what the statement does not show.
    private mutating func checkHidden(_ token: Token) {
        guard hiddenShapes & 1 << lexer.shape(token) != 0 else { return }
        guard let hidden = functions.hidden[lexer.hash(token)] else { return }
        if hidden.mayWrite { traits.insert(.mayHideWrite) }
        guard hidden.effect > effect else { return }
        let name = explains ? lexer.name(token) : ""
        raise(to: hidden.effect, "uses \(name), behind which is more than a read")
    }
}

extension Lexer {
    /// Whether a name stands for the time at which the transaction began, as a function or, without parentheses, as a key
    /// word. The one-argument form of `age` counts from it.
    fileprivate func tellsTransactionTime(_ name: Token) -> Bool {
        switch first(name) {
        case UInt8(ascii: "a"): matches(name, "age")
        case UInt8(ascii: "n"): matches(name, "now")
        case UInt8(ascii: "t"): matches(name, "transaction_timestamp")
        case UInt8(ascii: "l"): matches(name, "localtime") || matches(name, "localtimestamp")
        case UInt8(ascii: "c"):
            matches(name, "current_date") || matches(name, "current_time") || matches(name, "current_timestamp")
        default: false
        }
    }

    fileprivate func differsBetweenServers(_ name: Token) -> Bool {
        if hasPrefix(name, "pg_stat") { return hasPrefix(name, "pg_stat_") || hasPrefix(name, "pg_statio_") }
        return hasPrefix(name, "pg_replication_") || hasPrefix(name, "pg_shmem_allocations")
            || hasPrefix(name, "pg_toast_temp_") || matches(name, "pg_locks") || matches(name, "pg_cursors")
            || matches(name, "pg_settings") || matches(name, "pg_sequences") || matches(name, "pg_prepared_xacts")
            || matches(name, "pg_prepared_statements") || matches(name, "pg_file_settings")
            || matches(name, "pg_hba_file_rules") || matches(name, "pg_ident_file_mappings")
            || matches(name, "pg_backend_memory_contexts") || matches(name, "pg_aios")
    }
}
