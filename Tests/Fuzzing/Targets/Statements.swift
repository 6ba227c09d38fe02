import QueryAnalysis

extension FuzzTarget {
    /// The lexer and the classifier.
    static let classification = FuzzTarget(name: "classification", seeds: statements.map { [1] + $0 }) {
        (input) throws(Violation) in
        let (options, text) = input.optionsAndRest
        let functions = options & 1 == 0 ? FunctionCatalog() : catalog
        let verdict = classified(text, functions)
        try require(!verdict.reason.isEmpty, "no reason is given")
        try require(
            verdict.statements >= 0 && verdict.statements <= text.count,
            "\(verdict.statements) statements in \(text.count) bytes"
        )
        let silent = classified(text, functions, explains: false)
        try require(verdict.isLike(silent), "with a reason it is \(verdict), without \(silent)")
        guard !text.isEmpty else { return }

        let ahead = classified(Array(" /* */\n".utf8) + text, functions)
        try require(verdict.isLike(ahead), "behind a comment it is \(ahead), not \(verdict)")
        let behind = classified(text + Array("\n".utf8), functions)
        try require(verdict.isLike(behind), "in front of a newline it is \(behind), not \(verdict)")
        let second = classified(Array("SELECT 1;".utf8) + text, functions)
        try require(second.effect >= verdict.effect, "as the second statement it is \(second), not \(verdict)")
        // What may change something changes it, however much more is known.
        let both = classified(text + Array("\n;SELECT my_volatile()".utf8), functions)
        try require(both.effect >= verdict.effect, "with another statement behind it is \(both), not \(verdict)")
    }

    /// The classifier's verdicts and PostgreSQL's own parser.
    static let soundness = FuzzTarget(name: "soundness", seeds: (statements + settings).map { [0] + $0 }) {
        (input) throws(Violation) in
        let text = input.optionsAndRest.rest
        guard !text.contains(0), let sql = String(validating: text, as: UTF8.self) else { return }
        let verdict = classified(text, catalog)
        let oracle = ParserOracle(sql)
        if let objection = oracle.objection(to: verdict, functions: catalog) {
            throw Violation(description: "\(verdict), but \(objection)")
        }
        guard !oracle.isSyntaxError, let change = text.withUnsafeBytes({ SettingChange($0) }) else { return }
        if let objection = oracle.objection(to: change) {
            throw Violation(description: "\(change), but \(objection)")
        }
    }

    /// The reader of SET and RESET, and of names in raw text.
    static let settingChange = FuzzTarget(name: "setting-change", seeds: settings.map { [0] + $0 } + statements) {
        (input) throws(Violation) in
        let text = input.optionsAndRest.rest
        let change = text.withUnsafeBytes { SettingChange($0) }
        let behind = (text + Array("\n".utf8)).withUnsafeBytes { SettingChange($0) }
        try require(change == behind, "in front of a newline it is \(behind as Any), not \(change as Any)")
        let ahead = (Array("\n".utf8) + text).withUnsafeBytes { SettingChange($0) }
        try require(change == ahead, "behind a newline it is \(ahead as Any), not \(change as Any)")
        for name in SettingNames.dotted(in: text.span.bytes) {
            try require(
                name == SettingNames.folded(name) && name.utf8.contains(UInt8(ascii: ".")),
                "\(name) is no name"
            )
        }
        guard let change else { return }
        let verdict = classified(text, FunctionCatalog())
        try require(
            verdict.effect == .sessionState && verdict.statements == 1 || text.contains(0),
            "\(change) is classified as \(verdict)"
        )
        switch change {
        case .set(let name), .reset(let name):
            // An empty name is refused by the server.
            try require(name == SettingNames.folded(name), "\(name) is not folded")
        case .resetAll: break
        }
    }

    private static func classified(
        _ text: [UInt8],
        _ functions: FunctionCatalog,
        explains: Bool = true
    ) -> Classification {
        text.withUnsafeBytes { classify($0, functions: functions, explains: explains) }
    }

    private static let catalog = FunctionCatalog([
        ("count", .immutable, true), ("now", .stable, true), ("nextval", .volatile, true), ("random", .volatile, true),
        ("set_config", .volatile, true), ("my_stable", .stable, false), ("my_volatile", .volatile, false),
    ])

    private static let statements: [[UInt8]] = [
        "SELECT a, count(*) FROM t WHERE x = 'it''s' GROUP BY 1", "select my_volatile(1), t.my_volatile from t",
        "SELECT 'a\\'; DELETE FROM t; --'", "SELECT E'a\\'' 'b'\n'c', U&'\\0061', x'1F', b'01', N'n'",
        "SELECT $1::int + $tag$ body $tag$ || $$x$$", "SELECT \"a\"\"b\".\"C\", U&\"d\\0061\" FROM \"t\"",
        "SELECT 1.5e-3, .5, 0x_1F, 0o17, 0b11, 1_000, 1into", "/* a /* nested */ b */ SELECT 1 -- end\n",
        "WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a", "SELECT * FROM t FOR NO KEY UPDATE SKIP LOCKED",
        "SELECT 1 INTO x", "(TABLE t) UNION ALL VALUES (1), (2)", "EXPLAIN (ANALYZE, BUFFERS) SELECT 1",
        "COPY (SELECT 1) TO STDOUT", "COPY t FROM STDIN", "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        "START TRANSACTION READ WRITE; COMMIT AND CHAIN", "SAVEPOINT a; ROLLBACK TO a; RELEASE a", "SHOW ALL",
        "PREPARE p AS SELECT 1; EXECUTE p", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "FETCH 1 FROM c",
        "CREATE TEMPORARY TABLE t AS SELECT 1", "ALTER DATABASE d SET a = b", "SELECT nextval('s'), lastval()",
        "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING RETURNING *", "DO $$ BEGIN END $$", "CALL p()", "LOAD 'x'",
        "SELECT set_config('a.b', 'c', true), current_setting('transaction_read_only')", "DISCARD ALL", "LISTEN x",
    ].map { Array($0.utf8) }

    private static let settings: [[UInt8]] = [
        "SET a TO 1", "set session myapp.user = 'x', 'y'", "SET TIME ZONE INTERVAL '1' HOUR TO MINUTE", "RESET ALL",
        "SET LOCAL a TO b", "RESET \"My\".\"Name\"", "SET TIME ZONE LOCAL;", "SET NAMES 'UTF8'", "SET ROLE none",
        "SET search_path TO DEFAULT", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "RESET TIME ZONE",
        "SET a FROM CURRENT", "SET datestyle TO iso, mdy ; ;",
    ].map { Array($0.utf8) }
}

extension Classification {
    fileprivate func isLike(_ other: Classification) -> Bool {
        effect == other.effect && traits == other.traits && statements == other.statements
    }
}
