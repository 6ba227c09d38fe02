import FuzzTargets
import QueryAnalysis
import TestSupport
import Testing

@Suite("Changes of settings")
struct SettingChangeTests {
    @Test(
        "A plain SET says which setting it makes",
        arguments: [
            ("set a to b", "a"), ("SET a = b", "a"), ("set session a to b", "a"), ("SeT\n/* x */ A -- y\n= 1 ;", "a"),
            ("set a = 1;;", "a"), ("set a to 'x', \"y\", z", "a"),
            ("set search_path = \"$user\", public", "search_path"),
            ("set \"A\" to 1", "a"), ("set \"a\"\"b\" to 1", "a\"b"), ("set myapp.user_id to '7'", "myapp.user_id"),
            ("set \"My\".App.x = 1", "my.app.x"), ("set work_mem = -1.5", "work_mem"), ("set a to on", "a"),
            ("set a to E'\\''", "a"), ("set a = $$x;y$$", "a"), ("set a to true", "a"),
            ("set application_name to ''", "application_name"), ("set intervalstyle = iso_8601", "intervalstyle"),
            ("set time zone 'UTC'", "timezone"), ("SET SESSION TIME ZONE 2", "timezone"),
            ("set time zone interval '1' hour to minute", "timezone"), ("set timezone to 'UTC'", "timezone"),
            ("set names 'utf8'", "client_encoding"), ("set client_encoding = latin1", "client_encoding"),
            ("set role writer", "role"), ("set role 'writer'", "role"), ("set session role none", "role"),
            ("set role to writer", "role"), ("set role = 'writer'", "role"), ("set \"role\" to writer", "role"),
            ("set role.x to 1", "role.x"), ("set names.x = 1", "names.x"), ("set names = x", "names"),
            ("set time.x to 1", "time.x"),
            ("set session_replication_role = replica", "session_replication_role"),
            ("set default_transaction_read_only = on", "default_transaction_read_only"),
            ("set local.x = 1", "local.x"), ("set schema.x = 1", "schema.x"),
        ]
    )
    func set(_ sql: String, _ name: String) {
        #expect(change(sql) == .set(name: name))
    }

    @Test(
        "RESET, and SET to the default, say which setting they take back",
        arguments: [
            ("reset a", "a"), ("RESET \"A\";", "a"), ("reset myapp.x", "myapp.x"), ("reset time zone", "timezone"),
            ("reset role", "role"), ("reset time.x", "time.x"), ("set a to default", "a"), ("set a = DEFAULT ;", "a"),
            ("set time zone default", "timezone"), ("set time zone local", "timezone"), ("set role to default", "role"),
            ("set role = default", "role"), ("set datestyle to default", "datestyle"),
            ("set names default", "client_encoding"),
            ("set session myapp.x to default", "myapp.x"),
        ]
    )
    func reset(_ sql: String, _ name: String) {
        #expect(change(sql) == .reset(name: name))
    }

    @Test("RESET ALL takes all of them back", arguments: ["reset all", "RESET ALL ;", " /* */ reset\tall"])
    func resetAll(_ sql: String) {
        #expect(change(sql) == .resetAll)
    }

    @Test(
        "Of everything else the server has to be asked",
        arguments: [
            "", ";", "-- set a = 1", "select 1", "show a", "selected a", "reset", "set", "set a", "set a to", "set a =",
            "set a = ;", "reset 'a'", "set 'a' = 1", "set a. = 1", "set a.1 = 2", "set a b", "set .a = 1",
            // Not of the session, or of more than one setting, or more than a setting.
            "set local a = 1", "set local time zone 'UTC'", "set local role x", "set transaction read only",
            "set transaction isolation level serializable", "set transaction_isolation = serializable",
            "set transaction_read_only to on", "reset transaction_isolation", "set constraints all deferred",
            "set session characteristics as transaction read only", "set session authorization x",
            "set session authorization default", "set local session authorization x", "reset session authorization",
            "set session_authorization = x", "reset session_authorization", "set seed to 0.5", "set seed = default",
            "set xml option document", "set schema 'x'", "set catalog 'x'", "set names", "set a from current",
            "set role from current", "set names from current", "reset time",
            // What was before counts.
            "set datestyle = dmy", "SET DateStyle TO ISO", "set \"DateStyle\" = 'SQL, DMY'",
            // More than one statement.
            "set a = 1; set b = 2", "set a = 1; select 1", "reset all; reset all", ";set a = 1", "begin; set a = 1",
            // What cannot be lexed, or in two ways.
            "set a = 'x", "set a = 'x\\'", "set a = '\\'' ; '", "set a = $$x", "set a = 1 /* x", "set a = \u{1}",
            "set a = U&'\\006",
            "discard all", "alter system set a = 1", "alter role x set a = 1", "select set_config('a', 'b', false)",
            "do 'set a = 1'", "explain set a = 1", "(set a = 1)", "prepare x as set a = 1",
        ]
    )
    func others(_ sql: String) {
        #expect(change(sql) == nil)
    }

    @Test("Whatever it takes for a change is, by PostgreSQL's own parser, one statement that sets for the session")
    func oracle() {
        var generator = StatementGenerator(seed: seed)
        let words = [
            "set", "reset", "session", "local", "to", "=", "default", "role", "names", "time", "zone", "a", "b.c", ".",
            "'x'", "1", "all", ";", "transaction", "\"role\"", "authorization", "on", ",", "-", "current", "from",
            "interval", "schema", "constraints", "seed", "E'\\''", "/* */", "characteristics", "as", "xml", "option",
        ]
        var changes = 0
        for _ in 0..<200_000 {
            var text = generator.pick(["set ", "reset ", "set session "])
            for _ in 0..<Int.random(in: 1...5, using: &generator.random) {
                text += generator.pick(words) + generator.pick([" ", " ", ""])
            }
            guard let found = change(text) else { continue }
            let oracle = ParserOracle(text)
            guard !oracle.isSyntaxError else { continue }
            changes += 1
            if let objection = oracle.objection(to: found) {
                Issue.record("\(found), but \(objection), seed \(seed): \(text)")
                return
            }
        }
        #expect(changes > 1_000, "seed \(seed)")
    }

    private let seed = SeededGenerator().seed
}

@Suite("Names of settings in raw text")
struct SettingNamesTests {
    @Test(
        "Words with dots between are found wherever they stand",
        arguments: [
            ("select set_config('myapp.user', '1', false)", ["myapp.user"]), ("", []), ("select 1", []),
            ("a.b", ["a.b"]), ("A.B.C_1", ["a.b.c_1"]), ("x a.b,c.d;e.f", ["a.b", "c.d", "e.f"]),
            ("a..b", []), (".a", []), ("a.", []), ("a.1", []), ("1.5", []), ("1a.b", ["a.b"]), ("a.b.", ["a.b"]),
            ("a.b.1", ["a.b"]), ("a. b", []), ("a.b a.B", ["a.b"]), ("'a'.'b'", []),
            ("(a.b)=c.d", ["a.b", "c.d"]), ("app.gr\u{f6}\u{df}e", ["app.gr\u{f6}\u{df}e"]),
            ("\u{c4}pp.\u{c4}B", ["\u{c4}pp.\u{c4}b"]), ("\u{0}a.b\u{0}", ["a.b"]),
        ] as [(String, Set<String>)]
    )
    func dotted(_ text: String, _ names: Set<String>) {
        #expect(SettingNames.dotted(in: Array(text.utf8).span.bytes) == names)
    }

    @Test("There is an end to what is asked for")
    func limits() {
        let many = (0..<1_000).map { "a.b\($0)" }.joined(separator: " ")
        #expect(SettingNames.dotted(in: Array(many.utf8).span.bytes).count == 64)
        let long = "a." + String(repeating: "b", count: 126)
        #expect(SettingNames.dotted(in: Array(long.utf8).span.bytes) == [long])
        #expect(SettingNames.dotted(in: Array((long + "b").utf8).span.bytes).isEmpty)
    }

    @Test("Random bytes never trap, and every name has a dot within")
    func randomBytes() {
        var random = SeededGenerator()
        let alphabet = Array("aB9_.. '\"\u{e9}".utf8)
        for _ in 0..<20_000 {
            let count = Int.random(in: 0..<40, using: &random)
            let bytes = (0..<count).map { _ in alphabet.randomElement(using: &random) ?? 0 }
            for name in SettingNames.dotted(in: bytes.span.bytes) {
                let parts = name.split(separator: ".", omittingEmptySubsequences: false)
                #expect(parts.count > 1 && !parts.contains(""), "seed \(random.seed): \(bytes)")
            }
        }
    }
}

private func change(_ sql: String) -> SettingChange? {
    var sql = sql
    return sql.withUTF8 { SettingChange(UnsafeRawBufferPointer($0)) }
}
