import QueryAnalysis
import Testing

@Suite("Statements about the endpoint itself")
struct EndpointCommandTests {
    private func command(_ sql: String) -> EndpointCommand? {
        Array(sql.utf8).withUnsafeBytes { EndpointCommand($0) }
    }

    @Test(
        "SET says what is set to what",
        arguments: [
            ("set slipstream.key = 'a'", "a"), ("SET Slipstream.KEY TO 'a';;", "a"),
            ("set session slipstream.key = a", "a"),
            ("/* x */ set slipstream . key = 'it''s'", "it's"), ("set slipstream.key = ''", ""),
            ("set slipstream.key = E'a'", "a"),
            ("set slipstream.key = 7", "7"), ("set slipstream.key = 'é'", "é"),
            ("set \"slipstream\".\"Key\" = on", "on"),
            ("set \"slipstream.key\" = 'default'", "default"),
        ]
    )
    func set(_ sql: String, _ value: String) {
        #expect(command(sql) == .set(name: "key", value: value, isLocal: false))
        #expect(Classification.of(sql).traits.contains(.isEndpointCommand))
    }

    @Test("SET LOCAL, RESET, DEFAULT and SHOW")
    func others() {
        #expect(command("set local slipstream.key = 'a'") == .set(name: "key", value: "a", isLocal: true))
        #expect(command("set slipstream.key to default") == .set(name: "key", value: nil, isLocal: false))
        #expect(command("RESET slipstream.key;") == .reset(name: "key"))
        #expect(command("show slipstream.token -- now") == .show(name: "token"))
        #expect(
            command("Show Learned;") == .show(name: "learned")
                && command("show slipstream.learned") == .show(name: "learned")
        )
        for sql in ["set local slipstream.key = 'a'", "RESET slipstream.key", "show slipstream.token", "show learned"] {
            #expect(Classification.of(sql).traits.contains(.isEndpointCommand))
        }
    }

    @Test(
        "EXPLAIN (ROUTE) holds one statement, whatever it is",
        arguments: [
            ("explain (route) select 1", " select 1", 0), ("EXPLAIN(Route)SELECT $2;;", "SELECT $2", 2),
            ("explain ( route ) insert into t values ('a;b', $1, $12)", " insert into t values ('a;b', $1, $12)", 12),
            ("explain (route) (table t)", " (table t)", 0), ("explain (route) select 'a", " select 'a", 0),
            ("explain (route) drop table", " drop table", 0),
            ("explain (route) select $99999999999999999999", " select $99999999999999999999", 32_767),
        ]
    )
    func explain(_ sql: String, _ statement: String, _ parameters: Int) {
        #expect(command(sql) == .explainRoute(statement: Array(statement.utf8)))
        #expect(command(sql)?.parameterCount == parameters)
        #expect(Classification.of(sql).traits.contains(.isEndpointCommand))
    }

    @Test(
        "everything else is for a server",
        arguments: [
            "", "set slipstream = 1", "set slipstream.key", "set slipstream.key =", "set slipstream.key = 'a', 'b'",
            "set slipstream.key = 'a\\b'", "set slipstream.key = $$a$$",
            "set slipstream.key = 'a'; select 1", "show slipstreams.key", "show slipstream", "reset all", "show all",
            "set slipstreamkey = 1", "select set_config('slipstream.key', 'a', false)", "set slipstream.key = 'a",
            "set local.slipstream.key = 1", "show slipstream.key, slipstream.token",
            "explain (route)", "explain (route);", "explain (route) select 1; select 2",
            "explain (route, analyze) select 1",
            "explain (route on) select 1", "explain route select 1", "explain (\"route\") select 1",

            "reset learned", "show \"learned\"", "show learned.x",
        ]
    )
    func notOurs(_ sql: String) {
        #expect(command(sql) == nil)
    }

    @Test(
        "no other statement is taken for one",
        arguments: ["set a = 'slipstream'", "reset a", "show a", "select slipstream.key"]
    )
    func traits(_ sql: String) {
        #expect(!Classification.of(sql).traits.contains(.isEndpointCommand))
    }
}
