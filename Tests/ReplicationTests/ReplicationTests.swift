import Archive
import Glibc
import Testing
import Topology

@testable import PostgresClient
@testable import Replication

/// Real servers. One after the other: the machine that tests may be small.
@Suite(.serialized) struct ReplicationTests {
    @Test func aNewClusterStreamsArchivesAndKeepsItsSecrets() async throws {
        try await withScratch { scratch async throws in
            let told = Told()
            try await withCluster(scratch.directory, standbys: 2, told: told) { cluster async throws in
                let description = cluster.description
                #expect(description.nodes.map(\.name) == ["primary", "standby1", "standby2"])
                #expect(description.nodes.map(\.weight) == [1, 2, 2])
                #expect(description.nodes.allSatisfy { $0.isComplete && $0.port != 5432 && $0.port != 0 })
                #expect(try scratch.directory.readDescription() == description)
                for standby in description.standbys {
                    #expect(try await isStreaming(cluster, standby.name))
                    #expect(try await query(cluster, standby.name, "SELECT pg_is_in_recovery()")[0][0] == "t")
                }
                try await query(cluster, "primary", "CREATE TABLE public.t AS SELECT 42 AS n")
                for standby in description.standbys {
                    await eventually("the row is on \(standby.name)") {
                        try await query(cluster, standby.name, "SELECT n FROM public.t")[0][0] == "42"
                    }
                }
                try await expectSettings(cluster)
                try await expectArchiving(cluster)
                expectModes(scratch.directory)
                try await expectNoSecretInLogs(scratch.directory, description)
                try await expectAppOwnsItsDatabase(cluster, scratch.directory)
            }
            #expect(told.contains("cloning standby2: 100 %"))
            #expect(scratch.directory.servingProcess() == nil)
        }
    }

    private func expectSettings(_ cluster: LocalCluster) async throws {
        let rows = try await query(
            cluster,
            "primary",
            """
            SELECT current_setting('data_checksums'), current_setting('password_encryption'), \
            pg_encoding_to_char(encoding), current_setting('max_slot_wal_keep_size') <> '-1', \
            (SELECT rolsuper FROM pg_roles WHERE rolname = 'slipstream_replication'), \
            current_setting('unix_socket_directories') FROM pg_database WHERE datname = 'app'
            """
        )
        #expect(rows[0].values == ["on", "scram-sha-256", "UTF8", "t", "f", ""])
        let slots = try await query(cluster, "primary", "SELECT slot_name FROM pg_replication_slots WHERE active")
        #expect(Set(slots.map { $0[0] }) == ["standby1", "standby2"])
        let rules = try await query(
            cluster,
            "primary",
            "SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL"
        )
        #expect(rules[0][0] == "0")
    }

    private func expectArchiving(_ cluster: LocalCluster) async throws {
        let archive = ArchiveStore(directory: cluster.description.archiveDirectory)
        #expect(try archive.systemIdentifier() == cluster.description.systemIdentifier)
        let segment = try await query(cluster, "primary", "SELECT pg_walfile_name(pg_current_wal_lsn())")[0][0]
        try await query(cluster, "primary", "SELECT pg_switch_wal()")
        await eventually("\(segment ?? "") is archived") {
            try archive.segments().contains { $0.text == segment }
        }
        // The standbys archive the same segments, find them there, and are content.
        for standby in cluster.description.standbys {
            let failures = try await query(cluster, standby.name, "SELECT failed_count FROM pg_stat_archiver")
            #expect(failures[0][0] == "0")
        }
        #expect(try await query(cluster, "primary", "SELECT failed_count FROM pg_stat_archiver")[0][0] == "0")
    }

    private func mode(_ path: String) -> mode_t {
        var status = stat()
        return stat(path, &status) == 0 ? status.st_mode & 0o777 : 0
    }

    private func expectModes(_ directory: ClusterDirectory) {
        #expect(mode(directory.secretsDirectory) == 0o700)
        for name in ["superuser", "app", "replication", "pgpass"] {
            #expect(mode("\(directory.secretsDirectory)/\(name)") == 0o600)
        }
        #expect(mode(directory.nodesDirectory + "/standby1/passfile") == 0o600)
        #expect(!FileSystem.exists(directory.nodesDirectory + "/primary/initdb.password"))
    }

    private func expectNoSecretInLogs(_ directory: ClusterDirectory, _ description: ClusterDescription) async throws {
        let secrets = try directory.readSecrets()
        let texts = [secrets.superuser, secrets.app, secrets.replication].map(\.revealed)
        for node in description.nodes {
            let log = try #require(try FileSystem.readText(directory.logFile(of: node.name)))
            #expect(!texts.contains { log.contains($0) })
            #expect(!log.contains("SCRAM-SHA-256$"))
        }
        let file = try #require(try FileSystem.readText(directory.descriptionFile))
        #expect(!texts.contains { file.contains($0) })
        #expect(!"\(secrets)".contains(texts[0]))
    }

    private func expectAppOwnsItsDatabase(_ cluster: LocalCluster, _ directory: ClusterDirectory) async throws {
        var parameters = try #require(cluster.superuserParameters(node: "primary"))
        parameters.user = "app"
        parameters.database = "app"
        parameters.password = try directory.readSecrets().app
        let connection = try await DatabaseConnection.connect(parameters)
        defer { connection.close() }
        _ = try await connection.query("CREATE TABLE public.mine (n int)")
        await #expect(throws: DatabaseError.self) { try await connection.query("SELECT * FROM pg_authid") }
    }

    // MARK: - Living with it

    @Test func aStoppedClusterResumesWithItsDataPortsAndNewWeights() async throws {
        try await withScratch { scratch async throws in
            var ports: [UInt16] = []
            try await withCluster(scratch.directory) { cluster async throws in
                ports = cluster.description.nodes.map(\.port)
                try await query(cluster, "primary", "CREATE TABLE public.kept AS SELECT 1 AS n")
                let archiveFailures = "SELECT failed_count FROM pg_stat_archiver"
                #expect(try await query(cluster, "primary", archiveFailures)[0][0] == "0")
            }
            let told = Told()
            try await withCluster(scratch.directory, standbys: nil, weights: [3, 4], told: told) {
                cluster async throws in
                #expect(cluster.description.nodes.map(\.port) == ports)
                #expect(cluster.description.nodes.map(\.weight) == [3, 4])
                #expect(try await query(cluster, "standby1", "SELECT n FROM public.kept")[0][0] == "1")
                #expect(try await isStreaming(cluster, "standby1"))
            }
            #expect(!told.contains("cloning"))
            // A clean stop: nobody has to recover.
            let log = try #require(try FileSystem.readText(scratch.directory.logFile(of: "primary")))
            #expect(!log.contains("not properly shut down"))

            // A port that somebody else took in the meantime is given up, and the standby finds the primary.
            let taken = try #require(PortReservation.take(ports[0]))
            try await withCluster(scratch.directory, standbys: nil, told: told) { cluster async throws in
                #expect(cluster.description.nodes[0].port != ports[0])
                #expect(try await isStreaming(cluster, "standby1"))
            }
            #expect(told.contains("is taken by another program"))
            withExtendedLifetime(taken) {}
        }
    }

    @Test func killedServersComeBackAndStreamAgain() async throws {
        try await withScratch { scratch async throws in
            try await withCluster(scratch.directory) { cluster async throws in
                var events = cluster.events.makeAsyncIterator()
                for node in ["standby1", "primary"] {
                    let old = try #require(await cluster.processIdentifier(of: node))
                    kill(old, SIGKILL)
                    while let event = await events.next() {
                        guard case .exited(node, let status, let delay) = event else { continue }
                        #expect(status.contains("signal 9"))
                        #expect(delay == .milliseconds(100))
                        break
                    }
                    await eventually("\(node) runs again") {
                        let new = await cluster.processIdentifier(of: node)
                        return new != nil && new != old
                    }
                    await eventually("standby1 streams again") { try await isStreaming(cluster, "standby1") }
                }
                try await query(cluster, "primary", "CREATE TABLE public.after AS SELECT 1 AS n")
                await eventually("the row is on the standby") {
                    try await query(cluster, "standby1", "SELECT n FROM public.after")[0][0] == "1"
                }
            }
        }
    }

    @Test func aStandbyNeverStartsWithoutItsSignalFile() async throws {
        try await withScratch { scratch async throws in
            try await withCluster(scratch.directory) { cluster async throws in
                let node = try #require(cluster.description[node: "standby1"])
                let old = try #require(await cluster.processIdentifier(of: "standby1"))
                unlink(node.dataDirectory + "/standby.signal")
                kill(old, SIGKILL)
                await eventually("the standby streams again") {
                    let new = await cluster.processIdentifier(of: "standby1")
                    guard let new, new != old else { return false }
                    return try await isStreaming(cluster, "standby1")
                }
                #expect(try await query(cluster, "standby1", "SELECT pg_is_in_recovery()")[0][0] == "t")
            }
        }
    }

    @Test func serversOfAKilledSlipstreamAreStoppedAndStartedAsOurs() async throws {
        try await withScratch { scratch async throws in
            try await withCluster(scratch.directory) { cluster async throws in
                try await query(cluster, "primary", "CREATE TABLE public.kept AS SELECT 1 AS n")
            }
            // What a killed Slipstream leaves: servers with another parent.
            let description = try scratch.directory.readDescription()
            let user = try ServerUser.current()
            let control = Program(path: description.binaryDirectory + "/pg_ctl", user: user)
            for node in description.nodes {
                try await control.runOrThrow([
                    "start", "--pgdata", node.dataDirectory, "--wait", "--log", node.dataDirectory + "/../orphan.log",
                ])
            }
            let orphans = description.nodes.compactMap { OrphanedServer(dataDirectory: $0.dataDirectory) }
            #expect(orphans.count == 2)
            let told = Told()
            try await withCluster(scratch.directory, standbys: nil, told: told) { cluster async throws in
                #expect(orphans.allSatisfy { !$0.isAlive })
                #expect(try await query(cluster, "standby1", "SELECT n FROM public.kept")[0][0] == "1")
                #expect(try await isStreaming(cluster, "standby1"))
            }
            #expect(told.contains("left by a killed Slipstream"))
        }
    }

    // MARK: - Half-made things

    @Test func whatWasHalfMadeIsMadeAnewAndNeverTrusted() async throws {
        try await withScratch { scratch async throws in
            let directory = scratch.directory
            try await withCluster(directory, standbys: 1) { _ in }
            // As if killed while standby2 was cloned, and standby1 was cloned but not recorded.
            var description = try directory.readDescription()
            description.nodes[1].isComplete = false
            try directory.write(description)
            let data = description.nodes[1].dataDirectory
            try FileSystem.replace(data + "/PG_VERSION", with: Array("nonsense\n".utf8), mode: 0o600)
            let partial = directory.nodesDirectory + "/standby2/data.partial"
            try FileSystem.makeDirectory(partial, mode: 0o700)
            try FileSystem.replace(partial + "/garbage", with: [1], mode: 0o600)

            let told = Told()
            try await withCluster(directory, standbys: 2, told: told) { cluster async throws in
                #expect(try await isStreaming(cluster, "standby1"))
                #expect(try await isStreaming(cluster, "standby2"))
                #expect(cluster.description.nodes.allSatisfy { $0.isComplete })
                #expect(!FileSystem.exists(partial))
                #expect(!FileSystem.exists(cluster.description.nodes[2].dataDirectory + "/garbage"))
            }
            #expect(told.contains("cloning standby1"))
        }
    }

    @Test func aHalfMadePrimaryIsMadeAnew() async throws {
        try await withScratch { scratch async throws in
            let directory = scratch.directory
            try FileSystem.makeDirectory(directory.path, mode: 0o755)
            let user = try ServerUser.current()
            let root = ServerRoot(path: directory.path, user: user)
            var description = ClusterDescription(version: 1, root: root)
            try description.apply(ClusterOptions(standbys: 0, executable: ""), progress: { _ in })
            try directory.write(description)
            let partial = description.nodes[0].dataDirectory + ".partial"
            try FileSystem.makeDirectory(partial + "/base", mode: 0o700, owner: user)
            try await withCluster(directory, standbys: 0) { cluster async throws in
                #expect(try await query(cluster, "primary", "SELECT 1")[0][0] == "1")
            }
        }
    }

    // MARK: - Whose directory

    @Test func aDirectoryInUseNamesWhoServesIt() async throws {
        try await withScratch { scratch async throws in
            let lock = try scratch.directory.lock()
            #expect(scratch.directory.servingProcess() == getpid())
            let error = await #expect(throws: ReplicationError.self) {
                try await withCluster(scratch.directory) { _ in }
            }
            #expect(error?.code == .directoryInUse)
            #expect(error?.message.contains(String(getpid())) == true)
            withExtendedLifetime(lock) {}
        }
    }

    @Test func aForeignDirectoryIsRefusedAndUntouched() async throws {
        try await withScratch { scratch async throws in
            let directory = scratch.directory
            try FileSystem.makeDirectory(directory.path, mode: 0o755)
            try FileSystem.replace(directory.path + "/thesis.tex", with: [1], mode: 0o600)
            let error = await #expect(throws: ReplicationError.self) {
                try await withCluster(directory) { _ in }
            }
            #expect(error?.code == .foreignDirectory)
            #expect(try FileSystem.names(in: directory.path) == ["thesis.tex"])
        }
    }

    @Test(.enabled(if: geteuid() == 0))
    func runByRootOnAnUnreachableDirectoryTheServersLiveElsewhere() async throws {
        try await withScratch { scratch async throws in
            chmod(scratch.path, 0o700)
            let told = Told()
            try await withCluster(scratch.directory, told: told) { cluster async throws in
                #expect(cluster.description.serverRoot.hasPrefix("/var/lib/slipstream/cluster-"))
                #expect(try await isStreaming(cluster, "standby1"))
                #expect(FileSystem.isDirectory(scratch.directory.nodesDirectory + "/standby1/data"))
                try await expectArchiving(cluster)
            }
            #expect(told.contains("cannot reach"))
        }
    }
}
