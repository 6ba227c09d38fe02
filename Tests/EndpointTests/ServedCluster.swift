import Foundation
import PostgresClient
import Testing

/// The ways of moving bytes that are tested; whatever depends on them is tested with both.
enum Backend: String, Sendable, CaseIterable, CustomTestStringConvertible {
    /// One worker on epoll.
    case epoll
    /// Two workers on whatever the machine has, which is io_uring where it may be had.
    case auto

    var arguments: [String] { ["--io", rawValue, "--workers", self == .epoll ? "1" : "2"] }
    var testDescription: String { rawValue }
}

/// A cluster that the real program serves, and how to reach it.
struct ServedCluster: Sendable {
    /// The parts of `slipstream status --json` that tests rely on.
    struct Status: Decodable, Sendable {
        struct Endpoint: Decodable, Sendable {
            var host: String
            var port: UInt16
            var socket: String
        }
        struct Node: Decodable, Sendable {
            var name: String
            var role: String
            var host: String
            var port: UInt16
            var weight: Int
            var state: String
        }
        var version: Int
        var pid: pid_t
        var endpoint: Endpoint
        var state: String
        var nodes: [Node]
    }

    /// Where the fixture keeps everything of this cluster; gone with it.
    let scratch: String
    let status: Status
    /// Where the servers' programs are.
    let binaries: String

    var directory: String { scratch + "/cluster" }
    var port: UInt16 { status.endpoint.port }
    var nodes: [Status.Node] { status.nodes }
    /// The process that serves the endpoint.
    var pid: pid_t { status.pid }

    /// libpq's variables for the endpoint, and what the programs of `Clients` want to know besides.
    var environment: [String: String] {
        let ports = nodes.map { "\"\($0.name)\": \($0.port)" }.joined(separator: ", ")
        return [
            "PGHOST": status.endpoint.host,
            "PGPORT": String(port),
            "PGUSER": "app",
            "PGDATABASE": "app",
            "PGPASSFILE": scratch + "/pgpass",
            "SLIPSTREAM_NODES": "{\(ports)}",
            "SLIPSTREAM_PID": String(pid),
            "SLIPSTREAM_PROGRAM": Repository.slipstream,
            "SLIPSTREAM_SOCKET_DIRECTORY": directory,
            "SLIPSTREAM_CERTIFICATES": scratch + "/certificates",
            "PYTHONDONTWRITEBYTECODE": "1",
        ]
    }

    // MARK: - Programs

    func slipstream(_ subcommand: String, _ arguments: String...) async throws -> Outcome {
        try await run(Repository.slipstream, [subcommand, "--dir", directory] + arguments)
    }

    func psql(_ arguments: String..., environment: [String: String] = [:], input: String? = nil) async throws
        -> Outcome
    {
        try await run(
            binaries + "/psql",
            ["--no-psqlrc", "--set", "ON_ERROR_STOP=1"] + arguments,
            environment: self.environment.merging(environment) { _, new in new },
            input: input
        )
    }

    func start(_ program: String, _ arguments: String...) throws -> RunningProgram {
        try RunningProgram(binaries + "/" + program, arguments, environment: environment)
    }

    /// Runs one of the programs in `Clients`, which says itself what has failed.
    func python(
        _ program: String,
        _ arguments: String...,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        try await python(program, arguments, environment: [:], sourceLocation: sourceLocation)
    }

    func python(
        _ program: String,
        _ arguments: [String],
        environment: [String: String],
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        try #require(
            FileManager.default.isExecutableFile(atPath: Repository.python),
            "\(Repository.python) is missing: run script/test, which makes it",
            sourceLocation: sourceLocation
        )
        let outcome = try await run(
            Repository.python,
            ["\(Repository.clients)/\(program).py"] + arguments,
            environment: self.environment.merging(environment) { _, new in new }
        )
        #expect(outcome.status == 0, "\(outcome.text)", sourceLocation: sourceLocation)
    }

    // MARK: - State

    /// As `slipstream status --json` tells it now.
    func currentStatus() async throws -> Status {
        let outcome = try await slipstream("status", "--json")
        return try JSONDecoder().decode(Status.self, from: Data(outcome.output.utf8))
    }

    /// Waits until every node is up again.
    func recovered(sourceLocation: SourceLocation = #_sourceLocation) async {
        await eventually("the cluster is healthy", within: .seconds(120), sourceLocation: sourceLocation) {
            try await slipstream("status", "--json").status == 0
        }
    }

    /// Asks a node past the endpoint, as the superuser.
    func query(_ node: String, _ sql: String, database: String = "postgres") async throws -> [Row] {
        let described = try #require(nodes.first { $0.name == node })
        let password = try String(contentsOfFile: directory + "/secrets/superuser", encoding: .utf8)
        let connection = try await DatabaseConnection.connect(
            ConnectionParameters(
                host: described.host,
                port: described.port,
                user: "postgres",
                database: database,
                password: Secret(password.trimmingCharacters(in: .newlines))
            )
        )
        defer { connection.close() }
        return try await connection.query(sql, timeout: .seconds(60))
    }

    func number(_ node: String, _ sql: String) async throws -> Int {
        Int(try await query(node, sql).first?[0] ?? "") ?? -1
    }

    /// The process of a node's server.
    func postmaster(of node: String) -> pid_t? {
        let file = "\(directory)/nodes/\(node)/data/postmaster.pid"
        let text = try? String(contentsOfFile: file, encoding: .utf8)
        return text?.split(separator: "\n").first.flatMap { pid_t($0) }
    }

    /// Waits until every standby has replayed what the primary has written by now.
    func replayed(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let position = try await query("primary", "SELECT pg_current_wal_insert_lsn()").first?[0] ?? ""
        for node in nodes where node.role == "standby" {
            await eventually("\(node.name) replays \(position)", sourceLocation: sourceLocation) {
                // A position just behind a page's header is its end: nothing follows yet.
                try await query(node.name, "SELECT pg_last_wal_replay_lsn() >= '\(position)'::pg_lsn - 40")[0][0] == "t"
            }
        }
    }

    /// Resident memory of the process that serves the endpoint.
    func residentBytes() throws -> Int {
        let text = try String(contentsOfFile: "/proc/\(pid)/statm", encoding: .utf8)
        return (Int(text.split(separator: " ")[1]) ?? 0) * Int(getpagesize())
    }
}

// MARK: - Fixture

/// The clusters of one run of the tests: made when first asked for, one per way of moving bytes, and used by all.
actor Clusters {
    @TaskLocal static var current: Clusters?

    private struct Kind: Hashable {
        var backend: Backend
        var isEncrypted: Bool
    }

    /// A cluster with a configuration of its own, for one test.
    static func configured(
        _ backend: Backend,
        _ configuration: String,
        isEncrypted: Bool = false
    ) async throws -> ServedCluster {
        let clusters = try #require(current, "the suite has no .clusters trait")
        let scratch = try await clusters.newScratch()
        let file = scratch + "/slipstream.yaml"
        try configuration.write(toFile: file, atomically: true, encoding: .utf8)
        let certificates = isEncrypted ? try await certificates(in: scratch) : []
        return try await start(backend, ["--standbys", "1", "--config", file] + certificates, in: scratch)
    }

    /// A cluster that was stopped, served again.
    static func resumed(_ cluster: ServedCluster) async throws -> ServedCluster {
        try await start(.auto, [], in: cluster.scratch)
    }

    private func newScratch() throws -> String {
        let guardian = try Guardian()
        guardians.append(guardian)
        return guardian.scratch
    }

    private var starting: [Kind: Task<ServedCluster, any Error>] = [:]
    private var guardians: [Guardian] = []

    /// - Parameter isEncrypted: the endpoint offers TLS, and asks it of its nodes.
    static func cluster(_ backend: Backend, isEncrypted: Bool = false) async throws -> ServedCluster {
        try await #require(current, "the suite has no .clusters trait")
            .cluster(Kind(backend: backend, isEncrypted: isEncrypted))
    }

    private func cluster(_ kind: Kind) async throws -> ServedCluster {
        if let started = starting[kind] { return try await started.value }
        let guardian = try Guardian()
        guardians.append(guardian)
        let task = Task {
            let arguments = kind.isEncrypted ? try await Self.certificates(in: guardian.scratch) : []
            return try await Self.start(kind.backend, arguments, in: guardian.scratch)
        }
        starting[kind] = task
        return try await task.value
    }

    /// Makes them, and returns the options that name them.
    private static func certificates(in scratch: String) async throws -> [String] {
        let directory = scratch + "/certificates"
        let made = try await run(Repository.clients + "/certificates", [directory])
        try #require(made.status == 0, "\(made.text)")
        for kind in ["crt", "key"] {
            try FileManager.default.copyItem(atPath: "\(directory)/server.\(kind)", toPath: "\(directory)/live.\(kind)")
        }
        return [
            "--tls-cert", directory + "/live.crt", "--tls-key", directory + "/live.key", "--tls-ca",
            directory + "/ca.crt",
            "--server-tls-mode", "verify-full", "--server-tls-ca", directory + "/ca.crt",
        ]
    }

    private static func start(
        _ backend: Backend,
        _ arguments: [String],
        in scratch: String
    ) async throws -> ServedCluster {
        let directory = scratch + "/cluster"
        let up = try await run(
            Repository.slipstream,
            ["up", "--detach", "--dir", directory, "--port", "0", "--http-port", "0"] + backend.arguments
                + arguments
        )
        try #require(up.status == 0, "\(up.text)")
        // As slipstream's own passfile, but for any host: the Unix-domain socket's is its directory.
        var passwords = ""
        for (role, file) in [("app", "app"), ("postgres", "superuser")] {
            passwords +=
                "*:*:*:\(role):" + (try String(contentsOfFile: "\(directory)/secrets/\(file)", encoding: .utf8))
        }
        let passwordFile = scratch + "/pgpass"
        try #require(
            FileManager.default.createFile(
                atPath: passwordFile,
                contents: Data(passwords.utf8),
                attributes: [.posixPermissions: 0o600]
            )
        )
        struct Description: Decodable {
            var binary_directory: String
        }
        let status = try await run(Repository.slipstream, ["status", "--json", "--dir", directory])
        let description = try Data(contentsOf: URL(filePath: directory + "/cluster.json"))
        return ServedCluster(
            scratch: scratch,
            status: try JSONDecoder().decode(ServedCluster.Status.self, from: Data(status.output.utf8)),
            binaries: try JSONDecoder().decode(Description.self, from: description).binary_directory
        )
    }

    /// Stops and removes everything, whatever has happened.
    func stop() async {
        for task in starting.values { _ = await task.result }
        for guardian in guardians {
            let outcome = await guardian.dismiss()
            if outcome.status != 0 { Issue.record("a cluster could not be stopped and removed: \(outcome.text)") }
        }
    }
}

/// Stops and removes a cluster when it is told to, or when this process is gone, however that came.
private final class Guardian: Sendable {
    let scratch: String
    private let leash: FileHandle
    private let process: RunningGuardian

    init() throws {
        var template = Array("/tmp/slipstream-endpoint-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw CocoaError(.fileWriteUnknown) }
        scratch = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        // mkdtemp makes it 0700, which the servers' user could not enter.
        chmod(scratch, 0o755)
        process = try RunningGuardian(scratch: scratch)
        leash = process.leash
    }

    func dismiss() async -> Outcome {
        try? leash.close()
        return await process.wait()
    }
}

/// A shell that waits for the end of its input.
private final class RunningGuardian: Sendable {
    let leash: FileHandle
    private let ending: Task<Int32, Never>
    private let log: String

    init(scratch: String) throws {
        log = scratch + ".log"
        let pipe = Pipe()
        // No child of ours may hold the other end.
        _ = fcntl(pipe.fileHandleForWriting.fileDescriptor, F_SETFD, FD_CLOEXEC)
        leash = pipe.fileHandleForWriting
        try Data().write(to: URL(filePath: log))
        let process = Process()
        process.executableURL = URL(filePath: "/bin/sh")
        let script = """
            trap '' HUP INT TERM
            cat >/dev/null
            status=0
            if [ -e "$2/cluster" ]; then "$1" down --dir "$2/cluster" || status=1; fi
            rm -rf "$2"
            exit $status
            """
        process.arguments = ["-c", script, "sh", Repository.slipstream, scratch]
        process.standardInput = pipe.fileHandleForReading
        let output = try FileHandle(forWritingTo: URL(filePath: log))
        process.standardOutput = output
        process.standardError = output
        let (ended, continuation) = AsyncStream.makeStream(of: Int32.self)
        process.terminationHandler = { process in
            continuation.yield(process.terminationStatus)
            continuation.finish()
        }
        try process.run()
        try pipe.fileHandleForReading.close()
        ending = Task {
            for await status in ended { return status }
            return -1
        }
    }

    func wait() async -> Outcome {
        let status = await ending.value
        let text = (try? String(contentsOfFile: log, encoding: .utf8)) ?? ""
        try? FileManager.default.removeItem(atPath: log)
        return Outcome(status: status, output: text, errors: "")
    }
}

/// Lends clusters to a suite and everything in it.
struct ClustersTrait: SuiteTrait, TestScoping {
    func provideScope(
        for test: Test,
        testCase: Test.Case?,
        performing function: @Sendable () async throws -> Void
    ) async throws {
        let clusters = Clusters()
        do {
            try await Clusters.$current.withValue(clusters, operation: function)
        } catch {
            await clusters.stop()
            throw error
        }
        await clusters.stop()
    }
}

extension Trait where Self == ClustersTrait {
    static var clusters: Self { ClustersTrait() }
}
