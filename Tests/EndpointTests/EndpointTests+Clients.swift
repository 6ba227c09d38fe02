import Foundation
import Testing

/// Programs that people write, and what they rely on. Each says itself what has failed.
extension EndpointTests {
    @Test(arguments: Backend.allCases) func psycopg(_ backend: Backend) async throws {
        try await Clusters.cluster(backend).python("psycopg_tests")
    }

    @Test(arguments: Backend.allCases) func frameworks(_ backend: Backend) async throws {
        try await Clusters.cluster(backend).python("frameworks")
    }

    @Test(arguments: Backend.allCases) func libpq(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend)
        let headers = try await run("pg_config", ["--includedir"]).output.trimmingCharacters(in: .newlines)
        let program = cluster.scratch + "/libpq_program"
        let compilation = try await run(
            "cc",
            ["-Wall", "-Wextra", "-I", headers, "-o", program, Repository.clients + "/libpq_program.c", "-lpq"]
        )
        try #require(compilation.status == 0, "\(compilation.text)")
        for host in ["127.0.0.1", cluster.directory] {
            let outcome = try await run(
                program,
                [],
                environment: cluster.environment.merging(["PGHOST": host]) { _, new in new }
            )
            #expect(outcome.status == 0, "\(outcome.text)")
        }
    }

    @Test(arguments: Backend.allCases) func routing(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend)
        await cluster.recovered()
        try await cluster.python("routing")
    }

    @Test(arguments: Backend.allCases) func corpus(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend)
        await cluster.recovered()
        try await cluster.python("corpus")
    }

    @Test(arguments: Backend.allCases) func freshness(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend)
        await cluster.recovered()
        try await cluster.python("freshness", "Session")
        #expect(try await cluster.currentStatus().pid == cluster.pid)
    }

    @Test(arguments: Backend.allCases) func settings(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend)
        await cluster.recovered()
        try await cluster.python("settings")
        #expect(try await cluster.currentStatus().pid == cluster.pid)
    }

    @Test(arguments: Backend.allCases) func learning(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend)
        await cluster.recovered()
        try await cluster.python(
            "learning",
            ["Learning", "Explaining", "Notices"],
            environment: ["SLIPSTREAM_PROGRAM": Repository.slipstream]
        )
        #expect(try await cluster.currentStatus().pid == cluster.pid)
    }

    @Test(arguments: [("Shadow", "routing: shadow\n"), ("Off", "routing: off\n")])
    func routingMode(tests: String, configuration: String) async throws {
        let cluster = try await Clusters.configured(.auto, configuration)
        try await cluster.python("learning", tests)
        #expect(try await cluster.currentStatus().pid == cluster.pid)
    }

    @Test func whatIsLearnedIsKept() async throws {
        let cluster = try await Clusters.configured(.auto, "listen_port: 0\n")
        try await cluster.python("learning", "Kept.test_1_before")
        #expect(try await cluster.slipstream("down").status == 0)
        try await Clusters.resumed(cluster).python("learning", "Kept.test_2_after")
    }

    @Test(
        arguments: [
            ("Global", "consistency: global\n"), ("Seconds", "consistency: seconds\npin_time: 2s\n"),
            ("Eventual", "consistency: eventual\n"),
            (
                "MaxLag",
                """
                consistency: eventual
                max_lag: 1TB
                nodes: {standby1: {max_lag: {bytes: 1MB, time: 5s}}}

                """
            ),
        ]
    )
    func consistency(level: String, configuration: String) async throws {
        let cluster = try await Clusters.configured(.auto, configuration)
        try await cluster.python("freshness", level)
        #expect(try await cluster.currentStatus().pid == cluster.pid)
    }

    @Test(
        arguments: [
            (["Places", "Guarantees", "Errors", "Transcripts"], "transactions: deferred\n"),
            (["Global"], "transactions: deferred\nconsistency: global\n"),
        ]
    )
    func deferred(tests: [String], configuration: String) async throws {
        let cluster = try await Clusters.configured(.auto, configuration)
        try await cluster.python("deferred", tests, environment: [:])
        #expect(try await cluster.currentStatus().pid == cluster.pid)
    }

    @Test(arguments: Backend.allCases) func authentication(_ backend: Backend) async throws {
        try await Clusters.cluster(backend).python("authentication")
    }

    @Test(arguments: Backend.allCases) func cancelling(_ backend: Backend) async throws {
        try await Clusters.cluster(backend).python("cancelling")
    }

    @Test(arguments: Backend.allCases) func failures(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend)
        await cluster.recovered()
        try await cluster.python("failures")
        #expect(try await cluster.currentStatus().pid == cluster.pid)
        await cluster.recovered()
    }

    @Test(arguments: Backend.allCases) func badInput(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend)
        try await cluster.python("bad_input")
        #expect(try await cluster.currentStatus().pid == cluster.pid)
    }
}
