package import PostgresWire
package import Topology

#if canImport(FoundationEssentials)
    package import FoundationEssentials
#else
    package import Foundation
#endif

/// How the whole cluster does; the exit status of `slipstream status` follows it.
package enum ClusterState: String, Codable, Sendable {
    /// Every node is up, every standby has its slot, and the archive takes WAL.
    case healthy
    /// Reads and writes are served, but something above is missing.
    case degraded
    /// Nothing takes writes.
    case noPrimary = "no primary"
}

/// What a person, a script and a scraper may know of the cluster: `status.json` and `/status`.
///
/// The names in JSON are a promise (`docs/status.md`). New ones may appear; a name that changes its meaning or goes
/// away raises `version`. It holds no password.
package struct ClusterStatus: Codable, Sendable, Equatable {
    package static let currentVersion = 1

    /// Version of this format.
    package var version = ClusterStatus.currentVersion
    /// Process that serves the endpoint.
    package var pid: Int32
    package var endpoint: EndpointStatus
    /// Port of the dashboard on the loopback address; `nil` when there is none.
    package var httpPort: UInt16?
    package var state: ClusterState
    package var updatedAt: Date
    package var nodes: [NodeStatus]

    package init(
        pid: Int32,
        endpoint: EndpointStatus,
        httpPort: UInt16?,
        state: ClusterState,
        updatedAt: Date,
        nodes: [NodeStatus]
    ) {
        self.pid = pid
        self.endpoint = endpoint
        self.httpPort = httpPort
        self.state = state
        self.updatedAt = updatedAt
        self.nodes = nodes
    }

    private enum CodingKeys: String, CodingKey {
        case version, pid, endpoint, state, nodes
        case httpPort = "http_port"
        case updatedAt = "updated_at"
    }

    /// The nodes as the data plane sees them.
    package var topology: Topology {
        Topology(
            nodes: nodes.enumerated().map { index, status in
                var node = Node(
                    id: NodeID(index),
                    name: status.name,
                    role: status.role,
                    host: status.host,
                    port: status.port,
                    weight: status.weight,
                    state: status.state
                )
                node.exceedsMaxLag = status.lagProblem != nil
                return node
            }
        )
    }
}

/// The address clients connect to.
package struct EndpointStatus: Codable, Sendable, Equatable {
    package var host: String
    package var port: UInt16
    /// Path of the Unix-domain socket, if there is one.
    package var socket: String?
    /// Connection URI without a password.
    package var uri: String

    package init(host: String, port: UInt16, socket: String?, uri: String) {
        self.host = host
        self.port = port
        self.socket = socket
        self.uri = uri
    }
}

/// One node, as its last probe saw it. What was not learnt, or is another role's, is `nil`.
package struct NodeStatus: Codable, Sendable, Equatable {
    package var name: String
    package var role: Role
    package var host: String
    package var port: UInt16
    package var weight: Int
    package var state: NodeState
    package var timeline: UInt32?
    /// Insert position on the primary, replay position on a standby.
    package var walPosition: LSN?
    /// A standby: what it has received and flushed.
    package var receivedPosition: LSN?
    /// A standby: bytes from its replay position to the primary's insert position.
    package var lagBytes: UInt64?
    /// A standby: time since the primary had no more than this has replayed; 0 when replay has reached the primary.
    package var lagSeconds: Double?
    /// A standby: how far it may be behind; `nil` when there is no limit.
    package var maxLag: MaxLagStatus?
    /// A standby: why it serves no reads although it is up, which is that it is further behind than it may be.
    package var lagProblem: String?
    /// A standby: `pg_stat_replication.state` on the primary.
    package var replicationState: String?
    /// A standby: its replication slot on the primary.
    package var slot: SlotStatus?
    /// The primary: its archiver.
    package var archive: ArchiveStatus?
    /// Why the node is not up, in the words of the probe that failed.
    package var lastError: String?

    package init(_ node: Node) {
        name = node.name
        role = node.role
        host = node.host
        port = node.port
        weight = node.weight
        state = node.state
    }

    private enum CodingKeys: String, CodingKey {
        case name, role, host, port, weight, state, timeline, slot, archive
        case walPosition = "wal_position"
        case receivedPosition = "received_position"
        case lagBytes = "lag_bytes"
        case lagSeconds = "lag_seconds"
        case maxLag = "max_lag"
        case lagProblem = "lag_problem"
        case replicationState = "replication_state"
        case lastError = "last_error"
    }
}

/// How far a standby may be behind and serve reads; what is `nil` is not limited.
package struct MaxLagStatus: Codable, Sendable, Equatable {
    package var bytes: UInt64?
    package var seconds: Double?

    /// `nil` when nothing is limited.
    package init?(_ maxLag: MaxLag) {
        guard maxLag != MaxLag() else { return nil }
        bytes = maxLag.bytes
        seconds = maxLag.time.map { $0 / .seconds(1) }
    }
}

/// A replication slot: one row of `pg_replication_slots` on the primary.
package struct SlotStatus: Codable, Sendable, Equatable {
    package var name: String
    package var active: Bool
    /// `reserved`, `extended`, `unreserved` or `lost`; `nil` before the slot was first used.
    package var walStatus: String?
    /// WAL the primary keeps for this slot, in bytes.
    package var retainedBytes: UInt64?

    package init(name: String, active: Bool, walStatus: String?, retainedBytes: UInt64?) {
        self.name = name
        self.active = active
        self.walStatus = walStatus
        self.retainedBytes = retainedBytes
    }

    private enum CodingKeys: String, CodingKey {
        case name, active
        case walStatus = "wal_status"
        case retainedBytes = "retained_bytes"
    }
}

/// The primary's archiver: `pg_stat_archiver`.
package struct ArchiveStatus: Codable, Sendable, Equatable {
    /// File name of the segment archived last.
    package var lastArchived: String?
    /// Seconds since then.
    package var age: Double?
    /// Failed attempts since the statistics were reset; a retry that succeeds leaves it as it is.
    package var failedCount: Int
    /// Whether the newest attempt failed.
    package var failing: Bool

    package init(lastArchived: String?, age: Double?, failedCount: Int, failing: Bool) {
        self.lastArchived = lastArchived
        self.age = age
        self.failedCount = failedCount
        self.failing = failing
    }

    private enum CodingKeys: String, CodingKey {
        case failing
        case lastArchived = "last_archived"
        case age = "age_seconds"
        case failedCount = "failed_count"
    }
}

// MARK: - JSON

extension ClusterStatus {
    /// As `status.json` holds it: sorted keys, ISO 8601 times in UTC, one trailing newline.
    package func json() throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.dateEncodingStrategy = .custom { date, encoder in
            var container = encoder.singleValueContainer()
            try container.encode(date.formatted(ClusterStatus.timeFormat))
        }
        var data = try encoder.encode(self)
        data.append(UInt8(ascii: "\n"))
        return data
    }

    package init(json: Data) throws {
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .custom { decoder in
            try ClusterStatus.timeFormat.parse(try decoder.singleValueContainer().decode(String.self))
        }
        self = try decoder.decode(ClusterStatus.self, from: json)
    }

    private static let timeFormat = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
}
