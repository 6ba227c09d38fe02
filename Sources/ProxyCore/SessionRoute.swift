package import PostgresWire
package import QueryAnalysis

/// Where the units of one client session go while no server connection is settled by a transaction or by state.
///
/// The rules, in order:
/// 1. What is not proven to be a read goes to the primary.
/// 2. After a statement that may leave state, and with `Consistency.seconds` after any write, the session reads from the primary for the pin time, counted from the end of its last write.
/// 3. Everything else goes to any node that serves reads and has replayed what the session must see (`Freshness`), by weight.
package struct SessionRoute: Sendable {
    package enum Destination: Sendable, Equatable {
        case primary(Reason)
        case anyReader
    }

    /// Why a unit stays on the primary.
    package enum Reason: Sendable, Hashable, CaseIterable {
        /// What the client's encoding hides from the lexer.
        case encoding
        case notProvenRead
        case pinned
        /// The session has left something on its connection to the primary.
        case state
        /// Standbys refuse it.
        case refused
        /// The session has asked for it.
        case asked
        /// The configuration says so.
        case off

        /// For a person.
        package var words: String {
            switch self {
            case .encoding: "the client's encoding cannot be read"
            case .notProvenRead: "it is not proven to be a read"
            case .pinned: "the session has written a moment ago"
            case .state: "the session holds what only its connection to the primary has"
            case .refused: "a standby has refused it"
            case .asked: "slipstream.route is primary"
            case .off: "routing is off"
            }
        }
    }

    /// How long a session reads from the primary after a write. As a `Duration` it would make every session larger.
    private var pinNanoseconds: Int64
    package private(set) var pinnedUntil = MonotonicTime.distantPast
    /// The client's encoding lets the lexer see every byte that matters.
    package var hasASCIISafeEncoding = true
    private var transactionWrote = false
    private var transactionMayLeaveState = false

    /// After a statement that may leave state behind: what exactly it has left is found out by and by.
    private static let stateNanoseconds: Int64 = 5_000_000_000

    package init(pinTime: Duration) {
        pinNanoseconds = pinTime.nanoseconds
    }

    package var pinTime: Duration {
        get { .nanoseconds(pinNanoseconds) }
        set { pinNanoseconds = newValue.nanoseconds }
    }

    package func destination(of unit: RequestUnit, now: MonotonicTime) -> Destination {
        if !hasASCIISafeEncoding { return .primary(.encoding) }
        if unit.isOpaque { return .primary(.notProvenRead) }
        switch unit.effect {
        case .empty, .read, .beginReadOnly:
            // What follows a Flush is not known yet, and could not be moved.
            if unit.ending == .flush { return .primary(.notProvenRead) }
            return now < pinnedUntil ? .primary(.pinned) : .anyReader
        case .primaryRead, .transactionControl, .transactionEnd, .begin, .write, .sessionState:
            return .primary(.notProvenRead)
        }
    }

    /// A unit was sent to the primary.
    package mutating func sent(_ effect: StatementEffect) {
        switch effect {
        case .empty, .read, .primaryRead, .beginReadOnly, .begin, .transactionControl, .transactionEnd:
            break
        case .write:
            transactionWrote = true
        case .sessionState:
            transactionWrote = true
            transactionMayLeaveState = true
        }
    }

    /// What was sent last may commit something.
    package var mayCommit: Bool { transactionWrote }

    /// The server's answer is complete. Returns whether something was written, and is committed.
    package mutating func answered(_ status: TransactionStatus, now: MonotonicTime) -> Bool {
        guard transactionWrote else { return false }
        let pin = transactionMayLeaveState ? max(pinNanoseconds, Self.stateNanoseconds) : pinNanoseconds
        pinnedUntil = max(pinnedUntil, now + .nanoseconds(pin))
        guard status == .idle else { return false }
        transactionWrote = false
        transactionMayLeaveState = false
        return true
    }

    /// The server is gone in the middle of something. Returns whether that may have been a write.
    package mutating func lost() -> Bool {
        defer { transactionWrote = false }
        return transactionWrote
    }

    /// The unit last sent was a setting and nothing else: it wrote nothing.
    package mutating func onlySet() {
        transactionWrote = false
        transactionMayLeaveState = false
    }
}
