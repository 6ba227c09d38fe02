import PostgresWire
import ProxyCore
import QueryAnalysis
import Reactor
import Topology

/// From a node to the client.
extension Session {
    /// Bytes have come on a ready server connection.
    func receivedAnswer(on link: ServerLink) {
        if link.isDraining {
            drain(link)
        } else if phase == .running, current?.link === link {
            forwardAnswer(of: link)
        } else {
            receivedUnasked(on: link)
        }
    }

    /// Works off what is there of the answer: forwards it, or holds it back while it may still be an error to hide.
    private func forwardAnswer(of link: ServerLink) {
        guard let input = link.stream.input else { return }
        let bytes = link.stream.bytes.bytes
        var offset = input.scanned
        // What goes to the client: from here to where the scan stands.
        var start = input.start
        // Nothing was shown yet and the answer may still be an error: it is held back.
        let mayRepeat = mayRepeat(on: link)
        var isHeld = mayRepeat
        var isReady = false

        scan: while true {
            if link.reader.skipRows(bytes, offset: &offset) {
                isHeld = false
            }
            let step = link.reader.next(bytes, offset: &offset, limit: BufferPool.bufferSize)
            guard case .message(let type, let range) = step else {
                if step == .garbage {
                    link.close(politely: false)
                    linkBroke(link, reason: "it broke the protocol")
                    return
                }
                break scan
            }
            var isForTheClient = true
            switch type {
            case .parseComplete, .closeComplete:
                isForTheClient = completed(link)
            case .errorResponse:
                let fields = ServerErrorFields(body: bytes.extracting(range.lowerBound + 5..<range.upperBound))
                if fields.isFatal {
                    // The connection ends. What the client is told depends on what runs, and on the session.
                    forward(link, input.buffer, start..<range.lowerBound)
                    isMidMessage = false
                    link.lastWords = bytes.array(range)
                    link.close(politely: false)
                    linkBroke(link, reason: fields.message)
                    return
                }
                if mayRepeat, fields.state != .queryCanceled {
                    link.stream.markScanned(offset)
                    repeatUnit(after: link, fields)
                    return
                }
                if link.awaitsUnnamedParse {
                    statements.removeUnnamed()
                    link.prepared.removeUnnamed()
                    unnamedIsOn = link
                }
                link.clearPending()
                current?.hasFailed = true
                if passThroughLink === link, passThrough?.copyFailed() == true {
                    endPassThroughAfterError()
                }
            case .commandComplete:
                commandCompleted(bytes.extracting(range), on: link)
            case .copyInResponse:
                link.stream.markScanned(offset)
                beginCopyIn(on: link)
            case .parameterStatus:
                isForTheClient = link.role == .primary
            case .readyForQuery:
                isReady = true
                isForTheClient = current?.hidesReady != true
                finishedUnit(on: link, TransactionStatus(rawValue: bytes.byte(at: range.lowerBound + 5)) ?? .idle)
            case .authentication, .backendKeyData, .bindComplete, .copyBothResponse, .copyData, .copyDone,
                .copyOutResponse, .dataRow, .emptyQueryResponse, .functionCallResponse, .negotiateProtocolVersion,
                .noData, .noticeResponse, .notificationResponse, .parameterDescription, .portalSuspended,
                .rowDescription:
                break
            }
            if !type.isPrologue {
                isHeld = false
            }
            if !isForTheClient {
                forward(link, input.buffer, start..<range.lowerBound)
                start = range.upperBound
            }
            if isReady { break scan }
        }

        if isHeld, input.end - start < BufferPool.bufferSize - MessageHeader.size {
            link.stream.markScanned(offset)
            if start > input.start { link.stream.consume(start - input.start) }
            if !link.stream.receiveMore() { return }
            forwardAnswer(of: link)
            return
        }
        forward(link, input.buffer, start..<offset)
        isMidMessage = link.reader.bodyRemaining > 0
        link.stream.consume(offset - input.start)
        if isReady {
            unitIsOver(on: link)
            return
        }
        if passThroughLink === link { advance() }
        if !client.isSending { resume(link) }
    }

    /// Whether an error of this standby may be kept from the client, and the unit run on the primary.
    private func mayRepeat(on link: ServerLink) -> Bool {
        guard link.role == .standby, let current else { return false }
        // Without a primary to ask, what the standby says is the answer.
        guard worker.topology.primary?.state == .up else { return false }
        if transactionLink == nil { return current.isRepeatable }
        // The first statement of a transaction moves it, whatever it is: an error means that it has done nothing.
        return standbyTransaction?.hasAnswered == false && !current.hasForwarded && !current.isConsumed
    }

    private func forward(_ link: ServerLink, _ buffer: BufferID, _ range: Range<Int>) {
        guard !range.isEmpty else { return }
        current?.hasForwarded = true
        client.send(buffer, range)
    }

    /// Fetches more from a server, when the client has taken what was there.
    func resume(_ link: ServerLink) {
        guard link.state == .ready, !link.stream.isReceiving else { return }
        if link.stream.receiveMore() {
            receivedAnswer(on: link)
        }
    }

    /// ParseComplete or CloseComplete. Returns whether it answers a message of the client.
    private func completed(_ link: ServerLink) -> Bool {
        switch link.popPending() {
        case .injectedClose(let name):
            link.prepared.remove(name)
            return false
        case .injectedParse(let name, let generation):
            link.prepared.add(name, statements.bytes(of: name), generation)
            return false
        case .parse(let name, let nameRange, let message, let effect):
            let unit = client.unread.bytes
            let generation = statements.define(
                name,
                nameBytes: unit.extracting(nameRange),
                message: unit.extracting(message),
                effect: effect
            )
            link.prepared.add(name, name.isUnnamed ? [] : unit.array(nameRange), generation)
            if name.isUnnamed { unnamedIsOn = nil }
        case .parseCopied(let name, let nameBytes, let message, let effect):
            let generation = statements.define(
                name,
                nameBytes: nameBytes.span.bytes,
                message: message.span.bytes,
                effect: effect
            )
            link.prepared.add(name, nameBytes, generation)
            if name.isUnnamed { unnamedIsOn = nil }
        case .closeStatement(let name):
            statements.remove(name)
            link.prepared.remove(name)
        case .closePortal, nil:
            break
        }
        return true
    }

    private func commandCompleted(_ message: RawSpan, on link: ServerLink) {
        guard link.role == .primary else {
            if message.byteCount == 5 + 7, message.string(5..<message.byteCount - 1) == "COMMIT" {
                standbyTransaction?.isCommitted = true
            }
            return
        }
        current?.completions += 1
        current?.deallocatesAll =
            message.byteCount == 5 + 15 && message.string(5..<message.byteCount - 1) == "DEALLOCATE ALL"
        guard message.byteCount == 5 + 12, message.string(5..<message.byteCount - 1) == "DISCARD ALL" else { return }
        // In a pipeline, what follows in the same unit may have left new state.
        guard current?.unit.isSimpleQuery == true || requests.operations.count == 1 else { return }
        statements.removeAll()
        for link in links where link?.role == .primary { link?.prepared.removeAll() }
        route.discardedAll()
    }

    private func endPassThroughAfterError() {
        passThrough = nil
        passThroughLink = nil
        current?.expectsReady = true
    }

    // MARK: - The end of a unit

    private func finishedUnit(on link: ServerLink, _ status: TransactionStatus) {
        link.clearPending()
        transactionLink = status == .idle ? nil : link
        if link.role == .primary {
            if let current, current.deallocatesAll, current.completions == 1, !current.hasFailed {
                // Drivers do this after a rollback; what there was of state before stays.
                statements.removeAll()
                link.prepared.removeAll()
                route.leftNoState()
            }
            route.answered(status, now: worker.now)
        } else if let transaction = standbyTransaction {
            finishedInStandbyTransaction(transaction, status)
        }
    }

    private func finishedInStandbyTransaction(_ transaction: StandbyTransaction, _ status: TransactionStatus) {
        guard status == .idle else {
            standbyTransaction?.hasAnswered = current?.unit.effect != .beginReadOnly
            return
        }
        standbyTransaction = nil
        if transaction.isCommitted, !transaction.state.isEmpty {
            prelude = transaction.state
            route.inheritState()
        }
    }

    private func unitIsOver(on link: ServerLink) {
        worker.unitsInFlight -= 1
        if let current, !current.isConsumed {
            client.consume(current.unit.length)
        }
        if passThroughLink === link, passThrough?.answerEnded() == true {
            passThrough = nil
            passThroughLink = nil
        }
        // The client's Query behind messages that failed without a Sync is skipped, as PostgreSQL does.
        if let current, current.hidesReady, current.hasFailed { throwAway(until: .sync) }
        if let current, current.hasFailed, current.hasSyncedTwice { resynchronise(link) }
        current = nil
        phase = .idle
        link.stream.receive()
        if link.stream.hasUnread { receivedAnswer(on: link) }
        guard phase == .idle else { return }
        if client.hasUnread || passThrough != nil || clientHasFinished {
            advance()
        } else {
            client.receive()
        }
    }

    /// A copy failed, and the server may or may not say ReadyForQuery once more. A message of ours, whose answer cannot be
    /// mistaken, tells where the next unit's answer begins.
    private func resynchronise(_ link: ServerLink) {
        var writer = MessageWriter()
        writer.closeUnnamedPortal()
        writer.sync()
        link.stream.send(writer.bytes)
        link.drains = 1
        link.drainsBehindClose = true
    }

    /// What a standby says of a unit is not the answer: the unit runs again on the primary.
    private func repeatUnit(after link: ServerLink, _ fields: ServerErrorFields) {
        link.clearPending()
        link.drains = 1
        worker.unitsInFlight -= 1
        if transactionLink != nil { moveTransaction(from: link) }
        worker.noteRepeated(on: link.node, fields)
        // Only the primary's answer counts: the standbys are out of the choice.
        current?.tried = worker.standbys
        current?.link = nil
        drain(link)
        choose()
    }

    /// Throws away the rest of an answer, up to ReadyForQuery.
    private func drain(_ link: ServerLink) {
        while let input = link.stream.input {
            let bytes = link.stream.bytes.bytes
            var offset = input.scanned
            var isIncomplete = false
            scan: while true {
                switch link.reader.next(bytes, offset: &offset, limit: BufferPool.bufferSize) {
                case .message(.closeComplete, _):
                    link.drainsBehindClose = false
                case .message(.readyForQuery, _):
                    if link.drainsBehindClose { continue }
                    link.drains -= 1
                    if link.drains == 0 { break scan }
                case .message:
                    continue
                case .end:
                    break scan
                case .incomplete:
                    isIncomplete = true
                    break scan
                case .garbage:
                    link.close(politely: false)
                    linkBroke(link, reason: "it broke the protocol")
                    return
                }
            }
            link.stream.consume(offset - input.start)
            if link.drains == 0 {
                link.stream.receive()
                runWaiting(on: link)
                return
            }
            if isIncomplete {
                guard link.stream.receiveMore() else { return }
            }
        }
        link.stream.receive()
    }

    /// A server speaks while no unit runs on it: notices, notifications, changed parameters, or its end.
    private func receivedUnasked(on link: ServerLink) {
        guard let input = link.stream.input else {
            link.stream.receive()
            return
        }
        let bytes = link.stream.bytes.bytes
        var offset = input.scanned
        var needsMore = false
        scan: while true {
            switch link.reader.next(bytes, offset: &offset, limit: BufferPool.bufferSize) {
            case .message(let type, let range):
                // The messages of a standby would tell the client of a server it does not know.
                guard link.role == .primary else { continue }
                if type == .errorResponse { link.lastWords = bytes.array(range) }
                if type != .errorResponse, phase == .idle || phase == .running || phase == .waiting,
                    link.reader.bodyRemaining == 0, !isMidMessage
                {
                    client.send(input.buffer, range)
                }
            case .end:
                break scan
            case .incomplete:
                needsMore = true
                break scan
            case .garbage:
                link.close(politely: false)
                linkBroke(link, reason: "it broke the protocol")
                return
            }
        }
        link.stream.consume(offset - input.start)
        // A client that does not read is not sent to without end.
        if client.isSending { return }
        if needsMore {
            if link.stream.receiveMore() { receivedUnasked(on: link) }
        } else {
            link.stream.receive()
        }
    }
}
