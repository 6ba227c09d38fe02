import Dashboard
import Foundation
import Monitor
import PostgresWire
import Testing
import Topology

@Suite struct ClusterStatusTests {
    private let status: ClusterStatus = {
        let nodes = [
            Node(id: NodeID(0), name: "primary", role: .primary, host: "127.0.0.1", port: 5001, weight: 1, state: .up),
            Node(id: NodeID(1), name: "standby1", role: .standby, host: "::1", port: 5002, weight: 2, state: .down),
        ]
        let uri = "postgresql://app@127.0.0.1:6432/app"
        let segment = "000000010000000000000002"
        var primary = NodeStatus(nodes[0])
        primary.walPosition = LSN("0/3000148")
        primary.archive = ArchiveStatus(lastArchived: segment, age: 2.5, failedCount: 0, failing: false)
        var standby = NodeStatus(nodes[1])
        standby.lagBytes = 1 << 40
        standby.maxLag = MaxLagStatus(MaxLag(bytes: 16 << 20, time: .seconds(5)))
        standby.lagProblem = "lags 1 TB behind"
        standby.slot = SlotStatus(name: "standby1", active: true, walStatus: "reserved", retainedBytes: 328)
        return ClusterStatus(
            pid: 4711,
            endpoint: EndpointStatus(host: "127.0.0.1", port: 6432, socket: nil, uri: uri),
            httpPort: 8008,
            state: .degraded,
            updatedAt: Date(timeIntervalSince1970: 1_700_000_000.125),
            nodes: [primary, standby]
        )
    }()

    @Test func jsonKeepsItsNames() throws {
        let object = try #require(try JSONSerialization.jsonObject(with: status.json()) as? [String: Any])
        #expect(object["version"] as? Int == 1)
        #expect(object["pid"] as? Int == 4711)
        #expect(object["http_port"] as? Int == 8008)
        #expect(object["state"] as? String == "degraded")
        #expect(object["updated_at"] as? String == "2023-11-14T22:13:20.125Z")
        let endpoint = try #require(object["endpoint"] as? [String: Any])
        #expect(endpoint["host"] as? String == "127.0.0.1")
        #expect(endpoint["port"] as? Int == 6432)
        let nodes = try #require(object["nodes"] as? [[String: Any]])
        #expect(nodes.map { $0["name"] as? String } == ["primary", "standby1"])
        #expect(nodes.map { $0["role"] as? String } == ["primary", "standby"])
        #expect(nodes.map { $0["state"] as? String } == ["up", "down"])
        #expect(nodes[0]["wal_position"] as? String == "0/3000148")
        #expect((nodes[0]["archive"] as? [String: Any])?["last_archived"] as? String == "000000010000000000000002")
        #expect(nodes[1]["lag_bytes"] as? Int == 1 << 40)
        #expect((nodes[1]["max_lag"] as? [String: Any])?["bytes"] as? Int == 16 << 20)
        #expect((nodes[1]["max_lag"] as? [String: Any])?["seconds"] as? Double == 5)
        #expect(nodes[1]["lag_problem"] as? String == "lags 1 TB behind")
        #expect((nodes[1]["slot"] as? [String: Any])?["wal_status"] as? String == "reserved")
    }

    @Test func jsonComesBackAsItWas() throws {
        #expect(try ClusterStatus(json: status.json()) == status)
    }

    @Test func metricsNameEveryNode() {
        let lines = Metrics.text(for: status).split(separator: "\n")
        #expect(lines.contains("# TYPE slipstream_node_up gauge"))
        #expect(lines.contains(#"slipstream_node_up{node="primary",role="primary"} 1"#))
        #expect(lines.contains(#"slipstream_node_up{node="standby1",role="standby"} 0"#))
        #expect(lines.contains(#"slipstream_node_serves_reads{node="primary",role="primary"} 1"#))
        #expect(lines.contains(#"slipstream_node_serves_reads{node="standby1",role="standby"} 0"#))
        #expect(lines.contains(#"slipstream_node_wal_position_bytes{node="primary",role="primary"} 50331976"#))
        #expect(lines.contains(#"slipstream_node_lag_bytes{node="standby1",role="standby"} 1099511627776"#))
        #expect(lines.contains(#"slipstream_archive_age_seconds{node="primary",role="primary"} 2.5"#))
        #expect(lines.contains("slipstream_healthy 0"))
    }
}
