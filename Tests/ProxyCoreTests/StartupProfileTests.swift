import PostgresWire
import ProxyCore
import Testing

struct StartupProfileTests {
    @Test("connections are shared among sessions that asked for the same, whatever they call themselves")
    func sharing() {
        let one = profile(("user", "ann"), ("application_name", "x"), ("DateStyle", "ISO"))
        #expect(one == profile(("user", "ann"), ("DateStyle", "ISO"), ("application_name", "y")))
        #expect(one == profile(("user", "ann"), ("DateStyle", "ISO")))
        for other in [
            profile(("user", "ann")), profile(("user", "bob"), ("DateStyle", "ISO")),
            profile(("user", "ann"), ("DateStyle", "SQL")),
            profile(("user", "ann"), ("DateStyle", "ISO"), ("options", "-c a=1")),
            profile(database: "blog", ("user", "ann"), ("DateStyle", "ISO")),
        ] { #expect(one != other) }
    }

    @Test("the packet has the user, the pool's database and the client's settings")
    func packet() {
        let profile = profile(
            ("user", "ann"),
            ("database", "other"),
            ("replication", "false"),
            ("application_name", "x"),
            ("options", "-c a=1")
        )
        var expected = StartupMessage(user: "ann", database: "shop")
        expected.parameters.append(.init(name: "options", value: Array("-c a=1".utf8)))
        #expect(profile.packet == expected.packet)
    }

    @Test("the application's name is set like any setting; an empty one is none")
    func settings() {
        let startup = message([("application_name", "first"), ("application_name", "it's"), ("a", "b")])
        let sql = startup.settings.replay(from: .none).map { String(decoding: $0, as: UTF8.self) }
        #expect(sql == "SET application_name TO E'it''s'")
        #expect(message([("application_name", "")]).settings.isEmpty)
        #expect(message([("a", "b")]).settings.isEmpty)
    }

    private func profile(database: String = "shop", _ parameters: (String, String)...) -> StartupProfile {
        StartupProfile(message(parameters), database: database)
    }

    private func message(_ parameters: [(String, String)]) -> StartupMessage {
        StartupMessage(parameters: parameters.map { .init(name: $0.0, value: Array($0.1.utf8)) })
    }
}
