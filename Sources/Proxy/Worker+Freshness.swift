import ProxyCore
import Topology

/// How far nodes are, and what sessions must see: the decision note on freshness.
extension Worker {
    /// The nodes, by bit, that have replayed what the next read of a session must see.
    func fresh(for session: Session) -> UInt64 {
        var nodes = UInt64.max
        forEachNeed(of: session) { nodes &= satisfying($0) }
        guard let limit = session.maxStaleness else { return nodes }
        return nodes & satisfying(maxStaleness: limit)
    }

    /// What that is, in words.
    func needs(of session: Session) -> String {
        var (isUnresolved, isReading) = (false, false)
        var token: FreshnessToken?
        forEachNeed(of: session) { need in
            if need.unresolved != 0 { isUnresolved = true }
            if need.awaitedProbe != 0 { isReading = true }
            guard let needed = freshness.token(of: need), needed.position >= token?.position ?? needed.position else {
                return
            }
            token = needed
        }
        if isUnresolved { return "a write whose place in the log is not known yet" }
        if isReading { return "what it has read already, whose place in the log is not known yet" }
        if let token { return token.description }
        return session.consistency.isExact ? "nothing" : "nothing (consistency is \(session.consistency))"
    }

    /// Everything the next read of a session must see.
    @inline(__always)
    private func forEachNeed(of session: Session, _ body: (Freshness) -> Void) {
        guard session.consistency.isExact else { return }
        freshness.settle(&session.freshness)
        body(session.freshness)
        switch session.consistency {
        case .eventual, .seconds, .session: break
        case .key:
            let key = session.preferences?.present.key ?? ""
            if !key.isEmpty { body(freshness.everything(upTo: exchange.lastWrite(withKey: key))) }
        case .global: body(freshness.everything(upTo: exchange.ledger.writes))
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

    func satisfying(everythingUpTo number: UInt64) -> UInt64 {
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
