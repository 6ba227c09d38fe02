import Foundation
import PostgresClient
import Testing

/// The command line beside a cluster that is served.
extension EndpointTests {
    @Test func aDirectoryIsServedOnce() async throws {
        let cluster = try await Clusters.cluster(.epoll)
        for arguments in [["--detach"], []] {
            let again = try await run(
                Repository.slipstream,
                ["up", "--dir", cluster.directory, "--port", "0", "--http-port", "0"] + arguments
            )
            #expect(again.status == 1)
            #expect(again.output.isEmpty)
            #expect(again.errors.contains("is in use by another slipstream (pid \(cluster.pid))"), "\(again.text)")
        }
        #expect(try await cluster.currentStatus().pid == cluster.pid)
    }

    @Test func aTakenPortIsNamed() async throws {
        let cluster = try await Clusters.cluster(.epoll)
        let other = cluster.scratch + "/other"
        let up = try await run(
            Repository.slipstream,
            ["up", "--detach", "--dir", other, "--port", String(cluster.port), "--http-port", "0"]
        )
        #expect(up.status == 1)
        #expect(up.errors.contains("port \(cluster.port) of 127.0.0.1 is in use"), "\(up.text)")
        // It found out before it made anything.
        #expect(!FileManager.default.fileExists(atPath: other + "/cluster.json"))
    }

    @Test func statusIsWhatIsPromised() async throws {
        let cluster = try await Clusters.cluster(.auto)
        await cluster.recovered()
        let outcome = try await cluster.slipstream("status", "--json")
        #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(outcome.text)")
        let json = try #require(
            try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any]
        )
        #expect(Set(json.keys) == ["version", "pid", "endpoint", "http_port", "state", "updated_at", "nodes"])
        #expect(json["version"] as? Int == 1)
        #expect(json["state"] as? String == "healthy")
        let endpoint = try #require(json["endpoint"] as? [String: Any])
        #expect(Set(endpoint.keys) == ["host", "port", "socket", "uri"])
        let nodes = try #require(json["nodes"] as? [[String: Any]])
        #expect(nodes.map { $0["name"] as? String } == ["primary", "standby1", "standby2"])
        #expect(nodes.map { $0["role"] as? String } == ["primary", "standby", "standby"])
        #expect(nodes.map { $0["weight"] as? Int } == [1, 2, 2])
        let common: Set = ["name", "role", "host", "port", "weight", "state", "timeline", "wal_position"]
        for node in nodes {
            #expect(Set(node.keys).isSuperset(of: common), "\(node)")
            #expect(node["state"] as? String == "up")
            if node["role"] as? String == "standby" {
                #expect(node["replication_state"] as? String == "streaming")
                #expect((node["slot"] as? [String: Any])?["active"] as? Bool == true)
                #expect(node["lag_bytes"] is Int && node["lag_seconds"] is Double)
            } else {
                #expect((node["archive"] as? [String: Any])?["failing"] as? Bool == false)
            }
        }
        let table = try await cluster.slipstream("status")
        #expect(table.status == 0 && table.output.contains("standby2") && table.output.contains("streaming"))
    }

    @Test func whereNothingRunsTheStatusIsTwo() async throws {
        let cluster = try await Clusters.cluster(.epoll)
        for arguments in [["status"], ["status", "--json"]] {
            let outcome = try await run(Repository.slipstream, arguments + ["--dir", cluster.scratch + "/none"])
            #expect(outcome.status == 2 && outcome.output.isEmpty && !outcome.errors.isEmpty, "\(outcome.text)")
        }
        let down = try await run(Repository.slipstream, ["down", "--dir", cluster.scratch + "/none"])
        #expect(down.status == 1 && down.errors.contains("there is no cluster"), "\(down.text)")
    }

    @Test func urlsLeadWhereTheySay() async throws {
        let cluster = try await Clusters.cluster(.auto)
        // Through the endpoint this is answered by the primary.
        let question = "SELECT current_user, current_database(), inet_server_port(), pg_is_in_recovery()"
        var places: [([String], String)] = [
            ([], "app|app|\(cluster.nodes[0].port)|f"), (["--superuser"], "postgres|app|\(cluster.nodes[0].port)|f"),
        ]
        for node in cluster.nodes {
            let isStandby = node.role == "standby" ? "t" : "f"
            places.append((["--node", node.name], "app|app|\(node.port)|\(isStandby)"))
            places.append((["--node", node.name, "--superuser"], "postgres|app|\(node.port)|\(isStandby)"))
        }
        for (arguments, expected) in places {
            let url = try await run(Repository.slipstream, ["url", "--dir", cluster.directory] + arguments)
            #expect(url.status == 0 && url.output.hasPrefix("postgresql://"))
            let answer = try await run(
                cluster.binaries + "/psql",
                ["-X", "-At", url.output.trimmingCharacters(in: .newlines), "-c", question]
            )
            #expect(answer.output == expected + "\n", "\(arguments): \(answer.text)")
        }
        let unknown = try await cluster.slipstream("url", "--node", "nobody")
        #expect(unknown.status == 1 && unknown.output.isEmpty && unknown.errors.contains("there is no node \"nobody\""))
    }

    @Test func psqlIsPsql() async throws {
        let cluster = try await Clusters.cluster(.auto)
        let outcome = try await cluster.slipstream("psql", "-X", "-At", "-c", "SELECT 'through ' || current_user")
        #expect(outcome.status == 0 && outcome.output == "through app\n", "\(outcome.text)")
        let failing = try await cluster.slipstream("psql", "-X", "-c", "SELEC")
        #expect(failing.status == 1)
    }

    @Test func checkHoldsAndLeavesNothingBehind() async throws {
        let cluster = try await Clusters.cluster(.auto)
        await cluster.recovered()
        let relations = "SELECT count(*) FROM pg_class WHERE relnamespace >= 16384 OR relnamespace = 2200"
        let schemas = "SELECT count(*) FROM pg_namespace"
        let before = try await cluster.query("primary", "SELECT (\(relations)), (\(schemas))", database: "app")
        let outcome = try await cluster.slipstream("check", "--json")
        #expect(outcome.status == 0, "\(outcome.text)")
        let json = try #require(try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any])
        #expect(json["ok"] as? Bool == true)
        #expect((json["standbys"] as? [[String: Any]])?.count == 2)
        #expect((json["archive"] as? [String: Any])?["intact"] as? Bool == true)
        let after = try await cluster.query("primary", "SELECT (\(relations)), (\(schemas))", database: "app")
        #expect(after == before)
    }

    @Test func routesAreTold() async throws {
        let cluster = try await Clusters.cluster(.auto)
        await cluster.recovered()
        for (statement, beginning) in [
            ("SELECT 1", "standby1 40 %, standby2 40 %, primary 20 %:"),
            ("INSERT INTO t VALUES (1)", "primary:"),
            ("SELECT * FROM t FOR UPDATE", "primary:"),
            ("COMMIT", "wherever the transaction is:"),
        ] {
            let outcome = try await cluster.slipstream("route", statement)
            #expect(outcome.status == 0 && outcome.output.hasPrefix(beginning), "\(statement): \(outcome.text)")
        }
    }

    @Test func noProcessShowsAPassword() async throws {
        let cluster = try await Clusters.cluster(.auto)
        var secrets: [String] = []
        for name in ["superuser", "app", "replication"] {
            let text = try String(contentsOfFile: "\(cluster.directory)/secrets/\(name)", encoding: .utf8)
            secrets.append(text.trimmingCharacters(in: .newlines))
        }
        #expect(secrets.allSatisfy { $0.count > 20 })
        // While everything runs that could show one.
        let script = cluster.scratch + "/select.sql"
        try "SELECT 1;\n".write(toFile: script, atomically: true, encoding: .utf8)
        let load = try cluster.start("pgbench", "-n", "-f", script, "-c", "4", "-C", "-t", "300")
        let check = Task { try await cluster.slipstream("check") }
        let psql = Task { try await cluster.slipstream("psql", "-X", "-c", "SELECT pg_sleep(3)") }
        let deadline = ContinuousClock.now + .seconds(3)
        var seen: Set<String> = []
        while ContinuousClock.now < deadline {
            for process in try FileManager.default.contentsOfDirectory(atPath: "/proc") where pid_t(process) != nil {
                for file in ["cmdline", "environ"] {
                    guard let data = FileManager.default.contents(atPath: "/proc/\(process)/\(file)") else { continue }
                    let text = String(decoding: data, as: UTF8.self)
                    if text.contains(cluster.directory), let name = text.split(separator: "\0").first {
                        seen.insert(name.split(separator: "/").last.map(String.init) ?? "")
                    }
                    if let secret = secrets.firstIndex(where: { text.contains($0) }) {
                        Issue.record("process \(process) shows password \(secret) in its \(file)")
                        return
                    }
                }
            }
        }
        // It looked at those it was meant to look at.
        #expect(seen.contains("slipstream") && seen.contains("postgres"), "\(seen)")
        _ = await load.wait()
        _ = try await (check.value, psql.value)
        for log in ["slipstream.log", "nodes/primary/server.log", "nodes/standby1/server.log"] {
            let text = (try? String(contentsOfFile: "\(cluster.directory)/\(log)", encoding: .utf8)) ?? ""
            #expect(!secrets.contains { text.contains($0) }, "\(log)")
        }
    }
}
