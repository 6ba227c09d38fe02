package import Topology

/// What `cluster.json` says: everything about a local cluster that must survive, and nothing secret.
///
/// It is written before anything else is made, and rewritten with every step of the creation that is complete. A node
/// is to be trusted only when `isComplete` says so.
package struct ClusterDescription: Codable, Sendable, Equatable {
    /// Of this format. Grows when an older Slipstream would misread the file.
    package static let currentVersion = 1

    package var version: Int
    /// Of the PostgreSQL system; `nil` until the primary is made. Text, because JSON numbers lose digits.
    package var systemIdentifierText: String?
    /// As `postgres --version` has it, such as `15.20`.
    package var postgresVersion: String
    package var binaryDirectory: String
    /// The role that initdb made.
    package var superuser: String
    /// The database and role for applications.
    package var database: String
    package var user: String
    /// Where the nodes' data and the archive really are, absolute: the directory itself, or one that the servers' user
    /// can reach.
    package var serverRoot: String
    /// The user that runs the servers, when that is not the user that runs Slipstream.
    package var serverUser: String?
    /// The primary first. Indexed like `Topology.nodes`.
    package var nodes: [NodeDescription]

    enum CodingKeys: String, CodingKey {
        case version
        case systemIdentifierText = "system_identifier"
        case postgresVersion = "postgres_version"
        case binaryDirectory = "binary_directory"
        case superuser, database, user
        case serverRoot = "server_root"
        case serverUser = "server_user"
        case nodes
    }

    package var systemIdentifier: UInt64? {
        systemIdentifierText.flatMap { UInt64($0) }
    }

    package var primary: NodeDescription? {
        nodes.first { $0.role == .primary }
    }

    package var standbys: [NodeDescription] {
        nodes.filter { $0.role == .standby }
    }

    package subscript(node name: String) -> NodeDescription? {
        nodes.first { $0.name == name }
    }

    /// The archive's directory.
    package var archiveDirectory: String { serverRoot + "/archive" }

    /// What the data plane starts with: every node still `starting`.
    package var initialTopology: Topology {
        let nodes = nodes.enumerated().map { index, node in
            Node(
                id: NodeID(index),
                name: node.name,
                role: node.role,
                host: node.host,
                port: node.port,
                weight: node.weight
            )
        }
        return Topology(nodes: nodes)
    }
}

/// One PostgreSQL server of a local cluster.
package struct NodeDescription: Codable, Sendable, Equatable {
    /// `primary`, `standby1`, … Also its `application_name` and `cluster_name`.
    package var name: String
    package var role: Role
    /// Numeric.
    package var host: String
    package var port: UInt16
    /// Share of the reads relative to the other nodes; 0 takes none.
    package var weight: Int
    /// Absolute.
    package var dataDirectory: String
    /// The physical replication slot on the primary; `nil` for the primary itself.
    package var slot: String?
    /// Whether its data directory is whole. Until then it is made anew.
    package var isComplete: Bool

    /// Of the node that is made as the first, the second …
    static func name(_ index: Int) -> String { index == 0 ? "primary" : "standby\(index)" }

    enum CodingKeys: String, CodingKey {
        case name, role, host, port, weight
        case dataDirectory = "data_directory"
        case slot
        case isComplete = "complete"
    }
}

extension ClusterDescription {
    /// As it is stored: paths below the cluster's directory are relative, so that the directory may be moved.
    func relative(to directory: String) -> ClusterDescription {
        var stored = self
        for index in stored.nodes.indices where stored.nodes[index].dataDirectory.hasPrefix(serverRoot + "/") {
            stored.nodes[index].dataDirectory.removeFirst(serverRoot.count + 1)
        }
        if serverRoot == directory { stored.serverRoot = "." }
        return stored
    }

    /// As it is used: all paths absolute.
    func resolved(against directory: String) -> ClusterDescription {
        var used = self
        if serverRoot == "." { used.serverRoot = directory }
        for index in used.nodes.indices where !used.nodes[index].dataDirectory.hasPrefix("/") {
            used.nodes[index].dataDirectory = used.serverRoot + "/" + used.nodes[index].dataDirectory
        }
        return used
    }
}
