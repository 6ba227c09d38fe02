import ArgumentParser
import Replication

/// `--dir`, the same for every command.
struct DirectoryOption: ParsableArguments {
    @Option(name: .customLong("dir"), help: "Directory of the cluster.", completion: .directory)
    var path = "slipstream-data"

    var directory: ClusterDirectory { ClusterDirectory(path: path) }
}

extension ClusterDirectory {
    /// `ClusterStatus`, written by the process that serves the cluster.
    var statusFile: String { path + "/status.json" }

    /// What a detached Slipstream says.
    var logFile: String { path + "/slipstream.log" }
}
