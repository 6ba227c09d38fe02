import PostgresWire
import Topology

/// Cancel requests: clients', on their way to the session that they are for, and ours, on their way to a node.
extension Worker {
    /// Beyond those of processes, which end at 2^22: who gives his to `pg_terminate_backend()` must not end somebody else.
    /// Source: proc(5), `pid_max`.
    private static let firstProcessID = 1 << 30

    /// The process number clients are told: it holds the worker's number and the session's.
    func processID(ofSession index: Int) -> Int32 {
        Int32(truncatingIfNeeded: Self.firstProcessID + index * 64 + number)
    }

    /// A client connection turned out to be a cancel request. It is closed when the request was passed on, as libpq's
    /// PQcancel waits for that.
    func cancel(_ key: CancelKey, from requester: Session) {
        let owner = (Int(key.processID) - Self.firstProcessID) % 64
        guard key.processID >= Self.firstProcessID, owner < siblings.count else {
            requester.close()
            return
        }
        if siblings[owner] === self {
            let id = id(of: requester)
            cancelHere(key) { [weak self] in self?.session(id)?.close() }
        } else {
            siblings[owner].mailbox.put(.cancel(key, replyTo: self, session: id(of: requester)))
        }
    }

    func cancelHere(_ key: CancelKey, then finished: @escaping () -> Void) {
        let index = (Int(key.processID) - Self.firstProcessID) / 64
        guard sessions.indices.contains(index), let session = sessions[index], session.cancelKey == key else {
            finished()
            return
        }
        session.cancelRequested(then: finished)
    }

    /// Sends a cancel request for what runs on a connection to its node, over a connection of its own that goes the same way.
    func sendCancel(to server: ServerConnection, then finished: @escaping () -> Void) {
        guard let address = address(of: server.node) else {
            finished()
            return
        }
        let node = topology[server.node]
        let security = NodeSecurity(transportContexts, host: node.host, like: server.transport)
        let canceller = Canceller(key: server.cancelKey, security: security)
        cancellers[ObjectIdentifier(canceller)] = canceller
        canceller.onEnd = { [weak self, unowned canceller] in
            self?.cancellers[ObjectIdentifier(canceller)] = nil
            finished()
        }
        guard let stream = makeStream(owner: canceller) else {
            canceller.end()
            return
        }
        canceller.stream = stream
        limitTime(of: stream)
        stream.connect(address: address, port: node.port)
    }
}

/// A cancel request on its way to a node: done when the node has closed the connection, and so has signalled.
final class Canceller: StreamOwner {
    private let key: CancelKey
    private var security: NodeSecurity
    var stream: Stream?
    var onEnd: (() -> Void)?

    init(key: CancelKey, security: NodeSecurity) {
        self.key = key
        self.security = security
    }

    func streamDidConnect(_ stream: Stream) { proceed(security.connected(stream), stream) }

    func streamDidReceive(_ stream: Stream) {
        if security.isNegotiating { proceed(security.received(stream), stream) } else { end() }
    }

    func streamDidSecure(_ stream: Stream) {
        security.secured(stream)
        proceed(.startUp, stream)
    }

    private func proceed(_ step: NodeSecurity.Step, _ stream: Stream) {
        switch step {
        case .wait:
            stream.receive()
        case .startUp:
            var writer = MessageWriter()
            writer.cancelRequest(key)
            stream.send(writer.bytes)
            stream.receive()
        case .fail:
            end()
        }
    }

    func streamDidSendAll(_ stream: Stream) {}
    func streamDidBreak(_ stream: Stream, code: Int32) { end() }
    func streamTookTooLong(_ stream: Stream) { end() }

    func end() {
        stream?.close()
        stream = nil
        let action = onEnd
        onEnd = nil
        action?()
    }
}
