import Dashboard
import FoundationEssentials
import Glibc
import Logging
import Monitor
import Proxy
import Replication
import ServiceLifecycle
import Topology
import UnixSignals

/// Everything that runs while a cluster is served, started and stopped in order.
///
/// The servers come first and go last; the endpoint comes last and goes first. The first SIGINT or SIGTERM stops in
/// that order; the second does not wait for clients, and stops the servers at once (they recover at their next start);
/// the third is for a Slipstream that hangs.
struct ClusterServer: Sendable {
    let directory: ClusterDirectory
    let options: ClusterOptions
    let endpoint: EndpointConfiguration
    /// How far each node may be behind and serve reads.
    let maxLags: [MaxLag]
    let httpPort: UInt16
    let logger: Logger

    /// Serves until it is told to stop, or cannot go on.
    ///
    /// - Parameters:
    ///   - progress: Told, in sentences for a person, what is being done.
    ///   - whenServing: Called once, when clients can connect.
    func run(
        progress: @escaping @Sendable (String) -> Void,
        whenServing: @escaping @Sendable (ClusterStatus) -> Void
    ) async throws {
        // Signals count from here on: the first start takes a while, and may be interrupted like everything else.
        let signals = await UnixSignalsSequence(trapping: .sigint, .sigterm)
        let shutdown = Shutdown(progress: progress)
        let listener = Task {
            for await _ in signals { await shutdown.signalled() }
        }
        defer { listener.cancel() }

        let opening = Task {
            try await LocalCluster.open(directory: directory, options: options, logger: logger, progress: progress)
        }
        await shutdown.onSignal { opening.cancel() }
        let cluster: LocalCluster
        do {
            cluster = try await opening.value
        } catch {
            if await shutdown.isRequested { throw CommandFailure("interrupted before the cluster was up") }
            throw error
        }
        try await serve(cluster, shutdown, progress, whenServing)
    }

    private func serve(
        _ cluster: LocalCluster,
        _ shutdown: Shutdown,
        _ progress: @escaping @Sendable (String) -> Void,
        _ whenServing: @escaping @Sendable (ClusterStatus) -> Void
    ) async throws {
        let servers = ServersService(cluster: cluster, logger: logger)
        let control: ControlPlane
        let door: Endpoint
        let learnedFile = LearnedFile(directory: directory)
        do {
            control = try ControlPlane(
                cluster: cluster,
                endpoint: endpoint,
                maxLags: maxLags,
                httpPort: httpPort,
                logger: logger
            )
            door = try Endpoint(
                configuration: endpoint,
                topology: cluster.description.initialTopology,
                catalog: control.catalog,
                learned: learnedFile.read(logger),
                logger: logger
            )
        } catch {
            await cluster.stop()
            throw error
        }
        let services: [any Service] = [
            servers.watching(control.monitor),
            MonitorService(monitor: control.monitor, catalog: control.catalog),
            StatusFileService(file: StatusFile(directory: directory), control: control, logger: logger),
            DashboardService(control: control, port: httpPort, logger: logger),
            CertificateService(endpoint: door, configuration: endpoint.transportSecurity, logger: logger),
            FreshnessService(endpoint: door, control: control),
            LearnedFileService(file: learnedFile, endpoint: door, logger: logger),
            EndpointService(endpoint: door, monitor: control.monitor, catalog: control.catalog, logger: logger) {
                let status = await control.status()
                // Whoever waits for this moment may read the file at once.
                try? StatusFile(directory: directory).write(status)
                whenServing(status)
            },
        ]
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .warning)
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: services.map { service in
                    ServiceGroupConfiguration.ServiceConfiguration(
                        service: service,
                        successTerminationBehavior: .gracefullyShutdownGroup,
                        failureTerminationBehavior: .gracefullyShutdownGroup
                    )
                },
                logger: quiet
            )
        )
        let running = Task { try await group.run() }
        await shutdown.onSignal {
            Task { await group.triggerGracefulShutdown() }
        }
        await shutdown.onSecondSignal {
            running.cancel()
            Task { await servers.hasten() }
        }
        do {
            try await running.value
        } catch is CancellationError {
            // The second signal: everything was told to end, and has.
        }
        progress("stopped")
    }
}

/// Counts signals, and does what was asked for at each.
private actor Shutdown {
    private let progress: @Sendable (String) -> Void
    private var count = 0
    private var first: (@Sendable () -> Void)?
    private var second: (@Sendable () -> Void)?

    init(progress: @escaping @Sendable (String) -> Void) {
        self.progress = progress
    }

    var isRequested: Bool { count > 0 }

    /// Replaces what the first signal does. One that has come already counts.
    func onSignal(_ action: @escaping @Sendable () -> Void) {
        first = action
        if count > 0 { action() }
    }

    func onSecondSignal(_ action: @escaping @Sendable () -> Void) {
        second = action
        if count > 1 { action() }
    }

    func signalled() {
        count += 1
        switch count {
        case 1:
            progress("stopping; again to stop at once")
            first?()
        case 2:
            progress("stopping at once")
            second?()
        default:
            _exit(1)
        }
    }
}
