import PostgresWire
import ProxyCore
import QueryAnalysis
import Topology

/// From the client to a node.
extension Session {
    /// Does what can be done with the bytes the client has sent.
    func advance() {
        while true {
            switch phase {
            case .login:
                guard client.hasUnread else {
                    client.receive()
                    return
                }
                guard advanceLogin() else { return }
            case .idle:
                guard passOn(), readUnit() else { return }
            case .running:
                guard passOn() else { return }
                guard current?.expectsReady == false else {
                    client.receive()
                    return
                }
                guard readUnit() else { return }
            case .starting, .waiting, .answering:
                client.receive()
                return
            case .closed:
                return
            }
        }
    }

    /// Reads one unit and begins it. Returns whether there may be more to do at once.
    private func readUnit() -> Bool {
        guard client.hasUnread else {
            awaitClient()
            return false
        }
        // Neither a client nor a server that does not read is sent to without end.
        if client.isSending || (current != nil && server?.stream.isSending == true) { return false }
        let functions = self.functions?.catalog ?? FunctionCatalog()
        switch requests.read(client.unread.bytes, statements: statements, functions: functions) {
        case .incomplete(let unit):
            guard client.isFull else {
                if client.receiveMore() { return true }
                if clientHasFinished { awaitClient() }
                return false
            }
            beginOversized(unit)
            return true
        case .unit(let unit):
            if current != nil, let server, unit.isAlone {
                endOpenUnit(on: server)
            } else {
                begin(unit)
            }
            return true
        case .terminate:
            close()
            return false
        case .drop(let count):
            if let input = client.input, current != nil, let server {
                // The server has not asked for copy data yet; whether it will, it knows.
                server.stream.send(input.buffer, input.start..<input.start + count)
                if requests.endsCopy { current?.hasEndedCopy = true }
            }
            client.consume(count)
            return true
        case .violation(let message):
            close(message)
            return false
        }
    }

    /// Waits for bytes of the client, or ends the session when there will be none.
    private func awaitClient() {
        if clientHasFinished {
            close()
        } else {
            client.receive()
        }
    }

    /// A query, or a function call, comes behind extended-protocol messages without a Sync. The messages are ended with a Sync
    /// of ours, so that the answers can be told apart; the query is a unit of its own.
    private func endOpenUnit(on server: ServerConnection) {
        sendSync(on: server)
        current?.expectsReady = true
        current?.hidesReady = true
    }

    private func sendSync(on server: ServerConnection) {
        var writer = MessageWriter()
        writer.sync()
        server.stream.send(writer.bytes)
    }

    // MARK: - Choosing a node

    private func begin(_ unit: RequestUnit) {
        if var running = current, let server {
            // The unit goes on behind a Flush, on the connection it began on.
            running.unit.effect = max(running.unit.effect, unit.effect)
            running.unit.executes = max(running.unit.executes, unit.executes)
            running.unit.ending = unit.ending
            running.expectsReady = unit.ending == .ready
            running.hasSyncedTwice = running.copiesBehindSync && running.expectsReady
            if isKnownToBeRefused(unit) { running.refusal = .known }
            change = nil
            current = running
            note(unit, on: server)
            transmit(unit, on: server)
            consumeUnit(unit.length)
            return
        }
        waitsForPrimaryUntil = nil
        change = nil
        current = Current(unit: unit)
        if isKnownToBeRefused(unit) { current?.refusal = .known }
        if unit.ending == .flush, unit.binds == 0, status == .idle, !unit.isOpaque {
            // It only prepares: with a Sync of ours behind it, it is a unit of its own, and what follows may go elsewhere.
            current?.unit.ending = .ready
            current?.hidesReady = true
        }
        if unit.executes == .sessionState, let text = soleStatement(of: unit) {
            change = text.withUnsafeBytes { SettingChange($0) }.map { ($0, text: text) }
        }
        choose()
    }

    /// The text of the only statement that a unit executes.
    func soleStatement(of unit: RequestUnit) -> [UInt8]? {
        let bytes = client.unread.bytes
        if unit.isSimpleQuery { return bytes.array(MessageHeader.size..<unit.length - 1) }
        guard unit.binds == 1, let bind = requests.operations.first(where: { $0.kind == .bind }) else { return nil }
        return text(of: bind, in: bytes)
    }

    /// The text of the statement that an operation of the unit prepares or refers to.
    func text(of operation: StatementOperation, in bytes: RawSpan) -> [UInt8]? {
        if let range = textRange(of: operation, in: bytes) { return bytes.array(range) }
        let text = statements.text(of: operation.statement)
        return text.isEmpty ? nil : text
    }

    /// Where that text is among the client's bytes; `nil` when an earlier unit has prepared the statement.
    func textRange(of operation: StatementOperation, in bytes: RawSpan) -> Range<Int>? {
        let definition = requests.operations.last {
            guard case .parse = $0.kind else { return false }
            return $0.statement == operation.statement && $0.message.lowerBound <= operation.message.lowerBound
        }
        guard let definition else { return nil }
        let start = definition.name.upperBound + 1
        return bytes.terminator(from: start, before: definition.message.upperBound).map { start..<$0 }
    }

    /// Finds a node for the current unit, which waits or runs afterwards.
    func choose() {
        guard let current else { return }
        phase = .waiting
        if lostTransaction {
            lostTransaction = false
            failUnit(
                ErrorMessage(
                    .error,
                    .connectionFailure,
                    "the transaction was lost with the connection to its node",
                    hint: "Run the transaction again."
                )
            )
            return
        }
        if current.unit.traits.contains(.isEndpointCommand) {
            guard server?.isQuiet ?? true else { return }
            if answersHere(current.unit) { return }
        }
        if worker.configuration.transactions == .deferred, answersTransactionCommand(current.unit) { return }
        if let server {
            // Until it is quiet it is not known what the session holds there.
            guard server.isQuiet else { return }
            if status != .idle, mustLeaveStandby(current) {
                moveTransaction(from: server)
            } else {
                run(on: server)
                return
            }
        }
        switch destination(of: current) {
        case .primary:
            usePrimary()
        case .anyReader where worker.shadow != nil:
            usePrimary()
        case .anyReader:
            let fresh = worker.fresh(for: self)
            let node = worker.chooseReader(
                except: current.tried,
                among: fresh,
                wantsStandby: wantsStandby(current.unit)
            )
            guard let node else {
                usePrimary()
                return
            }
            self.current?.wasFreeToChoose = fresh & worker.standbys != 0
            use(node)
        }
    }

    /// The transaction, which so far is its BEGIN, or is deferred, is rolled back on the standby and begun on the primary.
    func moveTransaction(from server: ServerConnection) {
        server.rollBack()
        prelude = standbyTransaction?.begin ?? []
        deferred?.leftForPrimary()
        standbyTransaction = nil
        self.server = nil
        status = .idle
        giveBack(server)
    }

    private func usePrimary() {
        guard let current else { return }
        if let home {
            run(on: home)
            return
        }
        if let primary = worker.writer, current.tried & (1 << primary.rawValue) == 0 {
            use(primary)
            return
        }
        let deadline = waitsForPrimaryUntil ?? (worker.now + worker.configuration.primaryWait)
        guard worker.now < deadline else {
            failUnit(
                ErrorMessage(
                    .error,
                    .cannotConnectNow,
                    "no primary is available",
                    detail: "The statement needs the primary, and none came up within "
                        + "\(worker.configuration.primaryWait).",
                    hint: "Look at \"slipstream status\", and try again."
                )
            )
            return
        }
        self.current?.tried = 0
        waitsForPrimaryUntil = deadline
        worker.waitForPrimary(self, until: deadline)
    }

    private func use(_ node: NodeID) {
        if let home, home.node == node {
            run(on: home)
            return
        }
        let pool = group.pool(of: node)
        awaited = pool
        pool.lend(to: self)
    }

    /// The pool has a connection for this session.
    func serverIsLent(_ server: ServerConnection) {
        awaited = nil
        self.server = server
        switch phase {
        case .starting:
            self.server = nil
            started(told: server.reported)
            giveBack(server)
        case .waiting where isBehind(server):
            // It was connected just now: nobody knows yet how far its node is.
            self.server = nil
            current?.tried |= 1 << server.node.rawValue
            giveBack(server)
            choose()
            advance()
        case .waiting:
            run(on: server)
            advance()
        case .login, .idle, .running, .answering, .closed:
            self.server = nil
            giveBack(server)
        }
    }

    func isBehind(_ server: ServerConnection) -> Bool {
        server.role == .standby && worker.fresh(for: self) & 1 << UInt64(server.node.rawValue) == 0
    }

    // MARK: - Sending

    /// Sends the current unit, unless something must be over first.
    private func run(on server: ServerConnection) {
        guard let unit = current?.unit else { return }
        self.server = server
        guard server.isQuiet, bringIntoState(server, for: unit) else {
            phase = .waiting
            return
        }
        waitsForPrimaryUntil = nil
        sentPrelude = false
        phase = .running
        since = worker.now
        if status == .idle { transactionSince = worker.now }
        worker.unitsInFlight += 1
        note(unit, on: server)
        statementsBefore = server.role == .standby && unit.hasNames ? statements : nil
        if let shadow = worker.shadow { countShadow(in: shadow) }
        if preferences?.present.sendsNotices == true { notice = routeNotice(on: server) }
        if passThrough != nil {
            passesToServer = true
            current?.expectsReady = false
            current?.isConsumed = true
            if unit.isSimpleQuery { forgetUnnamed(on: server) }
            if passThrough?.ending == .oversized { transmitOversized(on: server) }
            client.receive()
            return
        }
        transmit(unit, on: server)
        if unit.ending == .flush {
            current?.expectsReady = false
            consumeUnit(unit.length)
        } else if current?.hidesReady == true {
            sendSync(on: server)
        }
        client.receive()
    }

    /// Makes the session's state on a connection that has another one. Returns whether nothing had to be made: the answers
    /// come first, because a unit must not run in a state that could not be made.
    private func bringIntoState(_ server: ServerConnection, for unit: RequestUnit) -> Bool {
        let namesStatements = unit.traits.contains(.namesStatements)
        guard status == .idle else {
            guard !namesStatements || nameStatements(on: server) else { return false }
            tellAfterBegin(server)
            return true
        }
        let mayAskSequence = unit.executes == .sessionState || unit.traits.contains(.asksSequence)
        if server.settings === settings, server.settingsUser == nil, prelude.isEmpty, !namesStatements, !mayAskSequence,
            deferred == nil
        {
            tell(server.reported)
            return true
        }
        var queries: [[UInt8]] = []
        if let user = server.settingsUser, user != serial {
            queries.append(ServerConnection.query("RESET ALL".utf8))
            // Which leaves the role on.
            server.settings = server.settings.applyingOnServer(.resetAll, [])
            server.settingsUser = nil
        }
        if mayAskSequence, let user = server.sequenceUser, user != serial {
            queries.append(ServerConnection.query("DISCARD SEQUENCES".utf8))
            server.sequenceUser = nil
        }
        if let sql = settings.replay(from: server.settings) {
            queries.append(ServerConnection.query(sql))
        }
        // From now on one look tells that they are the same.
        server.settings = settings
        if !prelude.isEmpty, server.role == .primary {
            queries += prelude
            prelude = []
            sentPrelude = true
            if preludeLeavesState {
                transaction.mayLeaveState = true
                preludeLeavesState = false
            }
        }
        if !queries.isEmpty { server.replay(queries) }
        let begins = beginDeferredTransaction(on: server)
        let areStatementsNamed = !namesStatements || nameStatements(on: server)
        guard queries.isEmpty, !begins, areStatementsNamed else { return false }
        tell(server.reported)
        return true
    }

    /// SQL is to find the session's statements under the client's names, and no others. Returns whether nothing had to be done.
    private func nameStatements(on server: ServerConnection) -> Bool {
        guard status != .failed else { return true }
        var messages: [[UInt8]] = []
        func add(_ write: (inout MessageWriter) -> Void) {
            var writer = MessageWriter()
            write(&writer)
            writer.sync()
            messages.append(writer.bytes)
        }
        for statement in server.prepared.takeAll() { add { $0.closeStatement(statement.name) } }
        // In a transaction an error would be the end of it. What is prepared stays when a savepoint is gone back to.
        func undo(_ sql: String) {
            guard status == .inTransaction else { return }
            messages.append(ServerConnection.query(sql.utf8))
            // A simple query ends it.
            server.prepared.unnamed = nil
        }
        let missing = statements.definitions.filter { !server.clientNames.contains($0.name) }
        if !missing.isEmpty { undo("SAVEPOINT slipstream") }
        for definition in missing {
            add { definition.statement.appendParse(as: definition.name, to: &$0) }
            undo("ROLLBACK TO slipstream")
            // One that cannot be prepared any more has its name still.
            add { $0.parseNothing(as: definition.name) }
            undo("ROLLBACK TO slipstream")
            server.clientNames.append(definition.name)
        }
        if !missing.isEmpty { undo("RELEASE slipstream") }
        guard !messages.isEmpty else { return true }
        server.attempt(messages)
        return false
    }

    /// Tells the client of parameters that are others than it was told.
    func tell(_ reported: ReportedParameters) {
        guard told !== reported else { return }
        if !told.equals(reported), !isMidMessage { client.send(reported.messages(for: told)) }
        told = reported
        route.hasASCIISafeEncoding = reported.hasASCIISafeEncoding
    }

    /// A connection of this session has nothing more under way.
    func serverIsQuiet(_ server: ServerConnection) {
        let wasProbed = server.probe != nil
        if wasProbed { probed(server) }
        if let error = server.replayError, current != nil, phase == .waiting {
            server.replayError = nil
            self.server = nil
            abandon(server)
            if server.role == .standby {
                // What a standby refuses (default_transaction_isolation = serializable) is no error of the application's.
                _ = losesDeferredTransaction()
                current?.tried |= 1 << server.node.rawValue
                choose()
                advance()
                return
            }
            failUnit(
                ErrorMessage(
                    .error,
                    error.state,
                    "the session's state could not be made on node \(worker.name(of: server.node)): \(error.message)"
                )
            )
            advance()
            return
        }
        guard phase == .waiting, current != nil, awaited == nil else {
            if phase == .idle { settle() }
            return
        }
        // The next unit has come meanwhile, but others may have waited for the connection longer.
        if wasProbed, status == .idle, self.server === server { keepOrGiveBack(server) }
        choose()
        advance()
    }

    /// Notes what the unit may do to the session's state, and to its route.
    private func note(_ unit: RequestUnit, on server: ServerConnection) {
        let isSetting = change != nil
        if unit.executes == .transactionControl { transaction.hasSavepoints = true }
        if unit.traits.contains(.cannotBeDiscarded) {
            server.mustClose = true
            isSticky = server.role == .primary
        }
        if unit.traits.contains(.asksSequence), let functions { worker.asksSequences(in: database, functions) }
        if unit.traits.contains(.mayTakeFromSequence) { server.sequenceUser = serial }
        if unit.executes == .sessionState {
            transaction.names.formUnion(SettingNames.dotted(in: client.unread.bytes.extracting(0..<unit.length)))
            if !isSetting { server.settingsUser = serial }
        }
        if unit.traits.contains(.changesDatabases) { worker.closeIdleEverywhere() }
        if server.role == .primary {
            let writesUnseen = (current?.refusal ?? .nothing) != .nothing || unit.traits.contains(.mayHideWrite)
            if !isSetting { route.sent(writesUnseen ? max(unit.executes, .write) : unit.executes) }
            if route.mayCommit { commitBegins() }
            let mayLeave = unit.executes == .sessionState && !isSetting
            let mayTake = isSticky && unit.executes >= .primaryRead && probedAt + .seconds(1) < worker.now
            let mayHide = unit.executes == .write && functions?.catalog.leavesState == true
            if mayLeave || mayTake || mayHide { transaction.mayLeaveState = true }
        } else if unit.executes == .beginReadOnly, status == .idle {
            standbyTransaction = StandbyTransaction(begin: queries(of: unit))
        } else if unit.executes == .sessionState, !isSetting {
            standbyTransaction?.state += queries(of: unit)
            server.mustDiscard = true
        }
    }

    /// The statements of the current unit as Query messages.
    func queries(of unit: RequestUnit) -> [[UInt8]] {
        let bytes = client.unread.bytes
        if unit.isSimpleQuery { return [bytes.array(0..<unit.length)] }
        return requests.operations.compactMap { operation in
            guard operation.kind == .bind, let text = text(of: operation, in: bytes) else { return nil }
            return ServerConnection.query(text)
        }
    }

    private func consumeUnit(_ length: Int) {
        current?.isConsumed = true
        client.consume(length)
    }

    /// Sends the unit at the start of the client's bytes, behind what its statements need on this connection.
    private func transmit(_ unit: RequestUnit, on server: ServerConnection) {
        guard let input = client.input else { return }
        if !unit.isSimpleQuery, !requests.operations.isEmpty {
            worker.naming.prepare(requests.operations, client.unread.bytes, for: self, on: server)
            sendNamed(unit.length, on: server)
            return
        }
        if unit.isSimpleQuery { forgetUnnamed(on: server) }
        server.stream.send(input.buffer, input.start..<input.start + unit.length)
    }

    /// Sends the first of the client's bytes, whose statements were given their names on this connection.
    private func sendNamed(_ count: Int, on server: ServerConnection) {
        guard let input = client.input else { return }
        if worker.naming.hasEdits {
            worker.naming.edit(client.unread.bytes.extracting(0..<count), into: server.stream)
        } else {
            server.stream.send(input.buffer, input.start..<input.start + count)
        }
    }

    /// A simple query destroys the unnamed statement.
    private func forgetUnnamed(on server: ServerConnection) {
        statements.removeUnnamed()
        server.prepared.unnamed = nil
        server.unseenUnnamedOf = nil
    }

    // MARK: - Messages that are not understood one by one

    /// A message longer than a buffer passes unseen, and its unit goes to the primary.
    private func beginOversized(_ known: RequestUnit) {
        var unit = known
        unit.isOpaque = true
        guard known.length == 0 else {
            // The whole messages ahead of it make room.
            unit.ending = .flush
            begin(unit)
            return
        }
        let bytes = client.unread.bytes
        let type = bytes.byte(at: 0)
        if type == FrontendMessage.query.rawValue || type == FrontendMessage.functionCall.rawValue {
            if current != nil, let server {
                endOpenUnit(on: server)
                return
            }
            unit.execute(.sessionState)
            unit.isSimpleQuery = type == FrontendMessage.query.rawValue
            if unit.isSimpleQuery, let functions {
                unit.traits = RequestUnitReader.traits(ofBeginning: bytes, functions: functions.catalog)
            }
            passThrough = PassThrough(ending: .message)
        } else {
            requests.readOversized(bytes, into: &unit, statements: statements)
            unit.ending = .flush
            passThrough = PassThrough(ending: .oversized)
        }
        if current != nil, let server {
            current?.unit.executes = max(current?.unit.executes ?? .empty, unit.executes)
            note(unit, on: server)
            passesToServer = true
            transmitOversized(on: server)
            return
        }
        current = Current(unit: unit)
        change = nil
        choose()
    }

    /// Sends whole messages that have stood for a while with neither Sync nor Flush behind them. A server executes them all
    /// the same, and says when one fails.
    func sendUnfinished() {
        let count = client.unread.count
        defer { unreadAtLastLook = count }
        let isOpen = phase == .running && current?.expectsReady == false
        guard count > 0, count == unreadAtLastLook, phase == .idle || isOpen, passThrough == nil, !client.isSending,
            server?.stream.isSending != true
        else { return }
        let functions = self.functions?.catalog ?? FunctionCatalog()
        let read = requests.read(client.unread.bytes, statements: statements, functions: functions)
        guard case .incomplete(let unit) = read, unit.length > 0 else { return }
        beginOversized(unit)
        advance()
    }

    /// Sends what is there of a unit that goes on unseen.
    private func transmitOversized(on server: ServerConnection) {
        guard var pass = passThrough else { return }
        worker.naming.prepare(requests.operations, client.unread.bytes, for: self, on: server)
        let scan = pass.scan(client.unread.bytes)
        passThrough = pass
        sendNamed(scan.count, on: server)
        client.consume(scan.count)
        if scan.isOver { endPassThrough() }
    }

    /// The server waits for copy data.
    func beginCopyIn(on server: ServerConnection) {
        guard let running = current else { return }
        if !running.isConsumed {
            consumeUnit(running.unit.length)
        }
        let isExtended = !running.unit.isSimpleQuery
        if passesToServer {
            passThrough?.copyBegan(isExtended: isExtended)
        } else if !running.hasEndedCopy {
            current?.expectsReady = false
            current?.copiesBehindSync = isExtended && running.unit.ending == .ready
            passThrough = PassThrough(ending: .copy(isExtended: isExtended))
            passesToServer = true
        }
    }

    /// Passes messages on, or throws them away, where that is due. Returns whether the bytes left are to be read as units.
    private func passOn() -> Bool {
        while var pass = passThrough {
            let target = passesToServer ? server : nil
            guard target?.stream.isSending != true else { return false }
            guard let input = client.input, input.count > 0 else {
                awaitClient()
                return false
            }
            let scan = pass.scan(client.unread.bytes)
            passThrough = pass
            if let violation = scan.violation {
                close(violation)
                return false
            }
            if scan.terminates {
                close()
                return false
            }
            if let target, scan.count > 0 {
                target.stream.send(input.buffer, input.start..<input.start + scan.count)
            }
            client.consume(scan.count)
            if scan.isOver {
                endPassThrough()
            } else if scan.count == 0, !client.receiveMore() {
                if clientHasFinished { awaitClient() }
                return false
            }
        }
        return true
    }

    private func endPassThrough() {
        let wasThrownAway = !passesToServer
        let goesOn = passThrough?.ending == .copy(isExtended: true) || passThrough?.ending == .oversized
        stopPassing()
        if wasThrownAway {
            defer { throwAwaySaysReady = true }
            guard throwAwaySaysReady else { return }
            var writer = MessageWriter()
            writer.readyForQuery(status == .idle ? .idle : .failed)
            client.send(writer.bytes)
        } else if !goesOn {
            current?.expectsReady = true
            current?.hasSyncedTwice = current?.copiesBehindSync ?? false
        }
    }

    /// The client's messages are read as units again.
    func stopPassing() {
        passThrough = nil
        passesToServer = false
    }

    /// The server has taken what was sent to it: the sign to pass on more.
    func serverTookEverything(_ server: ServerConnection) {
        guard self.server === server else { return }
        if passesToServer || (current != nil && current?.expectsReady == false) {
            advance()
        }
    }

    /// Throws away the rest of a unit that was answered with an error, and says ReadyForQuery behind it.
    func throwAway(until ending: PassThrough.Ending) {
        passThrough = PassThrough(ending: ending)
        passesToServer = false
        throwAwaySaysReady = true
    }
}
