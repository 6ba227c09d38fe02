package import Logging
package import PostgresClient

/// A primary and its standbys on this machine, made and kept running by this process.
package actor LocalCluster {
    package nonisolated let directory: ClusterDirectory
    /// Ports and weights included; fixed once `open` returned.
    package nonisolated let description: ClusterDescription
    /// What happens to the servers from now on. One consumer.
    package nonisolated let events: AsyncStream<ServerEvent>
    private nonisolated let secrets: Secrets

    private init(
        directory: ClusterDirectory,
        description: ClusterDescription,
        events: AsyncStream<ServerEvent>,
        secrets: Secrets
    ) {
        self.directory = directory
        self.description = description
        self.events = events
        self.secrets = secrets
    }

    /// Makes a cluster in `directory`, completes a half-made one, or resumes one. When it returns, all servers accept
    /// connections and all standbys stream.
    ///
    /// The directory's lock is held until `stop()`.
    ///
    /// - Parameter progress: Told, in sentences for a person, what is being done.
    /// - Throws: `ReplicationError`, after stopping what was started.
    package static func open(
        directory: ClusterDirectory,
        options: ClusterOptions,
        logger: Logger,
        progress: @escaping @Sendable (String) -> Void
    ) async throws -> LocalCluster {
        throw ReplicationError(.system, "not built yet")
    }

    /// The process id of a node's server; `nil` while it is not running.
    package func processIdentifier(of node: String) -> Int32? { nil }

    /// Stops all servers cleanly, the primary first, so that the standbys receive its shutdown checkpoint.
    package func stop() async {}

    /// How to reach a node as superuser.
    ///
    /// - Parameter node: A name from `description`.
    package nonisolated func superuserParameters(node: String) -> ConnectionParameters? {
        description[node: node].map { description.superuserParameters(node: $0, secrets: secrets) }
    }
}
