import PostgresClient
import PostgresWire
import ProxyCore
import QueryAnalysis
import TestSupport
import Testing

/// What the proxy asks of a server session, and says to it, on a real server.
struct RealServerTests {
    @Test("a probe tells all the state that a session holds, and a replay makes one session's settings another's")
    func onRealServer() async throws {
        try await withRealServer { parameters in
            try fresh(parameters)
            for held in Held.all { try probe(parameters, held) }
            try hostileSearchPath(parameters)
            try replay(parameters)
            try replayOfProbed(parameters)
        }
    }

    // MARK: - Probes

    private func fresh(_ parameters: ConnectionParameters) throws {
        let session = try RealSession(
            parameters,
            settings: [("application_name", "x"), ("DateStyle", "ISO, DMY"), ("options", "-c work_mem=1MB -c my.x=1")]
        )
        #expect(try session.probe() == StateProbe().result, "what the startup packet asks for is no session's")
        try session.run("BEGIN; SET LOCAL work_mem = '2MB'; SET work_mem = '3MB'; LISTEN c; ROLLBACK")
        try session.run("CREATE TEMP TABLE t (a int); DROP TABLE t")
        try session.run("SELECT pg_advisory_lock(1), pg_advisory_unlock(1), set_config('work_mem', '4MB', true)")
        #expect(try session.probe() == StateProbe().result, "what is over leaves nothing")
    }

    private struct Held {
        var sql: String
        var names: [String] = []
        var settings: [String: String] = [:]
        var holds: [String] = []

        static let all = [
            Held(
                sql: "SET work_mem = '64MB'; SET TIME ZONE 'Asia/Tokyo'; SET DateStyle TO SQL, DMY",
                settings: ["work_mem": "65536", "timezone": "Asia/Tokyo", "datestyle": "SQL, DMY"]
            ),
            Held(sql: "DO $$ BEGIN SET lock_timeout = 7; END $$", settings: ["lock_timeout": "7"]),
            Held(
                sql: "SET my.x = 'it''s'; SET his.y TO ''; SET standard_conforming_strings = off",
                names: ["my.x", "his.y", "no.such"],
                settings: ["my.x": "it's", "his.y": "", "standard_conforming_strings": "off"]
            ),
            Held(sql: "SET ROLE pg_monitor", settings: ["role": "pg_monitor"]),
            Held(sql: "SET ROLE pg_monitor; SET work_mem = '1MB'; RESET ALL", settings: ["role": "pg_monitor"]),
            Held(sql: "SET SESSION AUTHORIZATION pg_monitor", holds: ["a session authorization"]),
            Held(sql: "PREPARE a AS SELECT 1", holds: ["a prepared statement"]),
            Held(sql: "DECLARE c CURSOR WITH HOLD FOR SELECT 1", holds: ["a cursor WITH HOLD"]),
            Held(sql: "LISTEN b; LISTEN a", holds: ["LISTEN", "LISTEN"]),
            Held(sql: "SELECT pg_advisory_lock(1), pg_advisory_lock_shared(2)", holds: ["an advisory lock"]),
            Held(sql: "CREATE TEMP TABLE t (a int)", holds: ["a temporary object"]),
            Held(sql: "CREATE TYPE pg_temp.t AS ENUM ('a')", holds: ["a temporary object"]),
            Held(
                sql: "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
                holds: ["a temporary object"]
            ),
        ]
    }

    private func probe(_ parameters: ConnectionParameters, _ held: Held) throws {
        let session = try RealSession(parameters)
        try session.run(held.sql)
        try session.exchange(Frontend.parse("mine", "SELECT 1") + Frontend.sync)
        let result = try session.probe(names: held.names)
        let settings = result.settings.map { ($0.name, String(decoding: $0.value, as: UTF8.self)) }
        #expect(Dictionary(settings) { $1 } == held.settings, "\(held.sql)")
        #expect(result.holds == held.holds, "\(held.sql)")
        #expect(result.statements == [Array("mine".utf8)])
        #expect(result.sqlStatements == (held.sql.hasPrefix("PREPARE") ? [Array("a".utf8)] : []))
        guard !held.sql.contains("AUTHORIZATION") else { return }
        try session.run("DISCARD ALL")
        var discarded = try session.probe(names: held.names)
        // The server knows a name that an application has made up for ever; its value is empty then.
        discarded.settings.removeAll { $0.value.isEmpty && held.names.contains($0.name) }
        #expect(discarded == StateProbe().result, "DISCARD ALL takes it back: \(held.sql)")
    }

    /// Whatever stands in a session's search_path, the probe asks the catalogs.
    private func hostileSearchPath(_ parameters: ConnectionParameters) throws {
        let session = try RealSession(parameters)
        try session.run(
            """
            CREATE SCHEMA evil;
            CREATE VIEW evil.pg_settings AS SELECT 1 AS a;
            CREATE VIEW evil.pg_prepared_statements AS SELECT 1 AS a;
            CREATE VIEW evil.pg_locks AS SELECT 1 AS a;
            CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
            CREATE FUNCTION evil.current_setting(text, bool) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
            CREATE FUNCTION evil.pg_backend_pid() RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
            CREATE FUNCTION evil.equal(text, text) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
            CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.equal);
            CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.equal);
            SET search_path = evil, pg_catalog;
            SET ROLE pg_monitor
            """
        )
        let names = try session.probe(names: ["my.x"]).settings.map(\.name)
        #expect(Set(names) == ["search_path", "role"])
    }

    // MARK: - Replay

    private static let changes = [
        "SET work_mem = '1MB'", "SET work_mem TO '2MB'", "RESET work_mem", "SET application_name = 'it''s'",
        "SET application_name TO x", "RESET application_name", "SET TIME ZONE 'UTC'", "SET timezone TO 'Asia/Tokyo'",
        "SET TIME ZONE LOCAL", "RESET TIME ZONE", "SET IntervalStyle = iso_8601", "SET datestyle TO DEFAULT",
        "SET search_path = \"$user\", public, \"Odd \"\"Name\"", "SET search_path TO ''", "RESET search_path",
        "SET my.x = E'a\\\\b''c'", "SET \"my\".\"x\" TO $$;\n;$$", "RESET my.x", "SET MY.y = 1", "RESET ALL",
        "SET standard_conforming_strings = off", "SET standard_conforming_strings = on", "SET ROLE pg_monitor",
        "SET role TO pg_read_all_stats", "SET ROLE NONE", "RESET ROLE", "SET session_replication_role = replica",
        "RESET session_replication_role", "SET NAMES 'LATIN1'", "SET client_encoding TO UTF8", "SET role = DEFAULT",
    ]
    private static let shown = [
        "work_mem", "application_name", "timezone", "datestyle", "intervalstyle", "search_path", "my.x", "my.y", "role",
        "standard_conforming_strings", "session_replication_role", "client_encoding",
    ]

    /// Sessions of their own beside sessions that are replayed on one connection, which has to look like each in turn.
    private func replay(_ parameters: ConnectionParameters) throws {
        var random = SeededGenerator()
        let pooled = try RealSession(parameters)
        var onPooled = SessionSettings.none
        for _ in 0..<60 {
            let own = try RealSession(parameters)
            var settings = SessionSettings.none
            for _ in 0..<Int.random(in: 0...8, using: &random) {
                let sql = Self.changes.randomElement(using: &random) ?? ""
                let text = Array(sql.utf8)
                let change = try #require(text.withUnsafeBytes { SettingChange($0) }, "\(sql)")
                // A role may not be allowed to.
                guard (try? own.run(text)) != nil else { continue }
                settings = settings.applying(change, text, base: .none)
            }
            if let sql = settings.replay(from: onPooled) { try pooled.run(sql) }
            onPooled = settings
            try expectSame(own, pooled, random.seed)
        }
    }

    /// As before, but the settings are those that a probe has found.
    private func replayOfProbed(_ parameters: ConnectionParameters) throws {
        var random = SeededGenerator()
        let pooled = try RealSession(parameters)
        var onPooled = SessionSettings.none
        for _ in 0..<40 {
            let own = try RealSession(parameters)
            for _ in 0..<Int.random(in: 0...8, using: &random) {
                try? own.run(["SET DateStyle = German", "SET datestyle TO MDY"].randomElement(using: &random) ?? "")
                try? own.run(Self.changes.randomElement(using: &random) ?? "")
            }
            let found = try own.probe(names: ["my.x", "my.y"]).settings
            let settings = found.reduce(SessionSettings.none) { $0.setting($1.name, to: $1.value) }
            if let sql = settings.replay(from: onPooled) { try pooled.run(sql) }
            onPooled = settings
            try expectSame(own, pooled, random.seed)
        }
    }

    private func expectSame(_ own: RealSession, _ pooled: RealSession, _ seed: UInt64) throws {
        for name in Self.shown {
            let sql = "SELECT coalesce(pg_catalog.current_setting('\(name)', true), '')"
            #expect(try pooled.value(sql) == own.value(sql), "\(name), seed \(seed)")
        }
    }
}

extension RealSession {
    fileprivate func probe(names: [String] = []) throws -> StateProbe.Result {
        var probe = StateProbe()
        for (type, message) in try exchange(StateProbe.query(names: names)) { probe.received(type, message.span.bytes) }
        #expect(!probe.hasFailed)
        return probe.result
    }
}
