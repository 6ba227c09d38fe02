import QueryAnalysis
import Testing

@Suite("Transactions, strings and reasons")
struct TransactionTests {
    @Test(
        "Begins",
        arguments: [
            ("begin", .begin), ("begin work", .begin), ("BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE", .begin),
            ("start transaction", .begin), ("begin read write", .begin), ("begin read only, read write", .begin),
            ("begin isolation level serializable, read only, deferrable", .begin),
            ("begin isolation level read committed", .begin),
            ("begin read only", .beginReadOnly), ("START TRANSACTION READ /* */ ONLY;", .beginReadOnly),
            ("begin transaction isolation level repeatable read, read only, not deferrable", .beginReadOnly),
            ("begin isolation level read committed read only", .beginReadOnly),
        ] as [(String, StatementEffect)]
    )
    func begins(_ sql: String, _ expected: StatementEffect) { #expect(effect(sql) == expected) }

    @Test(
        "Ends",
        arguments: [
            "commit", "end", "rollback", "abort", "COMMIT WORK", "end transaction", "commit and chain",
            "rollback transaction and no chain;",
        ]
    )
    func ends(_ sql: String) { #expect(effect(sql) == .transactionEnd) }

    @Test(
        "What begins or ends a transaction and says nothing more",
        arguments: [
            ("begin", .begin), ("BEGIN WORK;", .begin), ("begin transaction ; ;", .begin),
            ("/* x */ Begin -- y", .begin),
            ("begin read write", .begin), ("begin isolation level read committed, read write", .begin),
            ("begin isolation level read committed read write not deferrable", .begin),
            ("start transaction", .startTransaction), ("START TRANSACTION READ WRITE", .startTransaction),
            ("commit", .commit), ("end work", .commit), ("rollback", .rollback), ("abort transaction;", .rollback),
        ] as [(String, TransactionCommand)]
    )
    func commands(_ sql: String, _ expected: TransactionCommand) { #expect(command(sql) == expected) }

    @Test(
        "What says more",
        arguments: [
            "", ";", "start", "begin work transaction", "begin read only", "begin isolation level serializable",
            "begin isolation level repeatable read", "begin isolation level read uncommitted", "begin deferrable",
            "begin isolation level read committed, read only", "begin, read write", "begin read write,", "begin read",
            "begin read write,, read write", "\"begin\"", "begin \"work\"", "begin; select 1", "begin; begin",
            "begin x", "commit and chain", "rollback and no chain", "rollback to a", "commit prepared 'a'",
            "commit; select 1", "savepoint a", "begin /* slipstream: primary */", "begin /*", "select 1",
        ]
    )
    func noCommands(_ sql: String) { #expect(command(sql) == nil) }

    private func command(_ sql: String) -> TransactionCommand? {
        var sql = sql
        return sql.withUTF8 { TransactionCommand(UnsafeRawBufferPointer($0)) }
    }

    @Test(
        "Within a transaction",
        arguments: [
            "savepoint a", "release a", "release savepoint a", "rollback to a", "rollback work to savepoint a",
            "set local a = 1", "SET LOCAL TIME ZONE 'x'", "set local \"a\" = 1", "set transaction read only",
            "set transaction isolation level serializable", "set transaction snapshot 'x'",
            "set constraints all deferred",
        ]
    )
    func controls(_ sql: String) { #expect(effect(sql) == .transactionControl) }

    @Test(
        "What looks like a write inside strings, names and comments is none",
        arguments: [
            "select 'insert into t'", "select '; drop table t'", "select 'it''s; delete'",
            "select E'\\'; drop table t; --'",
            "select e'a\\\\', 1", "select U&'\\0041; drop', 1", "select u&'a' uescape '!'",
            "select B'01', x'1f', N'a;b'",
            "select 'a'\n'; drop table t'", "select E'a' -- c\n '\\'; drop table t; --'", "select $$; drop table t$$",
            "select $a$ $b$ ; drop $$ $a$", "select $é$;drop$é$", "select \"; drop\"\"table\"",
            "select 1 -- ; drop table t",
            "select 1 /* ; drop /* nested */ table */", "select 1 +-- ; drop\n 2", "select 1 */**/ 2",
            "select a$b$c from t",
            "select 1_000, 0x1F, 0b01, 0o17, 1e10, 1.5e-3, .5, 1., $1", "select 'a\\d+b'", "select 'C:\\dir', 1",
            "select '\\\\'", "select 'a' like 'b' escape '\\'", "sElEcT\t1\r\n", "select 'é', ü from straße",
        ]
    )
    func hidden(_ sql: String) {
        let verdict = Classification.of(sql, functions: catalog)
        #expect(verdict.effect == .read, "\(verdict)")
        #expect(verdict.statements == 1)
    }

    @Test(
        "What a string or comment does not hide is found",
        arguments: [
            "select 'a'; drop table t", "select E'a\\\\'; drop table t", "select $$ $$; drop table t",
            "select '''' ; drop table t",
            "select 1 /* */; drop table t", "select 1 -- \n; drop table t", "select 1 -- \r; drop table t",
            "select 1/**/into t",
            "select \"a\"into t", "select 'a'into t", "select 'a\\'; drop table t; --'",
            "select a$b$; drop table t; select $b$",
            "select $1$a$ $a$; drop table t", "select '\\'' ; drop table t; --'", "select 'a\\''into t--'",
            "select U&'\\'; drop table t; --'", "select B'\\'; drop table t; --'", "select 'a' 'b\\'; drop table t --'",
        ]
    )
    func exposed(_ sql: String) { #expect(effect(sql) >= .write) }

    @Test("A setting hidden by an ambiguous backslash is found", arguments: ["select 'a\\'; set a = 1; --'"])
    func ambiguous(_ sql: String) { #expect(effect(sql) == .sessionState) }

    @Test(
        "Text that does not end, or is none, is no read",
        arguments: [
            "select '", "select 'a''", "select E'a\\'", "select \"a", "select $$a$", "select $a$ $A$",
            "select /* /* */", "select 1 \0",
            "\0", "select \\d", "select {", "select 'it\\'s'", "select $a", "select U&'", "select \u{1}",
            "select " + String(repeating: "a", count: 64),
        ]
    )
    func broken(_ sql: String) { #expect(effect(sql) == .write) }

    @Test("Parentheses deeper than the scan remembers hide no call")
    func deep() {
        let open = String(repeating: "(", count: 100)
        let close = String(repeating: ")", count: 100)
        #expect(effect("select \(open)abs(1)\(close)") == .read)
        #expect(effect("select \(open)audit(1)\(close)") == .sessionState)
        #expect(effect("select \(open)select distinct on (a) audit(1)\(close)") == .sessionState)
        #expect(effect(String(repeating: "explain ", count: 100_000) + "select 1") == .write)
    }

    @Test(
        "Statements are counted",
        arguments: [("select 1;;select 2", 2), ("begin; select 1; commit;", 3), ("select ';'", 1)]
    )
    func counts(_ sql: String, _ count: Int) { #expect(Classification.of(sql, functions: catalog).statements == count) }

    @Test(
        "Reasons can be read",
        arguments: [
            ("select nextval('s')", "calls the volatile function nextval"),
            ("select 1 for update", "has a locking clause"),
            ("with a as (delete from t) select 1", "has a data-modifying part"),
            ("create table t ()", "CREATE is not a read"),
            ("table pg_stat_activity", "reads pg_stat_activity, which differs between servers"),
            ("truncate t", "TRUNCATE is not a read"),
            ("select what()", "calls what, which is not known here"), ("select 1", "only reads"),
        ]
    )
    func reasons(_ sql: String, _ reason: String) {
        #expect(Classification.of(sql, functions: catalog).reason == reason)
    }

    @Test("Without a catalog the commonest functions are known, and no others")
    func emptyCatalog() {
        #expect(Classification.of("select count(*), lower(a), now() from t").effect == .read)
        #expect(Classification.of("select pg_is_in_recovery()").effect == .primaryRead)
        #expect(Classification.of("select nextval('s')").effect == .write)
        #expect(Classification.of("select price(1)").effect == .sessionState)
    }

    @Test("A catalog keeps the worst volatility of a name, and only a user's makes it stateful")
    func worst() {
        #expect(catalog.volatilities["length"] == .volatile)
        #expect(catalog.volatilities["abs"] == .stable)
        #expect(FunctionCatalog([(name: "f", volatility: .volatile)]).volatilities == ["f": .volatile])
    }
}
