package import PostgresWire
package import Topology

/// Turns what probes and the supervisor tell into roles, states and lag. Pure: time is an argument.
///
/// Rules:
/// 1. A node's role is what it said last (`pg_is_in_recovery()`). Of several that claim to be the primary, one that
///    answers wins over one that does not, then the higher timeline; the others are `detached` and take nothing.
/// 2. A node that answers is `up`; a standby only while its WAL receiver streams.
/// 3. A standby that streamed until its primary died stays `up`: reads go on. It becomes `detached` only when the
///    primary has answered a probe that began after the stream was seen to be gone, for only then is the standby to
///    blame.
/// 4. A probe that fails, or a process that exits, makes a node `down` at once. A failure seen by live traffic does
///    not: it only brings the next probe forward, because one broken connection proves nothing about a server.
/// 5. A standby that is further behind than its `MaxLag` serves no reads until it has caught up well. This is judged when it
///    answers, and only while the primary is `up`: otherwise nobody knows how far it is behind, and it stays as it is.
package struct ClusterAssessment: Sendable {
    package typealias Instant = ContinuousClock.Instant

    /// One node, and what is remembered of it.
    private struct Member: Sendable {
        var node: Node
        /// Name of the standby's slot on the primary, should it become or be a standby.
        var slotName: String?
        /// The newest answer, kept while the node is down.
        var sample: NodeSample?
        /// Start of the newest probe that was answered.
        var answeredAt: Instant?
        /// When its process was last seen to end.
        var exitedAt: Instant?
        /// Start of the first probe that found the stream gone.
        var streamLostAt: Instant?
        /// When it answered last: how far it was behind.
        var lag: Lag?
        var maxLag: MaxLag
        var problem: String?
    }

    private var members: [Member]
    private var primaryPositions = PositionHistory()
    private var version: UInt64 = 0

    /// - Parameters:
    ///   - nodes: indexed by `NodeID`.
    ///   - slotNames: the replication slot of each standby.
    ///   - maxLags: how far each may be behind; who is not in it may be any far.
    package init(nodes: [Node], slotNames: [NodeID: String] = [:], maxLags: [NodeID: MaxLag] = [:]) {
        members = nodes.map { Member(node: $0, slotName: slotNames[$0.id], maxLag: maxLags[$0.id] ?? MaxLag()) }
    }

    /// The picture for the data plane.
    package var topology: Topology {
        Topology(version: version, nodes: members.map(\.node))
    }

    // MARK: - Inputs

    /// Takes in a probe of `id` that began at `startedAt`. Returns whether the topology changed.
    package mutating func probed(_ id: NodeID, _ outcome: ProbeOutcome, startedAt: Instant) -> Bool {
        // An answer from before the process ended speaks of a server that is no more.
        if let exitedAt = members[id.rawValue].exitedAt, startedAt < exitedAt { return false }
        switch outcome {
        case .answered(let sample):
            members[id.rawValue].sample = sample
            members[id.rawValue].answeredAt = startedAt
            members[id.rawValue].problem = nil
            if members[id.rawValue].node.state == .down || members[id.rawValue].node.state == .starting {
                // Not `up` yet as far as rule 3 is concerned: a standby has to be seen streaming first.
                members[id.rawValue].streamLostAt = sample.isStreaming ? nil : startedAt
                return settle(answering: id, was: .detached, at: startedAt)
            }
            if sample.isStreaming {
                members[id.rawValue].streamLostAt = nil
            } else if members[id.rawValue].streamLostAt == nil {
                members[id.rawValue].streamLostAt = startedAt
            }
            return settle(answering: id, was: members[id.rawValue].node.state, at: startedAt)
        case .starting(let reason):
            return lost(id, state: .starting, problem: reason)
        case .failed(let reason):
            return lost(id, state: .down, problem: reason)
        }
    }

    /// The server process of `id` ended. Returns whether the topology changed.
    package mutating func exited(_ id: NodeID, problem: String, at now: Instant) -> Bool {
        members[id.rawValue].exitedAt = now
        return lost(id, state: .down, problem: problem)
    }

    /// The node's share of the reads from now on. Returns whether the topology changed.
    package mutating func weigh(_ id: NodeID, _ weight: Int) -> Bool {
        changing { $0.members[id.rawValue].node.weight = weight }
    }

    private mutating func lost(_ id: NodeID, state: NodeState, problem: String) -> Bool {
        changing {
            $0.members[id.rawValue].node.state = state
            $0.members[id.rawValue].problem = problem
            $0.assignRoles()
            $0.assignStates()
        }
    }

    // MARK: - Rules

    private mutating func settle(answering id: NodeID, was previous: NodeState, at now: Instant) -> Bool {
        changing {
            // Set first, so that the roles see who answers.
            $0.members[id.rawValue].node.state = previous
            $0.assignRoles()
            $0.assignStates()
            let answering = $0.members[id.rawValue]
            if answering.node.role == .primary, let position = answering.sample?.position?.endOfLastRecord {
                $0.primaryPositions.append(position, at: now)
            }
            // A standby that answered before its primary did has not been measured yet.
            for member in $0.members where member.node.id == id || member.lag == nil {
                $0.measureLag(of: member.node.id)
            }
        }
    }

    private func isAnswering(_ index: Int) -> Bool {
        switch members[index].node.state {
        case .up, .detached: members[index].sample != nil
        case .starting, .down: false
        }
    }

    /// Rule 1.
    private mutating func assignRoles() {
        let claimants = members.indices.filter { members[$0].sample?.isInRecovery == false }
        guard let primary = claimants.max(by: { claim(of: $0) < claim(of: $1) }) else { return }
        for index in members.indices where members[index].sample != nil || index == primary {
            members[index].node.role = index == primary ? .primary : .standby
        }
        // A node that never answered keeps the role it was configured with, unless that role is taken.
        for index in members.indices where members[index].sample == nil && index != primary {
            members[index].node.role = .standby
        }
    }

    /// How good a claim to be the primary is; the greatest wins.
    private func claim(of index: Int) -> (Int, UInt32, Int) {
        (isAnswering(index) ? 1 : 0, members[index].sample?.timeline ?? 0, -index)
    }

    private mutating func assignStates() {
        for index in members.indices where isAnswering(index) {
            members[index].node.state = state(of: index)
        }
    }

    /// Rules 2 and 3, for a node that answers.
    private func state(of index: Int) -> NodeState {
        let member = members[index]
        guard let sample = member.sample else { return member.node.state }
        guard sample.isInRecovery else {
            return member.node.role == .primary ? .up : .detached
        }
        if sample.isStreaming { return .up }
        guard member.node.state == .up, let lostAt = member.streamLostAt else { return .detached }
        let primary = members.first { $0.node.role == .primary }
        guard let primary, primary.node.state == .up, let answeredAt = primary.answeredAt else { return .up }
        return answeredAt > lostAt ? .detached : .up
    }

    /// Rule 5.
    private mutating func measureLag(of id: NodeID) {
        let member = members[id.rawValue]
        guard let sample = member.sample, sample.isInRecovery else {
            members[id.rawValue].lag = nil
            members[id.rawValue].node.exceedsMaxLag = false
            return
        }
        guard let target = primaryPositions.last, let replayed = sample.position else { return }
        let transactionAge = sample.replayAge.map { Duration.seconds($0) }
        let lag = Lag(
            bytes: target.bytes(since: replayed),
            time: primaryPositions.age(of: replayed, transactionAge: transactionAge)
        )
        members[id.rawValue].lag = lag
        guard member.node.state == .up, topology.primary?.state == .up else { return }
        members[id.rawValue].node.exceedsMaxLag =
            member.maxLag.isExceeded(by: lag, before: member.node.exceedsMaxLag)
    }

    private mutating func changing(_ change: (inout ClusterAssessment) -> Void) -> Bool {
        let before = members.map(\.node)
        change(&self)
        guard members.map(\.node) != before else { return false }
        version += 1
        return true
    }

    // MARK: - Status

    /// Every node with all that is known of it.
    package var nodeStatuses: [NodeStatus] {
        let primary = members.first { $0.node.role == .primary }
        return members.map { member in
            var status = NodeStatus(member.node)
            status.timeline = member.sample?.timeline
            status.walPosition = member.sample?.position
            status.lastError = member.problem ?? explanation(of: member)
            switch member.node.role {
            case .primary:
                status.archive = member.sample?.archive
            case .standby:
                status.receivedPosition = member.sample?.received
                status.lagSeconds = member.lag.map { $0.time / .seconds(1) }
                status.maxLag = MaxLagStatus(member.maxLag)
                if member.node.exceedsMaxLag, let lag = member.lag {
                    status.lagProblem = "\(member.maxLag.excess(of: lag)): serves no reads"
                }
                if let target = primaryPositions.last, let replayed = member.sample?.position {
                    status.lagBytes = target.bytes(since: replayed)
                }
                let replica = primary?.sample?.replicas.first { $0.slot.name == member.slotName }
                status.slot = replica?.slot
                status.replicationState = replica?.state
            }
            return status
        }
    }

    private func explanation(of member: Member) -> String? {
        guard member.node.state == .detached, let sample = member.sample else { return nil }
        return sample.isInRecovery
            ? "does not stream from the primary"
            : "claims to be a primary too, on timeline \(sample.timeline ?? 0)"
    }

    /// How the cluster does as a whole.
    package var state: ClusterState {
        guard topology.primary?.state == .up else { return .noPrimary }
        let isWhole = nodeStatuses.allSatisfy { node in
            node.state == .up && node.slot?.walStatus != "lost" && node.archive?.failing != true
        }
        return isWhole ? .healthy : .degraded
    }
}

extension LSN {
    /// The end of the last record, for an insert position that points just past a page header.
    ///
    /// An idle primary's insert position may lie behind the header of a page that holds no record yet: 24 bytes into an
    /// 8 KiB page, 40 at the start of a segment. Replay stops at the boundary before it, and never gets there.
    package var endOfLastRecord: LSN {
        let offset = rawValue % 8192
        // A long header opens only the first page of a segment; segments are at least 1 MiB.
        let isHeader = offset == 24 || (offset == 40 && rawValue % (1 << 20) == 40)
        return isHeader ? LSN(rawValue: rawValue - offset) : self
    }
}
