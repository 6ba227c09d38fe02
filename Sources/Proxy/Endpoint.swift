package import Logging
package import QueryAnalysis
package import Topology

/// What the data plane asks of the control plane: things only a database session can tell.
package protocol Catalog: Sendable {
    /// The verifier of `role` as `pg_authid.rolpassword` holds it; `nil` when the role is unknown, has no password, or
    /// its password has expired. Throws when no node can be asked.
    func verifier(ofRole role: String) async throws -> String?
    /// The functions of `database`; `nil` when they cannot be read (the endpoint then trusts only its built-in list).
    func functions(ofDatabase database: String) async -> FunctionCatalog?
}

/// Live traffic's view of a node, told to the monitor.
package struct NodeReport: Sendable, Equatable {
    package var node: NodeID
    /// What went wrong, for the log.
    package var problem: String
}

/// The address clients connect to, and the workers behind it.
package final class Endpoint: Sendable {
    /// Nodes that failed live traffic, as they fail.
    package let reports: AsyncStream<NodeReport>

    /// Opens the listening sockets; nothing is served before `start()`.
    package init(
        configuration: EndpointConfiguration,
        topology: Topology,
        catalog: any Catalog,
        logger: Logger
    ) throws {
        self.reports = AsyncStream { _ in }
    }

    /// Starts the workers.
    package func start() {}

    /// Gives every worker a newer picture of the nodes.
    package func publish(_ topology: Topology) {}

    /// Tells every client session that the endpoint shuts down (57P01), closes the sockets and joins the workers.
    package func shutdown() async {}
}
