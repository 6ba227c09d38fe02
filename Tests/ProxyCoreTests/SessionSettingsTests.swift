import ProxyCore
import QueryAnalysis
import TestSupport
import Testing

struct SessionSettingsTests {
    // MARK: - Changes

    @Test("nothing is set at first, and nothing has to be replayed")
    func none() {
        #expect(SessionSettings.none.isEmpty)
        #expect(SessionSettings.none.replay(from: .none) == nil)
        #expect(SessionSettings.none.customNames.isEmpty)
    }

    @Test("settings made by the same statements are the same, in whatever order")
    func equality() {
        let one = settings("SET a = 1", "SET b = 2")
        #expect(one.equals(one) && one.equals(settings("SET b = 2", "SET a = 1")))
        #expect(one.fingerprint == settings("SET b = 2", "SET a = 1").fingerprint)
        #expect(one.equals(settings("SET a = 3", "SET b = 2", "SET a = 1")))
        #expect(one.replay(from: settings("SET b = 2", "SET a = 1")) == nil)
        for other in [settings("SET a = 1"), settings("SET a = 1", "SET b = 3"), .none] {
            #expect(!one.equals(other) && one.fingerprint != other.fingerprint)
        }
    }

    @Test("the fingerprint leaves out the application's name, the comparison does not")
    func fingerprint() {
        let one = settings("SET a = 1", "SET application_name = x")
        let other = settings("SET a = 1", "SET application_name = y")
        #expect(one.fingerprint == other.fingerprint && !one.equals(other))
        #expect(settings("SET application_name = x").fingerprint == SessionSettings.none.fingerprint)
    }

    @Test("RESET goes back to what the startup packet says; on the server to what the connection was opened with")
    func reset() {
        let base = settings("SET application_name = base")
        let session = settings(base: base, "SET application_name = x", "SET a = 1", "RESET application_name", "RESET a")
        #expect(session.equals(base))
        let onServer = settings("SET application_name = x").applyingOnServer(.reset(name: "application_name"), [])
        #expect(onServer.isEmpty)
        #expect(settings(base: base, "SET a = 1", "SET application_name = x", "RESET ALL").equals(base))
        #expect(settings("SET a = 1").applyingOnServer(.resetAll, []).isEmpty)
    }

    @Test("RESET ALL leaves the role on, as the server does")
    func resetAllKeepsRole() {
        let base = settings("SET application_name = base")
        let session = settings(base: base, "SET ROLE x", "SET a = 1", "RESET ALL")
        #expect(text(session.replay(from: base)) == "SET ROLE x")
        #expect(settings("SET ROLE x", "SET a = 1").applyingOnServer(.resetAll, []).equals(settings("SET ROLE x")))
        #expect(settings(base: base, "SET ROLE x", "RESET ALL", "RESET ROLE").equals(base))
    }

    @Test("what a probe found is completed with what the startup packet says")
    func completed() {
        let base = settings("SET application_name = base", "SET b = 1")
        let found = settings("SET a = 1", "SET b = 2")
        #expect(found.completed(with: base).equals(settings("SET a = 1", "SET application_name = base", "SET b = 2")))
        #expect(found.completed(with: .none).equals(found))
        #expect(SessionSettings.none.completed(with: base).equals(base))
        #expect(base.completed(with: base).equals(base))
    }

    @Test("names of an extension or of the application are those with a dot")
    func customNames() {
        #expect(settings("SET a = 1", "SET my.x = 1", "SET his.y.z = 1").customNames == ["his.y.z", "my.x"])
    }

    // MARK: - Literals

    @Test("a literal means the same however strings are read, and holds any bytes")
    func literals() {
        for (value, literal) in [
            ("", "E''"), ("x", "E'x'"), ("it's", "E'it''s'"), (#"a\b"#, #"E'a\\b'"#), (#"\'"#, #"E'\\'''"#),
            ("\n;", "E'\n;'"), ("\u{e9}", "E'\u{e9}'"),
        ] { #expect(SessionSettings.literal(Array(value.utf8)) == Array(literal.utf8)) }
        var random = SeededGenerator()
        for _ in 0..<2_000 {
            let value = randomValue(&random)
            var model = ModelServer()
            let isRun = model.replay(SessionSettings.none.setting("a", to: value).replay(from: .none) ?? [])
            #expect(isRun, "seed \(random.seed)")
            #expect(model.values == ["a": value], "seed \(random.seed)")
        }
    }

    // MARK: - Replay

    @Test("a role comes off first and on last, and goes on again over what was changed")
    func role() {
        let with = settings("SET ROLE x", "SET z = 1")
        #expect(text(with.replay(from: .none)) == "SET z = 1\n;SET ROLE x")
        #expect(text(SessionSettings.none.replay(from: with)) == "RESET ROLE\n;RESET \"z\"")
        let other = settings("SET ROLE y", "SET a = 2", "SET z = 1")
        #expect(text(other.replay(from: with)) == "RESET ROLE\n;SET a = 2\n;SET ROLE y")
        #expect(text(settings("SET ROLE x", "SET z = 2").replay(from: with)) == "RESET ROLE\n;SET z = 2\n;SET ROLE x")
    }

    @Test("names are quoted part by part")
    func quoting() {
        let odd = SessionSettings.none.setting("my.a\"b", by: Array("…".utf8))
        #expect(text(SessionSettings.none.replay(from: odd)) == "RESET \"my\".\"a\"\"b\"")
    }

    @Test("names are compared byte by byte, and an accent behind a dot or a quote leaves it one")
    func bytewise() {
        let composed = settings("SET my.\u{e9} = 1", "SET my.e\u{301} = 2")
        #expect(
            text(SessionSettings.none.replay(from: composed)) == "RESET \"my\".\"e\u{301}\"\n;RESET \"my\".\"\u{e9}\""
        )
        #expect(composed.customNames.count == 2)
        let accent = SessionSettings.none.setting("my.\u{301}a\"\u{301}b", by: Array("…".utf8))
        #expect(accent.customNames.count == 1)
        let reset = Array("RESET \"my\".\"\u{301}a\"\"\u{301}b\"".utf8)
        #expect(SessionSettings.none.replay(from: accent) == reset)
    }

    /// Sessions that set, reset and are probed, one after the other on a few connections, by a model of the server.
    @Test("from whatever state a connection is in, a replay makes it what the session has set")
    func replay() {
        var random = SeededGenerator()
        for _ in 0..<500 {
            var servers = (0..<2).map { _ in (model: ModelServer(), settings: SessionSettings.none) }
            var sessions = (0..<3).map { number in ModelSession(applicationName: number == 0 ? nil : "client \(number)")
            }
            for _ in 0..<40 {
                let server = Int.random(in: servers.indices, using: &random)
                let index = Int.random(in: sessions.indices, using: &random)
                if let sql = sessions[index].settings.replay(from: servers[server].settings) {
                    let isRun = servers[server].model.replay(sql)
                    #expect(isRun, "\(text(sql)), seed \(random.seed)")
                }
                servers[server].settings = sessions[index].settings
                #expect(servers[server].model == sessions[index].expected, "seed \(random.seed)")

                if Int.random(in: 0..<8, using: &random) == 0 {
                    // Something the text does not tell, and what a probe finds afterwards.
                    let value = randomValue(&random)
                    servers[server].model.values["my.hidden"] = value
                    sessions[index].expected.values["my.hidden"] = value
                    servers[server].settings = servers[server].model.probed
                    sessions[index].settings = servers[server].model.probed.completed(with: sessions[index].base)
                    continue
                }
                let sql = randomChange(&random)
                guard let change = sql.withUnsafeBytes({ SettingChange($0) }) else {
                    Issue.record("\(text(sql)) is no change, seed \(random.seed)")
                    return
                }
                servers[server].model.run(sql)
                sessions[index].expected.runInSession(sql, base: sessions[index].applicationName)
                sessions[index].settings = sessions[index].settings.applying(change, sql, base: sessions[index].base)
                servers[server].settings = servers[server].settings.applyingOnServer(change, sql)
            }
        }
    }

    private func randomChange(_ random: inout SeededGenerator) -> [UInt8] {
        let names = ["a", "b", "application_name", "my.x", "his.y.z", "timezone"]
        let name = names.randomElement(using: &random) ?? "a"
        return switch Int.random(in: 0..<12, using: &random) {
        case 0: Array("RESET ALL".utf8)
        case 1: Array("RESET ROLE".utf8)
        case 2, 3: Array("SET ROLE \(["x", "y"].randomElement(using: &random) ?? "x")".utf8)
        case 4, 5: Array("RESET \(name)".utf8)
        default: Array("SET \(name) TO ".utf8) + SessionSettings.literal(randomValue(&random))
        }
    }
}

// MARK: - Model

/// A server session, as far as settings go: nothing else may be set while a role is on.
private struct ModelServer: Equatable {
    var values: [String: [UInt8]] = [:]
    var role: String?

    /// What a probe of it finds.
    var probed: SessionSettings {
        let found = values.reduce(SessionSettings.none) { $0.setting($1.key, to: $1.value) }
        return role.map { found.setting("role", to: Array($0.utf8)) } ?? found
    }

    /// Runs the statements of a replay; returns whether all succeeded.
    mutating func replay(_ sql: [UInt8]) -> Bool {
        var reader = ModelReader(sql)
        while !reader.isAtEnd {
            guard let statement = reader.statement() else { return false }
            if role != nil, !statement.isOfRole { return false }
            run(statement)
        }
        return true
    }

    /// Runs one statement of a client, who may set what the role may.
    mutating func run(_ sql: [UInt8]) {
        var reader = ModelReader(sql)
        guard let statement = reader.statement() else { preconditionFailure("the model does not know a statement") }
        run(statement)
    }

    private mutating func run(_ statement: ModelReader.Statement) {
        switch statement {
        case .resetRole: role = nil
        case .resetAll: values = [:]
        case .set("role", let value): role = String(decoding: value, as: UTF8.self)
        case .set(let name, let value): values[name] = value
        case .reset(let name): values[name] = nil
        }
    }

    /// As the client sees it, for whom RESET goes back to what it has asked for.
    mutating func runInSession(_ sql: [UInt8], base: [UInt8]?) {
        run(sql)
        if values["application_name"] == nil { values["application_name"] = base }
    }
}

private struct ModelSession {
    let applicationName: [UInt8]?
    let base: SessionSettings
    var settings: SessionSettings
    var expected = ModelServer()

    init(applicationName: String?) {
        self.applicationName = applicationName.map { Array($0.utf8) }
        base = self.applicationName.map { SessionSettings.none.setting("application_name", to: $0) } ?? .none
        settings = base
        expected.values["application_name"] = self.applicationName
    }
}

/// Reads the few forms of statements that clients of the model and replays have.
private struct ModelReader {
    enum Statement {
        case resetRole, resetAll
        case reset(String)
        case set(String, [UInt8])

        var isOfRole: Bool {
            switch self {
            case .resetRole, .set("role", _): true
            case .resetAll, .reset, .set: false
            }
        }
    }

    private var rest: ArraySlice<UInt8>

    init(_ sql: [UInt8]) { rest = sql[...] }

    var isAtEnd: Bool { rest.isEmpty }

    mutating func statement() -> Statement? {
        if skip("SELECT pg_catalog.set_config('"), let name = word(), skip("', "), let value = literal() {
            return skip(", false)") && ends() ? .set(name, value) : nil
        }
        if skip("RESET ALL") { return ends() ? .resetAll : nil }
        if skip("RESET ROLE") { return ends() ? .resetRole : nil }
        if skip("RESET "), let name = word() { return ends() ? .reset(name) : nil }
        if skip("SET ROLE "), let name = word() { return ends() ? .set("role", Array(name.utf8)) : nil }
        if skip("SET "), let name = word(), skip(" TO "), let value = literal() {
            return ends() ? .set(name, value) : nil
        }
        return nil
    }

    private mutating func skip(_ text: String) -> Bool {
        guard rest.starts(with: text.utf8) else { return false }
        rest = rest.dropFirst(text.utf8.count)
        return true
    }

    private mutating func ends() -> Bool { rest.isEmpty || skip("\n;") }

    /// A name, whose parts may be quoted.
    private mutating func word() -> String? {
        let name = rest.prefix { $0 != UInt8(ascii: " ") && $0 != UInt8(ascii: "\n") && $0 != UInt8(ascii: "'") }
        rest = rest.dropFirst(name.count)
        return name.isEmpty ? nil : String(decoding: name.filter { $0 != UInt8(ascii: "\"") }, as: UTF8.self)
    }

    private mutating func literal() -> [UInt8]? {
        guard skip("E'") else { return nil }
        var value: [UInt8] = []
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\") || (byte == UInt8(ascii: "'") && rest.first == byte) {
                guard let escaped = rest.popFirst() else { return nil }
                value.append(escaped)
            } else if byte == UInt8(ascii: "'") {
                return value
            } else {
                value.append(byte)
            }
        }
        return nil
    }
}

private func randomValue(_ random: inout SeededGenerator) -> [UInt8] {
    let pieces = ["'", "\\", "\n;", "x", "\u{e9}", "RESET ALL", "$$", "--", "/*", " ", "\""]
    return (0..<Int.random(in: 0...4, using: &random)).flatMap { _ in
        Array((pieces.randomElement(using: &random) ?? "").utf8)
    }
}

/// The settings of a session that has run these statements.
private func settings(base: SessionSettings = .none, _ statements: String...) -> SessionSettings {
    statements.reduce(base) { settings, statement in
        let sql = Array(statement.utf8)
        guard let change = sql.withUnsafeBytes({ SettingChange($0) }) else {
            preconditionFailure("\(statement) is no change")
        }
        return settings.applying(change, sql, base: base)
    }
}

private func text(_ sql: [UInt8]?) -> String? { sql.map { String(decoding: $0, as: UTF8.self) } }
