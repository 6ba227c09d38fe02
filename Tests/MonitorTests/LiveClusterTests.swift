import Foundation
import Logging
import Monitor
import PostgresAuth
import PostgresClient
import QueryAnalysis
import Testing
import Topology

/// The program, its servers, and what the monitor says of them, for real.
@Suite(.serialized) struct LiveClusterTests {
    @Test(.timeLimit(.minutes(3))) func aClusterFromUpToDown() async throws {
        try await withLiveCluster { cluster in
            let status = try await cluster.status { $0.state == .healthy }
            #expect(status.nodes.map(\.role) == [.primary, .standby, .standby])
            #expect(status.nodes.map(\.weight) == [1, 2, 2])
            #expect(
                status.nodes.dropFirst().allSatisfy { $0.replicationState == "streaming" && $0.slot?.active == true }
            )

            try await secondUpIsRefused(cluster)
            try await passwordsStayHidden(cluster)
            try await standbyComesBack(cluster, status)
            try await primaryComesBack(cluster, status)
            try await catalogAnswers(cluster)

            let check = try await cluster.run("check", "--rows", "20", "--json")
            #expect(check.status == 0, "\(check.error)")
            let route = try await cluster.run("route", "select 1")
            #expect(route.output.hasPrefix("standby1 40 %, standby2 40 %, primary 20 %: "))
        }
    }

    private func secondUpIsRefused(_ cluster: LiveCluster) async throws {
        let second = try await cluster.run("up", "--port", "0", "--http-port", "0")
        #expect(second.status == 1)
        #expect(second.error.contains("is in use by another slipstream"))
    }

    private func passwordsStayHidden(_ cluster: LiveCluster) async throws {
        let password = try String(contentsOfFile: cluster.directory + "/secrets/app", encoding: .utf8)
            .trimmingCharacters(in: .newlines)
        #expect(try await cluster.run("url").output.contains(password))
        #expect(try await !cluster.run("status", "--json").output.contains(password))
        #expect(!cluster.announcement.contains(password))
        let log = try String(contentsOfFile: cluster.directory + "/slipstream.log", encoding: .utf8)
        #expect(!log.contains(password))
    }

    private func standbyComesBack(_ cluster: LiveCluster, _ before: ClusterStatus) async throws {
        let old = try cluster.postmaster(of: "standby1")
        kill(old, SIGKILL)
        let hurt = try await cluster.status { $0.nodes[1].state == .down }
        #expect(hurt.state == .degraded)
        #expect(try await cluster.run("status").status != 2)
        _ = try await cluster.status { $0.state == .healthy }
        #expect(try cluster.postmaster(of: "standby1") != old)
    }

    /// A stopped primary is noticed by silence; reads go on meanwhile, and it is the primary again when it goes on.
    private func primaryComesBack(_ cluster: LiveCluster, _ before: ClusterStatus) async throws {
        let primary = try cluster.postmaster(of: "primary")
        let all = [primary] + cluster.children(of: primary)
        for process in all { kill(process, SIGSTOP) }
        defer { for process in all { kill(process, SIGCONT) } }
        let hurt = try await cluster.status { $0.nodes[0].state == .down }
        #expect(hurt.state == .noPrimary)
        #expect(hurt.nodes[1...].allSatisfy { $0.state == .up })
        #expect(try await cluster.run("status").status == 2)
        for process in all { kill(process, SIGCONT) }
        _ = try await cluster.status { $0.state == .healthy }
    }

    private func catalogAnswers(_ cluster: LiveCluster) async throws {
        let status = try await cluster.status { $0.state == .healthy }
        let password = try String(contentsOfFile: cluster.directory + "/secrets/superuser", encoding: .utf8)
            .trimmingCharacters(in: .newlines)
        let parameters: DatabaseCatalog.Parameters = { node, database in
            let node = status.nodes[node.rawValue]
            return ConnectionParameters(
                host: node.host,
                port: node.port,
                user: "postgres",
                database: database,
                password: Secret(password)
            )
        }
        let catalog = DatabaseCatalog(
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            topology: { status.topology },
            parameters: parameters
        )
        let primary = try await DatabaseConnection.connect(parameters(NodeID(0), "app"))
        defer { primary.close() }
        _ = try await primary.query("create role expired login password 'x' valid until '2000-01-01'")
        _ = try await primary.query("create role passwordless login")

        #expect(try await catalog.password(ofRole: "app").text?.hasPrefix("SCRAM-SHA-256$") == true)
        #expect(try await catalog.password(ofRole: "nobody").text == nil)
        #expect(try await catalog.password(ofRole: "expired").text == nil)
        #expect(try await catalog.password(ofRole: "passwordless").text == nil)
        _ = try await primary.query(
            "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and query ~ 'rolpassword'"
        )
        #expect(try await catalog.password(ofRole: "app").text != nil, "a broken session costs a retry, not a log-in")

        let refreshing = Task { await catalog.run(every: .milliseconds(50)) }
        defer { refreshing.cancel() }
        let functions = try #require(await catalog.functions(ofDatabase: "app"))
        #expect(functions.volatilities["nextval"] == .volatile)
        #expect(functions.volatilities["lower"] == .immutable)
        #expect(functions.volatilities["added_later"] == nil)
        _ = try await primary.query(
            "create function public.added_later() returns int stable language sql as 'select 1'"
        )
        for await change in catalog.changes {
            #expect(change.database == "app")
            #expect(change.functions.volatilities["added_later"] == .stable)
            break
        }
        #expect(await catalog.functions(ofDatabase: "no such database") == nil)
    }
}
