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
            case .openingFirstLink, .waiting:
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
        if client.isSending || current?.link?.stream.isSending == true { return false }
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
            if let link = current?.link, unit.isAlone {
                endOpenUnit(on: link)
            } else {
                begin(unit)
            }
            return true
        case .terminate:
            close()
            return false
        case .drop(let count):
            if let input = client.input, let link = current?.link {
                // The server has not asked for copy data yet; whether it will, it knows.
                link.stream.send(input.buffer, input.start..<input.start + count)
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
    private func endOpenUnit(on link: ServerLink) {
        var writer = MessageWriter()
        writer.sync()
        link.stream.send(writer.bytes)
        current?.expectsReady = true
        current?.hidesReady = true
    }

    // MARK: - Choosing a node

    private func begin(_ unit: RequestUnit) {
        if var running = current, let link = running.link {
            // The unit goes on behind a Flush, on the connection it began on.
            running.unit.effect = max(running.unit.effect, unit.effect)
            running.unit.ending = unit.ending
            running.expectsReady = unit.ending == .ready
            current = running
            if link.role == .primary { route.sent(unit.effect) }
            transmit(unit, on: link, isGivenAway: true)
            consumeUnit(unit.length)
            return
        }
        waitsForPrimaryUntil = nil
        current = Current(unit: unit)
        choose()
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
        if let transactionLink {
            if mustLeaveStandby(current.unit) {
                moveTransaction(from: transactionLink)
            } else {
                run(on: transactionLink)
                return
            }
        }
        guard prelude.isEmpty else {
            usePrimary()
            return
        }
        switch route.destination(of: current.unit, now: worker.now) {
        case .primary:
            if current.unit.isOpaque, let unnamedIsOn, unnamedIsOn.state == .ready {
                run(on: unnamedIsOn)
                return
            }
            usePrimary()
        case .anyReader:
            guard let node = worker.chooseReader(except: current.tried) else {
                usePrimary()
                return
            }
            use(node)
        }
    }

    /// Whether a READ ONLY transaction on a standby, in which nothing but BEGIN has happened, is better off on the primary.
    private func mustLeaveStandby(_ unit: RequestUnit) -> Bool {
        guard standbyTransaction?.hasAnswered == false else { return false }
        switch unit.effect {
        case .empty, .read, .transactionEnd, .transactionControl: return unit.isOpaque
        case .primaryRead, .beginReadOnly, .begin, .write, .sessionState: return true
        }
    }

    /// The transaction, which so far is its BEGIN, is rolled back on the standby and begun on the primary.
    func moveTransaction(from link: ServerLink) {
        var rollback = MessageWriter()
        rollback.query("ROLLBACK")
        link.stream.send(rollback.bytes)
        link.drains += 1
        prelude = standbyTransaction?.begin ?? []
        standbyTransaction = nil
        transactionLink = nil
    }

    private func usePrimary() {
        guard let current else { return }
        if let primary = worker.topology.primary, primary.state == .up,
            current.tried & (1 << primary.id.rawValue) == 0
        {
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

    private func use(_ node: Node) {
        if let link = links[node.id.rawValue] {
            switch link.state {
            case .ready: run(on: link)
            case .connecting, .loggingIn: current?.link = link
            case .closed: preconditionFailure("a closed link is not kept")
            }
            return
        }
        guard let link = openLink(to: node) else {
            failUnit(ErrorMessage(.error, .tooManyConnections, "the endpoint has no more sockets"))
            return
        }
        current?.link = link
    }

    func openLink(to node: Node) -> ServerLink? {
        guard let credential, let address = worker.address(of: node.id) else { return nil }
        let link = ServerLink(node: node, session: self, credential: credential)
        links[node.id.rawValue] = link
        guard link.open(address: address, port: node.port, worker: worker) else {
            links[node.id.rawValue] = nil
            return nil
        }
        return link
    }

    // MARK: - Sending

    /// Sends the current unit, unless something must be over first.
    private func run(on link: ServerLink) {
        guard let unit = current?.unit else { return }
        current?.link = link
        guard link.cancelsInFlight == 0, !link.isDraining else {
            phase = .waiting
            return
        }
        if !prelude.isEmpty, link.role == .primary {
            for query in prelude { link.stream.send(query) }
            link.drains = prelude.count
            prelude = []
            phase = .waiting
            return
        }
        waitsForPrimaryUntil = nil
        phase = .running
        worker.unitsInFlight += 1
        if link.role == .primary {
            route.sent(unit.effect)
        } else {
            noteStandbyTransaction(unit, on: link)
        }
        let isGivenAway = unit.ending == .flush || passThrough != nil
        transmit(unit, on: link, isGivenAway: isGivenAway)
        if passThrough != nil {
            passThroughLink = link
        }
        if isGivenAway {
            current?.expectsReady = false
            consumeUnit(unit.length)
        }
        client.receive()
    }

    /// The statements of the current unit as Query messages.
    func queries(of unit: RequestUnit) -> [[UInt8]] {
        let bytes = client.unread.bytes
        if unit.isSimpleQuery { return [bytes.array(0..<unit.length)] }
        return requests.operations.compactMap { operation in
            switch operation {
            case .parse(_, _, let message, _): Self.query(fromParse: bytes.array(message))
            case .use(let name): Self.query(fromParse: statements.parse(of: name))
            case .closeStatement, .closePortal: nil
            }
        }
    }

    private static func query(fromParse message: [UInt8]) -> [UInt8]? {
        let text = message.dropFirst(MessageHeader.size).drop { $0 != 0 }.dropFirst().prefix { $0 != 0 }
        guard !text.isEmpty else { return nil }
        var writer = MessageWriter()
        writer.message(.query) {
            $0.raw(text)
            $0.byte(0)
        }
        return writer.bytes
    }

    /// A link has become free for the unit that waits for it.
    func runWaiting(on link: ServerLink) {
        guard phase == .waiting, current?.link === link else { return }
        run(on: link)
        advance()
    }

    private func noteStandbyTransaction(_ unit: RequestUnit, on link: ServerLink) {
        if unit.effect == .beginReadOnly, transactionLink == nil {
            standbyTransaction = StandbyTransaction(begin: queries(of: unit))
        } else if unit.effect == .sessionState, transactionLink === link {
            standbyTransaction?.state += queries(of: unit)
        }
    }

    private func consumeUnit(_ length: Int) {
        current?.isConsumed = true
        client.consume(length)
    }

    /// Sends the unit at the start of the client's bytes, behind what its statements need on this connection.
    ///
    /// - Parameter isGivenAway: the bytes will not be kept until the answer comes.
    private func transmit(_ unit: RequestUnit, on link: ServerLink, isGivenAway: Bool) {
        guard let input = client.input else { return }
        if unit.isSimpleQuery {
            statements.removeUnnamed()
            link.prepared.removeUnnamed()
            unnamedIsOn = nil
        } else if !requests.operations.isEmpty {
            prepare(on: link)
            if isGivenAway { link.detachPending(from: client.unread.bytes) }
        }
        link.stream.send(input.buffer, input.start..<input.start + unit.length)
    }

    private func prepare(on link: ServerLink) {
        var writer = MessageWriter()
        // What is injected goes ahead of the unit, and so do its answers.
        for operation in requests.operations {
            switch operation {
            case .use(let name):
                let wanted = statements.generation(of: name)
                guard link.prepared.generation(of: name) != wanted else { continue }
                dropStale(name, on: link, &writer)
                if let wanted {
                    statements.appendParse(of: name, to: &writer)
                    link.pending.append(.injectedParse(name, wanted))
                }
            case .parse(let name, _, _, _):
                if statements.generation(of: name) == nil, !name.isUnnamed { dropStale(name, on: link, &writer) }
            case .closeStatement, .closePortal:
                break
            }
        }
        for operation in requests.operations {
            switch operation {
            case .use:
                break
            case .parse(let name, let nameRange, let message, let effect):
                link.pending.append(.parse(name, name: nameRange, message: message, effect: effect))
            case .closeStatement(let name):
                link.pending.append(.closeStatement(name))
            case .closePortal:
                link.pending.append(.closePortal)
            }
        }
        if !writer.bytes.isEmpty {
            link.stream.send(writer.bytes)
        }
    }

    /// Closes a statement that has this name on the server, but no more in the session.
    private func dropStale(_ name: StatementName, on link: ServerLink, _ writer: inout MessageWriter) {
        guard let bytes = link.prepared.bytes(of: name) else { return }
        writer.closeStatement(bytes)
        link.pending.append(.injectedClose(name))
    }

    // MARK: - Messages that are not understood one by one

    /// A unit longer than a buffer is not analysed to its end: it goes to the primary, and through unseen.
    private func beginOversized(_ known: RequestUnit) {
        let isExtended = client.unread.first != FrontendMessage.query.rawValue
        var unit = RequestUnit(length: 0, ending: .ready)
        // Parts that were not seen may leave state behind.
        unit.isSimpleQuery = !isExtended
        unit.effect = isExtended ? max(.write, known.effect) : .sessionState
        unit.isOpaque = true
        if known.changesNames { forgetNames() }
        passThrough = PassThrough(ending: isExtended ? .sync : .message)
        if let link = current?.link {
            passThroughLink = link
            if link.role == .primary { route.sent(unit.effect) }
            return
        }
        current = Current(unit: unit)
        choose()
    }

    /// Statements whose messages pass unseen are known to the primary's connection only.
    private func forgetNames() {
        statements.removeAll()
        for link in links where link?.role == .primary {
            link?.prepared.removeAll()
        }
    }

    /// The server waits for copy data.
    func beginCopyIn(on link: ServerLink) {
        guard let running = current else { return }
        if !running.isConsumed {
            link.detachPending(from: client.unread.bytes)
            consumeUnit(running.unit.length)
        }
        let isExtended = !running.unit.isSimpleQuery
        if passThroughLink === link {
            passThrough?.copyBegan(isExtended: isExtended)
        } else if !running.hasEndedCopy {
            current?.expectsReady = false
            current?.copiesBehindSync = isExtended && running.unit.ending == .ready
            passThrough = PassThrough(ending: .copy(isExtended: isExtended))
            passThroughLink = link
        }
    }

    /// Passes messages on, or throws them away, where that is due. Returns whether the bytes left are to be read as units.
    private func passOn() -> Bool {
        while var pass = passThrough {
            guard passThroughLink?.stream.isSending != true else { return false }
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
            if scan.changesNames, passThroughLink != nil {
                forgetNames()
                route.sent(.sessionState)
            }
            if let passThroughLink, scan.count > 0 {
                passThroughLink.stream.send(input.buffer, input.start..<input.start + scan.count)
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
        let wasThrownAway = passThroughLink == nil
        passThrough = nil
        passThroughLink = nil
        if wasThrownAway {
            defer { throwAwaySaysReady = true }
            guard throwAwaySaysReady else { return }
            var writer = MessageWriter()
            writer.readyForQuery(transactionLink == nil ? .idle : .failed)
            client.send(writer.bytes)
        } else {
            current?.expectsReady = true
            current?.hasSyncedTwice = current?.copiesBehindSync ?? false
        }
    }

    /// The server has taken what was sent to it: the sign to pass on more.
    func serverTookEverything(_ link: ServerLink) {
        if passThroughLink === link || (current?.link === link && current?.expectsReady == false) {
            advance()
        }
    }

    /// Throws away the rest of a unit that was answered with an error, and says ReadyForQuery behind it.
    func throwAway(until ending: PassThrough.Ending) {
        passThrough = PassThrough(ending: ending)
        passThroughLink = nil
        throwAwaySaysReady = true
    }
}
