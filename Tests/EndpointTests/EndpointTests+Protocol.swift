import Foundation
import Testing

/// What is said message by message: the endpoint answers as a node does, and no client's doing is another's loss.
extension EndpointTests {
    @Test(arguments: Backend.allCases) func protocolCases(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend)
        await cluster.recovered()
        try await cluster.python("protocol")
        #expect(try await cluster.currentStatus().pid == cluster.pid)
    }

    /// SLIPSTREAM_SEED repeats the conversations of an earlier run, whose seeds a failure tells.
    @Test(arguments: Backend.allCases) func randomConversations(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend)
        await cluster.recovered()
        try await cluster.python("fuzzing")
        #expect(try await cluster.currentStatus().pid == cluster.pid)
    }

    @Test(arguments: Backend.allCases) func neighbours(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend)
        await cluster.recovered()
        try await cluster.python("neighbours")
        #expect(try await cluster.currentStatus().pid == cluster.pid)
    }
}
