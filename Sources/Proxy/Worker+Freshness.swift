import ProxyCore
import Topology

/// How far nodes are, and what sessions must see: the decision note on freshness.
extension Worker {
    /// The nodes, by bit, that have replayed what the next read of a session must see.
    func fresh(for session: Session) -> UInt64 {
        let fresh = consistent(for: session)
        guard let limit = session.maxStaleness else { return fresh }
        return fresh & satisfying(maxStaleness: limit)
    }

    private func consistent(for session: Session) -> UInt64 {
        switch session.consistency {
        case .eventual, .seconds:
            return .max
        case .session:
            return satisfying(session)
        case .key:
            let key = session.preferences?.present.key ?? ""
            let own = satisfying(session)
            return key.isEmpty ? own : own & satisfying(everythingUpTo: exchange.lastWrite(withKey: key))
        case .global:
            return satisfying(session) & satisfying(everythingUpTo: exchange.ledger.writes)
        }
    }

    /// A standby that has replayed what the primary had some time ago has everything that is older than that.
    private func satisfying(maxStaleness limit: Duration) -> UInt64 {
        let (nodes, _) = freshness.satisfying(since: now - limit)
        // The next one is here before the last is too old.
        if !freshness.satisfying(since: now - limit / 2).isKnown {
            exchange.waits()
            exchange.wantProbe()
        }
        return nodes
    }

    private func satisfying(_ session: Session) -> UInt64 {
        freshness.settle(&session.freshness)
        return satisfying(session.freshness)
    }

    private func satisfying(everythingUpTo number: UInt64) -> UInt64 {
        satisfying(freshness.everything(upTo: number))
    }

    private func satisfying(_ needed: Freshness) -> UInt64 {
        let awaited = needed.awaitedProbe
        if needed.unresolved != 0 || awaited != 0 {
            exchange.waits()
            if needed.unresolved != 0 || !exchange.ledger.hasBegun(awaited) { exchange.wantProbe() }
        }
        return freshness.satisfying(needed)
    }

    /// A session has been shown something by a node.
    func hasRead(_ session: Session, on node: NodeID) {
        guard standbys != 0, session.consistency.isExact else { return }
        freshness.read(on: node, coveredBy: exchange.ledger.coveringProbe(), &session.freshness)
    }

    /// A session has written, or may have.
    func wrote(_ session: Session) {
        let preferences = session.preferences?.present
        freshness.wrote(exchange.wrote(key: preferences?.key ?? ""), &session.freshness)
        if session.consistency.isExact { exchange.wantProbe() }
        if preferences?.reportsToken == true { awaitProbe(session) }
    }

    /// A connection to a standby was made: its server may have been started again since it was last asked.
    func connected(to node: NodeID) {
        guard standbys & 1 << UInt64(node.rawValue) != 0 else { return }
        freshness.connected(node, at: now)
        exchange.wantSamples()
    }

    // MARK: - Tokens

    /// The session is told when the next probe has come back.
    func awaitProbe(_ session: Session) {
        exchange.waits()
        exchange.wantProbe()
        probeWaiters.insert(id(of: session))
    }

    /// What is known of the primary's log has changed.
    func probeAnswered() {
        guard !probeWaiters.isEmpty else { return }
        let waiters = probeWaiters
        probeWaiters.removeAll(keepingCapacity: true)
        for waiter in waiters { session(waiter)?.probeAnswered() }
    }
}

extension Session {
    /// What is sent may commit something, which others may see before it is answered.
    func commitBegins() {
        guard !isCommitting else { return }
        isCommitting = true
        worker.exchange.ledger.commitBegins()
    }

    func commitEnded() {
        guard isCommitting else { return }
        isCommitting = false
        worker.exchange.ledger.commitEnded()
    }
}
