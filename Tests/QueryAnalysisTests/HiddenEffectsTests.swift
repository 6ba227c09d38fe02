import QueryAnalysis
import Testing

/// What the text of a statement does not show.
struct HiddenEffectsTests {
    private static let functions: [(name: String, volatility: Volatility, isBuiltIn: Bool)] = [
        ("lower", .immutable, true), ("nextval", .volatile, true), ("pg_is_in_recovery", .volatile, true),
        ("pg_advisory_lock", .volatile, true), ("price", .volatile, false), ("audit", .volatile, false),
        ("keeps_a_setting", .volatile, false), ("calls_audit", .stable, false),
    ]

    /// `price` is volatile only because nobody said otherwise.
    private static let catalog: FunctionCatalog = {
        let believed = FunctionCatalog(
            functions.map { function in
                var function = function
                if function.name == "price" || function.name == "audit" { function.volatility = .stable }
                return function
            },
            writers: ["audit", "calls_audit"]
        )
        return FunctionCatalog(functions, writers: ["audit", "calls_audit"]).hiding(
            [
                // Each before what it uses, so that once through is not enough.
                Definition(name: "deeper", query: "SELECT * FROM deep;"),
                Definition(name: "deep", query: "SELECT audited.n FROM audited JOIN plain USING (n);"),
                Definition(name: "audited", query: "SELECT audit(n) AS n FROM t;"),
                Definition(name: "plain", query: "SELECT lower(n) FROM t;"),
                Definition(name: "priced", query: "SELECT price(n) FROM t;"),
                Definition(name: "numbered", query: "SELECT nextval('s'::regclass) AS n;"),
                Definition(name: "locking", query: "SELECT n FROM t FOR UPDATE;"),
                Definition(name: "recovering", query: "SELECT pg_is_in_recovery();"),
                Definition(name: "Activity", query: "SELECT pid FROM pg_stat_activity;"),
                Definition(name: "setting", query: "SELECT keeps_a_setting();"),
                Definition(name: "locked", query: "SELECT pg_advisory_lock(1);"),
                Definition(name: "checked", query: "select audit(VALUE)"),
                Definition(name: "secured", query: "select (owner = CURRENT_USER)"),
                Definition(name: "secured", query: "select audit(owner)"),
            ],
            sequences: ["number"],
            believed: believed
        )
    }()

    @Test(
        "a name counts for what is behind it",
        arguments: [
            ("select * from plain", .read), ("select * from priced", .read), ("select 1", .read),
            ("select * from audited", .read), ("table deeper", .read),
            ("select * from numbered", .write), ("select n from s.NUMBERED as x", .write),
            ("select * from locking", .write), ("copy (table locking) to stdout", .write),
            ("select * from recovering", .primaryRead), ("select * from \"Activity\"", .primaryRead),
            ("select * from activity", .read), ("select * from \"NUMBERED\"", .read),
            ("select * from number", .primaryRead), ("with a as (select 1) select * from a, \"number\"", .primaryRead),
            ("select * from setting", .sessionState), ("select * from locked", .sessionState),
            ("explain table numbered", .write), ("select price(1)", .sessionState),
        ] as [(String, StatementEffect)]
    )
    func effects(sql: String, effect: StatementEffect) {
        let verdict = Classification.of(sql, functions: Self.catalog)
        #expect(verdict.effect == effect, "\(verdict)")
    }

    @Test(
        "what may write unseen is a read, and said to be one of these",
        arguments: [
            ("select * from audited", true), ("table deeper", true), ("select calls_audit()", true),
            ("select 'x'::checked", true), ("select cast(a as s.checked) from t", true),
            ("select * from secured", true),
            ("copy secured to stdout", true), ("select * from plain", false), ("select * from priced", false),
            ("select lower(a) from t", false), ("select 'checked'", false),
        ]
    )
    func traits(sql: String, mayWrite: Bool) {
        let verdict = Classification.of(sql, functions: Self.catalog)
        #expect(verdict.effect == .read, "\(verdict)")
        #expect(verdict.traits.contains(.mayHideWrite) == mayWrite, "\(verdict)")
    }
}
