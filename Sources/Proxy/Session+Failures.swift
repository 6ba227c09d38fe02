import Logging
import PostgresWire
import ProxyCore
import QueryAnalysis
import Topology

/// What a client sees when something breaks: the table in the design.
extension Session {
    /// The pool it waits for has no connection for it.
    func serverCannotBeHad(_ pool: Pool, _ failure: ConnectionFailure) {
        awaited = nil
        switch phase {
        case .starting:
            startFailed(on: pool.key.node, failure)
        case .waiting:
            current?.tried |= 1 << pool.key.node.rawValue
            if worker.topology[pool.key.node].role == .standby || failure.blamesNode {
                choose()
            } else {
                failUnit(
                    ErrorMessage(
                        .error,
                        .connectionFailure,
                        "the session cannot log in to node \(worker.name(of: pool.key.node)) again",
                        detail: failure.description
                    )
                )
            }
            advance()
        case .login, .idle, .running, .answering, .closed:
            break
        }
    }

    /// It has waited for a server connection for the time that is configured.
    func waitedTooLong(for limit: String, _ settings: PoolSettings) {
        awaited = nil
        // PgBouncer's query_wait_timeout, too, ends the session: the application learns that it asks for more than it may.
        close(
            ErrorMessage(
                .fatal,
                .queryCanceled,
                "query_wait_timeout",
                detail: "No server connection became free within "
                    + "\(worker.configuration.pooling.queryWaitTimeout): \(limit) is reached.",
                hint: "Raise \(limit), or look for sessions that hold connections: open transactions, "
                    + "LISTEN, temporary tables."
            )
        )
    }

    /// A server connection of this session is gone.
    func serverBroke(_ server: ServerConnection, reason: String) {
        let heldState = (server === home && (isSticky || hasUnseenNames)) || server.probe != nil
        let wasCurrent = self.server === server
        // What was repeated here is gone, BEGIN among it: the unit alone would run outside of its transaction.
        let lostPrelude = sentPrelude
        sentPrelude = false
        if home === server { home = nil }
        if wasCurrent { self.server = nil }
        guard phase != .closed else { return }
        let name = worker.name(of: server.node)
        if heldState || (wasCurrent && transaction.mayLeaveState && current == nil) {
            // What the application left in the server session cannot be brought back, and must not be missed silently.
            if let words = server.lastWords, !isMidMessage {
                client.send(words)
                close()
            } else {
                close(
                    ErrorMessage(
                        .fatal,
                        .adminShutdown,
                        "the connection to node \(name), which held state of this session, was lost",
                        detail: reason
                    )
                )
            }
            return
        }
        guard wasCurrent else { return }
        // It may have been committed, and the application may find out.
        if server.role == .primary {
            commitEnded()
            if route.lost() { worker.wrote(self) }
        }
        let mayRunAgain = current.map(mayRunAgain) ?? false
        if status != .idle, !losesDeferredTransaction() {
            status = .idle
            transaction = TransactionState()
            preferencesEndTransaction(isCommitted: false)
            lostTransaction = true
        }
        if passesToServer {
            passesToServer = false
            if current == nil { throwAwaySaysReady = false }
        }
        guard let unit = current else { return }
        let wasSent = phase == .running
        if wasSent {
            worker.unitsInFlight -= 1
            phase = .waiting
        }
        if mayRunAgain || !wasSent, !lostTransaction, !lostPrelude {
            // A primary whose connection broke may be there all the same: it gets another try.
            if server.role == .primary { current?.primaryBreaks += 1 }
            if server.role == .standby || unit.primaryBreaks > 0 { current?.tried |= 1 << server.node.rawValue }
            if wasSent, let before = statementsBefore { statements = before }
            choose()
            advance()
            return
        }
        lostTransaction = false
        guard !isMidMessage else {
            // Half a message stands with the client: it could not understand an error behind it.
            close()
            return
        }
        let isCommit = wasSent && unit.unit.executes == .transactionEnd
        failUnit(
            ErrorMessage(
                .error,
                isCommit ? .transactionResolutionUnknown : .connectionFailure,
                "the connection to node \(name) was lost",
                detail: isCommit
                    ? "\(reason); it is not known whether the transaction was committed."
                    : "\(reason)."
            )
        )
        advance()
    }

    /// Answers the current unit with an error; the session lives on.
    func failUnit(_ message: ErrorMessage) {
        guard let unit = current else { return }
        current = nil
        notice = nil
        status = .idle
        preferencesEndTransaction(isCommitted: false)
        standbyTransaction = nil
        deferred = nil
        hasJustBegun = false
        transaction.changes = []
        // State still to be brought to the primary stays due; a BEGIN does not.
        if !preludeLeavesState { prelude = [] }
        waitsForPrimaryUntil = nil
        awaited?.forget(self)
        awaited = nil
        phase = .idle
        since = worker.now
        var writer = MessageWriter()
        message.write(to: &writer)
        if passThrough != nil {
            // What still comes of the unit is thrown away. ReadyForQuery follows behind it, but for a simple COPY: there the
            // client, which sees the error, says nothing more, and only the present message has to be ended.
            let isSimpleCopy = passThrough?.ending == .copy(isExtended: false)
            if passThrough?.copyFailed() == true { passThrough = nil }
            passThrough?.unitFailed()
            passesToServer = false
            throwAwaySaysReady = !isSimpleCopy
            if isSimpleCopy { writer.readyForQuery(.idle) }
        } else if unit.unit.ending == .flush || unit.hidesReady {
            if !unit.isConsumed { client.consume(unit.unit.length) }
            throwAway(until: .sync)
        } else {
            if !unit.isConsumed { client.consume(unit.unit.length) }
            writer.readyForQuery(.idle)
        }
        client.send(writer.bytes)
        settle()
    }

    // MARK: - The topology has changed

    func topologyChanged() {
        guard phase != .closed else { return }
        for case let held? in [server, server === home ? nil : home] where held.state == .ready {
            // What it may be used for was decided by its role.
            guard held.role != worker.topology[held.node].role else { continue }
            held.breakOff("its node has another role now")
            guard phase != .closed else { return }
        }
        // A node that was lost takes units along that it has not begun to answer: they run again elsewhere.
        if let server, current != nil, worker.topology[server.node].state == .down,
            phase == .waiting || (phase == .running && current?.isRepeatable == true && server.role == .standby)
        {
            server.breakOff("the node is down")
        }
        guard phase == .waiting, server == nil else { return }
        if let awaited {
            guard worker.topology[awaited.key.node].state == .down else { return }
            awaited.forget(self)
            self.awaited = nil
        }
        choose()
        advance()
    }

    /// The wait for a primary is over.
    func primaryWaitEnded() {
        guard phase == .waiting, server == nil, awaited == nil, waitsForPrimaryUntil.map({ $0 <= worker.now }) ?? false
        else {
            return
        }
        choose()
        advance()
    }

    /// A cancel request for this session has come.
    func cancelRequested(then finished: @escaping () -> Void) {
        switch phase {
        case .running:
            guard let server, server.state == .ready else {
                finished()
                return
            }
            server.cancelBegins()
            worker.sendCancel(to: server) {
                finished()
                server.cancelEnded()
            }
        case .waiting:
            if server?.isQuiet ?? true {
                failUnit(ErrorMessage(.error, .queryCanceled, "canceling statement due to user request"))
                advance()
            }
            finished()
        case .answering:
            answerWithError(ErrorMessage(.error, .queryCanceled, "canceling statement due to user request"))
            finished()
        case .login, .starting, .idle, .closed:
            finished()
        }
    }

    // MARK: - Time

    /// Ends what takes longer than is configured; PgBouncer's names and meanings.
    func lookAtTime() {
        let pooling = worker.configuration.pooling
        func isOver(_ limit: Duration, _ since: MonotonicTime) -> Bool {
            limit > .zero && since + limit <= worker.now
        }
        switch phase {
        case .login where isOver(worker.configuration.loginTime, since),
            .starting where isOver(worker.configuration.loginTime, since):
            // As PostgreSQL: the connection is closed, and only the log says why.
            worker.logger.debug("a client did not log in within \(worker.configuration.loginTime)")
            close(ErrorMessage(.fatal, .queryCanceled, "canceling authentication due to timeout"))
        case .running where isOver(pooling.queryTimeout, since):
            end(.queryCanceled, "query_timeout")
        case .idle where isInTransaction && isOver(pooling.idleTransactionTimeout, since):
            end(.idleInTransactionSessionTimeout, "idle_transaction_timeout")
        case .idle where !isInTransaction && isOver(pooling.clientIdleTimeout, since):
            end(.adminShutdown, "client_idle_timeout")
        case .idle where isInTransaction && isOver(pooling.transactionTimeout, transactionSince),
            .running where isOver(pooling.transactionTimeout, transactionSince):
            end(.transactionTimeout, "transaction_timeout")
        case .answering where isOver(worker.configuration.primaryWait, since):
            waitedTooLongForProbe()
        case .idle, .running:
            sendUnfinished()
        case .login, .starting, .waiting, .answering, .closed:
            break
        }
    }

    private func end(_ state: SQLState, _ limit: String) {
        // A query that runs is not only given up but cancelled: the server would work on it for nobody.
        if phase == .running, let server, server.state == .ready { worker.sendCancel(to: server) {} }
        close(
            ErrorMessage(
                .fatal,
                state,
                limit,
                detail: "The session was ended because it took longer than \(limit) allows."
            )
        )
    }
}
