import ConfigurationFile
import HostBasedAuthentication
import ProxyCore
import TestSupport
import Testing
import Topology

/// Files that a configuration may name.
struct StoredFiles: ConfigurationFiles {
    var contents: [String: String] = [:]

    struct Missing: Error, CustomStringConvertible {
        var description: String { "No such file or directory" }
    }

    func exists(_ path: String) -> Bool { contents[path] != nil }
    func read(_ path: String) throws -> String {
        guard let text = contents[path] else { throw Missing() }
        return text
    }
}

/// What a file says, or what is wrong with it, line by line.
private func read(_ text: String, _ files: [String: String] = [:], name: String = "slipstream.yaml") throws -> Settings
{
    try Settings(yaml: text, name: name, files: StoredFiles(contents: files))
}

private func problems(
    _ text: String,
    _ files: [String: String] = [:],
    name: String = "slipstream.yaml"
) -> [String] {
    do throws(ConfigurationProblems) {
        _ = try Settings(yaml: text, name: name, files: StoredFiles(contents: files))
        return []
    } catch {
        return error.problems.map(\.description)
    }
}

struct SettingsTests {
    // MARK: - Values

    @Test("an empty file is the defaults", arguments: ["", "\n", "# nothing\n", "---\n"])
    func empty(text: String) throws {
        #expect(try read(text) == Settings())
    }

    @Test("every kind of key is taken over")
    func values() throws {
        let text = """
            listen_addr: 127.0.0.1, ::1
            listen_port: 7000
            unix_socket_dir: sockets
            workers: 3
            io: epoll
            pool_mode: session
            default_pool_size: 7
            max_client_conn: 20_000
            query_timeout: 1500ms
            server_lifetime: 2h
            client_idle_timeout: 30
            routing: off
            consistency: seconds
            pin_time: 0
            transactions: deferred
            primary_wait: 1min
            max_lag: {bytes: 16MB, time: 5s}
            client_tls_sslmode: verify-ca
            client_tls_cert_file: a.crt
            client_tls_key_file: /keys/a.key
            server_tls_sslmode: verify-full
            server_tls_ca_file: ca.crt
            databases:
              shop: {pool_size: 3, pool_mode: transaction, max_db_connections: 9}
              empty:
            users:
              "42": {pool_size: 1, max_user_connections: 2, password: 0123}
            nodes:
              standby2: {max_lag: 2min}
            hba: |
              host shop all 192.0.2.0/24 trust
            """
        let files = ["/etc/s/a.crt": "", "/keys/a.key": "", "/etc/s/ca.crt": "", "/etc/s/sockets": ""]
        let settings = try read(text, files, name: "/etc/s/slipstream.yaml")
        #expect(settings.listenAddresses == ["127.0.0.1", "::1"])
        #expect(settings.listenPort == 7000)
        #expect(settings.unixSocketDirectory == "/etc/s/sockets")
        #expect(settings.workers == 3)
        #expect(settings.inputOutput == .epoll)
        #expect(settings.pooling.poolMode == .session)
        #expect(settings.pooling.defaultPoolSize == 7)
        #expect(settings.pooling.maxClientConnections == 20_000)
        #expect(settings.pooling.queryTimeout == .milliseconds(1500))
        #expect(settings.pooling.serverLifetime == .seconds(7200))
        #expect(settings.pooling.clientIdleTimeout == .seconds(30))
        #expect(settings.pinTime == .zero)
        #expect(settings.routing == .off)
        #expect(settings.transactions == .deferred)
        #expect(settings.primaryWait == .seconds(60))
        #expect(settings.maxLag == MaxLag(bytes: 16 << 20, time: .seconds(5)))
        #expect(settings.nodes.mapValues(\.maxLag) == ["standby2": MaxLag(time: .seconds(120))])
        #expect(settings.clientTLS.mode == .verifyAuthority)
        #expect(settings.clientTLS.certificateFile == "/etc/s/a.crt")
        #expect(settings.clientTLS.keyFile == "/keys/a.key")
        #expect(settings.serverTLS.mode == .verifyFull)
        #expect(settings.serverTLS.authorityFile == "/etc/s/ca.crt")
        #expect(settings.passwords["42"] == "0123")
        #expect(settings.rules?.rules.map(\.method) == [.trust])
        let mixed = settings.pooling.settings(database: "shop", user: "42")
        #expect((mixed.mode, mixed.size, mixed.maxUserConnections) == (.transaction, 1, 2))
        #expect(mixed.maxDatabaseConnections == 9)
        #expect(settings.pooling.settings(database: "shop", user: "ann").size == 3)
        #expect(settings.pooling.settings(database: "empty", user: "ann").size == 7)
    }

    @Test("passwords never show in a description or a dump")
    func redaction() throws {
        let settings = try read("users: {ann: {password: topsecret}}")
        var dumped = ""
        dump(settings, to: &dumped)
        #expect(!dumped.contains("topsecret") && !"\(settings)".contains("topsecret"))
    }

    @Test(
        "lengths of time",
        arguments: [
            ("15s", Duration.seconds(15)), ("2min", .seconds(120)), ("500ms", .milliseconds(500)), ("7", .seconds(7)),
            ("0", .zero), ("1.5s", .milliseconds(1500)), ("250us", .microseconds(250)), ("1 h", .seconds(3600)),
            ("1d", .seconds(86_400)),
        ]
    )
    func durations(text: String, expected: Duration) throws {
        #expect(try read("query_timeout: \(text)").pooling.queryTimeout == expected)
    }

    @Test(
        "how far a standby may be behind",
        arguments: [
            ("16MB", MaxLag(bytes: 16 << 20)), ("1 GB", MaxLag(bytes: 1 << 30)), ("1.5kB", MaxLag(bytes: 1536)),
            ("100B", MaxLag(bytes: 100)), ("5s", MaxLag(time: .seconds(5))), ("2 h", MaxLag(time: .seconds(7200))),
            ("0", MaxLag()), ("0s", MaxLag()), ("0B", MaxLag()), ("{bytes: 8kB}", MaxLag(bytes: 8192)),
            ("{bytes: 100, time: 7}", MaxLag(bytes: 100, time: .seconds(7))),
            ("{bytes: 0, time: 500ms}", MaxLag(time: .milliseconds(500))), ("{}", MaxLag()),
        ]
    )
    func maxLags(text: String, expected: MaxLag) throws {
        #expect(try read("max_lag: \(text)").maxLag == expected)
    }

    @Test("a node's own limit stands in place of everybody's, and 0 lifts it")
    func maxLagsOfNodes() throws {
        let names = ["primary", "standby1", "standby2"]
        let settings = try read(
            "max_lag: {bytes: 1MB, time: 5s}\nnodes:\n  standby1: {max_lag: 7s}\n  standby2:\n    max_lag: 0"
        )
        let limits = try settings.maxLags(ofNodes: names, file: "slipstream.yaml")
        #expect(limits == [MaxLag(bytes: 1 << 20, time: .seconds(5)), MaxLag(time: .seconds(7)), MaxLag()])
    }

    @Test("a limit for a node that the cluster does not have is named, with file, line and key")
    func unknownNodes() throws {
        let settings = try read("nodes:\n  standby3: {max_lag: 7s}\n  standby1: {max_lag: 7s}\n  other: {max_lag: 1s}")
        let names = ["primary", "standby1"]
        let error = #expect(throws: ConfigurationProblems.self) {
            try settings.maxLags(ofNodes: names, file: "slipstream.yaml")
        }
        let remedy = "the cluster has no node of this name. Its nodes are primary, standby1."
        #expect(
            error?.problems.map(\.description) == [
                "slipstream.yaml:2: nodes.standby3.max_lag: \(remedy)",
                "slipstream.yaml:4: nodes.other.max_lag: \(remedy)",
            ]
        )
    }

    // MARK: - Problems

    @Test(
        "what is wrong is said with file, line and key",
        arguments: [
            ("pool_mod: session", "slipstream.yaml:1: pool_mod: unknown key. Did you mean \"pool_mode\"?"),
            ("\n\nport: 1", "slipstream.yaml:3: port: unknown key. Did you mean \"listen_port\"?"),
            ("zzzzzz: 1", "slipstream.yaml:1: zzzzzz: unknown key. \"slipstream config example\" shows all keys."),
            (
                "auth_type: md5",
                "slipstream.yaml:1: auth_type: unknown key. "
                    + "Authentication is configured by rules: \"hba\" or \"hba_file\"."
            ),
            (
                "databases:\n  shop:\n    size: 3",
                "slipstream.yaml:3: databases.shop.size: unknown key. Did you mean \"pool_size\"?"
            ),
            (
                "users:\n  ann:\n    shoe: 3",
                "slipstream.yaml:3: users.ann.shoe: unknown key. "
                    + "Known here are pool_mode, pool_size, max_user_connections, consistency and password."
            ),
            (
                "pool_mode: statement",
                "slipstream.yaml:1: pool_mode: \"statement\" is none of transaction and session"
            ),
            (
                "io: epol",
                "slipstream.yaml:1: io: \"epol\" is none of auto, uring and epoll. Did you mean \"epoll\"?"
            ),
            (
                "default_pool_size: many",
                "slipstream.yaml:1: default_pool_size: \"many\" is not a whole number. Give one of 1 to 262143."
            ),
            (
                "default_pool_size: -1",
                "slipstream.yaml:1: default_pool_size: \"-1\" is not a whole number. Give one of 1 to 262143."
            ),
            (
                "default_pool_size: 0",
                "slipstream.yaml:1: default_pool_size: 0 is less than 1. Give 1 to 262143."
            ),
            ("listen_port: 65536", "slipstream.yaml:1: listen_port: 65536 is more than 65535. Give 0 to 65535."),
            (
                "workers: 99999999999999999999",
                "slipstream.yaml:1: workers: \"99999999999999999999\" is not a whole number. Give one of 1 to 64."
            ),
            (
                "query_timeout: 5 parsecs",
                "slipstream.yaml:1: query_timeout: \"5 parsecs\" is not a length of time. "
                    + "Give a number with us, ms, s, min, h, d, such as 15s; a plain number is seconds."
            ),
            (
                "query_timeout: -1",
                "slipstream.yaml:1: query_timeout: \"-1\" is not a length of time. "
                    + "Give a number with us, ms, s, min, h, d, such as 15s; a plain number is seconds."
            ),
            (
                "\nmax_lag: 16",
                "slipstream.yaml:2: max_lag: \"16\" is neither an amount of data nor a length of time. "
                    + "Give a number with B, kB, MB, GB, TB, or with us, ms, s, min, h, d; both are {bytes: 16MB, time: 5s}."
            ),
            (
                "max_lag: 16mb",
                "slipstream.yaml:1: max_lag: \"16mb\" is neither an amount of data nor a length of time. "
                    + "Give a number with B, kB, MB, GB, TB, or with us, ms, s, min, h, d; both are {bytes: 16MB, time: 5s}."
            ),
            (
                "max_lag: {bytes: 5s}",
                "slipstream.yaml:1: max_lag.bytes: \"5s\" is not an amount of data. "
                    + "Give a number with B, kB, MB, GB, TB, such as 16MB; a plain number is bytes."
            ),
            (
                "nodes:\n  standby1:\n    max_lag:\n      size: 5MB",
                "slipstream.yaml:4: nodes.standby1.max_lag.size: unknown key. Known here are bytes and time."
            ),
            (
                "nodes:\n  standby1:\n    weight: 5",
                "slipstream.yaml:3: nodes.standby1.weight: unknown key. Known here are max_lag."
            ),
            (
                "pin_time:",
                "slipstream.yaml:1: pin_time: there is no value. Give one, or leave the key out."
            ),
            (
                "pin_time: [1, 2]",
                "slipstream.yaml:1: pin_time: a single value is expected here, and this is a list"
            ),
            (
                "users: [ann]",
                "slipstream.yaml:1: users: a list of \"key: value\" is expected here, and this is a list. "
                    + "Write them below, indented."
            ),
            (
                "databases:\n  shop: 5",
                "slipstream.yaml:2: databases.shop: a list of \"key: value\" is expected here, and this is \"5\". "
                    + "Write them below, indented."
            ),
            (
                "listen_addr: example.org",
                "slipstream.yaml:1: listen_addr: \"example.org\" is not an IP address. "
                    + "Give addresses separated by commas, \"localhost\", or \"*\" for all."
            ),
            (
                "client_tls_ca_file: missing.crt",
                "slipstream.yaml:1: client_tls_ca_file: there is no file \"missing.crt\". Make it, or name another."
            ),
            (
                "hba_file: missing",
                "slipstream.yaml:1: hba_file: \"missing\" cannot be read: No such file or directory. "
                    + "Name a file that can be."
            ),
            (
                "hba: |\n  local all all trust\n\n  host all all example.org trust\n",
                "slipstream.yaml:4: hba: host name \"example.org\" is not supported: "
                    + "a login would wait for the name server. Write an address with its mask, such as 192.0.2.7/32."
            ),
            (
                "hba: >\n  local all all trust",
                "slipstream.yaml:1: hba: \">\" joins the lines of the rules. Write \"hba: |\"."
            ),
            (
                "- a\n- b",
                "slipstream.yaml:1: the file is not a list of \"key: value\". "
                    + "\"slipstream config example\" prints one that is."
            ),
            (
                "io: auto\nprimary_wait: 1\nio: epoll",
                "slipstream.yaml:1: a key is given twice from here on: io. Keep one of them."
            ),
        ]
    )
    func messages(text: String, expected: String) {
        #expect(problems(text) == [expected])
    }

    @Test("what is no YAML is said so, with its line")
    func syntax() {
        for text in ["io: auto\n\tprimary_wait: 1", "io: [1", "io: \"x", "a: b: c", "%"] {
            let found = problems(text)
            #expect(found.count == 1 && found.allSatisfy { $0.hasPrefix("slipstream.yaml:") }, "\(found)")
        }
    }

    @Test("all problems are told at once, in the order of their lines, and those of the rules' file with its name")
    func several() {
        let found = problems(
            "io: fast\nworkers: 0\nhba_file: rules\ndatabases: {a: {b: 1}}\n",
            ["rules": "local all all trust\nhost all all\n"]
        )
        #expect(
            found.map { String($0.split(separator: " ")[0]) }
                == ["slipstream.yaml:1:", "slipstream.yaml:2:", "rules:2:", "slipstream.yaml:4:"]
        )
    }

    @Test("a certificate without its key, or rules given twice, cannot be meant")
    func together() {
        #expect(
            problems("client_tls_cert_file: a", ["a": ""]) == [
                "slipstream.yaml: client_tls_cert_file: a certificate and its key go together. "
                    + "Give client_tls_key_file, too."
            ]
        )
        #expect(
            problems("hba: local all all trust\nhba_file: a", ["a": ""]) == [
                "slipstream.yaml:2: hba_file: rules are given by \"hba\" already. Keep one of them."
            ]
        )
    }

    // MARK: - The example

    @Test("the example is valid, changes nothing, and shows every key")
    func example() throws {
        var defaults = Settings()
        defaults.listenAddresses = ["127.0.0.1"]
        defaults.listenPort = 6432
        defaults.inputOutput = .auto
        var settings = try read(Settings.example)
        for (rule, standard) in zip(settings.rules?.rules ?? [], HostBasedRules.standard.rules) {
            var rule = rule
            rule.line = standard.line
            #expect(rule == standard)
        }
        #expect(settings.rules?.rules.count == HostBasedRules.standard.rules.count)
        settings.rules = nil
        #expect(settings == defaults)
    }

    @Test("what the example has behind a # is valid, too")
    func exampleUncommented() throws {
        // Before a key there is no blank, or an indentation; before a sentence there is one.
        let text = Settings.example.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            line.hasPrefix("#") && (!line.hasPrefix("# ") || line.hasPrefix("#  ")) ? line.dropFirst() : line
        }.joined(separator: "\n")
        let files = Dictionary(
            uniqueKeysWithValues: [
                "/run/slipstream", "server.crt", "server.key", "clients.crt", "client.crt", "client.key", "nodes.crt",
            ].map { ($0, "") }
        )
        let settings = try read(text, files)
        #expect(settings.workers == 2 && settings.passwords["reports"] == "secret")
        #expect(settings.pooling.databases["shop"]?.reservePoolSize == 5)
        #expect(settings.nodes["standby2"]?.maxLag == MaxLag(bytes: 1 << 30))
        #expect(settings.serverTLS.ciphers == "default")
    }

    @Test("whatever bytes a file holds, reading it ends")
    func randomText() {
        var random = SeededGenerator()
        let pieces = [
            "io", ":", " ", "\n", "  ", "databases", "users", "hba: |\n", "-", "[", "]", "{", "}", "\"", "&a", "*a",
            "5",
            "s", "#", "local all all trust", "\t", "é", "\0", "|", ">", "'", "pool_size", "max_lag", "? ", "!!int",
            "<<", "---",
        ]
        for _ in 0..<3_000 {
            let text = (0..<Int.random(in: 0..<20, using: &random)).map { _ in
                pieces.randomElement(using: &random) ?? ""
            }
            let found = problems(text.joined())
            #expect(found.allSatisfy { $0.hasPrefix("slipstream.yaml") }, "seed \(random.seed)")
        }
    }
}
