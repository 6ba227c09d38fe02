import ProxyCore
import Topology

/// How far nodes are, and what sessions must see: the decision note on freshness.
extension Worker {
    /// The nodes, by bit, that have replayed what the next read of a session must see.
    func fresh(for session: Session) -> UInt64 {
        switch configuration.consistency {
        case .eventual, .seconds:
            return .max
        case .session:
            freshness.settle(&session.freshness)
            return satisfying(session.freshness)
        case .global:
            return satisfying(freshness.everything(upTo: exchange.writes))
        }
    }

    private func satisfying(_ needed: Freshness) -> UInt64 {
        if needed.unresolved != 0 { exchange.waits() }
        return freshness.satisfying(needed)
    }

    /// A session has written, or may have.
    func wrote(_ session: Session) {
        switch configuration.consistency {
        case .eventual, .seconds: break
        case .session, .global: freshness.wrote(exchange.wrote(), &session.freshness)
        }
    }

    /// A connection to a standby was made: its server may have been started again since it was last asked.
    func connected(to node: NodeID) {
        guard standbys & 1 << UInt64(node.rawValue) != 0 else { return }
        freshness.connected(node, at: now)
        exchange.wantSamples()
    }
}
