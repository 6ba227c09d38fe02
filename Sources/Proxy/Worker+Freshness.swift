import ProxyCore
import Topology

/// How far nodes are, and what sessions must see: the decision note on freshness.
extension Worker {
    /// The nodes, by bit, that have replayed what the next read of a session must see.
    func fresh(for session: Session) -> UInt64 {
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
            return satisfying(session) & satisfying(everythingUpTo: exchange.writes)
        }
    }

    private func satisfying(_ session: Session) -> UInt64 {
        freshness.settle(&session.freshness)
        return satisfying(session.freshness)
    }

    func satisfying(everythingUpTo number: UInt64) -> UInt64 {
        satisfying(freshness.everything(upTo: number))
    }

    private func satisfying(_ needed: Freshness) -> UInt64 {
        if needed.unresolved != 0 {
            exchange.waits()
            exchange.wantProbe()
        }
        return freshness.satisfying(needed)
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
