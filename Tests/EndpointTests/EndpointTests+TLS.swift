import Foundation
import Testing

/// TLS, from outside. Here the nodes have it, too.
extension EndpointTests {
    @Test(arguments: Backend.allCases) func tls(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend, isEncrypted: true)
        try await cluster.python("tls")
        #expect(try await cluster.currentStatus().pid == cluster.pid)
    }

    /// More clients than connections work on two workers meanwhile: none of them may notice.
    @Test func badInputOverTLSUnderLoad() async throws {
        let cluster = try await Clusters.configured(.auto, "default_pool_size: 4\n", isEncrypted: true)
        // Gives the nodes their certificates, too.
        try await cluster.python("tls", "Modes.test_without_tls_as_before")
        let script = cluster.scratch + "/load.sql"
        try "SELECT 1;\nSELECT txid_current();\n".write(toFile: script, atomically: true, encoding: .utf8)
        let load = try cluster.start(
            "pgbench",
            "--no-vacuum",
            "--client=32",
            "--rate=1000",
            "--time=100000",
            "--file=" + script
        )
        try await cluster.python("bad_input_over_tls")
        #expect(kill(load.processIdentifier, SIGKILL) == 0)
        let outcome = await load.wait()
        #expect(outcome.status == -SIGKILL && outcome.errors.isEmpty, "\(outcome.text)")
        #expect(try await cluster.currentStatus().pid == cluster.pid)
    }

    @Test(arguments: Backend.allCases) func psqlOverTLS(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend, isEncrypted: true)
        // The nodes got their certificates from the test above; whichever comes first, they have to be there.
        try await cluster.python("tls", "Modes.test_every_mode_of_libpq")
        let authority = cluster.scratch + "/certificates/ca.crt"
        for settings in [
            ["PGSSLMODE": "require"], ["PGSSLMODE": "require", "PGCHANNELBINDING": "require"],
            ["PGSSLMODE": "verify-full", "PGSSLROOTCERT": authority],
        ] {
            let outcome = try await cluster.psql("-At", "-c", "\\conninfo", "-c", "SELECT 6 * 7", environment: settings)
            #expect(outcome.status == 0 && outcome.output.hasSuffix("42\n"), "\(outcome.text)")
            #expect(outcome.output.contains("SSL"), "\(outcome.text)")
        }
        let refused = try await cluster.psql(
            "-c",
            "SELECT 1",
            environment: ["PGSSLMODE": "verify-full", "PGSSLROOTCERT": cluster.scratch + "/certificates/otherca.crt"]
        )
        #expect(refused.status != 0 && refused.errors.contains("certificate verify failed"), "\(refused.text)")
    }

    @Test func brokenCertificatesAreNamed() async throws {
        let cluster = try await Clusters.cluster(.epoll, isEncrypted: true)
        let certificates = cluster.scratch + "/certificates"
        func up(_ arguments: String...) async throws -> Outcome {
            try await run(
                Repository.slipstream,
                ["up", "--detach", "--dir", cluster.scratch + "/broken", "--port", "0", "--http-port", "0"] + arguments
            )
        }
        let half = try await up("--tls-cert", certificates + "/server.crt")
        #expect(half.status != 0 && half.errors.contains("--tls-cert and --tls-key belong together"), "\(half.text)")
        let missing = try await up("--tls-cert", certificates + "/none.crt", "--tls-key", certificates + "/server.key")
        #expect(missing.status == 1 && missing.errors.contains("none.crt"), "\(missing.text)")
        // It found out before it made anything.
        #expect(!FileManager.default.fileExists(atPath: cluster.scratch + "/broken/cluster.json"))
    }
}
