import PostgresWire
import ProxyCore
import Testing

struct SessionPreferencesTests {
    @Test("a value is checked, kept and told in one form")
    func values() throws {
        var preferences = SessionPreferences()
        for (name, value, told) in [
            ("consistency", "EVENTUAL", "eventual"), ("key", "user:42", "user:42"), ("route", "standby", "standby"),
            ("max_staleness", "1.5s", "1500ms"), ("max_staleness", "2", "2000ms"), ("report_token", "On", "on"),
        ] {
            try preferences.set(name, to: value)
            #expect(preferences.value(of: name, configured: .session) == told)
        }
        for name in SessionPreferences.names where name != "token" { try preferences.set(name, to: nil) }
        #expect(preferences == SessionPreferences())
        #expect(preferences.value(of: "consistency", configured: .global) == "global")
        #expect(preferences.value(of: "nothing", configured: .global) == nil)
    }

    @Test(
        "what cannot be is refused",
        arguments: [
            ("consistency", "perfect", "22023"), ("max_staleness", "soon", "22023"), ("max_staleness", "-1", "22023"),
            ("report_token", "perhaps", "22023"), ("route", "", "22023"), ("nothing", "1", "42704"),
            ("key", String(repeating: "k", count: 256), "22023"),
        ]
    )
    func refusals(name: String, value: String, state: String) {
        var preferences = SessionPreferences()
        let error = #expect(throws: ErrorMessage.self) { try preferences.set(name, to: value) }
        #expect(error?.state.code == state)
        #expect(preferences == SessionPreferences())
    }

    private func key(_ preferences: TransactionalPreferences) -> String { preferences.present.key }

    @Test("outside of a transaction a value stays, and a local one does not even come")
    func outsideOfTransactions() throws {
        let preferences = TransactionalPreferences()
        try preferences.set("key", to: "a", isInTransaction: false)
        try preferences.set("key", to: "b", isLocal: true, isInTransaction: false)
        preferences.transactionEnded(isCommitted: false)
        #expect(key(preferences) == "a")
    }

    @Test(
        "a transaction that is committed keeps what is not local to it; another one nothing",
        arguments: [true, false]
    )
    func transactions(isCommitted: Bool) throws {
        let preferences = TransactionalPreferences()
        try preferences.set("key", to: "before", isInTransaction: false)
        try preferences.set("key", to: "in it", isInTransaction: true)
        try preferences.set("key", to: "local", isLocal: true, isInTransaction: true)
        try preferences.set("route", to: "primary", isInTransaction: true)
        #expect(key(preferences) == "local")
        preferences.transactionEnded(isCommitted: isCommitted)
        #expect(key(preferences) == (isCommitted ? "in it" : "before"))
        #expect(preferences.present.route == (isCommitted ? .primary : .auto))
    }

    @Test("RESET ALL in a transaction that is rolled back resets nothing", arguments: [true, false])
    func resetAll(isCommitted: Bool) throws {
        let preferences = TransactionalPreferences()
        try preferences.set("key", to: "before", isInTransaction: false)
        preferences.resetAll(isInTransaction: true)
        #expect(key(preferences) == "")
        preferences.transactionEnded(isCommitted: isCommitted)
        #expect(key(preferences) == (isCommitted ? "" : "before"))
    }

    @Test("settings of the endpoint are taken out of the startup packet, and nothing else")
    func startup() {
        func taken(_ options: String, _ parameters: [(String, String)] = []) -> (String, [String]) {
            var message = StartupMessage(user: "u", database: "d")
            message.parameters.append(.init(name: "options", value: Array(options.utf8)))
            message.parameters += parameters.map { .init(name: $0.0, value: Array($0.1.utf8)) }
            let settings = message.takeEndpointSettings()
            return (message["options"] ?? "", settings.map { "\($0.name)=\($0.value)" })
        }
        #expect(taken("-c slipstream.key=a") == ("", ["key=a"]))
        #expect(taken("-c work_mem=5MB  -cslipstream.key=a\\ b -e") == ("-c work_mem=5MB -e", ["key=a b"]))
        #expect(taken("--slipstream.max-staleness=2s --work-mem=1MB") == ("--work-mem=1MB", ["max_staleness=2s"]))
        #expect(taken("-c search_path=slipstream.key -c") == ("-c search_path=slipstream.key -c", []))
        #expect(taken("", [("Slipstream.Route", "standby"), ("work_mem", "1MB")]) == ("", ["route=standby"]))
    }

    @Test("of too many keys the oldest are forgotten, and count as written last by the newest of those")
    func keys() {
        var keys = KeyedWrites(limit: 4)
        for number in 1...4 as ClosedRange<UInt64> { keys.wrote("k\(number)", number) }
        #expect(keys.lastWrite(of: "k1") == 1 && keys.lastWrite(of: "unknown") == 0)
        keys.wrote("k5", 5)
        #expect(keys.lastWrite(of: "k5") == 5 && keys.lastWrite(of: "k4") == 4)
        #expect(keys.lastWrite(of: "k1") == 3 && keys.lastWrite(of: "unknown") == 3)
    }
}
