import Monitor
import Replication

/// What `up` says once the endpoint serves.
enum UpSummary {
    static func text(_ status: ClusterStatus, directory: ClusterDirectory, isDetached: Bool) -> String {
        let option = directory.path == ClusterDirectory(path: "slipstream-data").path ? "" : " --dir \(directory.path)"
        var lines = ["", "The endpoint serves:", "", "    \(status.endpoint.uri)", ""]
        lines += StatusTable.nodes(status).map { "    " + $0 }
        lines += [
            "",
            "Try next:",
            "",
            "    slipstream psql\(option)",
            "    slipstream status\(option) --watch",
            "    slipstream check\(option)",
            "    psql \"$(slipstream url\(option))\"",
        ]
        if let port = status.httpPort { lines.append("    http://127.0.0.1:\(port)/") }
        lines += [
            "",
            isDetached ? "Stop with: slipstream down\(option)" : "Stop with Ctrl-C, or: slipstream down\(option)",
        ]
        return lines.joined(separator: "\n")
    }
}
