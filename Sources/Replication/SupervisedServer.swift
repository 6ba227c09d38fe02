import Glibc
import Logging
import PostgresClient
import Subprocess
import SystemPackage
import Topology

/// One postmaster, our child: started, watched, started again when it ends by itself, stopped on demand.
///
/// Its end is noticed through a pidfd within milliseconds. There is no parent-death signal: Linux sends that when the
/// *thread* that forked ends, and threads of Swift's pools come and go. A server that outlives us is stopped by the next
/// start (`OrphanedServer`).
actor SupervisedServer {
    /// What it takes to start the server.
    struct Launch: Sendable {
        var program: Program
        var node: NodeDescription
        var logFile: String
        /// How to find out that it accepts connections.
        var probe: ConnectionParameters
    }

    enum State: Sendable, Equatable {
        case stopped
        /// Between the decision to start and the running process.
        case starting
        case running(processIdentifier: Int32, isReady: Bool)
        /// Ended by itself; will start again.
        case waiting
    }

    let launch: Launch
    private let logger: Logger
    private let emit: @Sendable (ServerEvent) -> Void
    private(set) var state: State = .stopped
    /// How often it ended by itself without having accepted a connection since it was last ready.
    private(set) var failedStarts = 0
    private var isStopping = false
    private var supervision: Task<Void, Never>?
    private var pause: Task<Void, Never>?

    init(launch: Launch, logger: Logger, emit: @escaping @Sendable (ServerEvent) -> Void) {
        self.launch = launch
        self.logger = logger
        self.emit = emit
    }

    private var name: String { launch.node.name }

    var processIdentifier: Int32? {
        guard case .running(let identifier, _) = state else { return nil }
        return identifier
    }

    var isReady: Bool {
        guard case .running(_, let isReady) = state else { return false }
        return isReady
    }

    /// Starts the server and from now on keeps it running. Does not wait for it to accept connections.
    ///
    /// - Parameter reservation: Keeps the port free until the moment before the first start.
    func start(reservation: PortReservation?) {
        guard supervision == nil else { return }
        isStopping = false
        failedStarts = 0
        state = .starting
        supervision = Task { await supervise(reservation) }
    }

    private func supervise(_ reservation: PortReservation?) async {
        var backoff = Backoff()
        while !isStopping {
            state = .starting
            let began = ContinuousClock.now
            let status = await runOnce(reservation)
            state = .waiting
            guard !isStopping else {
                emit(.exited(node: name, status: status, willRestartIn: nil))
                break
            }
            failedStarts += 1
            let delay = backoff.next(ranFor: .now - began)
            logger.warning("\(name): \(status); starting it again in \(delay)")
            emit(.exited(node: name, status: status, willRestartIn: delay))
            let pause = Task { _ = try? await Task.sleep(for: delay) }
            self.pause = pause
            await pause.value
        }
        state = .stopped
    }

    /// Runs the server to its end and says how it ended.
    private func runOnce(_ reservation: PortReservation?) async -> String {
        do {
            try prepare()
            let log = try openLog()
            reservation?.release()
            let result = try await Subprocess.run(
                .path(FilePath(launch.program.user.executable(for: launch.program.path))),
                arguments: Arguments(
                    launch.program.user.arguments(
                        for: launch.program.path,
                        ["-D", launch.node.dataDirectory, "-p", String(launch.node.port)]
                    )
                ),
                environment: Program.environment,
                workingDirectory: FilePath(launch.node.dataDirectory),
                platformOptions: serverOptions,
                input: .none,
                output: .fileDescriptor(log, closeAfterSpawningProcess: true),
                error: .combinedWithOutput
            ) { execution in
                didStart(execution.processIdentifier.value)
            }
            return result.terminationStatus.inWords
        } catch {
            return "cannot be started: \(error)"
        }
    }

    /// Cancelling nothing may signal a server: stopping is ours alone.
    private var serverOptions: PlatformOptions {
        var options = Program.platformOptions(for: launch.program.user)
        options.teardownSequence = [.send(signal: .interrupt, allowedDurationToNextStep: .seconds(60))]
        return options
    }

    /// A standby without `standby.signal` would start as a second primary.
    private func prepare() throws(ReplicationError) {
        let signal = launch.node.dataDirectory + "/standby.signal"
        switch launch.node.role {
        case .standby:
            guard !FileSystem.exists(signal) else { return }
            try FileSystem.replace(signal, with: [], mode: 0o600, owner: launch.program.user)
        case .primary:
            break
        }
    }

    private func openLog() throws(ReplicationError) -> FileDescriptor {
        try ServerLog(path: launch.logFile).bound()
        let descriptor = open(launch.logFile, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
        guard descriptor >= 0 else { throw FileSystem.failure("open", launch.logFile) }
        return FileDescriptor(rawValue: descriptor)
    }

    private func didStart(_ identifier: Int32) {
        state = .running(processIdentifier: identifier, isReady: false)
        emit(.started(node: name, processIdentifier: identifier))
        if isStopping { kill(identifier, SIGINT) }
        Task { await watchReadiness(of: identifier) }
    }

    // MARK: - Readiness

    /// Asks until the process accepts connections or is not the current one any more.
    private func watchReadiness(of identifier: Int32) async {
        while processIdentifier == identifier, !isStopping {
            if let connection = try? await DatabaseConnection.connect(launch.probe) {
                connection.close()
                guard processIdentifier == identifier else { return }
                state = .running(processIdentifier: identifier, isReady: true)
                failedStarts = 0
                emit(.ready(node: name))
                return
            }
            try? await Task.sleep(for: .milliseconds(25))
        }
    }

    /// Waits until the server accepts connections.
    ///
    /// - Throws: `serverFailed` with the end of the log when it ended three times before that, or when the time is up.
    func waitUntilReady(timeout: Duration) async throws {
        let deadline = ContinuousClock.now + timeout
        while !isReady {
            try Task.checkCancellation()
            guard failedStarts < 3, ContinuousClock.now < deadline, state != .stopped else {
                throw ReplicationError(
                    .serverFailed,
                    "server \"\(name)\" does not start; the end of its log:\n\(ServerLog(path: launch.logFile).tail())",
                    remedy: "The whole log is \"\(launch.logFile)\"."
                )
            }
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    // MARK: - Stopping

    /// Stops the server for good: fast, and less politely when it does not comply. Returns when it is gone.
    func stop() async {
        isStopping = true
        pause?.cancel()
        guard let supervision else { return }
        let escalation = Task { await escalate() }
        await supervision.value
        escalation.cancel()
        self.supervision = nil
    }

    private func escalate() async {
        for (signal, patience) in StopStep.all {
            if let processIdentifier {
                if signal != SIGINT { logger.warning("\(name): does not stop; sending it signal \(signal)") }
                kill(processIdentifier, signal)
            }
            guard (try? await Task.sleep(for: patience)) != nil else { return }
        }
    }
}
