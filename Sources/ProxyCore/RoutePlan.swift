package import QueryAnalysis
package import Topology

/// Where a statement goes, and why, in words: what EXPLAIN (ROUTE), the notices and `slipstream route` tell.
package struct RoutePlan: Sendable, Equatable {
    /// What the next read of a session depends on.
    package struct Readers: Sendable {
        package var sets: ReaderSets
        /// Nodes that failed a moment ago, by bit.
        package var avoided: UInt64
        /// Nodes that have replayed what must be seen, by bit.
        package var fresh: UInt64
        /// What that is.
        package var mustSee: String
        package var wantsStandby: Bool

        package init(
            sets: ReaderSets,
            avoided: UInt64 = 0,
            fresh: UInt64 = .max,
            mustSee: String = "nothing",
            wantsStandby: Bool
        ) {
            self.sets = sets
            self.avoided = avoided
            self.fresh = fresh
            self.mustSee = mustSee
            self.wantsStandby = wantsStandby
        }
    }

    /// What kind of statement it is.
    package let effect: StatementEffect
    /// Why it is taken for that, and why it stays on the primary, or on the transaction's node, all the same.
    package let reason: String
    /// What it must see, and which nodes may serve it; nothing when that does not matter.
    package private(set) var conditions: [String] = []
    /// The node, or the nodes with their shares.
    package private(set) var goesTo: String

    /// One that an open transaction ties to a node.
    package init(_ classification: Classification, inTransactionOn node: String) {
        effect = classification.effect
        reason = "\(classification.reason); the transaction is there"
        goesTo = node
    }

    package init(
        _ classification: Classification,
        _ destination: SessionRoute.Destination,
        _ topology: Topology,
        _ readers: @autoclosure () -> Readers
    ) {
        effect = classification.effect
        switch destination {
        case .primary(.notProvenRead):
            reason = classification.reason
            switch effect {
            case .transactionControl, .transactionEnd: goesTo = "wherever the transaction is"
            case .empty, .read, .primaryRead, .beginReadOnly, .begin, .write, .sessionState:
                goesTo = Self.primary(of: topology)
            }
        case .primary(let why):
            reason = "\(classification.reason), but \(why.words)"
            goesTo = Self.primary(of: topology)
        case .anyReader:
            reason = classification.reason
            let readers = readers()
            let candidates = readers.sets.candidates(
                except: readers.avoided,
                among: readers.fresh,
                wantsStandby: readers.wantsStandby
            )
            let serving = topology.nodes.filter { Self.holds(candidates, $0) && $0.weight > 0 }
            goesTo = serving.isEmpty ? Self.primary(of: topology) : Self.shares(of: serving)
            conditions = ["Must see: \(readers.mustSee)"]
            conditions += topology.nodes.map { node in
                "\(node.name): \(Self.obstacle(to: node, candidates, readers).map { "no, \($0)" } ?? "yes, weight \(node.weight)")"
            }
        }
    }

    /// The same while everything runs on the primary.
    package func inShadow(of topology: Topology) -> RoutePlan {
        var plan = self
        let primary = Self.primary(of: topology)
        if plan.goesTo != primary { plan.goesTo = "\(primary), for routing is shadow; otherwise \(goesTo)" }
        return plan
    }

    private static func holds(_ set: UInt64, _ node: Node) -> Bool { set & 1 << UInt64(node.id.rawValue) != 0 }

    /// Why a node may not serve the read.
    private static func obstacle(to node: Node, _ candidates: UInt64, _ readers: Readers) -> String? {
        if !holds(readers.sets.readable, node) {
            return node.exceedsMaxLag ? "it lags more than max_lag" : "it is \(node.state)"
        }
        if holds(readers.avoided, node) { return "it could not be reached a moment ago" }
        if node.role == .standby, !holds(readers.fresh, node) { return "it has not replayed that" }
        if node.weight == 0 { return "its weight is 0" }
        return holds(candidates, node) ? nil : "a standby is wanted"
    }

    private static func primary(of topology: Topology) -> String {
        guard let primary = topology.primary else { return "nowhere (no primary)" }
        return primary.state == .up ? primary.name : "\(primary.name) (which is \(primary.state))"
    }

    private static func shares(of nodes: [Node]) -> String {
        let total = nodes.reduce(0) { $0 + $1.weight }
        return nodes.sorted { ($1.weight, $0.id) < ($0.weight, $1.id) }
            .map { "\($0.name) \(Int((100 * Double($0.weight) / Double(total)).rounded())) %" }
            .joined(separator: ", ")
    }

    /// In one line.
    package var summary: String { "\(goesTo): \(reason)" }

    /// In several.
    package var lines: [String] {
        ["Class: \(effect.name)", "Reason: \(reason)"] + conditions + ["Goes to: \(goesTo)"]
    }
}
