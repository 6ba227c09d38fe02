package import QueryAnalysis

/// Whether reads leave the primary at all.
package enum RoutingMode: String, Sendable, CaseIterable {
    case on
    /// Everything runs on the primary, and is counted by where it would have gone.
    case shadow
    case off
}

/// Where units would have gone that all ran on the primary.
package struct ShadowReport: Sendable {
    package enum Outcome: Sendable, Hashable {
        case standby
        /// No standby has replayed what it must see.
        case behind
        /// The weights say so.
        case weight
        /// A transaction that has begun there.
        case transaction
        case primary(SessionRoute.Reason)

        fileprivate var words: String {
            switch self {
            case .standby: "a standby may serve it"
            case .behind: "no standby has replayed what it must see"
            case .weight: "by weight"
            case .transaction: "the transaction is there"
            case .primary(let reason): reason.words
            }
        }
    }

    private struct Kind: Hashable {
        var effect: StatementEffect
        var outcome: Outcome
    }

    private struct Statement: Hashable {
        var database: String
        var fingerprint: Fingerprint
    }

    private struct Uses {
        var text: String
        var count: Int
    }

    /// When there are more statements than this, those that were used least are forgotten.
    package static let statementLimit = 1_000

    private var kinds: [Kind: Int] = [:]
    /// Of what would have gone to a standby.
    private var statements: [Statement: Uses] = [:]

    package init() {}

    package mutating func count(_ effect: StatementEffect, _ outcome: Outcome) {
        kinds[Kind(effect: effect, outcome: outcome), default: 0] += 1
    }

    /// A statement would have gone to a standby.
    package mutating func count(_ fingerprint: Fingerprint, in database: String, text: @autoclosure () -> String) {
        let key = Statement(database: database, fingerprint: fingerprint)
        if statements[key] == nil {
            statements[key] = Uses(text: text(), count: 0)
            if statements.count > Self.statementLimit { forgetRarest(but: key) }
        }
        statements[key]?.count += 1
    }

    private mutating func forgetRarest(but newest: Statement) {
        let kept = statements.sorted { $0.value.count > $1.value.count }.prefix(Self.statementLimit / 2)
        let newestUses = statements[newest]
        statements = Dictionary(uniqueKeysWithValues: kept.map { ($0.key, $0.value) })
        statements[newest] = newestUses
    }

    /// Adds what others have counted.
    package mutating func add(_ other: ShadowReport) {
        kinds.merge(other.kinds, uniquingKeysWith: +)
        statements.merge(other.statements) { Uses(text: $0.text, count: $0.count + $1.count) }
    }

    package static let columns = ["where", "class", "why", "count", "share"]

    /// For a person: of all units, where they would have gone and why; then the statements that would have gone to standbys most
    /// often.
    package func rows(top: Int = 20) -> [[String]] {
        let total = kinds.values.reduce(0, +)
        func row(_ place: String, _ effect: String, _ why: String, _ count: Int) -> [String] {
            let perMille = total == 0 ? 0 : Int((1_000 * Double(count) / Double(total)).rounded())
            return [place, effect, why, "\(count)", "\(perMille / 10).\(perMille % 10) %"]
        }
        let parts = kinds.sorted {
            let isStandby = ($0.key.outcome == .standby, $1.key.outcome == .standby)
            return isStandby.0 == isStandby.1 ? $0.value > $1.value : isStandby.0
        }
        let frequent = statements.sorted { $0.value.count > $1.value.count }.prefix(top)
        return parts.map { kind, count in
            row(kind.outcome == .standby ? "standby" : "primary", kind.effect.name, kind.outcome.words, count)
        } + frequent.map { row("standby", "statement in \($0.key.database)", $0.value.text, $0.value.count) }
    }
}
