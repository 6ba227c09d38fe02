import Foundation
import PostgresClient
import Testing

extension EndpointTests {
    /// What pgbench says at its end.
    struct BenchReport {
        var processed = 0
        /// Since PostgreSQL 15; older ones end with an error instead.
        var failed = 0

        init(_ text: String) {
            if let match = text.firstMatch(of: /actually processed: (\d+)/) { processed = Int(match.1) ?? 0 }
            if let match = text.firstMatch(of: /number of failed transactions: (\d+)/) { failed = Int(match.1) ?? 0 }
        }
    }

    /// Transactions that each node has committed in database `app`, which only the tests use.
    ///
    /// A server process reports its numbers when it ends, or when it has been idle for long: those in pools are ended.
    private func committed(_ cluster: ServedCluster) async throws -> [String: Int] {
        var counts: [String: Int] = [:]
        for node in cluster.nodes {
            _ = try await cluster.number(
                node.name,
                "SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity WHERE datname = 'app'"
            )
            counts[node.name] = try await cluster.number(
                node.name,
                "SELECT xact_commit FROM pg_stat_database WHERE datname = 'app'"
            )
        }
        return counts
    }

    /// Runs pgbench, and tells how many transactions each node has committed meanwhile.
    private func bench(
        _ cluster: ServedCluster,
        _ arguments: String,
        transactions: Int,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> [String: Int] {
        let before = try await committed(cluster)
        let outcome = try await run(
            cluster.binaries + "/pgbench",
            ["--no-vacuum"] + arguments.split(separator: " ").map(String.init),
            environment: cluster.environment
        )
        let report = BenchReport(outcome.output)
        #expect(outcome.status == 0, "\(outcome.text)", sourceLocation: sourceLocation)
        #expect(
            report.processed == transactions && report.failed == 0,
            "\(outcome.text)",
            sourceLocation: sourceLocation
        )
        var counts: [String: Int] = [:]
        await eventually("the servers have counted \(transactions) transactions", sourceLocation: sourceLocation) {
            counts = try await committed(cluster).merging(before) { $0 - $1 }
            return counts.values.reduce(0, +) >= transactions
        }
        return counts
    }

    private func prepareBench(_ cluster: ServedCluster) async throws {
        let outcome = try await run(
            cluster.binaries + "/pgbench",
            ["--initialize", "--scale", "2", "--quiet"],
            environment: cluster.environment
        )
        try #require(outcome.status == 0, "\(outcome.text)")
        try await cluster.replayed()
    }

    @Test(arguments: Backend.allCases) func pgbenchReadsFollowTheWeights(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend)
        await cluster.recovered()
        try await prepareBench(cluster)
        for mode in ["simple", "extended", "prepared"] {
            let counts = try await bench(
                cluster,
                "--select-only --protocol \(mode) --client 16 --jobs 2 --transactions 750",
                transactions: 12_000
            )
            let total = Double(counts.values.reduce(0, +))
            for node in cluster.nodes {
                let share = 100 * Double(counts[node.name] ?? 0) / total
                let due = 100 * Double(node.weight) / 5
                #expect(abs(share - due) < 3, "\(mode): \(node.name) has \(share) % of the reads: \(counts)")
            }
        }
    }

    @Test(arguments: Backend.allCases) func pgbenchWritesAllGoToThePrimary(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend)
        try await prepareBench(cluster)
        for mode in ["simple", "extended", "prepared"] {
            let counts = try await bench(
                cluster,
                "--protocol \(mode) --client 16 --jobs 2 --transactions 50",
                transactions: 800
            )
            #expect((counts["primary"] ?? 0) >= 800)
            for node in cluster.nodes where node.role == "standby" {
                // What pgbench asks before it begins.
                #expect((counts[node.name] ?? 0) < 10, "\(mode): \(counts)")
            }
        }
        let balances = try await cluster.query(
            "primary",
            """
            SELECT (SELECT sum(abalance) FROM public.pgbench_accounts), (SELECT sum(bbalance) FROM public.pgbench_branches),
                (SELECT sum(tbalance) FROM public.pgbench_tellers), (SELECT sum(delta) FROM public.pgbench_history),
                (SELECT count(*) FROM public.pgbench_history)
            """,
            database: "app"
        )
        #expect(Set(balances[0].values[0..<4]).count == 1, "\(balances[0].values)")
        #expect(balances[0][4] == "2400")
    }

    @Test(arguments: Backend.allCases) func pgbenchConnectsForEveryTransaction(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend)
        try await prepareBench(cluster)
        let before = try await cluster.currentStatus()
        _ = try await bench(
            cluster,
            "--connect --client 16 --jobs 2 --transactions 15",
            transactions: 240
        )
        _ = try await bench(
            cluster,
            "--connect --select-only --client 16 --jobs 2 --transactions 15",
            transactions: 240
        )
        #expect(try await cluster.currentStatus().pid == before.pid)
    }

    @Test(arguments: Backend.allCases) func memory(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend)
        try await cluster.python("memory")
        #expect(try await cluster.currentStatus().pid == cluster.pid)
    }
}
