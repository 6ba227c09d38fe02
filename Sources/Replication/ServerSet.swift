import Logging
import PostgresClient
import Topology

/// The running servers of one cluster.
actor ServerSet {
    private let logger: Logger
    private let emit: @Sendable (ServerEvent) -> Void
    private var servers: [String: SupervisedServer] = [:]
    private var primaryName = ""

    /// Recovery after a crash takes as long as there is WAL to replay.
    private static let readyTimeout: Duration = .seconds(600)
    private static let streamTimeout: Duration = .seconds(60)

    init(logger: Logger, emit: @escaping @Sendable (ServerEvent) -> Void) {
        self.logger = logger
        self.emit = emit
    }

    func processIdentifier(of node: String) async -> Int32? {
        await servers[node]?.processIdentifier
    }

    /// Starts everything that is complete, completes the rest, and waits until the standbys stream.
    ///
    /// When a port is taken by another program between its reservation and the start, all of it is tried again with another
    /// port.
    func bringUp(_ setup: inout ClusterSetup) async throws {
        for attempt in 1...3 {
            let reservations = try setup.reservePorts()
            do {
                try await startAll(&setup, reservations)
                return
            } catch {
                let nodes = setup.description.nodes
                var hasConflict = false
                for node in nodes where await !isReady(node.name) && PortReservation.take(node.port) == nil {
                    hasConflict = true
                }
                guard hasConflict, attempt < 3 else { throw error }
                await stop()
            }
        }
    }

    private func isReady(_ node: String) async -> Bool {
        await servers[node]?.isReady ?? false
    }

    private func startAll(_ setup: inout ClusterSetup, _ reservations: [String: PortReservation]) async throws {
        guard let primary = setup.description.primary else { return }
        primaryName = primary.name
        let complete = setup.description.standbys.filter(\.isComplete)
        for node in [primary] + complete {
            try setup.configure(node, data: node.dataDirectory)
            if node.role == .standby { try setup.writePasswordFile(setup.configuration(of: node)) }
        }
        setup.progress(complete.isEmpty ? "starting the primary" : "starting \(complete.count + 1) servers")
        for node in [primary] + complete {
            await start(node, setup, reservation: reservations[node.name])
        }
        try await servers[primary.name]?.waitUntilReady(timeout: ServerSet.readyTimeout)
        let connection = try await DatabaseConnection.connect(
            setup.description.superuserParameters(node: primary, secrets: setup.secrets)
        )
        defer { connection.close() }
        try await setup.furnishPrimary(connection)
        try setup.markComplete(primary.name)
        try await setup.ensureSlots(connection)
        for node in setup.description.standbys where !node.isComplete {
            try await setup.cloneStandby(node, from: connection)
            try setup.markComplete(node.name)
            await start(node, setup, reservation: reservations[node.name])
        }
        let names = Set(complete.map(\.name))
        for node in setup.description.standbys {
            try await waitForStandby(node, on: connection, mayBeMissing: names.contains(node.name), setup.progress)
        }
    }

    private func start(_ node: NodeDescription, _ setup: ClusterSetup, reservation: PortReservation?) async {
        var probe = setup.description.superuserParameters(node: node, secrets: setup.secrets)
        probe.connectTimeout = .seconds(2)
        let server = SupervisedServer(
            launch: SupervisedServer.Launch(
                program: setup.binaries.program("postgres", user: setup.user),
                node: node,
                logFile: setup.directory.logFile(of: node.name),
                probe: probe
            ),
            logger: logger,
            emit: emit
        )
        servers[node.name] = server
        await server.start(reservation: reservation)
    }

    private func waitForStandby(
        _ node: NodeDescription,
        on primary: DatabaseConnection,
        mayBeMissing: Bool,
        _ progress: @Sendable (String) -> Void
    ) async throws {
        do {
            try await servers[node.name]?.waitUntilReady(
                timeout: mayBeMissing ? ServerSet.streamTimeout : ServerSet.readyTimeout
            )
            try await waitUntilStreaming(node, on: primary)
        } catch let error as ReplicationError {
            guard mayBeMissing else { throw error }
            progress("going on without \"\(node.name)\": \(error.message)")
            emit(.note(node: node.name, message: error.message))
        }
    }

    /// Source: PostgreSQL manual, view `pg_stat_replication`.
    private func waitUntilStreaming(_ node: NodeDescription, on primary: DatabaseConnection) async throws {
        let deadline = ContinuousClock.now + ServerSet.streamTimeout
        while true {
            let rows = try await primary.query(
                "SELECT 1 FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming'",
                [node.name]
            )
            if !rows.isEmpty { return }
            guard ContinuousClock.now < deadline else {
                throw ReplicationError(
                    .serverFailed,
                    "standby \"\(node.name)\" accepts connections, but does not stream from the primary",
                    remedy: "See its log, \"\(node.dataDirectory)/../server.log\"."
                )
            }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    /// Stops the primary, and then the standbys, all at once.
    func stop() async {
        await servers[primaryName]?.stop()
        let standbys = servers.filter { $0.key != primaryName }.values
        await withTaskGroup { group in
            for server in standbys {
                group.addTask { await server.stop() }
            }
        }
    }
}
