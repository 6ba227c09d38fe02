import FoundationEssentials
import Glibc
import Logging
import Monitor
import PostgresClient
import Proxy
import Replication
import Topology

/// The monitor of a local cluster, the catalog of its databases, and the status made of what they know.
struct ControlPlane: Sendable {
    let monitor: Monitor
    let catalog: DatabaseCatalog
    let nodes: [MonitoredNode]
    private let endpoint: EndpointStatus
    private let httpPort: UInt16

    /// - Parameter maxLags: how far each node may be behind.
    init(
        cluster: LocalCluster,
        endpoint: EndpointConfiguration,
        maxLags: [MaxLag],
        httpPort: UInt16,
        logger: Logger
    ) throws {
        let description = cluster.description
        let secrets = try cluster.directory.readSecrets()
        let nodes = zip(description.initialTopology.nodes, description.nodes).map { node, described in
            MonitoredNode(
                node: node,
                parameters: description.superuserParameters(node: described, secrets: secrets),
                slotName: described.slot,
                maxLag: maxLags[node.id.rawValue]
            )
        }
        self.nodes = nodes
        let monitor = Monitor(nodes: nodes, logger: logger)
        self.monitor = monitor
        catalog = DatabaseCatalog(logger: logger) {
            await monitor.topology
        } parameters: { node, database in
            description.superuserParameters(
                node: description.nodes[node.rawValue],
                secrets: secrets,
                database: database
            )
        }
        let uri = ConnectionURI(
            host: endpoint.host,
            port: endpoint.port,
            user: description.user,
            database: description.database,
            passwordFile: cluster.directory.passwordFile
        )
        self.endpoint = EndpointStatus(
            host: endpoint.host,
            port: endpoint.port,
            socket: endpoint.socketDirectory.map { "\($0)/.s.PGSQL.\(endpoint.port)" },
            uri: uri.text
        )
        self.httpPort = httpPort
    }

    /// The cluster as it is now.
    func status() async -> ClusterStatus {
        let observation = await monitor.observation
        return ClusterStatus(
            pid: getpid(),
            endpoint: endpoint,
            httpPort: httpPort,
            state: observation.state,
            updatedAt: .now,
            nodes: observation.nodes
        )
    }
}

extension DatabaseCatalog: Catalog {}
