import Glibc
import PostgresAuth
import PostgresWire
import ProxyCore
import QueryAnalysis
import Reactor
import Topology

/// One server connection of a client session: logging in, what is prepared on it, and where its answer stands.
final class ServerLink: StreamOwner {
    enum State {
        case connecting
        case loggingIn
        case ready
        case closed
    }

    /// A message sent to the server whose answer changes what is known to be prepared; in the order of the answers.
    enum PendingOperation {
        /// Ours: the answer is kept from the client.
        case injectedClose(StatementName)
        case injectedParse(StatementName, PreparedStatements.Generation)
        /// The client's. Ranges are offsets in its unit, which stands at the start of the client's bytes.
        case parse(StatementName, name: Range<Int>, message: Range<Int>, effect: StatementEffect)
        /// The client's, in a unit whose bytes are given away before the answer comes.
        case parseCopied(StatementName, name: [UInt8], message: [UInt8], effect: StatementEffect)
        case closeStatement(StatementName)
        case closePortal
    }

    let node: NodeID
    let role: Role
    private(set) var stream: Stream!
    private unowned(unsafe) let session: Session
    private(set) var state: State = .connecting
    private var login: ServerLogin
    private let credential: SCRAMClient.Credential
    private var security: NodeSecurity
    /// How its bytes travel.
    var transport: ServerTransport { security.transport }
    private(set) var cancelKey = CancelKey(processID: 0, secret: 0)
    /// The ParameterStatus messages of the login.
    private(set) var parameterStatuses: [UInt8] = []
    var hasASCIISafeEncoding: Bool { login.hasASCIISafeEncoding }

    var reader = AnswerReader()
    var prepared = PreparedOnServer()
    var pending: [PendingOperation] = []
    var pendingHead = 0
    /// How many ReadyForQuery to go until answers are for the client again; what comes before is thrown away.
    var drains = 0
    var isDraining: Bool { drains > 0 }
    /// Of those only what comes behind a CloseComplete counts.
    var drainsBehindClose = false
    /// An error the server sent without being asked: why it ends the connection.
    var lastWords: [UInt8]?
    /// Cancel requests under way to the server. The next unit waits for them, so that they cannot hit it.
    var cancelsInFlight = 0

    init(node: Node, session: Session, credential: SCRAMClient.Credential) {
        self.node = node.id
        self.role = node.role
        self.session = session
        self.credential = credential
        security = NodeSecurity(session.worker.transportContexts, host: node.host)
        login = ServerLogin(credential: credential, random: Random.bytes(SCRAMNonce.randomByteCount))
    }

    /// Begins to connect; the outcome comes to the session as `linkIsReady` or `linkFailed`.
    func open(address: UInt32, port: UInt16, worker: Worker) -> Bool {
        guard let stream = worker.makeStream(owner: self) else { return false }
        self.stream = stream
        stream.connect(address: address, port: port)
        worker.limitTime(of: stream)
        return true
    }

    /// - Parameter politely: say Terminate first, so that the server does not log a lost connection.
    func close(politely: Bool) {
        guard state != .closed else { return }
        let wasReady = state == .ready
        state = .closed
        if politely, wasReady {
            var writer = MessageWriter()
            writer.terminate()
            stream.send(writer.bytes)
        }
        stream?.close(flush: politely && wasReady)
    }

    // MARK: - Operations on prepared statements

    func popPending() -> PendingOperation? {
        guard pendingHead < pending.count else { return nil }
        let operation = pending[pendingHead]
        pendingHead += 1
        if pendingHead == pending.count { clearPending() }
        return operation
    }

    /// Copies what pending operations still need of the unit, before its bytes are given away.
    func detachPending(from unit: RawSpan) {
        for index in pendingHead..<max(pendingHead, pending.count) {
            if case .parse(let name, let nameRange, let message, let effect) = pending[index] {
                pending[index] = .parseCopied(
                    name,
                    name: unit.array(nameRange),
                    message: unit.array(message),
                    effect: effect
                )
            }
        }
    }

    /// A Parse of the unnamed statement was sent and is not answered.
    var awaitsUnnamedParse: Bool {
        pending[pendingHead...].contains { operation in
            switch operation {
            case .parse(let name, _, _, _), .parseCopied(let name, _, _, _): name.isUnnamed
            case .injectedClose, .injectedParse, .closeStatement, .closePortal: false
            }
        }
    }

    func clearPending() {
        pending.removeAll(keepingCapacity: true)
        pendingHead = 0
    }

    // MARK: - Stream

    func streamDidConnect(_ stream: Stream) { proceed(security.connected(stream)) }

    func streamDidSecure(_ stream: Stream) {
        security.secured(stream)
        proceed(.startUp)
    }

    private func proceed(_ step: NodeSecurity.Step) {
        switch step {
        case .wait:
            stream.receive()
        case .startUp:
            state = .loggingIn
            login.transport = security.transport
            stream.send(session.startupPacket)
            stream.receive()
        case .fail(let problem):
            session.worker.noteSecurityProblem(problem, of: node)
            close(politely: false)
            session.linkFailed(self, .unreachable(problem))
        }
    }

    /// Connects again, now with TLS or without, where the mode allows both. Returns whether it does.
    private func triesOtherWay() -> Bool {
        guard state != .ready, security.failed() else { return false }
        let worker = session.worker
        stream.close()
        state = .connecting
        login = ServerLogin(credential: credential, random: Random.bytes(SCRAMNonce.randomByteCount))
        guard let address = worker.address(of: node) else { return false }
        return open(address: address, port: worker.topology[node].port, worker: worker)
    }

    func streamDidReceive(_ stream: Stream) {
        switch state {
        case .ready: session.receivedAnswer(on: self)
        case .loggingIn: logIn()
        case .connecting: if security.isNegotiating { proceed(security.received(stream)) }
        case .closed: break
        }
    }

    func streamDidSendAll(_ stream: Stream) {
        if state == .ready {
            session.serverTookEverything(self)
        }
    }

    func streamTookTooLong(_ stream: Stream) {
        if state == .connecting || state == .loggingIn { streamDidBreak(stream, code: ETIMEDOUT) }
    }

    func streamDidBreak(_ stream: Stream, code: Int32) {
        if let problem = stream.securityProblem { session.worker.noteSecurityProblem(problem, of: node) }
        if triesOtherWay() { return }
        let reason =
            stream.securityProblem.map { "TLS: \($0)" }
            ?? (code == 0 ? "the server closed the connection" : String(cString: strerror(code)))
        let wasReady = state == .ready
        close(politely: false)
        if wasReady {
            session.linkBroke(self, reason: reason)
        } else {
            session.linkFailed(self, .unreachable(reason))
        }
    }

    private func logIn() {
        while state == .loggingIn, stream.hasUnread {
            let bytes = stream.unread.bytes
            guard let header = MessageHeader(bytes, at: 0) else { break }
            guard let type = BackendMessage(rawValue: header.type), header.length >= 4,
                header.totalSize <= BufferPool.bufferSize
            else {
                close(politely: false)
                session.linkFailed(self, .unreachable("it does not speak PostgreSQL's protocol"))
                return
            }
            guard header.totalSize <= bytes.byteCount else { break }
            let action = login.received(type, message: bytes.extracting(0..<header.totalSize))
            stream.consume(header.totalSize)
            switch action {
            case .wait:
                break
            case .reply(let reply):
                stream.send(reply)
            case .ready:
                state = .ready
                cancelKey = login.cancelKey
                parameterStatuses = login.parameterStatuses
                stream.receive()
                session.linkIsReady(self)
                return
            case .refused(let fields, let response):
                // pg_hba.conf may have a line for the other way.
                if fields.state == .invalidAuthorization, triesOtherWay() { return }
                close(politely: false)
                session.linkFailed(self, .refused(fields, response: response))
                return
            case .failed(let problem):
                close(politely: false)
                session.linkFailed(self, .unusable(problem))
                return
            }
        }
        if state == .loggingIn {
            _ = stream.receiveMore()
        }
    }
}

/// Why a server connection could not be had.
enum LinkFailure {
    case unreachable(String)
    /// The node answers, but this role cannot be logged in to it.
    case unusable(String)
    /// The node's own words: a FATAL error during login.
    case refused(ServerErrorFields, response: [UInt8])

    var description: String {
        switch self {
        case .unreachable(let reason), .unusable(let reason): reason
        case .refused(let fields, _): fields.message
        }
    }

    /// Whether the node, rather than this user or database, is the problem.
    var blamesNode: Bool {
        switch self {
        case .unreachable: true
        case .unusable: false
        case .refused(let fields, _): fields.state == .cannotConnectNow || fields.state == .adminShutdown
        }
    }
}

/// Random numbers nobody can guess.
enum Random {
    static func bytes(_ count: Int) -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }
}
