package import Logging
package import PostgresClient
package import Topology

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// One node to watch.
package struct MonitoredNode: Sendable {
    /// Name, role and address to begin with; the probes learn the role.
    package var node: Node
    /// How to ask it: a superuser, for `pg_stat_wal_receiver` and `pg_control_checkpoint()` show the rest nothing.
    package var parameters: ConnectionParameters
    /// Its replication slot on the primary.
    package var slotName: String?
    /// How far it may be behind and serve reads.
    package var maxLag: MaxLag

    package init(node: Node, parameters: ConnectionParameters, slotName: String?, maxLag: MaxLag = MaxLag()) {
        self.node = node
        self.parameters = parameters
        self.slotName = slotName
        self.maxLag = maxLag
    }
}

/// How often to ask, and how long to wait.
package struct MonitorConfiguration: Sendable {
    /// From the end of one probe to the start of the next.
    package var interval: Duration = .milliseconds(250)
    /// A node that fails is asked ever less often, down to this.
    package var longestInterval: Duration = .seconds(1)
    /// Reports may come by the thousand; probes of one node are at least this far apart.
    package var shortestInterval: Duration = .milliseconds(20)
    /// A node that has not answered by then is down.
    package var timeout: Duration = .seconds(1)

    package init() {}
}

/// What is published whenever the topology changed.
package struct Observation: Sendable {
    package var topology: Topology
    package var nodes: [NodeStatus]
    package var state: ClusterState
}

/// Watches every node, each from a task of its own, so that a slow one delays none of the others.
///
/// `ClusterAssessment` has the rules; this actor has the clock and the sessions.
package actor Monitor {
    private let nodes: [MonitoredNode]
    private let configuration: MonitorConfiguration
    private let logger: Logger

    private var assessment: ClusterAssessment
    /// Nodes whose next probe must not wait, and the pauses to interrupt.
    private var hurried: Set<NodeID> = []
    private var pauses: [NodeID: Task<Void, Never>] = [:]
    private var probed: Set<NodeID> = []
    private var subscribers: [Int: AsyncStream<Observation>.Continuation] = [:]
    private var nextSubscriber = 0

    /// - Parameter nodes: indexed by `NodeID`.
    package init(nodes: [MonitoredNode], configuration: MonitorConfiguration = MonitorConfiguration(), logger: Logger) {
        self.nodes = nodes
        self.configuration = configuration
        self.logger = logger
        let slots = nodes.compactMap { node in node.slotName.map { (node.node.id, $0) } }
        assessment = ClusterAssessment(
            nodes: nodes.map(\.node),
            slotNames: Dictionary(slots, uniquingKeysWith: { first, _ in first }),
            maxLags: Dictionary(nodes.map { ($0.node.id, $0.maxLag) }, uniquingKeysWith: { first, _ in first })
        )
    }

    /// Probes until the task is cancelled.
    package func run() async {
        await withDiscardingTaskGroup { group in
            for node in nodes {
                group.addTask { await self.watch(node) }
            }
        }
        for subscriber in subscribers.values { subscriber.finish() }
        subscribers = [:]
    }

    // MARK: - What is known

    package var topology: Topology { assessment.topology }

    /// Everything, as it is now.
    package var observation: Observation {
        Observation(topology: assessment.topology, nodes: assessment.nodeStatuses, state: assessment.state)
    }

    /// Every change of the topology from now on, the present one first. A slow reader sees the newest only.
    package func observations() -> AsyncStream<Observation> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: Observation.self,
            bufferingPolicy: .bufferingNewest(1)
        )
        let id = nextSubscriber
        nextSubscriber += 1
        subscribers[id] = continuation
        continuation.onTermination = { _ in
            Task { await self.unsubscribe(id) }
        }
        continuation.yield(observation)
        return stream
    }

    private func unsubscribe(_ id: Int) {
        subscribers[id] = nil
    }

    // MARK: - What others know first

    /// The server process of `id` ended. It is down now, not at the next probe.
    package func exited(_ id: NodeID, problem: String) {
        let before = assessment.topology
        if assessment.exited(id, problem: problem, at: .now) { publish(since: before) }
        hurry(id)
    }

    /// Live traffic failed on `id`, or its server was started: ask it at once. Nothing is concluded from this alone.
    package func hurry(_ id: NodeID) {
        hurried.insert(id)
        pauses[id]?.cancel()
    }

    // MARK: - Probing

    private func watch(_ monitored: MonitoredNode) async {
        let id = monitored.node.id
        var probe = NodeProbe(monitored.parameters, timeout: configuration.timeout)
        var interval = configuration.interval
        while !Task.isCancelled {
            hurried.remove(id)
            let startedAt = ContinuousClock.now
            let outcome = await probe.ask()
            guard !Task.isCancelled else { return }
            probed.insert(id)
            let before = assessment.topology
            if assessment.probed(id, outcome, startedAt: startedAt) { publish(since: before) }
            switch outcome {
            case .answered, .starting: interval = configuration.interval
            case .failed: interval = min(interval * 2, configuration.longestInterval)
            }
            await pause(id, interval)
        }
    }

    private func pause(_ id: NodeID, _ interval: Duration) async {
        let shortest = configuration.shortestInterval
        try? await Task.sleep(for: shortest)
        guard !hurried.contains(id) else { return }
        let pause = Task { _ = try? await Task.sleep(for: interval - shortest) }
        pauses[id] = pause
        await withTaskCancellationHandler {
            await pause.value
        } onCancel: {
            pause.cancel()
        }
        pauses[id] = nil
    }

    /// One node's news may change others too.
    private func publish(since before: Topology) {
        let now = observation
        for (node, status) in zip(now.topology.nodes, now.nodes) where node != before[node.id] {
            if node.exceedsMaxLag != before[node.id].exceedsMaxLag {
                if let problem = status.lagProblem {
                    logger.warning("\(node.name) (\(node.role)) \(problem)")
                } else {
                    logger.info("\(node.name) (\(node.role)) has caught up: serves reads again")
                }
                var unmoved = before[node.id]
                unmoved.exceedsMaxLag = node.exceedsMaxLag
                guard node != unmoved else { continue }
            }
            let problem = status.lastError.map { ": \($0)" } ?? ""
            let level: Logger.Level = node.state == .up ? .info : .warning
            logger.log(level: level, "\(node.name) (\(node.role)) is \(node.state)\(problem)")
        }
        for subscriber in subscribers.values { subscriber.yield(now) }
    }
}
