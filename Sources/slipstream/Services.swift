import Dashboard
import Glibc
import Logging
import Monitor
import PostgresWire
import Proxy
import ProxyCore
import Replication
import ServiceLifecycle
import Topology

/// The PostgreSQL servers: tells the monitor what happens to them, and stops them at the end.
actor ServersService {
    private let cluster: LocalCluster
    private let logger: Logger
    private var isHasty = false

    init(cluster: LocalCluster, logger: Logger) {
        self.cluster = cluster
        self.logger = logger
    }

    nonisolated func watching(_ monitor: Monitor) -> any Service {
        Watch(servers: self, monitor: monitor)
    }

    /// Stops the servers at once, by an immediate shutdown; they recover at their next start.
    ///
    /// Source: PostgreSQL manual, "Shutting Down the Server".
    func hasten() async {
        isHasty = true
        // Until the supervisor was told to stop, it would take this for a crash.
        try? await Task.sleep(for: .milliseconds(200))
        for node in cluster.description.nodes {
            if let server = await cluster.processIdentifier(of: node.name) { kill(server, SIGQUIT) }
        }
    }

    private func stop() async {
        // In a task of its own: servers are stopped in order even when everything else is cancelled.
        await Task { await cluster.stop() }.value
    }

    private func watch(_ monitor: Monitor) async {
        for await event in cluster.events where !Task.isCancelled {
            await forward(event, to: monitor)
        }
    }

    private func forward(_ event: ServerEvent, to monitor: Monitor) async {
        switch event {
        case .exited(let node, let status, _):
            // The supervisor has logged it.
            if let id = identifier(of: node) { await monitor.exited(id, problem: status) }
        case .started(let node, _), .ready(let node):
            logger.info("\(event)")
            if let id = identifier(of: node) { await monitor.hurry(id) }
        case .note:
            logger.info("\(event)")
        }
    }

    private func identifier(of name: String) -> NodeID? {
        cluster.description.nodes.firstIndex { $0.name == name }.map { NodeID($0) }
    }

    private struct Watch: Service, CustomStringConvertible {
        let servers: ServersService
        let monitor: Monitor
        var description: String { "servers" }

        func run() async throws {
            let watching = Task { await servers.watch(monitor) }
            try? await gracefulShutdown()
            // What happens from here on is our doing, and no news.
            watching.cancel()
            await servers.stop()
        }
    }
}

/// The probes, and the catalog that asks the nodes.
struct MonitorService: Service, CustomStringConvertible {
    let monitor: Monitor
    let catalog: DatabaseCatalog
    var description: String { "monitor" }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            await withDiscardingTaskGroup { group in
                group.addTask { await monitor.run() }
                group.addTask { await catalog.run() }
            }
        }
    }
}

/// `status.json`, at every change and at least every second.
struct StatusFileService: Service, CustomStringConvertible {
    let file: StatusFile
    let control: ControlPlane
    let logger: Logger
    var description: String { "status file" }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            await withDiscardingTaskGroup { group in
                group.addTask {
                    for await _ in await control.monitor.observations() { await write() }
                }
                group.addTask {
                    while !Task.isCancelled {
                        await write()
                        try? await Task.sleep(for: .seconds(1))
                    }
                }
            }
        }
        file.remove()
    }

    private func write() async {
        do {
            try file.write(await control.status())
        } catch {
            // A full disk must not end the service.
            logger.warning("cannot write the status file: \(error)")
        }
    }
}

/// The dashboard.
struct DashboardService: Service, CustomStringConvertible {
    let control: ControlPlane
    let port: UInt16
    let logger: Logger
    var description: String { "dashboard" }

    func run() async throws {
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .warning)
        try await Dashboard(port: port, logger: quiet) { await control.status() }.run()
    }
}

/// Tells the data plane how far the nodes' logs are, when it wants to know.
struct FreshnessService: Service, CustomStringConvertible {
    let endpoint: Endpoint
    let control: ControlPlane
    var description: String { "freshness" }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            let probes = FreshnessProbes(nodes: control.nodes, audience: Audience(endpoint: endpoint))
            await probes.run(await control.monitor.observations())
        }
    }

    private struct Audience: FreshnessAudience {
        let endpoint: Endpoint
        var demands: AsyncStream<Void> { endpoint.freshness.demands }
        func beginProbe() -> WriteLedger.Probe? { endpoint.freshness.beginProbe() }
        func somebodyWaits() -> Bool { endpoint.freshness.somebodyWaits() }
        func wantProbe() { endpoint.freshness.wantProbe() }
        func beginSamples() -> Bool { endpoint.freshness.beginSamples() }

        func resolved(
            _ probe: WriteLedger.Probe,
            at position: LSN,
            timeline: UInt32,
            by node: NodeID,
            askedAt: MonotonicTime
        ) {
            endpoint.publish(probe, at: position, timeline: timeline, by: node, askedAt: askedAt)
        }

        func replayed(_ position: LSN?, timeline: UInt32?, on node: NodeID, askedAt: MonotonicTime) {
            endpoint.publish(replayed: position, timeline: timeline, on: node, askedAt: askedAt)
        }
    }
}

/// `learned.json`, when something was learned or forgotten, at most once a second, and at the end.
struct LearnedFileService: Service, CustomStringConvertible {
    let file: LearnedFile
    let endpoint: Endpoint
    let logger: Logger
    var description: String { "learned statements" }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            for await _ in endpoint.learned.changes {
                write()
                try? await Task.sleep(for: .seconds(1))
            }
        }
        write()
    }

    private func write() {
        do {
            try file.write(endpoint.learned.statements)
        } catch {
            // A full disk must not end the service.
            logger.warning("cannot write what was learned: \(error)")
        }
    }
}

/// The data plane: gets every topology, and reports what live traffic meets.
struct EndpointService: Service, CustomStringConvertible {
    let endpoint: Endpoint
    let monitor: Monitor
    let catalog: DatabaseCatalog
    let logger: Logger
    let whenServing: @Sendable () async -> Void
    var description: String { "endpoint" }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            await firstTopology()
            guard !Task.isCancelled else { return }
            endpoint.start()
            await whenServing()
            await withDiscardingTaskGroup { group in
                group.addTask {
                    for await observation in await monitor.observations() { endpoint.publish(observation.topology) }
                }
                group.addTask {
                    for await change in catalog.changes {
                        endpoint.publish(change.functions, ofDatabase: change.database)
                    }
                }
                group.addTask {
                    for await report in endpoint.reports {
                        logger.debug("live traffic: \(report.problem)", metadata: ["node": "\(report.node.rawValue)"])
                        await monitor.hurry(report.node)
                    }
                }
            }
        }
        // In a task of its own: clients are told even when everything else is cancelled.
        await Task { await endpoint.shutdown() }.value
    }

    /// Publishes the first picture in which no node is unknown: who connects first finds every node in its place.
    private func firstTopology() async {
        let limit = ContinuousClock.now + .seconds(5)
        while !Task.isCancelled, ContinuousClock.now < limit {
            let topology = await monitor.topology
            endpoint.publish(topology)
            if topology.nodes.allSatisfy({ $0.state == .up }) { return }
            try? await Task.sleep(for: .milliseconds(20))
        }
    }
}
