import Monitor
import PostgresWire
import Topology

/// A cluster's status for a person.
enum StatusTable {
    static func text(_ status: ClusterStatus) -> String {
        var lines = [
            "cluster    \(status.state.rawValue)",
            "endpoint   \(status.endpoint.uri)  (pid \(status.pid))",
        ]
        if let port = status.httpPort { lines.append("dashboard  http://127.0.0.1:\(port)/") }
        lines.append("")
        lines += nodes(status)
        lines += archive(status)
        for node in status.nodes {
            if let problem = node.lastError { lines.append("\(node.name): \(problem)") }
            if let problem = node.lagProblem { lines.append("\(node.name): \(problem)") }
        }
        return lines.joined(separator: "\n")
    }

    /// Who there is, in the order of the cluster.
    static func nodes(_ status: ClusterStatus) -> [String] {
        var table = TextTable(
            ["node", "role", "address", "weight", "state", "timeline", "WAL position", "lag", "replication", "slot"],
            rightAligned: [3, 5]
        )
        for node in status.nodes {
            table.append([
                node.name,
                node.role.rawValue,
                "\(node.host):\(node.port)",
                String(node.weight),
                node.state.rawValue,
                node.timeline.map { String($0) } ?? "-",
                node.walPosition?.description ?? "-",
                lag(node),
                node.replicationState ?? "-",
                slot(node),
            ])
        }
        return table.lines
    }

    private static func lag(_ node: NodeStatus) -> String {
        guard let bytes = node.lagBytes else { return "-" }
        return Quantity.bytes(bytes) + (node.lagSeconds.map { ", \(Quantity.seconds($0))" } ?? "")
    }

    private static func slot(_ node: NodeStatus) -> String {
        guard let slot = node.slot else { return "-" }
        let retained = slot.retainedBytes.map { ", keeps \(Quantity.bytes($0))" } ?? ""
        return "\(slot.name) (\(slot.walStatus ?? "unused")\(retained))"
    }

    private static func archive(_ status: ClusterStatus) -> [String] {
        guard let archive = status.nodes.lazy.compactMap(\.archive).first else { return [] }
        var text = "archive    "
        if let last = archive.lastArchived {
            text += "\(last)" + (archive.age.map { ", \(Quantity.seconds($0)) ago" } ?? "")
        } else {
            text += "nothing since its statistics began"
        }
        if archive.failedCount > 0 { text += ", \(archive.failedCount) failed attempts" }
        if archive.failing { text += ", FAILING NOW" }
        return ["", text]
    }
}

/// Columns as wide as their widest cell.
struct TextTable {
    private var rows: [[String]]
    private let rightAligned: Set<Int>

    init(_ header: [String], rightAligned: Set<Int> = []) {
        rows = [header]
        self.rightAligned = rightAligned
    }

    mutating func append(_ row: [String]) {
        rows.append(row)
    }

    var lines: [String] {
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                line += rightAligned.contains(column) ? padding + cell : cell + padding
                line += "  "
            }
            while line.last == " " { line.removeLast() }
            return line
        }
    }
}
