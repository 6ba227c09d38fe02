package import ProxyCore
import Synchronization

/// Where workers and the control plane meet over statements that only standbys refuse: a worker learns one, all are told, and
/// the control plane writes them down.
package final class LearnedExchange: Sendable {
    private struct State {
        var statements: LearnedStatements
        /// The write that last changed the definitions of a database.
        var lastChanges: [String: UInt64] = [:]
    }

    /// They have changed. One stands for many.
    package let changes: AsyncStream<Void>
    private let change: AsyncStream<Void>.Continuation
    private let state: Mutex<State>

    init(_ statements: LearnedStatements) {
        (changes, change) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        state = Mutex(State(statements: statements))
    }

    /// As they are now.
    package var statements: LearnedStatements { state.withLock { $0.statements } }

    /// What a standby says of this database that has not replayed this write, it says of old definitions.
    func lastChange(in database: String) -> UInt64 { state.withLock { $0.lastChanges[database] ?? 0 } }

    /// Returns all of them when the statement was not known.
    func learn(_ statement: LearnedStatement) -> LearnedStatements? {
        changing { $0.statements.learn(statement) }
    }

    /// Returns those that are left when there were any of that database.
    func definitionsChanged(in database: String, by write: UInt64) -> LearnedStatements? {
        changing {
            $0.lastChanges[database] = write
            return $0.statements.forget(database: database)
        }
    }

    /// Returns those that are left when there were any of that database.
    func forget(database: String) -> LearnedStatements? {
        changing { $0.statements.forget(database: database) }
    }

    private func changing(_ body: (inout State) -> Bool) -> LearnedStatements? {
        let changed = state.withLock { body(&$0) ? $0.statements : nil }
        if changed != nil { change.yield() }
        return changed
    }
}
