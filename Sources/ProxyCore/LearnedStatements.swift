package import PostgresWire
package import QueryAnalysis
import Synchronization

/// A statement that looks like a read, that a standby has refused and that the primary has then run.
package struct LearnedStatement: Sendable, Equatable {
    package var database: String
    package var fingerprint: Fingerprint
    /// What the standby said.
    package var state: SQLState
    /// Normalized and cut: for a person.
    package var text: String
    /// How often it was kept from the standbys since.
    package var count: Int
    /// In seconds since 1970.
    package var learnedAt: Int

    package init(
        database: String,
        fingerprint: Fingerprint,
        state: SQLState,
        text: String,
        count: Int = 0,
        learnedAt: Int
    ) {
        self.database = database
        self.fingerprint = fingerprint
        self.state = state
        self.text = text
        self.count = count
        self.learnedAt = learnedAt
    }

    /// Whether an error that a standby gives, and the primary does not, comes of its being a standby.
    ///
    /// It does when the statement writes (25006), or reads what is not replicated, such as an unlogged table (0A000). Others pass:
    /// a conflict with recovery (40001), a definition that is not replayed yet (42P01 …). And 0A000 may also come of a setting of
    /// the session, SERIALIZABLE, which says nothing of the statement.
    package static func isLearned(from error: ServerErrorFields) -> Bool {
        error.state == .readOnlyTransaction
            || (error.state == .featureNotSupported && error.routine != "GetSerializableTransactionSnapshot")
    }
}

/// The statements that only standbys refuse, of all databases, as of one moment: workers hold the newest.
package struct LearnedStatements: Sendable {
    private struct Key: Hashable {
        var database: String
        var fingerprint: Fingerprint
    }

    /// What all snapshots share is how often a statement was met.
    private final class Entry: Sendable {
        let statement: LearnedStatement
        let number: UInt64
        let count: Atomic<Int>

        init(_ statement: LearnedStatement, number: UInt64) {
            self.statement = statement
            self.number = number
            count = Atomic(statement.count)
        }
    }

    /// The oldest goes when there is one more.
    package static let limit = 1_024

    private var entries: [Key: Entry] = [:]
    private var lastNumber: UInt64 = 0
    /// Grows with every change.
    package private(set) var version: UInt64 = 0

    package init() {}

    /// As they were before a restart, oldest first.
    package init(_ statements: [LearnedStatement]) {
        for statement in statements { _ = learn(statement) }
    }

    package var isEmpty: Bool { entries.isEmpty }

    /// Oldest first.
    package var all: [LearnedStatement] {
        entries.values.sorted { $0.number < $1.number }.map { entry in
            var statement = entry.statement
            statement.count = entry.count.load(ordering: .relaxed)
            return statement
        }
    }

    /// Whether a statement is among them.
    package func contains(_ fingerprint: Fingerprint, in database: String) -> Bool {
        entries[Key(database: database, fingerprint: fingerprint)] != nil
    }

    /// Whether a statement, which is about to run, is among them.
    package func use(_ fingerprint: Fingerprint, in database: String) -> Bool {
        guard let entry = entries[Key(database: database, fingerprint: fingerprint)] else { return false }
        entry.count.add(1, ordering: .relaxed)
        return true
    }

    /// Returns whether it was not known.
    package mutating func learn(_ statement: LearnedStatement) -> Bool {
        let key = Key(database: statement.database, fingerprint: statement.fingerprint)
        guard entries[key] == nil else { return false }
        if entries.count >= Self.limit, let oldest = entries.min(by: { $0.value.number < $1.value.number }) {
            entries[oldest.key] = nil
        }
        lastNumber += 1
        entries[key] = Entry(statement, number: lastNumber)
        version += 1
        return true
    }

    /// Forgets the statements of a database, or all. Returns whether there were any.
    package mutating func forget(database: String? = nil) -> Bool {
        let before = entries.count
        entries = entries.filter { database != nil && $0.key.database != database }
        guard entries.count != before else { return false }
        version += 1
        return true
    }
}
