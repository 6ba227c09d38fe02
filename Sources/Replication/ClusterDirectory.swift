import FoundationEssentials
import Glibc

/// DIR: everything of one local cluster.
///
/// | path | what |
/// | --- | --- |
/// | `slipstream.lock` | locked (flock(2)) by the process that serves the cluster; holds its process id |
/// | `cluster.json` | `ClusterDescription` |
/// | `learned.json` | the statements that only standbys refuse |
/// | `secrets/` | mode 0700: `superuser`, `app`, `replication` (one password each), `pgpass` for libpq's `passfile` |
/// | `nodes/NAME/` | `data`, `server.log`, `server.log.1`, `passfile` of a standby, `data.partial` while it is made |
/// | `archive/` | the WAL archive |
/// | `bin/slipstream` | the copy of the program that the servers run |
///
/// `nodes`, `archive` and `bin` are symbolic links when the servers' user cannot reach DIR.
package struct ClusterDirectory: Sendable {
    /// Absolute, without a trailing slash.
    package let path: String

    /// - Parameter path: Relative paths count from the current directory.
    package init(path: String) {
        self.path = FileSystem.absolute(path)
    }

    package var lockFile: String { path + "/slipstream.lock" }
    package var descriptionFile: String { path + "/cluster.json" }
    package var learnedFile: String { path + "/learned.json" }
    package var secretsDirectory: String { path + "/secrets" }
    package var nodesDirectory: String { path + "/nodes" }
    package var archiveDirectory: String { path + "/archive" }
    /// For `PGPASSFILE`: the passwords of `app` and of the superuser on any local port.
    package var passwordFile: String { secretsDirectory + "/pgpass" }

    package func logFile(of node: String) -> String { "\(nodesDirectory)/\(node)/server.log" }

    // MARK: - What was learned

    /// The content of `learned.json`; `nil` when there is none.
    package func readLearned() throws(ReplicationError) -> [UInt8]? { try FileSystem.read(learnedFile) }

    /// Replaces `learned.json`, atomically and durably.
    package func writeLearned(_ bytes: [UInt8]) throws(ReplicationError) {
        try FileSystem.replace(learnedFile, with: bytes, mode: 0o600, onlyIfDifferent: true)
    }

    // MARK: - Description

    /// Reads `cluster.json`.
    ///
    /// - Throws: `noCluster` when there is none, `damaged` when it cannot be read.
    package func readDescription() throws(ReplicationError) -> ClusterDescription {
        guard let bytes = try FileSystem.read(descriptionFile) else {
            throw ReplicationError(
                .noCluster,
                "there is no cluster in \"\(path)\"",
                remedy: "Make one with \"slipstream up\", or name its directory with --dir."
            )
        }
        let description: ClusterDescription
        do {
            description = try JSONDecoder().decode(ClusterDescription.self, from: Data(bytes))
        } catch {
            throw ReplicationError(.damaged, "\"\(descriptionFile)\" is damaged: \(error)")
        }
        guard description.version <= ClusterDescription.currentVersion else {
            throw ReplicationError(
                .damaged,
                "\"\(descriptionFile)\" was written by a newer Slipstream (format \(description.version))",
                remedy: "Use that one."
            )
        }
        return description.resolved(against: path)
    }

    /// Replaces `cluster.json`, atomically and durably.
    package func write(_ description: ClusterDescription) throws(ReplicationError) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        let bytes: [UInt8]
        do {
            bytes = [UInt8](try encoder.encode(description.relative(to: path))) + [0x0A]
        } catch {
            throw ReplicationError(.system, "cannot encode the cluster's description: \(error)")
        }
        try FileSystem.replace(descriptionFile, with: bytes, mode: 0o644)
    }
}
