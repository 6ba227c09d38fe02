import Glibc
import PostgresClient
import Synchronization
import Topology

extension ClusterSetup {
    // MARK: - The primary's catalogue

    /// Makes the roles and the database that the primary lacks. Does nothing on one that is complete: from then on they
    /// are the user's.
    func furnishPrimary(_ connection: DatabaseConnection) async throws {
        guard let primary = description.primary, !primary.isComplete else { return }
        // A failing CREATE ROLE must not carry its verifier into the log.
        for setting in ["log_statement = none", "log_min_duration_statement = -1", "log_min_error_statement = panic"] {
            _ = try await connection.query("SET \(setting)")
        }
        try await ensureRole(
            ServerConfiguration.replicationRole,
            "LOGIN REPLICATION",
            secrets.replication,
            on: connection
        )
        try await ensureRole(description.user, "LOGIN", secrets.app, on: connection)
        let databases = try await connection.query(
            "SELECT 1 FROM pg_database WHERE datname = $1",
            [description.database]
        )
        if databases.isEmpty {
            let database = SQLText.identifier(description.database)
            let owner = SQLText.identifier(description.user)
            _ = try await connection.query("CREATE DATABASE \(database) OWNER \(owner)", timeout: .seconds(120))
        }
    }

    private func ensureRole(
        _ name: String,
        _ attributes: String,
        _ password: Secret,
        on connection: DatabaseConnection
    ) async throws {
        let verifier = try await connection.verifier(ofPassword: password, user: name)
        let exists = try await !connection.query("SELECT 1 FROM pg_roles WHERE rolname = $1", [name]).isEmpty
        let command = exists ? "ALTER ROLE" : "CREATE ROLE"
        _ = try await connection.query(
            "\(command) \(SQLText.identifier(name)) \(attributes) PASSWORD \(SQLText.literal(verifier))"
        )
    }

    /// Makes the slot of every standby, and makes one that lost its WAL anew: its standby goes on from the archive.
    ///
    /// Source: PostgreSQL manual, "Replication Slots"; view `pg_replication_slots`.
    func ensureSlots(_ connection: DatabaseConnection) async throws {
        let rows = try await connection.query("SELECT slot_name, wal_status FROM pg_replication_slots")
        let found = Dictionary(rows.map { ($0[0] ?? "", $0[1] ?? "") }) { first, _ in first }
        for node in description.standbys {
            guard let slot = node.slot else { continue }
            if found[slot] == "lost" {
                progress("the slot of \"\(node.name)\" had lost its WAL; making it anew")
                _ = try await connection.query("SELECT pg_drop_replication_slot($1)", [slot])
            } else if found[slot] != nil {
                continue
            }
            // Reserved at once: WAL is kept from here on, not from the standby's first connection.
            _ = try await connection.query("SELECT pg_create_physical_replication_slot($1, true)", [slot])
        }
    }

    // MARK: - Standbys

    /// Clones the primary into a standby's data directory.
    ///
    /// Source: PostgreSQL manual, pg_basebackup, pg_verifybackup.
    func cloneStandby(_ node: NodeDescription, from connection: DatabaseConnection) async throws {
        let data = node.dataDirectory
        let partial = data + ".partial"
        try FileSystem.makeDirectory(FileSystem.parent(of: data), mode: 0o700, owner: user)
        let lock = try await MakerLock.take(FileSystem.parent(of: data) + "/making.lock")
        if FileSystem.exists(data) {
            // Killed after the copy was done, before it was recorded. Never trusted: a clone is cheap.
            try FileSystem.removePartial(partial)
            try FileSystem.rename(data, to: partial)
        }
        try FileSystem.removePartial(partial)
        let configuration = configuration(of: node)
        try writePasswordFile(configuration)
        try await freeSlot(of: node, on: connection)
        try await copyPrimary(to: partial, node, configuration, holding: lock)

        progress("cloning \(node.name): verifying")
        try await binaries.program("pg_verifybackup", user: user).runOrThrow(["--quiet", partial])
        try configure(node, data: partial)
        try FileSystem.replace(partial + "/standby.signal", with: [], mode: 0o600, owner: user)
        try FileSystem.rename(partial, to: data)
    }

    private func copyPrimary(
        to partial: String,
        _ node: NodeDescription,
        _ configuration: ServerConfiguration,
        holding lock: MakerLock
    ) async throws(ReplicationError) {
        let lastPercentage = Mutex(-1)
        progress("cloning \(node.name)")
        try await binaries.program("pg_basebackup", user: user).runOrThrow(
            [
                "--pgdata", partial, "--dbname", configuration.primaryConnection, "--no-password",
                "--wal-method", "stream", "--slot", node.slot ?? node.name, "--checkpoint", "fast",
                "--manifest-checksums", "SHA256", "--progress",
            ],
            holding: lock
        ) { [progress] line in
            // "23104/23104 kB (100%), 1/1 tablespace"
            guard let end = line.firstIndex(of: "%"), let start = line[..<end].lastIndex(of: "("),
                let percentage = Int(line[line.index(after: start)..<end]), percentage % 10 == 0,
                lastPercentage.withLock({ last in
                    defer { last = max(last, percentage) }
                    return percentage > last
                })
            else { return }
            progress("cloning \(node.name): \(percentage) %")
        }
    }

    /// Source: PostgreSQL manual, "The Password File". Any port: that of the primary may change.
    func writePasswordFile(_ configuration: ServerConfiguration) throws(ReplicationError) {
        let role = ServerConfiguration.replicationRole
        let line = "\(configuration.primary.host):*:*:\(role):\(secrets.replication.revealed)\n"
        try FileSystem.replace(
            configuration.passwordFile,
            with: Array(line.utf8),
            mode: 0o600,
            owner: user,
            onlyIfDifferent: true
        )
    }

    /// Ends a `pg_basebackup` of a killed Slipstream that still streams through the slot.
    private func freeSlot(of node: NodeDescription, on connection: DatabaseConnection) async throws {
        let deadline = ContinuousClock.now + .seconds(10)
        while ContinuousClock.now < deadline {
            let rows = try await connection.query(
                """
                SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots \
                WHERE slot_name = $1 AND active_pid IS NOT NULL
                """,
                [node.slot]
            )
            if rows.isEmpty { return }
            try await Task.sleep(for: .milliseconds(50))
        }
    }
}
