import PostgresClient
package import PostgresWire
package import ProxyCore
package import Topology

/// What somebody wants to know of the nodes' logs, and where to tell it.
package protocol FreshnessAudience: Sendable {
    /// What a probe of the primary covers.
    associatedtype Probe: Sendable
    /// Something is wanted. One stands for many.
    var demands: AsyncStream<Void> { get }
    /// If a probe of the primary is wanted: what it covers when it is sent now.
    func beginProbe() -> Probe?
    /// Whether, since this was asked last, a reader would have liked to know more.
    func somebodyWaits() -> Bool
    /// A probe has failed: it is still wanted.
    func wantProbe()
    /// Whether standbys are to be asked although nothing was written.
    func beginSamples() -> Bool
    /// - Parameter askedAt: before the primary was asked.
    func resolved(
        _ probe: Probe,
        at position: LSN,
        timeline: UInt32,
        by node: NodeID,
        askedAt: MonotonicTime
    )
    /// - Parameter askedAt: before the standby was asked.
    func replayed(_ position: LSN?, timeline: UInt32?, on node: NodeID, askedAt: MonotonicTime)
}

private enum Pace {
    /// From the start of one probe to the next: when somebody waits for it, and when nobody does.
    static let shortestInterval = Duration.milliseconds(4)
    static let interval = Duration.milliseconds(12)
    /// What was just written is usually replayed after this.
    static let replayDelay = Duration.milliseconds(1)
    /// A standby that is behind is asked again after this, and ever later while it does not move.
    static let shortestPause = Duration.milliseconds(1)
    static let longestPauseWhileMoving = Duration.milliseconds(16)
    static let longestPause = Duration.milliseconds(250)
    static let timeout = Duration.seconds(2)
}

/// Asks the primary where its log ends, when somebody has written; and the standbys how far they are, until they have that.
///
/// One probe is under way at a time and covers all writes before it: the cost is per probe, not per write. When nobody writes
/// nobody is asked. Decision note on freshness.
package actor FreshnessProbes<Audience: FreshnessAudience> {
    private let nodes: [MonitoredNode]
    private let audience: Audience
    /// What the standbys are to reach, and how often somebody wanted to know.
    private var target = LSN(rawValue: 0)
    private var timeline: UInt32?
    private var round = 0
    private var waiting: [CheckedContinuation<Void, Never>] = []
    private var primary: NodeID?

    package init(nodes: [MonitoredNode], audience: Audience) {
        self.nodes = nodes
        self.audience = audience
    }

    /// Asks until the task is cancelled.
    ///
    /// - Parameter topologies: which node is the primary.
    package func run(_ topologies: AsyncStream<Observation>) async {
        await withDiscardingTaskGroup { group in
            group.addTask {
                for await observation in topologies { await self.adopt(observation.topology) }
            }
            group.addTask { await self.serve() }
            for node in nodes { group.addTask { await self.sample(node) } }
            // What waits for a round is woken to notice that it is cancelled.
            group.addTask {
                try? await Task.sleep(for: .seconds(1_000_000_000))
                await self.begin()
            }
        }
    }

    private func adopt(_ topology: Topology) {
        let id = topology.primary?.id
        guard id != primary else { return }
        primary = id
        target = LSN(rawValue: 0)
        audience.wantProbe()
    }

    // MARK: - The primary

    private func serve() async {
        var session = NodeSession()
        for await _ in audience.demands {
            takeSampleDemand()
            while !Task.isCancelled, let probe = audience.beginProbe() {
                let start = ContinuousClock.now
                let askedAt = MonotonicClock.now
                if let primary, let answer = await session.askPrimary(nodes[primary.rawValue], Pace.timeout) {
                    audience.resolved(
                        probe,
                        at: answer.position,
                        timeline: answer.timeline,
                        by: primary,
                        askedAt: askedAt
                    )
                    timeline = answer.timeline
                    if answer.position > target {
                        target = answer.position
                        begin()
                    }
                } else {
                    audience.wantProbe()
                    try? await Task.sleep(for: .milliseconds(100))
                }
                try? await Task.sleep(until: start + Pace.shortestInterval, clock: .continuous)
                takeSampleDemand()
                if !audience.somebodyWaits() {
                    try? await Task.sleep(until: start + Pace.interval, clock: .continuous)
                    takeSampleDemand()
                }
            }
        }
    }

    private func takeSampleDemand() {
        if audience.beginSamples() { begin() }
    }

    // MARK: - The standbys

    /// Those who wait for something to ask about go on.
    private func begin() {
        round += 1
        let woken = waiting
        waiting = []
        for continuation in woken { continuation.resume() }
    }

    private func nextRound(after seen: Int) async -> Int {
        if round == seen, !Task.isCancelled {
            await withCheckedContinuation { waiting.append($0) }
        }
        return round
    }

    private func sample(_ node: MonitoredNode) async {
        var session = NodeSession()
        var seen = 0
        while !Task.isCancelled {
            seen = await nextRound(after: seen)
            guard primary != node.node.id else { continue }
            // Nobody has written when nobody is to catch up.
            if target.rawValue != 0 { try? await Task.sleep(for: Pace.replayDelay) }
            var pause = Pace.shortestPause
            var last = LSN(rawValue: 0)
            while !Task.isCancelled, primary != node.node.id {
                seen = round
                let askedAt = MonotonicClock.now
                let (position, timeline) = await session.askStandby(node, receiving: timeline, Pace.timeout)
                audience.replayed(position, timeline: timeline, on: node.node.id, askedAt: askedAt)
                if let position, position >= target, timeline != nil { break }
                try? await Task.sleep(for: position == nil ? .milliseconds(250) : pause)
                pause = min(pause * 2, position == last ? Pace.longestPause : Pace.longestPauseWhileMoving)
                last = position ?? LSN(rawValue: 0)
            }
        }
    }
}

/// A session with one node, made anew when it is lost.
private struct NodeSession: ~Copyable {
    private var connection: DatabaseConnection?
    private var node: NodeID?
    private var segmentSize: UInt64 = 0
    private var received: UInt32?

    init() {}

    deinit { connection?.close() }

    /// Where the primary's log ends, and on which timeline; `nil` when it did not say, or is none.
    mutating func askPrimary(_ node: MonitoredNode, _ timeout: Duration) async -> (position: LSN, timeline: UInt32)? {
        // The timeline is in the names of the log's files.
        let row = await ask(
            node,
            """
            select position, pg_walfile_name(position) as file
            from pg_current_wal_insert_lsn() as position where not pg_is_in_recovery()
            """,
            timeout
        )
        guard let row, let position = row["position"].flatMap({ LSN($0) }),
            let timeline = row["file"].flatMap({ UInt32($0.prefix(8), radix: 16) })
        else { return nil }
        return (position.endOfLastRecord(segmentSize: segmentSize), timeline)
    }

    /// How far a standby has replayed the log, `nil` when it did not say, or is none; and the timeline that it receives.
    ///
    /// Which timeline it replays it does not tell. The one it receives begins at a place that it has passed.
    ///
    /// - Parameter current: the primary's timeline. A standby that was seen to receive it goes back to no other, so that it is
    ///   asked for its position alone: that is asked often.
    mutating func askStandby(
        _ node: MonitoredNode,
        receiving current: UInt32?,
        _ timeout: Duration
    ) async -> (LSN?, UInt32?) {
        if received != current || received == nil {
            let question = "select received_tli from pg_stat_wal_receiver where status = 'streaming'"
            received = await ask(node, question, timeout).flatMap { $0["received_tli"] }.flatMap { UInt32($0) }
        }
        let row = await ask(node, "select pg_last_wal_replay_lsn() as position", timeout)
        return (row.flatMap { $0["position"] }.flatMap { LSN($0) }, received)
    }

    private mutating func ask(_ node: MonitoredNode, _ question: String, _ timeout: Duration) async -> Row? {
        do throws(DatabaseError) {
            let connection = try await connected(to: node, timeout)
            return try await connection.query(question, [], timeout: timeout).first
        } catch {
            connection?.close()
            connection = nil
            return nil
        }
    }

    private mutating func connected(to node: MonitoredNode, _ timeout: Duration) async throws(DatabaseError)
        -> DatabaseConnection
    {
        if let connection, self.node == node.node.id { return connection }
        connection?.close()
        connection = nil
        var parameters = node.parameters
        parameters.connectTimeout = timeout
        let fresh = try await DatabaseConnection.connect(parameters)
        let size = "select setting from pg_settings where name = 'wal_segment_size'"
        segmentSize = try await fresh.query(size, [], timeout: timeout).first?["setting"].flatMap { UInt64($0) } ?? 0
        connection = fresh
        received = nil
        self.node = node.node.id
        return fresh
    }
}
