import CPGQuery
import Glibc
package import QueryAnalysis

/// What PostgreSQL 15's own parser (libpg_query) says of a query string, as a second opinion on the classifier's.
package struct ParserOracle: ~Copyable {
    private let result: PgQueryParseResult

    package init(_ sql: String) { result = pg_query_parse(sql) }

    deinit { pg_query_free_parse_result(result) }

    package var isSyntaxError: Bool { result.error != nil }

    /// Why the classifier's verdict is not sound, nil when it is. The server refuses a syntax error wherever it goes.
    package func objection(to verdict: Classification, functions: FunctionCatalog) -> String? {
        if isSyntaxError { return nil }
        switch verdict.effect {
        case .empty: return statements.isEmpty ? nil : "it has statements"
        case .read, .primaryRead:
            if statements.count != verdict.statements { return "it has \(statements.count) statements" }
            return objectionToRead
                ?? calls.first { Self.harm(of: $0, functions) > verdict.effect }.map { "it calls \($0)" }
        case .transactionControl, .transactionEnd, .beginReadOnly, .begin:
            return objectionToTransaction(verdict.effect)
        case .write: return objectionToStateless(functions)
        case .sessionState: return nil
        }
    }

    /// Why a statement is not the change of a setting that it is taken for, nil when it is.
    package func objection(to change: SettingChange) -> String? {
        guard statements == ["VariableSetStmt"] else { return "it is \(statements)" }
        if has(#""is_local":true"#) { return "it ends with the transaction" }
        func isOf(_ kind: String, _ name: String) -> Bool {
            // How the tree spells other characters is its own affair.
            let plain = name.utf8.allSatisfy {
                UInt8(ascii: "a")...UInt8(ascii: "z") ~= $0 || ". _\"".utf8.contains($0)
            }
            guard plain else { return true }
            let name = name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\\\"")
            // The case of a setting's name does not count, in quotes neither.
            let tree = SettingNames.folded(String(cString: result.parse_tree))
            return tree.contains(SettingNames.folded(#""kind":"\#(kind)","name":"\#(name)""#))
        }
        switch change {
        case .set(let name): return isOf("VAR_SET_VALUE", name) ? nil : "it sets something else"
        case .reset(let name):
            return isOf("VAR_RESET", name) || isOf("VAR_SET_DEFAULT", name) ? nil : "it resets something else"
        case .resetAll: return has(#""kind":"VAR_RESET_ALL""#) ? nil : "it does not reset all"
        }
    }

    /// One plain SELECT (VALUES, TABLE) that neither writes nor locks.
    package var isPureSelect: Bool { statements == ["SelectStmt"] && objectionToRead == nil }

    /// One plain SELECT that calls nothing which keeps it from any node.
    package func isTrueRead(functions: FunctionCatalog) -> Bool {
        isPureSelect && calls.allSatisfy { Self.harm(of: $0, functions) <= .read }
    }

    /// The statements of a text that PostgreSQL's scanner finds complete, with all strings and parentheses closed; nil when
    /// it is not.
    package static func statements(of text: String) -> [String]? {
        let result = pg_query_split_with_scanner(text)
        defer { pg_query_free_split_result(result) }
        guard result.error == nil else { return nil }
        let bytes = Array(text.utf8)
        let statements = (0..<Int(result.n_stmts)).compactMap { index -> String? in
            guard let statement = result.stmts[index]?.pointee else { return nil }
            let start = Int(statement.stmt_location)
            return String(decoding: bytes[start..<start + Int(statement.stmt_len)], as: UTF8.self)
        }
        return statements
    }

    package var statementCount: Int { statements.count }

    // MARK: - Rules

    private var objectionToRead: String? {
        for statement in statements {
            switch statement {
            case "SelectStmt", "VariableShowStmt", "FetchStmt", "ClosePortalStmt": break
            case "ExplainStmt":
                if !has(#""ExplainStmt":{"query":{"SelectStmt":"#) { return "it explains something else" }
            case "CopyStmt":
                for field in [#""is_from":"#, #""is_program":"#, #""filename":"#] where has(field) { return field }
            default: return "it is a \(statement)"
            }
        }
        return firstOf(["InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "intoClause", "lockingClause"])
    }

    private func objectionToTransaction(_ effect: StatementEffect) -> String? {
        switch statements {
        case ["TransactionStmt"]:
            let isBegin = has(#""kind":"TRANS_STMT_BEGIN""#) || has(#""kind":"TRANS_STMT_START""#)
            let isEnd = has(#""kind":"TRANS_STMT_COMMIT""#) || has(#""kind":"TRANS_STMT_ROLLBACK""#)
            if isBegin != (effect == .begin || effect == .beginReadOnly) { return "it begins, or does not" }
            if isEnd != (effect == .transactionEnd) { return "it ends, or does not" }
            if effect == .beginReadOnly, !has("transaction_read_only") || has("serializable") { return "it may write" }
            return nil
        case ["VariableSetStmt"]:
            if effect != .transactionControl { return "it is a SET" }
            return has(#""is_local":true"#) || has(#""name":"TRANSACTION"#) ? nil : "it outlives the transaction"
        case ["ConstraintsSetStmt"]: return effect == .transactionControl ? nil : "it is a SET CONSTRAINTS"
        default: return "it is \(statements)"
        }
    }

    private func objectionToStateless(_ functions: FunctionCatalog) -> String? {
        for statement in statements where Self.stateful.contains(statement) {
            if statement != "VariableSetStmt" || !(has(#""is_local":true"#) || has(#""name":"TRANSACTION"#)) {
                return "it is a \(statement)"
            }
        }
        if has(#""relpersistence":"t""#) { return "it names something temporary" }
        if statements.count == 1, Self.running.contains(statements[0]) {
            return calls.first { Self.harm(of: $0, functions) > .write }.map { "it calls \($0)" }
        }
        return nil
    }

    private static let stateful: Set<String> = [
        "VariableSetStmt", "PrepareStmt", "ExecuteStmt", "DeallocateStmt", "ListenStmt", "UnlistenStmt", "DiscardStmt",
        "DoStmt", "CallStmt", "LoadStmt",
    ]
    private static let running: Set<String> = ["SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "CopyStmt"]

    /// The least effect of a query that calls a function: as the classifier, but for what only the arguments tell.
    private static func harm(of name: String, _ functions: FunctionCatalog) -> StatementEffect {
        if name == "set_config" { return .primaryRead }
        guard let volatility = functions.volatilities[name] else {
            return grammar.contains(name) ? .read : .sessionState
        }
        return volatility == .volatile ? Classification.of("select \"\(name)\"(1)", functions: functions).effect : .read
    }

    /// Functions the grammar itself puts into the tree, and the words that open clauses where no function has their
    /// name.
    private static let grammar: Set<String> = Set(
        """
        btrim extract is_normalized like_escape ltrim normalize overlaps overlay pg_collation_for position rtrim \
        similar_to_escape substring system_user timezone xmlexists xmlserialize \
        by columns conflict content copy cube data delete document escape filter first groups include insert key next \
        over operator passing path range repeatable return rollup rows second set sets share update value varying \
        version view within zone
        """.split(separator: " ").map(String.init)
    )

    // MARK: - The tree, as JSON

    private func has(_ text: String) -> Bool { strstr(result.parse_tree, text) != nil }

    private func firstOf(_ nodes: [String]) -> String? {
        nodes.first { has("\"\($0)\":") }.map { "it has a \($0)" }
    }

    /// The kinds of the statements, `SelectStmt` say, in order.
    private var statements: [String] { texts(after: #""stmt":{""#, upTo: "\"") }

    /// The unqualified names of all functions called.
    private var calls: [String] {
        texts(after: #""funcname":["#, upTo: "]").compactMap { list in
            list.split(separator: "\"").last { !$0.allSatisfy { "{}:,".contains($0) } }.map(String.init)
        }
    }

    private func texts(after marker: String, upTo end: String) -> [String] {
        guard !isSyntaxError, var rest = UnsafePointer(result.parse_tree) else { return [] }
        var texts: [String] = []
        while let found = strstr(rest, marker), let stop = strstr(found + marker.utf8.count, end) {
            let start = UnsafeRawPointer(found + marker.utf8.count)
            texts.append(
                String(
                    decoding: UnsafeRawBufferPointer(start: start, count: UnsafeRawPointer(stop) - start),
                    as: UTF8.self
                )
            )
            rest = UnsafePointer(stop)
        }
        return texts
    }
}
