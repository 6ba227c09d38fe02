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

/// Numbers for a person.
enum Quantity {
    static func bytes(_ count: UInt64) -> String {
        var value = Double(count)
        for unit in ["B", "kB", "MB", "GB"] {
            if value < 1024 { return unit == "B" ? "\(count) B" : "\(fixed(value, 1)) \(unit)" }
            value /= 1024
        }
        return "\(fixed(value, 1)) TB"
    }

    static func seconds(_ seconds: Double) -> String {
        if seconds < 10 { return "\(fixed(seconds, 2)) s" }
        if seconds < 120 { return "\(fixed(seconds, 0)) s" }
        if seconds < 7200 { return "\(fixed(seconds / 60, 0)) min" }
        return "\(fixed(seconds / 3600, 0)) h"
    }

    /// `value` with so many digits after the point.
    static func fixed(_ value: Double, _ digits: Int) -> String {
        var scale = 1.0
        for _ in 0..<digits { scale *= 10 }
        let scaled = (abs(value) * scale).rounded()
        guard scaled < 1e15 else { return String(value) }
        let whole = Int64(scaled / scale)
        let sign = value < 0 && scaled > 0 ? "-" : ""
        guard digits > 0 else { return "\(sign)\(whole)" }
        let fraction = String(Int64(scaled) - whole * Int64(scale))
        return "\(sign)\(whole).\(String(repeating: "0", count: digits - fraction.count))\(fraction)"
    }
}
