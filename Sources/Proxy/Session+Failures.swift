import Logging
import PostgresWire
import ProxyCore
import QueryAnalysis
import Topology

/// What a client sees when something breaks: the table in the design.
extension Session {
    /// A server connection is ready for its first unit.
    func linkIsReady(_ link: ServerLink) {
        switch phase {
        case .openingFirstLink: firstLinkIsReady(link)
        case .waiting: runWaiting(on: link)
        case .login, .idle, .running, .closed: break
        }
    }

    /// A server connection could not be had.
    func linkFailed(_ link: ServerLink, _ failure: LinkFailure) {
        forget(link)
        if failure.blamesNode {
            worker.report(link.node, "a client session cannot log in: \(failure.description)")
        }
        switch phase {
        case .openingFirstLink:
            firstLinkFailed(link, failure)
        case .waiting:
            guard current?.link === link else { return }
            current?.link = nil
            current?.tried |= 1 << link.node.rawValue
            if link.role == .standby || failure.blamesNode {
                choose()
            } else {
                failUnit(
                    ErrorMessage(
                        .error,
                        .connectionFailure,
                        "the session cannot log in to node \(worker.name(of: link.node)) again",
                        detail: failure.description
                    )
                )
            }
            advance()
        case .login, .idle, .running, .closed:
            break
        }
    }

    /// A server connection that was ready is gone.
    func linkBroke(_ link: ServerLink, reason: String) {
        forget(link)
        guard phase != .closed else { return }
        let name = worker.name(of: link.node)
        // A BEGIN that was repeated here is gone: the unit alone would run outside of its transaction.
        let lostPrelude = link.role == .primary && link.isDraining
        if phase == .openingFirstLink {
            openFirstLink(tried: firstLinkTried | 1 << link.node.rawValue)
            return
        }
        if link.role == .primary, route.hasState {
            // What the application left in the server session cannot be brought back, and must not be missed silently.
            if let words = link.lastWords, !isMidMessage {
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
        if transactionLink === link {
            transactionLink = nil
            lostTransaction = true
        }
        guard let unit = current, unit.link === link else { return }
        if phase == .running {
            worker.unitsInFlight -= 1
            phase = .waiting
        }
        current?.link = nil
        if unit.isRepeatable, !lostTransaction, !lostPrelude {
            // A primary whose connection broke may be there all the same: it gets another try.
            if link.role == .primary { current?.primaryBreaks += 1 }
            if link.role == .standby || unit.primaryBreaks > 0 { current?.tried |= 1 << link.node.rawValue }
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
        let isCommit = unit.unit.effect == .transactionEnd
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
        transactionLink = nil
        standbyTransaction = nil
        // State still to be brought to the primary stays due; a BEGIN does not.
        if !route.hasState { prelude = [] }
        waitsForPrimaryUntil = nil
        phase = .idle
        var writer = MessageWriter()
        message.write(to: &writer)
        if passThrough != nil {
            // What still comes of the unit is thrown away. ReadyForQuery follows behind it, but for a simple COPY: there the
            // client, which sees the error, says nothing more, and only the present message has to be ended.
            let isSimpleCopy = passThrough?.ending == .copy(isExtended: false)
            if passThrough?.copyFailed() == true { passThrough = nil }
            passThroughLink = nil
            throwAwaySaysReady = !isSimpleCopy
            if isSimpleCopy { writer.readyForQuery(.idle) }
        } else if unit.unit.ending == .flush {
            if !unit.isConsumed { client.consume(unit.unit.length) }
            throwAway(until: .sync)
        } else {
            if !unit.isConsumed { client.consume(unit.unit.length) }
            writer.readyForQuery(.idle)
        }
        client.send(writer.bytes)
    }

    private func forget(_ link: ServerLink) {
        if links.indices.contains(link.node.rawValue), links[link.node.rawValue] === link {
            links[link.node.rawValue] = nil
        }
        if unnamedIsOn === link { unnamedIsOn = nil }
        if passThroughLink === link {
            passThroughLink = nil
            if current?.link !== link { throwAwaySaysReady = false }
        }
    }

    // MARK: - The topology has changed

    func topologyChanged() {
        guard phase != .closed else { return }
        while links.count < worker.topology.nodes.count { links.append(nil) }
        for case let link? in links where link.role != worker.topology[link.node].role && link.state != .closed {
            // What it may be used for was decided by its role.
            breakLink(link, reason: "its node has another role now")
            guard phase != .closed else { return }
        }
        if phase == .openingFirstLink {
            for case let link? in links where worker.topology[link.node].state == .down && link.state != .closed {
                breakLink(link, reason: "the node is down")
                return
            }
        }
        // A node that was lost takes units along that it has not begun to answer: they run again elsewhere.
        if let link = current?.link, worker.topology[link.node].state == .down, link.state != .closed,
            phase == .waiting || (phase == .running && current?.isRepeatable == true && link.role == .standby)
        {
            breakLink(link, reason: "the node is down")
        }
        if phase == .waiting, current?.link == nil {
            choose()
            advance()
        }
    }

    private func breakLink(_ link: ServerLink, reason: String) {
        let wasReady = link.state == .ready
        link.close(politely: false)
        if wasReady {
            linkBroke(link, reason: reason)
        } else {
            linkFailed(link, .unreachable(reason))
        }
    }

    /// The wait for a primary is over.
    func primaryWaitEnded() {
        guard phase == .waiting, current?.link == nil, waitsForPrimaryUntil.map({ $0 <= worker.now }) ?? false else {
            return
        }
        choose()
        advance()
    }

    /// A cancel request for this session has come.
    func cancelRequested(then finished: @escaping () -> Void) {
        switch phase {
        case .running:
            guard let link = current?.link, link.state == .ready,
                let address = worker.address(of: link.node)
            else {
                finished()
                return
            }
            link.cancelsInFlight += 1
            worker.sendCancel(
                link.cancelKey,
                to: link.node,
                transport: link.transport,
                address: address,
                port: worker.topology[link.node].port
            ) { [weak self] in
                finished()
                link.cancelsInFlight -= 1
                if link.cancelsInFlight == 0 { self?.runWaiting(on: link) }
            }
        case .waiting:
            if current?.link.map({ $0.cancelsInFlight == 0 && !$0.isDraining }) ?? true {
                failUnit(ErrorMessage(.error, .queryCanceled, "canceling statement due to user request"))
                advance()
            }
            finished()
        case .login, .openingFirstLink, .idle, .closed:
            finished()
        }
    }
}
