package import Monitor
import PostgresWire
import Topology

/// The cluster in Prometheus' text format.
///
/// Source: "Exposition formats", text-based format 0.0.4. Names are a promise (`docs/up.md`).
package enum Metrics {
    package static func text(for status: ClusterStatus) -> String {
        var metrics = Exposition()
        let isHealthy: Double = status.state == .healthy ? 1 : 0
        metrics.gauge("slipstream_healthy", "1 while the cluster is healthy.", [([:], isHealthy)])
        let nodes = status.nodes
        metrics.gauge("slipstream_node_up", "1 while the node is up.", nodes) { $0.state == .up ? 1 : 0 }
        let nodesServing = status.topology.nodes.filter(\.servesReads).map(\.name)
        metrics.gauge("slipstream_node_serves_reads", "1 while reads may go to the node.", nodes) {
            nodesServing.contains($0.name) ? 1 : 0
        }
        metrics.gauge("slipstream_node_primary", "1 for the primary.", nodes) { $0.role == .primary ? 1 : 0 }
        metrics.gauge("slipstream_node_weight", "Share of the reads.", nodes) { Double($0.weight) }
        metrics.gauge("slipstream_node_timeline", "Timeline.", nodes) { $0.timeline.map { Double($0) } }
        metrics.gauge(
            "slipstream_node_wal_position_bytes",
            "Insert position of the primary, replay position of a standby.",
            nodes
        ) { $0.walPosition.map { Double($0.rawValue) } }
        metrics.gauge("slipstream_node_lag_bytes", "From replay to the primary's insert position.", nodes) {
            $0.lagBytes.map { Double($0) }
        }
        metrics.gauge("slipstream_node_lag_seconds", "How old the standby's data is.", nodes) { $0.lagSeconds }
        metrics.gauge("slipstream_slot_retained_bytes", "WAL the primary keeps for the standby's slot.", nodes) {
            $0.slot?.retainedBytes.map { Double($0) }
        }
        metrics.gauge("slipstream_slot_active", "1 while the standby's slot is in use.", nodes) {
            $0.slot.map { $0.active ? 1 : 0 }
        }
        metrics.gauge("slipstream_archive_failing", "1 while the newest attempt to archive failed.", nodes) {
            $0.archive.map { $0.failing ? 1 : 0 }
        }
        metrics.gauge("slipstream_archive_age_seconds", "Seconds since a segment was archived.", nodes) {
            $0.archive?.age
        }
        return metrics.text
    }
}

/// Builds one exposition.
private struct Exposition {
    private(set) var text = ""

    mutating func gauge(_ name: String, _ help: String, _ nodes: [NodeStatus], _ value: (NodeStatus) -> Double?) {
        gauge(
            name,
            help,
            nodes.compactMap { node in
                value(node).map { (["node": node.name, "role": node.role.rawValue], $0) }
            }
        )
    }

    /// A metric without a sample is left out.
    mutating func gauge(_ name: String, _ help: String, _ samples: [(labels: [String: String], value: Double)]) {
        guard !samples.isEmpty else { return }
        text += "# HELP \(name) \(help)\n# TYPE \(name) gauge\n"
        for sample in samples {
            let labels = sample.labels.sorted { $0.key < $1.key }
                .map { "\($0.key)=\"\(Self.escape($0.value))\"" }
                .joined(separator: ",")
            text += labels.isEmpty ? name : "\(name){\(labels)}"
            text += " \(Self.number(sample.value))\n"
        }
    }

    /// Whole numbers without an exponent: WAL positions are long.
    private static func number(_ value: Double) -> String {
        Int64(exactly: value).map(String.init) ?? String(value)
    }

    private static func escape(_ label: String) -> String {
        var escaped = ""
        for character in label {
            switch character {
            case "\\": escaped += #"\\"#
            case "\"": escaped += #"\""#
            case "\n": escaped += #"\n"#
            default: escaped.append(character)
            }
        }
        return escaped
    }
}
