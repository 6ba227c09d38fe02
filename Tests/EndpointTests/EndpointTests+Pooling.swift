import Foundation
import Testing

/// One server connection per node, database and user, shared by many: nobody may notice but by the time it takes.
extension EndpointTests {
    private func pooled(_ program: String, _ cases: [[String]]) async throws {
        let cluster = try await Clusters.configured(
            .epoll,
            """
            default_pool_size: 1
            query_wait_timeout: 10

            """
        )
        for arguments in cases {
            try await cluster.python(
                program,
                arguments,
                environment: ["SLIPSTREAM_QUERY_WAIT_TIMEOUT": "10"]
            )
        }
        #expect(try await cluster.currentStatus().pid == cluster.pid)
    }

    /// Settings first: once a session has asked for the last value of a sequence, writers keep their connections.
    @Test func stateOfSessionsThatShareAConnection() async throws {
        try await pooled("pooling", [["Settings"], ["Kept"]])
    }

    @Test func messagesOfSessionsThatShareAConnection() async throws {
        try await pooled("pooling_protocol", [[]])
    }
}
