/// A node's place in the topology; stable while a process lives. Node 0 is the primary `up` created.
package struct NodeID: Hashable, Comparable, Sendable {
    package let rawValue: Int

    package init(_ rawValue: Int) {
        self.rawValue = rawValue
    }

    package static func < (left: NodeID, right: NodeID) -> Bool { left.rawValue < right.rawValue }
}

/// The two roles of a PostgreSQL server.
package enum Role: String, Codable, Sendable {
    case primary
    case standby
}

/// What the monitor and the supervisor know of a node's fitness.
package enum NodeState: String, Codable, Sendable {
    /// Not known yet, or the server is starting and does not accept connections.
    case starting
    /// Accepts connections; a standby also streams.
    case up
    /// A standby that accepts connections, but does not stream from its primary.
    case detached
    /// Does not answer.
    case down
}

/// One PostgreSQL server as the data plane sees it.
package struct Node: Sendable, Equatable {
    package var id: NodeID
    package var name: String
    package var role: Role
    /// IPv4 address, dotted.
    package var host: String
    package var port: UInt16
    /// Share of the reads relative to the other nodes; 0 takes none.
    package var weight: Int
    package var state: NodeState
    /// A standby: whether it is further behind than it may be (`MaxLag`). It is `up` all the same: what runs there goes on.
    package var exceedsMaxLag = false

    package init(
        id: NodeID,
        name: String,
        role: Role,
        host: String,
        port: UInt16,
        weight: Int,
        state: NodeState = .starting
    ) {
        self.id = id
        self.name = name
        self.role = role
        self.host = host
        self.port = port
        self.weight = weight
        self.state = state
    }

    /// Whether a read may be sent here.
    package var servesReads: Bool {
        state == .up && !exceedsMaxLag
    }
}

/// An immutable picture of all nodes. The monitor publishes one, every worker holds the newest.
package struct Topology: Sendable, Equatable {
    /// Grows with every published change.
    package var version: UInt64
    /// Indexed by `NodeID`.
    package var nodes: [Node]

    package init(version: UInt64 = 0, nodes: [Node]) {
        self.version = version
        self.nodes = nodes
    }

    /// The node that takes writes, up or not.
    package var primary: Node? {
        nodes.first { $0.role == .primary }
    }

    package subscript(id: NodeID) -> Node {
        nodes[id.rawValue]
    }
}
