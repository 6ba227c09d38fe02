import FoundationEssentials
import Logging
import PostgresWire
import ProxyCore
import QueryAnalysis
import Replication

/// `learned.json`: the statements that only standbys refuse, from one run of `up` to the next.
struct LearnedFile {
    /// Grows when what was written before has another meaning: another fingerprint, for one.
    private static let version = 1

    private struct Content: Codable {
        struct Statement: Codable {
            var database: String
            var fingerprint: String
            var sqlstate: String
            var statement: String
            var count: Int
            var learned_at: Int
        }

        var version: Int
        var statements: [Statement]
    }

    let directory: ClusterDirectory

    /// What the file holds; nothing when it cannot be read, which costs one refusal for each statement.
    func read(_ logger: Logger) -> LearnedStatements {
        do {
            guard let bytes = try directory.readLearned() else { return LearnedStatements() }
            let content = try JSONDecoder().decode(Content.self, from: Data(bytes))
            guard content.version == Self.version else { return LearnedStatements() }
            return LearnedStatements(
                content.statements.compactMap { statement in
                    Fingerprint(statement.fingerprint).map {
                        LearnedStatement(
                            database: statement.database,
                            fingerprint: $0,
                            state: SQLState(statement.sqlstate),
                            text: statement.statement,
                            count: statement.count,
                            learnedAt: statement.learned_at
                        )
                    }
                }
            )
        } catch {
            logger.warning("\"\(directory.learnedFile)\" cannot be read, and is made anew: \(error)")
            return LearnedStatements()
        }
    }

    func write(_ statements: LearnedStatements) throws {
        let content = Content(
            version: Self.version,
            statements: statements.all.map {
                Content.Statement(
                    database: $0.database,
                    fingerprint: $0.fingerprint.description,
                    sqlstate: $0.state.code,
                    statement: $0.text,
                    count: $0.count,
                    learned_at: $0.learnedAt
                )
            }
        )
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        try directory.writeLearned([UInt8](try encoder.encode(content)) + [0x0A])
    }
}
