/// Why a local cluster could not be made, started or stopped: one sentence, and what to do next.
package struct ReplicationError: Error, Sendable, Equatable {
    package enum Code: Sendable, Equatable {
        /// Another Slipstream serves the directory.
        case directoryInUse
        /// The directory is not empty and is not ours.
        case foreignDirectory
        /// The directory holds no cluster.
        case noCluster
        /// A file of ours is damaged, or was written by a newer Slipstream.
        case damaged
        /// No usable PostgreSQL binaries.
        case noPostgres
        /// A program of PostgreSQL failed.
        case toolFailed
        /// A server does not start, stop or stream.
        case serverFailed
        /// The servers cannot be run as any user, or cannot reach what they need.
        case environment
        /// The operating system refused.
        case system
    }

    package var code: Code
    package var message: String
    package var remedy: String?

    package init(_ code: Code, _ message: String, remedy: String? = nil) {
        self.code = code
        self.message = message
        self.remedy = remedy
    }
}

extension ReplicationError: CustomStringConvertible {
    package var description: String {
        remedy.map { "\(message)\nHINT: \($0)" } ?? message
    }
}
