import Archive
import Glibc
import Logging
import PostgresClient
import Topology

/// Makes what a cluster needs on disk, one complete step at a time.
///
/// It may be killed anywhere. What counts is what `cluster.json` says, and that is written after the step it reports;
/// what is being made has a name that ends in `.partial`, and is made anew.
struct ClusterSetup: Sendable {
    let directory: ClusterDirectory
    let binaries: PostgresBinaries
    let root: ServerRoot
    let logger: Logger
    let progress: @Sendable (String) -> Void
    private(set) var description: ClusterDescription
    private(set) var secrets: Secrets

    var user: ServerUser { root.user }

    // MARK: - Before any server runs

    /// Reads or plans the cluster, and makes its directories and passwords.
    static func begin(
        _ directory: ClusterDirectory,
        options: ClusterOptions,
        logger: Logger,
        progress: @escaping @Sendable (String) -> Void
    ) async throws -> ClusterSetup {
        let user = try ServerUser.current()
        let existing = FileSystem.exists(directory.descriptionFile) ? try directory.readDescription() : nil
        if let existing, existing.serverUser != user.identity?.name {
            throw ReplicationError(
                .environment,
                "the servers of \"\(directory.path)\" belong to \(existing.serverUser ?? "another user")",
                remedy: "Run Slipstream as the user who made the cluster."
            )
        }
        let binaries = try await PostgresBinaries.find(
            requested: options.binaryDirectory,
            recorded: existing?.binaryDirectory,
            majorVersion: existing.flatMap { dataMajorVersion(of: $0) },
            user: user
        )
        let root: ServerRoot
        if let existing {
            root = ServerRoot(path: existing.serverRoot, user: user)
        } else {
            root = try await ServerRoot.choose(for: directory, user: user)
        }
        var description = existing ?? ClusterDescription(version: ClusterDescription.currentVersion, root: root)
        description.postgresVersion = binaries.version
        description.binaryDirectory = binaries.directory
        try description.apply(options, progress: progress)
        // From here on the directory is ours, whatever happens.
        try directory.write(description)
        if existing == nil, root.path != directory.path {
            progress(
                "user \"\(user.identity?.name ?? "")\" cannot reach \(directory.path); servers live in \(root.path)"
            )
        }
        let secrets = try directory.ensureSecrets(superuser: description.superuser, user: description.user)
        try await root.prepare(for: directory, executable: options.executable)
        return ClusterSetup(
            directory: directory,
            binaries: binaries,
            root: root,
            logger: logger,
            progress: progress,
            description: description,
            secrets: secrets
        )
    }

    private static func dataMajorVersion(of description: ClusterDescription) -> Int? {
        guard let primary = description.primary else { return nil }
        let text = (try? FileSystem.readText(primary.dataDirectory + "/PG_VERSION")) ?? nil
        return text.flatMap { Int($0.filter { !$0.isNewline }) }
    }

    /// Stops servers that a killed Slipstream left running, the primary first.
    func stopOrphans() async throws(ReplicationError) {
        for node in description.nodes {
            for dataDirectory in [node.dataDirectory, node.dataDirectory + ".partial"] {
                guard let orphan = OrphanedServer(dataDirectory: dataDirectory) else { continue }
                progress(
                    "stopping server \"\(node.name)\" (pid \(orphan.processIdentifier)), left by a killed Slipstream"
                )
                try await orphan.stop()
            }
        }
    }

    /// Makes the primary's data directory, unless it is there.
    func makePrimary() async throws {
        guard let primary = description.primary else { return }
        let data = primary.dataDirectory
        let home = FileSystem.parent(of: data)
        try FileSystem.makeDirectory(home, mode: 0o700, owner: user)
        // It got its final name when initdb and everything after it was done, so under that name it is whole.
        guard !FileSystem.exists(data) else { return }
        guard !primary.isComplete else {
            throw ReplicationError(
                .damaged,
                "the primary's data directory \"\(data)\" is gone",
                remedy: "Restore it, mount its file system, or remove \"\(directory.path)\" to begin anew."
            )
        }
        progress("making the primary (PostgreSQL \(binaries.version))")
        let partial = data + ".partial"
        let lock = try await MakerLock.take(home + "/making.lock")
        try FileSystem.removePartial(partial)
        let passwordFile = home + "/initdb.password"
        try FileSystem.replace(
            passwordFile,
            with: Array((secrets.superuser.revealed + "\n").utf8),
            mode: 0o600,
            owner: user
        )
        defer { unlink(passwordFile) }
        try await initialise(partial, passwordFile: passwordFile, holding: lock)
        try includeSettings(in: partial)
        try FileSystem.replace(
            partial + "/pg_hba.conf",
            with: Array(ServerConfiguration.hostBasedAuthentication.utf8),
            mode: 0o600,
            owner: user
        )
        try FileSystem.rename(partial, to: data)
    }

    private func initialise(
        _ data: String,
        passwordFile: String,
        holding lock: MakerLock
    ) async throws(ReplicationError) {
        let initdb = binaries.program("initdb", user: user)
        func arguments(locale: String) -> [String] {
            [
                "-D", data, "-U", description.superuser, "--pwfile", passwordFile, "-E", "UTF8", "--locale", locale,
                "--data-checksums", "--auth", "scram-sha-256",
            ]
        }
        do throws(ReplicationError) {
            try await initdb.runOrThrow(arguments(locale: "C.UTF-8"), holding: lock)
        } catch {
            guard error.message.contains("invalid locale") else { throw error }
            // Not every C library has C.UTF-8.
            try FileSystem.removePartial(data)
            try await initdb.runOrThrow(arguments(locale: "C"), holding: lock)
        }
    }

    private func includeSettings(in data: String) throws(ReplicationError) {
        let file = data + "/postgresql.conf"
        let text = try FileSystem.readText(file) ?? ""
        guard !text.contains(ServerConfiguration.includeLine) else { return }
        let separator = text.isEmpty || text.hasSuffix("\n") ? "" : "\n"
        try FileSystem.replace(
            file,
            with: Array((text + separator + ServerConfiguration.includeLine).utf8),
            mode: 0o600,
            owner: user
        )
    }

    /// Learns the system's identifier from the primary's control file, and makes the archive for it.
    mutating func makeArchive() throws(ReplicationError) {
        guard let primary = description.primary else { return }
        let file = primary.dataDirectory + "/global/pg_control"
        // The identifier is the control file's first field: PostgreSQL, `catalog/pg_control.h`.
        guard let bytes = try FileSystem.read(file), bytes.count >= 8 else {
            throw ReplicationError(.damaged, "\"\(file)\" is missing or cut short")
        }
        let identifier = bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
        if let expected = description.systemIdentifier, expected != identifier {
            throw ReplicationError(
                .damaged,
                "the primary's data directory is of system \(identifier), but the cluster is of system \(expected)"
            )
        }
        try FileSystem.makeDirectory(description.archiveDirectory, mode: 0o700, owner: user)
        do throws(ArchiveError) {
            _ = try ArchiveStore.create(at: description.archiveDirectory, systemIdentifier: identifier)
        } catch {
            throw ReplicationError(.environment, error.message, remedy: error.remedy)
        }
        let marker = description.archiveDirectory + "/" + ArchiveStore.markerName
        try FileSystem.give(marker, to: user)
        guard description.systemIdentifier == nil else { return }
        description.systemIdentifierText = String(identifier)
        try directory.write(description)
    }

    /// Takes every node's port, choosing a new one where somebody else has it.
    mutating func reservePorts() throws(ReplicationError) -> [String: PortReservation] {
        var reservations: [String: PortReservation] = [:]
        for index in description.nodes.indices {
            let node = description.nodes[index]
            if node.port != 0, let reservation = PortReservation.take(node.port) {
                reservations[node.name] = reservation
                continue
            }
            let reservation = try PortReservation.takeAny(avoiding: Set(description.nodes.map(\.port)))
            if node.port != 0 {
                progress("port \(node.port) of \"\(node.name)\" is taken by another program; using \(reservation.port)")
            }
            description.nodes[index].port = reservation.port
            reservations[node.name] = reservation
        }
        try directory.write(description)
        return reservations
    }

    /// Brings `slipstream.conf` of a data directory up to date.
    func configure(_ node: NodeDescription, data: String) throws(ReplicationError) {
        try FileSystem.replace(
            "\(data)/\(ServerConfiguration.fileName)",
            with: Array(configuration(of: node).settings().utf8),
            mode: 0o600,
            owner: user,
            onlyIfDifferent: true
        )
    }

    func configuration(of node: NodeDescription) -> ServerConfiguration {
        ServerConfiguration(
            node: node,
            primary: description.primary ?? node,
            executable: root.executable,
            archiveDirectory: description.archiveDirectory,
            passwordFile: FileSystem.parent(of: node.dataDirectory) + "/passfile",
            slotCeiling: ServerConfiguration.slotCeiling(freeBytes: FileSystem.freeBytes(at: root.path))
        )
    }

    mutating func markComplete(_ name: String) throws(ReplicationError) {
        guard let index = description.nodes.firstIndex(where: { $0.name == name }),
            !description.nodes[index].isComplete
        else { return }
        description.nodes[index].isComplete = true
        try directory.write(description)
    }
}
