package import PostgresWire
package import QueryAnalysis

/// Where the units of one client session go while no server connection is settled by a transaction.
///
/// The rules, in order:
/// 1. State left in a server session (SET, LISTEN, temporary tables, …) keeps the session on the primary, until
///    DISCARD ALL.
/// 2. What is not proven to be a read goes to the primary; and so does what only the primary's connection knows.
/// 3. After a write the session reads from the primary for the pin time, counted from the end of its last write.
/// 4. Everything else goes to any node that serves reads, by weight.
package struct SessionRoute: Sendable {
    package enum Destination: Sendable, Equatable {
        case primary(Reason)
        case anyReader
    }

    /// Why a unit stays on the primary.
    package enum Reason: Sendable, Equatable {
        case sessionState
        case notProvenRead
        case namesStatement
        case pinned
    }

    /// How long a session reads from the primary after a write.
    package let pinTime: Duration
    package private(set) var hasState = false
    package private(set) var pinnedUntil = MonotonicTime.distantPast
    private var transactionWrote = false
    private var hadState = false

    package init(pinTime: Duration) {
        self.pinTime = pinTime
    }

    package func destination(of unit: RequestUnit, now: MonotonicTime) -> Destination {
        if hasState { return .primary(.sessionState) }
        if unit.isOpaque { return .primary(.notProvenRead) }
        switch unit.effect {
        case .empty, .read, .beginReadOnly:
            if unit.changesNames { return .primary(.namesStatement) }
            if unit.ending == .flush { return .primary(.notProvenRead) }
            return now < pinnedUntil ? .primary(.pinned) : .anyReader
        case .primaryRead, .transactionControl, .transactionEnd, .begin, .write, .sessionState:
            return .primary(.notProvenRead)
        }
    }

    /// A unit was sent to the primary.
    package mutating func sent(_ effect: StatementEffect) {
        hadState = hasState
        switch effect {
        case .empty, .read, .primaryRead, .beginReadOnly, .begin, .transactionControl, .transactionEnd:
            break
        case .write:
            transactionWrote = true
        case .sessionState:
            transactionWrote = true
            hasState = true
        }
    }

    /// State was left behind in a READ ONLY transaction on a standby, and comes to the primary.
    package mutating func inheritState() {
        hasState = true
    }

    /// The server's answer is complete.
    package mutating func answered(_ status: TransactionStatus, now: MonotonicTime) {
        guard transactionWrote else { return }
        pinnedUntil = now + pinTime
        if status == .idle {
            transactionWrote = false
        }
    }

    /// The statement last sent turned out to leave nothing behind.
    package mutating func leftNoState() {
        hasState = hadState
    }

    /// DISCARD ALL succeeded: the server session is as new.
    package mutating func discardedAll() {
        hasState = false
    }
}
