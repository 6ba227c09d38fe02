import PostgresWire
import ProxyCore
import QueryAnalysis
import Topology

/// Transactions that begin with their first statement: the decision note on deferred transactions.
extension Session {
    /// A transaction is open as far as the client knows.
    var isInTransaction: Bool { shownStatus != .idle }

    /// The state of the transaction as the client knows it.
    var shownStatus: TransactionStatus {
        guard let deferred else { return status }
        return deferred.hasFailed ? .failed : .inTransaction
    }

    /// Answers the current unit when no server has to: a BEGIN that can wait, or the end of a transaction of which nothing was
    /// sent. Otherwise decides what the unit means to a transaction that is deferred. Returns whether the unit was answered.
    func answersTransactionCommand(_ unit: RequestUnit) -> Bool {
        guard let statement = deferred.map({ self.statement(unit, in: $0) }) else { return defersBegin(unit) }
        switch deferred?.next(statement) {
        case .answer(let command):
            guard answer(unit, as: command) else {
                deferred?.leftForPrimary()
                return false
            }
            deferred = nil
            preferencesEndTransaction(isCommitted: command == .commit)
            return true
        case .begin:
            if deferred?.shape == 0, deferred?.needsPrimary == false { learn(from: unit) }
            return false
        case .stay, nil:
            return false
        case .move:
            if let server, server.isQuiet {
                if case .other = statement { noteMove() }
                moveTransaction(from: server)
            }
            return false
        }
    }

    private func statement(_ unit: RequestUnit, in transaction: DeferredTransaction) -> DeferredTransaction.Statement {
        let bytes = client.unread.bytes
        if unit.executes == .transactionEnd, let command = transactionCommand(unit), !command.begins {
            return .end(command)
        }
        let isRead = unit.effect == .read || unit.effect == .empty
        guard isRead, !unit.isOpaque, unit.ending == .ready, passThrough == nil,
            !unit.traits.contains(.tellsTransactionTime),
            unit.isSimpleQuery || DeferredTransaction.leavesNoPortal(bytes.extracting(0..<unit.length))
        else { return .other }
        guard transaction.place == .standby, let server else { return .read(mayStay: false) }
        // Others may have written meanwhile, or the session may have been told what to see.
        let isReader = current.map { destination(of: $0) == .anyReader } ?? false
        return .read(mayStay: isReader && !isBehind(server))
    }

    // MARK: - BEGIN

    private func defersBegin(_ unit: RequestUnit) -> Bool {
        guard unit.executes == .begin, !isInTransaction, server == nil, mayLeavePrimary, worker.standbys != 0,
            route.hasASCIISafeEncoding, functions?.catalog.beginsReadCommitted == true, !settings.choosesIsolation,
            !profile.choosesIsolation, let command = transactionCommand(unit), command.begins
        else { return false }
        let begin = beginning(unit)
        guard answer(unit, as: command) else { return false }
        deferred = DeferredTransaction(begin: begin)
        transactionSince = worker.now
        return true
    }

    /// The BEGIN as a Query message: the one before was mostly the same, and is shared.
    private func beginning(_ unit: RequestUnit) -> [[UInt8]] {
        let bytes = client.unread.bytes.extracting(0..<unit.length)
        let isSame = unit.isSimpleQuery && bytes.withUnsafeBytes { worker.lastBegin.first?.elementsEqual($0) ?? false }
        if !isSame { worker.lastBegin = queries(of: unit) }
        return worker.lastBegin
    }

    private func transactionCommand(_ unit: RequestUnit) -> TransactionCommand? {
        guard unit.ending == .ready, !unit.isOpaque, passThrough == nil, current?.hidesReady == false
        else { return nil }
        if unit.isSimpleQuery {
            let text = client.unread.bytes.extracting(MessageHeader.size..<unit.length - 1)
            return text.withUnsafeBytes { TransactionCommand($0) }
        }
        return soleStatement(of: unit)?.withUnsafeBytes { TransactionCommand($0) }
    }

    /// Answers the current unit as a server would. Returns whether it is as simple as it has to be for that.
    private func answer(_ unit: RequestUnit, as command: TransactionCommand) -> Bool {
        let bytes = client.unread.bytes.extracting(0..<unit.length)
        guard let answer = DeferredTransaction.answer(to: bytes, as: command) else { return false }
        if unit.isSimpleQuery {
            statements.removeUnnamed()
        } else if let parse = requests.operations.first, case .parse(let effect, let traits) = parse.kind {
            // What it executes is what it prepares.
            guard requests.operations.allSatisfy({ $0.statement == parse.statement }) else { return false }
            statements.defineUnnamed(
                bytes.extracting(parse.message),
                effect: effect,
                traits: traits,
                generation: worker.nextGeneration()
            )
        }
        client.send(answer)
        client.consume(unit.length)
        current = nil
        phase = .idle
        since = worker.now
        return true
    }

    // MARK: - On a server

    /// Sends the BEGIN of a deferred transaction ahead of its first statement there. Returns whether there was one to send.
    func beginDeferredTransaction(on server: ServerConnection) -> Bool {
        guard let transaction = deferred, transaction.place == .nowhere else { return false }
        status = .inTransaction
        hasJustBegun = true
        guard server.role == .primary else {
            deferred?.began()
            server.replay(DeferredTransaction.standbyBeginning)
            return true
        }
        deferred = nil
        server.replay(transaction.primaryBeginning)
        if transaction.hasFailed {
            server.attempt(DeferredTransaction.failure)
            status = .failed
        }
        return true
    }

    /// The BEGIN was answered: the client may be told what it is to know of this server.
    func tellAfterBegin(_ server: ServerConnection) {
        guard hasJustBegun else { return }
        hasJustBegun = false
        tell(server.reported)
    }

    /// Whether what runs on a standby may run again elsewhere: a read, or the end of a deferred transaction.
    func mayRunAgain(_ unit: Current) -> Bool {
        if unit.isRepeatable { return true }
        return deferred != nil && unit.unit.executes == .transactionEnd && !unit.hasForwarded && !unit.isConsumed
    }

    /// The connection to the standby where it is will not answer any more. Returns whether there is such a transaction.
    func losesDeferredTransaction() -> Bool {
        guard deferred?.place == .standby else { return false }
        deferred?.left()
        hasJustBegun = false
        status = .idle
        return true
    }

    /// The standby has answered a unit.
    func finishedInDeferredTransaction(_ status: TransactionStatus) {
        guard let transaction = deferred else { return }
        if status == .idle {
            worker.writers.ended(transaction.shape, moved: false)
            deferred = nil
        } else {
            deferred?.answered(status, tookSnapshot: transaction.hasSnapshot || takesSnapshot())
        }
    }

    // MARK: - Learning

    /// The transaction starts with this unit: those that have started so before may always have written.
    private func learn(from unit: RequestUnit) {
        let shape = shape(of: unit)
        deferred?.startsWith(shape, writes: worker.writers.writes(shape))
    }

    /// It goes on on the primary because of what it said.
    func noteMove() {
        if let shape = deferred?.shape { worker.writers.ended(shape, moved: true) }
    }

    private func shape(of unit: RequestUnit) -> UInt64 {
        guard !unit.isSimpleQuery else { return withText(ofQuery: unit) { statementShape($0) } }
        guard let first = requests.operations.first else { return 0 }
        return withText(of: first) { statementShape($0) } ?? 0
    }

    /// Whether a server has taken a snapshot for the current unit, which only reads.
    private func takesSnapshot() -> Bool {
        guard let unit = current?.unit else { return false }
        if unit.isSimpleQuery { return withText(ofQuery: unit) { QueryAnalysis.takesSnapshot($0) } }
        var parsed: StatementName?
        for operation in requests.operations {
            switch operation.kind {
            case .parse: parsed = operation.statement
            case .bind where operation.statement == parsed: continue
            case .bind: break
            case .parseUnseen, .describe, .close, .closePortal: continue
            }
            if withText(of: operation, { QueryAnalysis.takesSnapshot($0) }) ?? true { return true }
        }
        return false
    }

    private func withText<Result>(ofQuery unit: RequestUnit, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        client.unread.bytes.extracting(MessageHeader.size..<unit.length - 1).withUnsafeBytes { body($0) }
    }

    /// The text of a statement that the current unit prepares, or that was prepared before under its name.
    private func withText<Result>(
        of operation: StatementOperation,
        _ body: (UnsafeRawBufferPointer) -> Result
    ) -> Result? {
        let bytes = client.unread.bytes
        if case .parse = operation.kind {
            let start = operation.name.upperBound + 1
            guard let end = bytes.terminator(from: start, before: operation.message.upperBound) else { return nil }
            return bytes.extracting(start..<end).withUnsafeBytes { body($0) }
        }
        guard let content = statements.statement(operation.statement)?.content else { return nil }
        return content.withUnsafeBytes { content in
            body(UnsafeRawBufferPointer(rebasing: content.prefix { $0 != 0 }))
        }
    }
}
