import QueryAnalysis
import TestSupport
import Testing

@Suite("Fingerprints of statements")
struct FingerprintTests {
    private func fingerprint(_ sql: String) -> Fingerprint {
        Array(sql.utf8).withUnsafeBytes { Fingerprint($0) }
    }

    private func text(_ sql: String, limit: Int = 200) -> String {
        Array(sql.utf8).withUnsafeBytes { normalizedText(of: $0, limit: limit) }
    }

    @Test(
        "literals, parameters, case, space and comments make no difference",
        arguments: [
            "select a, \"B\" from t where c = 1 and d = 'x'", "SELECT a,\"B\" FROM T WHERE c=2 AND d='it''s';",
            "select a , \"B\"\nfrom t -- all\nwhere c = $1 and d = $2",
            ";select a, \"B\" from t where c = .5e3 and d = $$x$$;;",
            "/* slipstream: standby */ select a, \"B\" from t where c = 0x1F and d = E'\\''",
        ]
    )
    func same(_ sql: String) {
        #expect(fingerprint(sql) == fingerprint("select a, \"B\" from t where c = $1 and d = $2"))
    }

    @Test(
        "everything else does",
        arguments: [
            "select a from t where c = 2", "select a from t", "select a from t where c = 1 and c = 1",
            "select \"a\" from t where c = 1", "select a from \"T\" where c = 1", "select a from t where c <> 1",
            "select a from t where c = -1", "select a from t where c = (1)", "select b from t where c = 1",
            "select a from t where c = f(1)", "select a from t where c = f(1, 2)", "select afromt where c = 1",
            "select a from t where c = 1; select a from t where c = 1", "select a from t where c in (1, 2)", "",
        ]
    )
    func different(_ sql: String) {
        let others = Self.statements.filter { $0 != sql }
        #expect(!others.contains { fingerprint($0) == fingerprint(sql) })
    }

    private static let statements = [
        "select a from t", "select a from t where c = 1 and c = 1", "select \"a\" from t where c = 1",
        "select a from \"T\" where c = 1", "select a from t where c <> 1", "select a from t where c = -1",
        "select a from t where c = (1)", "select b from t where c = 1", "select a from t where c = f(1)",
        "select a from t where c = f(1, 2)", "select afromt where c = 1", "select a from t where c in (1, 2)", "",
        "select a from t where c = 1; select a from t where c = 1", "select a from t where c = 2",
    ]

    @Test(
        "the text that a person sees has the same fingerprint",
        arguments: [
            ("SELECT  a,b FROM t/* x */WHERE c = 'it''s' ;", "select a,b from t where c = ?"),
            (
                "select \"A\"\"b\" from t where d=-1 or e::text ~~ $1",
                "select \"A\"\"b\" from t where d=-? or e::text ~~ ?"
            ),
            ("select 1; select 2;", "select ?; select ?"), ("select 'é', \"é\"", "select ?, \"é\""), ("", ""),
        ]
    )
    func normalized(_ sql: String, _ expected: String) {
        #expect(text(sql) == expected)
        #expect(fingerprint(expected.replacing("?", with: "$1")) == fingerprint(sql))
    }

    @Test("a long text is cut, and not within a character")
    func cut() {
        #expect(text("select abc", limit: 10) == "select abc")
        #expect(text("select abcd", limit: 10) == "select abc…")
        #expect(text("select \"éé\"", limit: 9) == "select \"…")
    }

    @Test("its digits lead back to it")
    func digits() {
        for value in [0, 1, UInt64.max, 0x0123_4567_89AB_CDEF] {
            let fingerprint = Fingerprint(rawValue: value)
            #expect(fingerprint.description.utf8.count == 16)
            #expect(Fingerprint(fingerprint.description) == fingerprint)
        }
        #expect(Fingerprint("1") == nil && Fingerprint("000000000000000g") == nil)
    }

    @Test("whatever bytes there are, they have one")
    func garbage() {
        var generator = SeededGenerator()
        let pieces = [
            "'", "\"", "$", "$$", "$a$", "/*", "*/", "--", "\n", ";", "\\", "e'", "u&\"", "select", "1", ".", "\u{0}",
            "é",
        ]
        for _ in 0..<5_000 {
            var bytes: [UInt8] = []
            for _ in 0..<Int.random(in: 0..<12, using: &generator) {
                if Bool.random(using: &generator) {
                    bytes += Array(pieces.randomElement(using: &generator)!.utf8)
                } else {
                    bytes.append(UInt8.random(in: 0...255, using: &generator))
                }
            }
            bytes.withUnsafeBytes { sql in
                #expect(Fingerprint(sql) == Fingerprint(sql))
                #expect(normalizedText(of: sql, limit: 8).utf8.count <= 8 + 3 * 8)
            }
        }
    }
}
