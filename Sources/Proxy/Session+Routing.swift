import PostgresWire
import ProxyCore
import QueryAnalysis
import Topology

/// Where units go, and how that is explained.
extension Session {
    /// Where a unit may go that no open transaction ties to a node.
    func destination(of current: Current) -> SessionRoute.Destination {
        guard mayLeavePrimary, deferred?.needsPrimary != true else { return .primary(.state) }
        guard current.refusal == .nothing else { return .primary(.refused) }
        let destination = route.destination(of: current.unit, now: worker.now)
        if worker.configuration.routing == .off, destination == .anyReader { return .primary(.off) }
        if preferences?.present.route == .primary, destination == .anyReader,
            !current.unit.traits.contains(.wantsStandby)
        {
            return .primary(.asked)
        }
        return destination
    }

    /// Whether nothing that the session left on the primary, or has to bring there, keeps it from reading elsewhere.
    var mayLeavePrimary: Bool {
        prelude.isEmpty && !isSticky && !hasUnseenNames && (home == nil || home?.unseenUnnamedOf != serial)
    }

    /// Whether a read rather goes to a standby than to the primary.
    func wantsStandby(_ unit: RequestUnit) -> Bool {
        unit.traits.contains(.wantsStandby) || preferences?.present.route == .standby || staysOnStandbys
    }

    /// Who has read on a standby stays there rather than to end on the primary sooner or later, which moreover may not show yet
    /// what a standby has shown.
    private var staysOnStandbys: Bool {
        guard freshness.isBoundByReads, consistency.isExact else { return false }
        return freshness.awaitedProbe != 0 || !worker.exchange.ledger.isQuiet
    }

    /// Whether a READ ONLY transaction on a standby, in which nothing but BEGIN has happened, is better off on the primary.
    func mustLeaveStandby(_ current: Current) -> Bool {
        guard standbyTransaction?.hasAnswered == false else { return false }
        switch current.unit.effect {
        case .empty, .read, .transactionEnd, .transactionControl:
            return current.unit.isOpaque || current.refusal != .nothing
        case .primaryRead, .beginReadOnly, .begin, .write, .sessionState: return true
        }
    }

    /// Counts the current unit, if it executes anything, by where it would have gone.
    func countShadow(in shadow: ShadowCounts) {
        guard let current, current.unit.executes != .empty else { return }
        let outcome = shadowOutcome(of: current)
        shadow.count { report in
            report.count(current.unit.executes, outcome)
            guard outcome == .standby, let text = firstStatement(of: current.unit) else { return }
            text.withUnsafeBytes { report.count(Fingerprint($0), in: database, text: normalizedText(of: $0)) }
        }
    }

    private func firstStatement(of unit: RequestUnit) -> [UInt8]? {
        let bytes = client.unread.bytes
        if unit.isSimpleQuery { return bytes.array(textRange(ofQuery: unit)) }
        return requests.operations.first { $0.kind == .bind }.flatMap { text(of: $0, in: bytes) }
    }

    private func shadowOutcome(of current: Current) -> ShadowReport.Outcome {
        guard status == .idle else { return .transaction }
        switch destination(of: current) {
        case .primary(let reason): return .primary(reason)
        case .anyReader:
            let (fresh, wantsStandby) = (worker.fresh(for: self), wantsStandby(current.unit))
            let node = worker.chooseReader(except: 0, among: fresh, wantsStandby: wantsStandby)
            if let node, worker.standbys & 1 << UInt64(node.rawValue) != 0 { return .standby }
            let sets = worker.readerSets
            let candidates = sets.candidates(except: worker.avoided, among: fresh, wantsStandby: wantsStandby)
            return candidates & sets.standbys == 0 && sets.readable & sets.standbys != 0 ? .behind : .weight
        }
    }

    // MARK: - In words

    /// Where a statement would go if it were the next.
    func routePlan(ofStatement sql: [UInt8]) -> RoutePlan {
        sql.withUnsafeBytes { text in
            let classification = classify(text, functions: functions?.catalog ?? FunctionCatalog())
            var unit = RequestUnit(length: 0, ending: .ready)
            unit.execute(classification.effect)
            unit.traits = classification.traits
            var current = Current(unit: unit)
            if classification.effect == .read, worker.learned.contains(Fingerprint(text), in: database) {
                current.refusal = .known
            }
            return routePlan(of: current, classification)
        }
    }

    /// Where the current unit runs, if it executes anything, and why.
    func routeNotice(on server: ServerConnection) -> [UInt8]? {
        guard let current, current.unit.executes != .empty else { return nil }
        let plan = routePlan(of: current, classification(of: current.unit))
        return ErrorMessage(
            .notice,
            .successfulCompletion,
            "slipstream: ran on \(worker.name(of: server.node)): \(plan.effect.name)",
            detail: plan.lines.dropFirst().joined(separator: "\n")
        ).bytes
    }

    /// Of the statement that decides where a unit goes.
    private func classification(of unit: RequestUnit) -> Classification {
        guard !unit.isOpaque else {
            return Classification(effect: unit.effect, reason: "is too long, or names what the endpoint does not know")
        }
        let (bytes, catalog) = (client.unread.bytes, functions?.catalog ?? FunctionCatalog())
        let texts: [[UInt8]]
        if unit.isSimpleQuery {
            texts = [bytes.array(textRange(ofQuery: unit))]
        } else {
            texts = requests.operations.compactMap { $0.kind == .bind ? text(of: $0, in: bytes) : nil }
        }
        return texts.map { $0.withUnsafeBytes { classify($0, functions: catalog) } }.max { $0.effect < $1.effect }
            ?? Classification(effect: unit.effect, reason: "executes no statement")
    }

    private func routePlan(of current: Current, _ classification: Classification) -> RoutePlan {
        if status != .idle, let server, !mustLeaveStandby(current) {
            return RoutePlan(classification, inTransactionOn: worker.name(of: server.node))
        }
        let plan = RoutePlan(
            classification,
            destination(of: current),
            worker.topology,
            RoutePlan.Readers(
                sets: worker.readerSets,
                avoided: worker.avoided,
                fresh: worker.fresh(for: self),
                mustSee: worker.needs(of: self),
                wantsStandby: wantsStandby(current.unit)
            )
        )
        return worker.shadow == nil ? plan : plan.inShadow(of: worker.topology)
    }
}
