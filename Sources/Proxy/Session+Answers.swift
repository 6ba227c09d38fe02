import PostgresWire
import ProxyCore
import QueryAnalysis
import Reactor
import Topology

/// From a node to the client.
extension Session {
    /// Bytes have come on a server connection of this session.
    func receivedAnswer(on server: ServerConnection) {
        if phase == .running, self.server === server {
            forwardAnswer(of: server)
        } else {
            receivedUnasked(on: server)
        }
    }

    /// Works off what is there of the answer: forwards it, or holds it back while it may still be an error to hide.
    private func forwardAnswer(of server: ServerConnection) {
        guard let input = server.stream.input else { return }
        let bytes = server.stream.bytes.bytes
        var offset = input.scanned
        // What goes to the client: from here to where the scan stands.
        var start = input.start
        // Nothing was shown yet and the answer may still be an error: it is held back.
        let mayRepeat = mayRepeat(on: server)
        var isHeld = mayRepeat
        var isReady = false

        scan: while true {
            if server.reader.skipRows(bytes, offset: &offset) {
                isHeld = false
            }
            let step = server.reader.next(bytes, offset: &offset, limit: BufferPool.bufferSize)
            guard case .message(let type, let range) = step else {
                if step == .garbage {
                    server.breakOff("it broke the protocol")
                    return
                }
                break scan
            }
            var isForTheClient = true
            switch type {
            case .parseComplete, .closeComplete:
                isForTheClient = completed(server)
            case .errorResponse:
                let fields = ServerErrorFields(body: bytes.extracting(range.lowerBound + 5..<range.upperBound))
                if fields.isFatal {
                    // The connection ends. What the client is told depends on what runs, and on the session.
                    if !isHeld { forward(input.buffer, start..<range.lowerBound) }
                    isMidMessage = false
                    server.lastWords = bytes.array(range)
                    if fields.state == .protocolViolation {
                        // What the client has sent is to blame: it is told as the server tells it.
                        client.send(input.buffer, range)
                        close()
                    } else {
                        server.breakOff(fields.message)
                    }
                    return
                }
                // What is not for the client may have pushed out what came before it.
                if mayRepeat, current?.hasForwarded == false, fields.state != .queryCanceled {
                    server.stream.markScanned(offset)
                    repeatUnit(after: server, fields)
                    return
                }
                let renamed = withClientNames(bytes.extracting(range))
                if server.skippedPending() {
                    // It is gone if its Parse failed. If the Parse was skipped, it is there, but has no definition here.
                    statements.removeUnnamed()
                    server.prepared.unnamed = 0
                    server.unseenUnnamedOf = nil
                }
                current?.hasFailed = true
                if let renamed {
                    forward(input.buffer, start..<range.lowerBound)
                    client.send(renamed)
                    current?.hasForwarded = true
                    start = range.upperBound
                }
                if passesToServer, passThrough?.copyFailed() == true {
                    stopPassing()
                    current?.expectsReady = true
                }
            case .commandComplete:
                commandCompleted(bytes.extracting(range), on: server)
            case .copyInResponse:
                server.stream.markScanned(offset)
                beginCopyIn(on: server)
            case .parameterStatus:
                server.report(bytes.extracting(range))
                isForTheClient = server.role == .primary && !restoresStartup
                if isForTheClient {
                    told = server.reported
                    route.hasASCIISafeEncoding = told.hasASCIISafeEncoding
                } else if server.role == .primary {
                    forward(input.buffer, start..<range.lowerBound)
                    start = range.lowerBound
                    isMidMessage = false
                    tell(server.reported.reporting(applicationName: applicationName))
                }
            case .notificationResponse:
                nameSender(of: bytes.extracting(range), at: range.lowerBound, on: server)
            case .readyForQuery:
                isReady = true
                isForTheClient = current?.hidesReady != true
                if let told = notice {
                    notice = nil
                    forward(input.buffer, start..<range.lowerBound)
                    start = range.lowerBound
                    client.send(told)
                }
                finishedUnit(on: server, TransactionStatus(rawValue: bytes.byte(at: range.lowerBound + 5)) ?? .idle)
            case .bindComplete:
                server.popBind()
            case .authentication, .backendKeyData, .copyBothResponse, .copyData, .copyDone, .copyOutResponse,
                .dataRow, .emptyQueryResponse, .functionCallResponse, .negotiateProtocolVersion,
                .noData, .noticeResponse, .parameterDescription, .portalSuspended,
                .rowDescription:
                break
            }
            if !type.isPrologue {
                isHeld = false
            }
            if !isForTheClient, isHeld {
                // What is held back closes up over it.
                server.stream.move(start..<range.lowerBound, by: range.count)
                start += range.count
            } else if !isForTheClient {
                forward(input.buffer, start..<range.lowerBound)
                start = range.upperBound
            }
            if isReady { break scan }
        }

        if isHeld, input.end - start < BufferPool.bufferSize - MessageHeader.size {
            server.stream.markScanned(offset)
            if start > input.start { server.stream.consume(start - input.start) }
            if !server.stream.receiveMore() { return }
            forwardAnswer(of: server)
            return
        }
        forward(input.buffer, start..<offset)
        isMidMessage = server.reader.bodyRemaining > 0
        server.stream.consume(offset - input.start)
        if isReady {
            unitIsOver(on: server)
            return
        }
        if passesToServer { advance() }
        if !client.isSending { resume(server) }
    }

    /// A notification of the session's own names the process that the client was told of.
    private func nameSender(of message: RawSpan, at offset: Int, on server: ServerConnection) {
        guard message.byteCount >= MessageHeader.size + 4,
            message.int32(at: MessageHeader.size) == server.cancelKey.processID
        else { return }
        server.stream.overwrite(cancelKey.processID, at: offset + MessageHeader.size)
    }

    /// The unit goes back to the settings of the startup packet, of which the server does not know all.
    private var restoresStartup: Bool {
        guard !startupSettings.isEmpty, let current else { return false }
        switch change {
        case (.reset, _)?, (.resetAll, _)?: return true
        case (.set, _)?, nil: return current.lastCommand == .discardAll
        }
    }

    /// Whether an error of this standby may be kept from the client, and the unit run on the primary.
    private func mayRepeat(on server: ServerConnection) -> Bool {
        guard server.role == .standby, let current else { return false }
        // Without a primary to ask, what the standby says is the answer.
        guard worker.writer != nil else { return false }
        if status == .idle { return current.isRepeatable }
        if let deferred { return !deferred.hasFailed && mayRunAgain(current) }
        // The first statement of a transaction moves it, whatever it is: an error means that it has done nothing.
        return standbyTransaction?.hasAnswered == false && !current.hasForwarded && !current.isConsumed
    }

    private func forward(_ buffer: BufferID, _ range: Range<Int>) {
        guard !range.isEmpty else { return }
        current?.hasForwarded = true
        client.send(buffer, range)
    }

    /// Fetches more from a server, when the client has taken what was there.
    func resume(_ server: ServerConnection) {
        guard server.state == .ready, !server.stream.isReceiving else { return }
        if server.stream.receiveMore() {
            server.received()
        }
    }

    /// ParseComplete or CloseComplete. Returns whether it answers a message of the client.
    private func completed(_ server: ServerConnection) -> Bool {
        switch server.popPending() {
        case .injected, .injectedParse, .injectedClose:
            return false
        case .injectedRefusal(let name):
            server.refusedNames.append(name)
            return false
        case .parseAsNamed(let name):
            if !server.clientNames.contains(name) { server.clientNames.append(name) }
            hasUnseenNames = true
        case .parse(let name, let bytes, let statement):
            statements.define(name, bytes, statement)
        case .closeStatement(let name, let bytes):
            statements.remove(name)
            server.clientNames.removeAll { $0 == bytes }
        case .parseUnnamed, .bind, .other, nil:
            break
        }
        return true
    }

    /// An error that names a prepared statement, with the name the client knows it by; `nil` when it names none.
    private func withClientNames(_ message: RawSpan) -> [UInt8]? {
        guard let found = worker.statements.name(in: message) else { return nil }
        var names = statements.definitions.filter { $0.statement.name == found.name }.map(\.name)
        names += server?.namesBeingPrepared(as: found.name) ?? []
        // Of two names for one statement: the one in the Bind that failed.
        let failed = server?.nextBind
        let name = names.first { StatementName($0.span.bytes) == failed } ?? names.first ?? []
        var writer = MessageWriter()
        writer.message(.errorResponse) {
            $0.raw(message.array(MessageHeader.size..<found.range.lowerBound))
            $0.raw(name)
            $0.raw(message.array(found.range.upperBound..<message.byteCount))
        }
        return writer.bytes
    }

    /// Commands whose effect is on the session, or on what is known of the databases.
    private func commandCompleted(_ message: RawSpan, on server: ServerConnection) {
        current?.completions += 1
        current?.lastCommand = .other
        // Those that matter are few, and rows are most.
        let first = message.byte(at: MessageHeader.size)
        guard first == UInt8(ascii: "C") || first == UInt8(ascii: "D") || first == UInt8(ascii: "A") else { return }
        let length = message.byteCount - MessageHeader.size - 1
        let tag = message.extracting(MessageHeader.size..<MessageHeader.size + length)
        if tag.isText("COMMIT") {
            current?.lastCommand = .commit
            standbyTransaction?.isCommitted = true
        } else if tag.isText("DEALLOCATE ALL") {
            current?.lastCommand = .deallocateAll
            server.prepared.removeAll()
            server.clientNames = []
            statements.removeAll()
        } else if tag.isText("DISCARD ALL") {
            current?.lastCommand = .discardAll
            server.wasDiscarded()
            statements.removeAll()
            hasUnseenNames = false
        } else if tag.isText("ALTER ROLE") || tag.isText("DROP ROLE") || tag.isText("ALTER DATABASE") {
            // A role that is made again has the name of the dropped one, and not its identity.
            worker.renewEverywhere()
        }
        if tag.isDefinition {
            worker.definitionsChanged()
            transaction.changesDefinitions = true
        }
    }

    // MARK: - The end of a unit

    private func finishedUnit(on server: ServerConnection, _ status: TransactionStatus) {
        _ = server.skippedPending()
        if status == .idle || self.status == .idle { transactionSince = worker.now }
        self.status = status
        guard let current else { return }
        if current.refusal == .lasting { primaryHasAnswered(hasFailed: current.hasFailed) }
        if current.unit.isOpaque, !current.hasFailed { server.sequenceUser = serial }
        let onlyCommand = current.completions == 1 && !current.hasFailed
        if onlyCommand, current.lastCommand == .discardAll || current.lastCommand == .deallocateAll {
            forgotState(on: server, all: current.lastCommand == .discardAll)
        } else if let change, !current.hasFailed {
            transaction.changes.append(change)
            if case .resetAll = change.0 { resetPreferences() }
        } else if current.lastCommand == .discardAll {
            transaction.mayLeaveState = true
        }
        commitEnded()
        // What the primary shows to who must read there, for its own writes, it need not find on a standby: it would have to wait
        // for each write of everybody else.
        if server.role == .standby || current.wasFreeToChoose || freshness.isBoundByReads {
            worker.hasRead(self, on: server.node)
        }
        if server.role == .primary {
            if route.answered(status, now: worker.now) { worker.wrote(self) }
        } else if let transaction = standbyTransaction {
            finishedInStandbyTransaction(transaction, status)
        } else {
            finishedInDeferredTransaction(status)
        }
        // AND CHAIN ends one transaction and begins the next.
        let isChained = onlyCommand && current.unit.executes == .transactionEnd
        if status == .idle || isChained {
            endTransaction(current, on: server)
            preferencesEndTransaction(isCommitted: current.lastCommand == .commit)
            if transaction.changesDefinitions {
                transaction.changesDefinitions = false
                worker.forgetLearned(byChangeIn: database)
            }
        }
    }

    /// DISCARD ALL, or DEALLOCATE ALL, was the whole unit. Drivers say the latter after a rollback.
    private func forgotState(on server: ServerConnection, all: Bool) {
        // What the statement itself was taken to leave.
        transaction.mayLeaveState = isSticky && !all
        if all {
            resetPreferences()
            settings = startupSettings
            server.settings = .none
            isSticky = server.mustClose
            transaction = TransactionState()
        }
        hasUnseenNames = false
    }

    /// Settings count when their transaction is committed.
    private func endTransaction(_ last: Current, on server: ServerConnection) {
        guard !transaction.changes.isEmpty else {
            transaction.hasSavepoints = false
            return
        }
        if transaction.hasSavepoints {
            transaction.mayLeaveState = true
        } else if last.lastCommand == .commit || (change != nil && !last.hasFailed) {
            for (change, text) in transaction.changes {
                settings = settings.applying(change, text, base: startupSettings)
                server.settings = server.settings.applyingOnServer(change, text)
            }
            if settings.equals(server.settings) { server.settings = settings }
        }
        transaction.changes = []
        transaction.hasSavepoints = false
    }

    private func finishedInStandbyTransaction(_ transaction: StandbyTransaction, _ status: TransactionStatus) {
        guard status == .idle else {
            standbyTransaction?.hasAnswered = current?.unit.effect != .beginReadOnly
            return
        }
        standbyTransaction = nil
        if transaction.isCommitted, !transaction.state.isEmpty {
            prelude = transaction.state
            preludeLeavesState = true
        }
    }

    private func unitIsOver(on server: ServerConnection) {
        worker.unitsInFlight -= 1
        if let current, !current.isConsumed {
            client.consume(current.unit.length)
        }
        if passesToServer, passThrough?.answerEnded() == true { stopPassing() }
        // What the client sends behind messages that failed without a Sync is skipped, as PostgreSQL does.
        if let current, current.hidesReady, current.hasFailed { throwAway(until: .sync) }
        if let current, current.hasFailed, current.hasSyncedTwice { server.resynchronise() }
        server.closeRefusedNames()
        current = nil
        statementsBefore = nil
        phase = .idle
        since = worker.now
        server.stream.receive()
        settle()
        guard phase == .idle else { return }
        if client.hasUnread || passThrough != nil || clientHasFinished {
            advance()
        } else {
            client.receive()
        }
    }

    /// Between units: asks what the session has left behind, keeps the connection, or gives it back.
    func settle() {
        guard let server, current == nil, status == .idle, !passesToServer else { return }
        guard server.role == .primary else {
            self.server = nil
            giveBack(server)
            return
        }
        if case .session = mode {
            isSticky = isSticky || transaction.mayLeaveState
            transaction.mayLeaveState = false
        } else if transaction.mayLeaveState {
            guard server.isQuiet else { return }
            let names = transaction.names.union(settings.customNames).sorted()
            transaction.mayLeaveState = false
            transaction.names = []
            probedAt = worker.now
            server.ask(names: names)
            return
        }
        keepOrGiveBack(server)
    }

    /// It is known what the session holds on the primary's connection.
    func keepOrGiveBack(_ server: ServerConnection) {
        let mayBeAsked = server.sequenceUser == serial && functions?.asksSequences == true
        let mustKeep = isSticky || hasUnseenNames || server.unseenUnnamedOf == serial || mayBeAsked
        home = mustKeep || mode == .session ? server : nil
        self.server = nil
        if server !== home { giveBack(server) }
    }

    /// The answer of the primary to what the session has left there.
    func probed(_ server: ServerConnection) {
        guard let probe = server.probe else { return }
        server.probe = nil
        guard !probe.hasFailed else {
            isSticky = true
            return
        }
        var found = SessionSettings.none
        for (name, value) in probe.result.settings { found = found.setting(name, to: value) }
        server.settings = found
        adoptPreferences(probe.result.settings)
        settings = found.completed(with: startupSettings)
        isSticky = !probe.result.holds.isEmpty || server.mustClose
        if probe.result.holds.contains(StateProbe.temporaryObject) { server.hasTemporarySchema = true }
        // SQL may have deallocated what was prepared under the client's names.
        let present = probe.result.statements.union(probe.result.sqlStatements)
        statements.remove(server.clientNames.filter { !present.contains($0) })
        server.clientNames.removeAll { !present.contains($0) || probe.result.sqlStatements.contains($0) }
        server.clientNames += probe.result.sqlStatements
    }

    /// What a standby says of a unit is not the answer: the unit runs again on the primary.
    private func repeatUnit(after server: ServerConnection, _ fields: ServerErrorFields) {
        _ = server.skippedPending()
        if let before = statementsBefore { statements = before }
        worker.unitsInFlight -= 1
        worker.noteRepeated(on: server.node, fields)
        // Only the primary's answer counts: the standbys are out of the choice.
        current?.tried = worker.standbys
        lesson = lesson(of: server, fields)
        current?.refusal = lesson == nil ? .passing : .lasting
        current?.completions = 0
        if status != .idle {
            server.abandonAnswer()
            noteMove()
            moveTransaction(from: server)
        } else {
            self.server = nil
            server.abandonAnswer()
            giveBack(server)
        }
        choose()
        advance()
    }

    /// A notification came amid an answer that is not for the client, which listens all the same.
    func wasNotified(_ message: RawSpan, on server: ServerConnection) {
        guard server.role == .primary, !isMidMessage, phase == .idle || phase == .running || phase == .waiting else {
            return
        }
        client.send(message.array(0..<message.byteCount))
    }

    /// A server speaks while no unit runs on it: notices, notifications, changed parameters, or its end.
    private func receivedUnasked(on server: ServerConnection) {
        guard let input = server.stream.input else {
            server.stream.receive()
            return
        }
        let bytes = server.stream.bytes.bytes
        var offset = input.scanned
        var needsMore = false
        scan: while true {
            switch server.reader.next(bytes, offset: &offset, limit: BufferPool.bufferSize) {
            case .message(let type, let range):
                if type == .parameterStatus { server.report(bytes.extracting(range)) }
                // The messages of a standby would tell the client of a server it does not know.
                guard server.role == .primary else { continue }
                if type == .errorResponse { server.lastWords = bytes.array(range) }
                if type == .parameterStatus { told = server.reported }
                if type == .notificationResponse {
                    nameSender(of: bytes.extracting(range), at: range.lowerBound, on: server)
                }
                if type != .errorResponse, phase == .idle || phase == .running || phase == .waiting,
                    server.reader.bodyRemaining == 0, !isMidMessage
                {
                    client.send(input.buffer, range)
                }
            case .end:
                break scan
            case .incomplete:
                needsMore = true
                break scan
            case .garbage:
                server.breakOff("it broke the protocol")
                return
            }
        }
        server.stream.consume(offset - input.start)
        // A client that does not read is not sent to without end.
        if client.isSending { return }
        if needsMore {
            if server.stream.receiveMore() { receivedUnasked(on: server) }
        } else {
            server.stream.receive()
        }
    }
}

extension RawSpan {
    fileprivate func isText(_ text: StaticString) -> Bool {
        guard byteCount == text.utf8CodeUnitCount else { return false }
        for index in 0..<byteCount where byte(at: index) != text.utf8Start[index] { return false }
        return true
    }

    /// The command tag of something that changes definitions: CREATE …, ALTER …, DROP ….
    fileprivate var isDefinition: Bool {
        byteCount > 5 && (isPrefixed("CREATE ") || isPrefixed("ALTER ") || isPrefixed("DROP "))
    }

    private func isPrefixed(_ text: StaticString) -> Bool {
        byteCount >= text.utf8CodeUnitCount && extracting(0..<text.utf8CodeUnitCount).isText(text)
    }
}
