import Glibc
import Testing
import Topology

@testable import Replication

/// What needs no server.
@Suite struct ReplicationUnitTests {
    private func node(_ name: String, _ role: Role, port: UInt16) -> NodeDescription {
        NodeDescription(
            name: name,
            role: role,
            host: "127.0.0.1",
            port: port,
            weight: 1,
            dataDirectory: "/r/nodes/\(name)/data",
            slot: role == .standby ? name : nil,
            isComplete: true
        )
    }

    private func configuration(of role: Role, path: String = "/r") -> ServerConfiguration {
        ServerConfiguration(
            node: node(role == .primary ? "primary" : "standby1", role, port: 20001),
            primary: node("primary", .primary, port: 20000),
            executable: path + "/bin/slipstream",
            archiveDirectory: path + "/archive",
            passwordFile: path + "/passfile",
            slotCeiling: 1 << 30
        )
    }

    @Test func pathsAreQuotedForTheShellTheConfigurationAndTheConnectionString() {
        let settings = configuration(of: .standby, path: #"/it's 100%\"#).settings()
        // Shell: '\'' for the quote. Configuration file: every quote and backslash doubled. Commands: % doubled.
        #expect(
            settings.contains(#"archive_command             = '''/it''\\''''s 100%%\\/bin/slipstream'' archive push"#)
        )
        #expect(settings.contains(#"passfile=''/it\\''s 100%\\\\/passfile''"#))
    }

    @Test func onlyAStandbyHasAPrimary() {
        #expect(configuration(of: .standby).settings().contains("primary_slot_name"))
        #expect(configuration(of: .standby).settings().contains("port=''20000''"))
        #expect(!configuration(of: .primary).settings().contains("primary_conninfo"))
        #expect(!configuration(of: .primary).settings().contains("restore_command"))
    }

    @Test(arguments: [(0, 256 << 20), (3 << 30, 512 << 20), (4 << 30, 1 << 30), (1 << 50, 16 << 30)])
    func theCeilingOfSlotsFollowsTheFreeDisk(_ free: Int, _ ceiling: Int) {
        #expect(ServerConfiguration.slotCeiling(freeBytes: UInt64(free)) == UInt64(ceiling))
    }

    @Test func theBackoffDoublesUpToItsBoundAndBeginsAnewAfterHealth() {
        var backoff = Backoff()
        let delays = (0..<9).map { _ in backoff.next(ranFor: .zero) }
        #expect(delays.prefix(3) == [.milliseconds(100), .milliseconds(200), .milliseconds(400)])
        #expect(delays.suffix(2) == [.seconds(10), .seconds(10)])
        #expect(backoff.next(ranFor: .seconds(30)) == .milliseconds(100))
        #expect(backoff.next(ranFor: .seconds(29)) == .milliseconds(200))
    }

    @Test func aReservedPortIsTakenUntilItIsReleased() throws {
        let reservation = try PortReservation.takeAny()
        #expect(PortReservation.take(reservation.port) == nil)
        reservation.release()
        #expect(PortReservation.take(reservation.port) != nil)
    }

    @Test func passwordsAreLongAndNeedNoQuoting() {
        let password = Secrets.generate()
        #expect(password.count == 43)
        #expect(password.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-" || $0 == "_") })
        #expect(Secrets.generate() != password)
    }

    @Test func anotherPrograminThePidFileIsNotAServer() throws {
        let scratch = try ClusterScratch()
        defer { try? FileSystem.remove(scratch.path + "/postmaster.pid") }
        // Our parent lives, but does not work in that directory.
        try FileSystem.replace(scratch.path + "/postmaster.pid", with: Array("\(getppid())\n".utf8), mode: 0o600)
        #expect(OrphanedServer(dataDirectory: scratch.path) == nil)
    }

    /// initdb and pg_basebackup outlive a killed Slipstream: what they write into must not be removed under their hands.
    @Test func whatAnOrphanedProgramStillMakesIsWaitedFor() async throws {
        let scratch = try ClusterScratch()
        let file = scratch.path + "/making.lock"
        let shell = Program(path: "/bin/sh", user: ServerUser(identity: nil))
        let made = scratch.path + "/made"
        do {
            let lock = try await MakerLock.take(file)
            // A shell would take the lock, which is stdin, from what it runs in the background.
            let orphan = "setsid --fork sh -c 'sleep 1; : >\(made)' >/dev/null 2>&1"
            try await shell.runOrThrow(["-c", orphan], holding: lock)
        }
        _ = try await MakerLock.take(file)
        #expect(access(made, F_OK) == 0)
    }

    @Test func aGrownLogIsCutAndItsContentKept() throws {
        let scratch = try ClusterScratch()
        let log = ServerLog(path: scratch.path + "/server.log")
        try FileSystem.replace(log.path, with: Array("one\ntwo\n".utf8), mode: 0o600)
        try log.bound(limit: 100)
        #expect(log.tail(lines: 1) == "two")
        try log.bound(limit: 4)
        #expect(try FileSystem.readText(log.path) == "")
        #expect(try FileSystem.readText(log.path + ".1") == "one\ntwo\n")
    }

    @Test func pathsAreMadeAbsoluteByName() {
        #expect(FileSystem.absolute("/a/./b/../c/") == "/a/c")
        #expect(FileSystem.absolute("x").hasSuffix("/x"))
        #expect(FileSystem.absolute("/") == "/")
    }

    @Test func theDescriptionSurvivesAMoveOfItsDirectory() throws {
        var description = ClusterDescription(
            version: 1,
            root: ServerRoot(path: "/old/place", user: ServerUser(identity: nil))
        )
        try description.apply(ClusterOptions(executable: ""), progress: { _ in })
        let moved = description.relative(to: "/old/place").resolved(against: "/new")
        #expect(moved.serverRoot == "/new")
        #expect(moved.nodes[2].dataDirectory == "/new/nodes/standby2/data")
        #expect(description.relative(to: "/old/place").resolved(against: "/old/place") == description)
    }
}
