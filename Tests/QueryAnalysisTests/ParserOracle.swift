import CPGQuery

/// What PostgreSQL 15's own parser (libpg_query) says of a query string.
struct ParserOracle {
    /// The parse tree as JSON, nil for a syntax error.
    let tree: String?

    init(_ sql: String) {
        let result = pg_query_parse(sql)
        defer { pg_query_free_parse_result(result) }
        tree = result.error == nil ? String(cString: result.parse_tree) : nil
    }

    /// The kinds of the statements, `SelectStmt` say, in order.
    var statements: [String] { values(after: #""stmt":{""#) }

    /// The unqualified names of all functions called.
    var calls: [String] {
        texts(after: #""funcname":["#, upTo: "]").compactMap { list in
            Self.split(list, by: #""sval":""#).last.map { String($0.prefix { $0 != "\"" }) }
        }
    }

    /// Why the query string is not a read that leaves no state, nil when it is one as far as the grammar can tell.
    var objection: String? {
        guard let tree else { return nil }
        for node in Self.writes where tree.contains("\"\(node)\":") { return node }
        for statement in statements {
            switch statement {
            case "SelectStmt", "VariableShowStmt", "FetchStmt", "ClosePortalStmt": break
            case "ExplainStmt":
                if !tree.contains(#""ExplainStmt":{"query":{"SelectStmt":"#) { return "explains something else" }
            case "CopyStmt":
                for field in ["is_from", "is_program", "filename"] where tree.contains("\"\(field)\":") { return field }
            default: return statement
            }
        }
        return nil
    }

    /// One plain SELECT (VALUES, TABLE) that neither writes nor locks.
    var isPureSelect: Bool { statements == ["SelectStmt"] && objection == nil }

    private static let writes = [
        "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "lockingClause", "intoClause", "CreateTableAsStmt",
    ]

    private func values(after marker: String) -> [String] { texts(after: marker, upTo: "\"") }

    private func texts(after marker: String, upTo end: Character) -> [String] {
        guard let tree else { return [] }
        return Self.split(tree, by: marker).dropFirst().map { String($0.prefix { $0 != end }) }
    }

    private static func split(_ text: some StringProtocol, by marker: String) -> [Substring] {
        Array(text).isEmpty ? [] : Substring(text).split(separator: marker, omittingEmptySubsequences: false)
    }
}
