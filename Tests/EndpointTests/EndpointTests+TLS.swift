import Foundation
import Testing

/// TLS, from outside. Here the nodes have it, too.
extension EndpointTests {
    @Test(arguments: Backend.allCases) func tls(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend, isEncrypted: true)
        try await cluster.python("tls")
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
