package import Logging
package import PostgresClient

/// A primary and its standbys on this machine, made and kept running by this process.
package actor LocalCluster {
    package nonisolated let directory: ClusterDirectory
    /// Ports and weights included; fixed once `open` returned.
    package nonisolated let description: ClusterDescription
    /// What happens to the servers, from their first start on. One consumer; the newest 1024 are kept for it.
    package nonisolated let events: AsyncStream<ServerEvent>

    private nonisolated let secrets: Secrets
    private let servers: ServerSet
    private let housekeeping: Task<Void, Never>
    private var lock: DirectoryLock?

    /// Makes a cluster in `directory`, completes a half-made one, or resumes one. When it returns, all servers accept
    /// connections and all standbys stream. Only a standby of a cluster that was complete before may be missing, which is
    /// told in `progress` and in `events`: the others must not wait for it.
    ///
    /// The directory's lock is held until `stop()`.
    ///
    /// - Parameter progress: Told, in sentences for a person, what is being done.
    /// - Throws: `ReplicationError` or `DatabaseError`, after stopping what was started.
    package static func open(
        directory: ClusterDirectory,
        options: ClusterOptions,
        logger: Logger,
        progress: @escaping @Sendable (String) -> Void
    ) async throws -> LocalCluster {
        let lock = try directory.lock()
        var setup = try await ClusterSetup.begin(directory, options: options, logger: logger, progress: progress)
        let (events, continuation) = AsyncStream.makeStream(
            of: ServerEvent.self,
            bufferingPolicy: .bufferingNewest(1024)
        )
        let servers = ServerSet(logger: logger) { continuation.yield($0) }
        do {
            try await setup.stopOrphans()
            try await setup.makePrimary()
            try setup.makeArchive()
            try await servers.bringUp(&setup)
        } catch {
            await servers.stop()
            continuation.finish()
            throw error
        }
        return LocalCluster(setup: setup, events: events, continuation, servers: servers, lock: lock)
    }

    private init(
        setup: ClusterSetup,
        events: AsyncStream<ServerEvent>,
        _ continuation: AsyncStream<ServerEvent>.Continuation,
        servers: ServerSet,
        lock: DirectoryLock
    ) {
        directory = setup.directory
        description = setup.description
        secrets = setup.secrets
        self.events = events
        self.continuation = continuation
        self.servers = servers
        self.lock = lock
        let logs = setup.description.nodes.map { ServerLog(path: setup.directory.logFile(of: $0.name)) }
        housekeeping = Task {
            while (try? await Task.sleep(for: .seconds(60))) != nil {
                for log in logs { try? log.bound() }
            }
        }
    }

    private let continuation: AsyncStream<ServerEvent>.Continuation

    /// The process id of a node's server; `nil` while it is not running.
    package func processIdentifier(of node: String) async -> Int32? {
        await servers.processIdentifier(of: node)
    }

    /// Stops all servers cleanly, the primary first, so that the standbys receive its shutdown checkpoint; then gives the
    /// directory up. Harmless when called twice.
    package func stop() async {
        housekeeping.cancel()
        await servers.stop()
        continuation.finish()
        lock = nil
    }

    /// How to reach a node as superuser.
    ///
    /// - Parameter node: A name from `description`.
    package nonisolated func superuserParameters(node: String) -> ConnectionParameters? {
        description[node: node].map { description.superuserParameters(node: $0, secrets: secrets) }
    }

    /// Stops the servers that a killed Slipstream left running on a directory. Returns the names of their nodes.
    ///
    /// - Throws: `directoryInUse` when a living Slipstream serves it; `noCluster` when there is no cluster.
    package static func stopOrphans(in directory: ClusterDirectory) async throws -> [String] {
        let description = try directory.readDescription()
        let lock = try directory.lock()
        defer { withExtendedLifetime(lock) {} }
        var stopped: [String] = []
        for node in description.nodes {
            guard let orphan = OrphanedServer(dataDirectory: node.dataDirectory) else { continue }
            try await orphan.stop()
            stopped.append(node.name)
        }
        return stopped
    }
}
