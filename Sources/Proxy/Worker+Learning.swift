import Glibc
import Logging
import ProxyCore
import Topology

/// Statements that only standbys refuse.
extension Worker {
    private func share(_ statements: LearnedStatements?) {
        guard let statements else { return }
        adopt(statements)
        for sibling in siblings where sibling !== self { sibling.mailbox.put(.learned(statements)) }
    }

    func learn(_ statement: LearnedStatement) {
        logger.info("a standby refused it (\(statement.state)), the primary gets it from now on: \(statement.text)")
        share(learnedExchange.learn(statement))
    }

    func forgetLearned(in database: String) {
        share(learnedExchange.forget(database: database))
    }

    /// Definitions in a database have changed, by what was the last write until now: what was refused may be refused no more.
    func forgetLearned(byChangeIn database: String) {
        share(learnedExchange.definitionsChanged(in: database, by: exchange.ledger.writes))
    }

    /// Whether a standby has the present definitions of a database.
    func hasDefinitions(_ node: NodeID, of database: String) -> Bool {
        satisfying(everythingUpTo: learnedExchange.lastChange(in: database)) & 1 << UInt64(node.rawValue) != 0
    }

    /// Seconds since 1970.
    var timeOfDay: Int { time(nil) }
}
