import Glibc
import PostgresAuth
import PostgresWire
import ProxyCore
import Reactor
import Topology

/// One server connection of a pool: logging in, what its server session holds, and where its answer stands.
///
/// It is lent to one client session at a time. What a session leaves unanswered or has to be put in order is worked off by
/// the connection itself, so that it may be given back at once.
final class ServerConnection: StreamOwner {
    enum State {
        case connecting
        case loggingIn
        case ready
        case closed
    }

    /// A message sent to the server whose answer changes what is known to be prepared; in the order of the answers.
    enum PendingOperation {
        /// Ours: the answer is kept from the client.
        case injected
        case injectedParse(SharedStatement)
        case injectedClose(SharedStatement)
        /// A Parse under a name that the server is to refuse.
        case injectedRefusal([UInt8])
        /// The client's.
        case parse(StatementName, [UInt8], SharedStatement)
        case parseUnnamed
        /// Under its own name, which the server should refuse.
        case parseAsNamed([UInt8])
        case closeStatement(StatementName, [UInt8])
        case bind(StatementName)
        /// Its answer changes nothing.
        case other
    }

    let node: NodeID
    let role: Role
    let profile: PoolGroup.Profile
    let pool: Pool
    private(set) var stream: Stream!
    /// The session it is lent to.
    private(set) var session: Session?
    private(set) var state: State = .connecting
    private var login: ServerLogin
    private let credential: LoginCredential
    private var security: NodeSecurity
    /// How its bytes travel.
    var transport: ServerTransport { security.transport }
    private(set) var cancelKey = CancelKey(processID: 0, secret: 0)
    let openedAt: MonotonicTime
    var lastUse: MonotonicTime

    // What the server session holds.
    var settings = SessionSettings.none
    private(set) var reported = ReportedParameters.none
    var prepared = PreparedOnServer()
    /// Statements prepared under a client's own names, because SQL names them or was not seen.
    var clientNames: [[UInt8]] = []
    /// The session whose unnamed statement was prepared by a message that was not seen: there it stays.
    var unseenUnnamedOf: UInt64?
    /// Names that were taken only for the server to refuse them.
    var refusedNames: [[UInt8]] = []
    /// The session that last ran something which may have taken a value from a sequence.
    var sequenceUser: UInt64?
    /// The session that last ran something which may have made settings that cannot be asked for.
    var settingsUser: UInt64?
    /// It holds what the next session must not see.
    var mustDiscard = false
    /// A schema for temporary objects was made, which stays when they go.
    var hasTemporarySchema = false
    /// It holds what cannot be discarded.
    var mustClose = false

    // Where its answer stands.
    var reader = AnswerReader()
    var pending: [PendingOperation] = []
    private var pendingHead = 0
    /// How many ReadyForQuery to go until answers are for the client again; what comes before is thrown away.
    private(set) var drains = 0
    /// Of those only what comes behind a CloseComplete counts.
    private var drainsBehindClose = false
    /// Reads what is drained.
    var probe: StateProbe?
    /// What is drained makes a session's state: an error in it is kept here.
    private var replays = false
    var replayError: ServerErrorFields?
    /// How many of the last drains may end in an error.
    private var attempts = 0
    /// An error the server sent without being asked: why it ends the connection.
    var lastWords: [UInt8]?
    /// Cancel requests under way to the server. The next unit waits for them, so that they cannot hit it.
    private(set) var cancelsInFlight = 0

    var isDraining: Bool { drains > 0 }
    /// Nothing is under way on it that would meet the next unit.
    var isQuiet: Bool { drains == 0 && cancelsInFlight == 0 }

    init(node: Node, pool: Pool, profile: PoolGroup.Profile, credential: LoginCredential, now: MonotonicTime) {
        self.node = node.id
        self.role = node.role
        self.pool = pool
        self.profile = profile
        openedAt = now
        lastUse = now
        self.credential = credential
        security = NodeSecurity(pool.worker.transportContexts, host: node.host)
        login = Self.login(credential, pool.key.user)
    }

    private static func login(_ credential: LoginCredential, _ user: String) -> ServerLogin {
        ServerLogin(credential: credential, role: user, random: Random.bytes(SCRAMNonce.randomByteCount))
    }

    /// Begins to connect; the outcome comes to the pool as `connectionIsReady` or `connectionFailed`.
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

    // MARK: - Lending

    func lend(to session: Session) {
        self.session = session
    }

    func takeBack(now: MonotonicTime) {
        session = nil
        lastUse = now
        unseenUnnamedOf = nil
    }

    func cancelBegins() { cancelsInFlight += 1 }

    func cancelEnded() {
        cancelsInFlight -= 1
        becameQuiet()
    }

    private func becameQuiet() {
        guard isQuiet, state == .ready else { return }
        if let session {
            session.serverIsQuiet(self)
        } else {
            pool.connectionIsQuiet(self)
        }
    }

    // MARK: - What is not for the client

    /// Sends queries of ours; their answers are thrown away, but for an error, which is kept.
    func replay(_ queries: [[UInt8]]) {
        for query in queries { sendQuery(query) }
        drains += queries.count
        replays = true
        replayError = nil
    }

    /// Sends messages of ours, each with its Sync, any of which may be refused.
    func attempt(_ messages: [[UInt8]]) {
        for message in messages { stream.send(message) }
        drains += messages.count
        attempts = messages.count
    }

    func replay(_ sql: [UInt8]) {
        replay([Self.query(sql)])
    }

    /// A simple query ends the unnamed statement, which is the session's.
    private func sendQuery(_ message: [UInt8]) {
        prepared.unnamed = nil
        unseenUnnamedOf = nil
        stream.send(message)
    }

    static func query(_ sql: some Sequence<UInt8>) -> [UInt8] {
        var writer = MessageWriter()
        writer.message(.query) {
            $0.raw(sql)
            $0.byte(0)
        }
        return writer.bytes
    }

    /// Asks what the session has left here; `probe` reads the answer.
    func ask(names: [String]) {
        if unseenUnnamedOf == nil {
            sendQuery(StateProbe.query(names: names))
        } else {
            stream.send(StateProbe.extendedQuery(names: names))
        }
        drains += 1
        probe = StateProbe()
    }

    /// The rest of an answer that was begun is thrown away.
    func abandonAnswer() {
        clearPending()
        drains += 1
        drain()
    }

    /// Takes back what the transaction did; the answer is thrown away.
    func rollBack() {
        sendQuery(Self.query("ROLLBACK".utf8))
        drains += 1
    }

    /// An answer has ended, and the server may or may not say ReadyForQuery once more. A message of ours, whose answer
    /// cannot be mistaken, tells where the next unit's answer begins.
    func resynchronise() {
        var writer = MessageWriter()
        writer.closeUnnamedPortal()
        writer.sync()
        stream.send(writer.bytes)
        drains += 1
        drainsBehindClose = true
    }

    /// Makes the server session as new.
    func discardAll() {
        wasDiscarded()
        settings = .none
        replay(Array("DISCARD ALL".utf8))
    }

    /// DISCARD ALL leaves nothing of what is noted here, but for the settings, which are followed one by one.
    func wasDiscarded() {
        prepared.removeAll()
        clientNames = []
        sequenceUser = nil
        settingsUser = nil
        mustDiscard = false
    }

    /// Closes the statements that have clients' names.
    func closeClientNames() {
        close(statements: clientNames)
        clientNames = []
    }

    func closeRefusedNames() {
        close(statements: refusedNames)
        refusedNames = []
    }

    private func close(statements names: [[UInt8]]) {
        guard !names.isEmpty else { return }
        var writer = MessageWriter()
        for name in names { writer.closeStatement(name) }
        writer.sync()
        stream.send(writer.bytes)
        drains += 1
    }

    /// A ParameterStatus message has come.
    func report(_ message: RawSpan) {
        reported = pool.worker.parameters.shared(reported.reporting(message))
    }

    // MARK: - Operations on prepared statements

    /// Whether a statement has a client's own name on it, or will have when what is under way is answered.
    func hasNamed(_ name: [UInt8]) -> Bool {
        if clientNames.contains(name) { return true }
        return pending[min(pendingHead, pending.count)...].contains { operation in
            if case .parseAsNamed(name) = operation { true } else { false }
        }
    }

    /// The statement that messages under way give a name; `.some(nil)` when they close it.
    func definitionUnderWay(of name: StatementName) -> SharedStatement?? {
        for operation in pending[min(pendingHead, pending.count)...].reversed() {
            switch operation {
            case .parse(name, _, let statement): return .some(statement)
            case .closeStatement(name, _): return .some(nil)
            default: continue
            }
        }
        return nil
    }

    /// The clients' names of a statement whose Parse is not answered.
    func namesBeingPrepared(as name: [UInt8]) -> [[UInt8]] {
        pending.compactMap { operation in
            if case .parse(_, let bytes, let statement) = operation, statement.name == name { bytes } else { nil }
        }
    }

    func popPending() -> PendingOperation? {
        guard pendingHead < pending.count else { return nil }
        let operation = pending[pendingHead]
        pendingHead += 1
        if pendingHead == pending.count { clearPending() }
        return operation
    }

    func popBind() {
        if nextBind != nil { pendingHead += 1 }
        if pendingHead == pending.count { clearPending() }
    }

    /// The statement of the Bind that is answered next, if a Bind is.
    var nextBind: StatementName? {
        guard pendingHead < pending.count, case .bind(let statement) = pending[pendingHead] else { return nil }
        return statement
    }

    /// Messages that are not answered were not executed. Returns whether a Parse of the unnamed statement is among them.
    func skippedPending() -> Bool {
        guard pendingHead < pending.count else { return false }
        var skipsUnnamed = false
        // Undone from the last to the first: of one statement there may be several.
        for operation in pending[pendingHead...].reversed() {
            switch operation {
            case .injectedParse(let statement), .parse(_, _, let statement): prepared.remove(statement)
            case .injectedClose(let statement): prepared.add(statement)
            case .parseUnnamed: skipsUnnamed = true
            case .injected, .injectedRefusal, .parseAsNamed, .closeStatement, .bind, .other: break
            }
        }
        clearPending()
        return skipsUnnamed
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
            stream.send(profile.startup.packet)
            stream.receive()
        case .fail(let problem):
            pool.worker.noteSecurityProblem(problem, of: node)
            breakOff(problem)
        }
    }

    /// Connects again, now with TLS or without, where the mode allows both. Returns whether it does.
    private func triesOtherWay() -> Bool {
        guard state == .connecting || state == .loggingIn, security.failed() else { return false }
        let worker: Worker = pool.worker
        stream.close()
        state = .connecting
        login = Self.login(credential, pool.key.user)
        guard let address = worker.address(of: node) else { return false }
        return open(address: address, port: worker.topology[node].port, worker: worker)
    }

    func streamDidReceive(_ stream: Stream) {
        switch state {
        case .ready: received()
        case .loggingIn: logIn()
        case .connecting: if security.isNegotiating { proceed(security.received(stream)) }
        case .closed: break
        }
    }

    func streamDidSendAll(_ stream: Stream) {
        if state == .ready { session?.serverTookEverything(self) }
    }

    func streamTookTooLong(_ stream: Stream) {
        if state == .connecting || state == .loggingIn { streamDidBreak(stream, code: ETIMEDOUT) }
    }

    func streamDidBreak(_ stream: Stream, code: Int32) {
        if let problem = stream.securityProblem { pool.worker.noteSecurityProblem(problem, of: node) }
        if triesOtherWay() { return }
        breakOff(
            stream.securityProblem.map { "TLS: \($0)" }
                ?? (code == 0 ? "the server closed the connection" : String(cString: strerror(code)))
        )
    }

    /// The connection is of no more use.
    func breakOff(_ reason: String) {
        guard state != .closed else { return }
        let wasReady = state == .ready
        close(politely: false)
        guard wasReady else {
            pool.connectionFailed(self, .unreachable(reason))
            return
        }
        pool.connectionIsLost(self)
        let session = self.session
        self.session = nil
        session?.serverBroke(self, reason: reason)
    }

    func received() {
        if isDraining {
            drain()
        } else if let session {
            session.receivedAnswer(on: self)
        } else {
            receivedIdle()
        }
    }

    /// Throws away the rest of an answer, up to ReadyForQuery.
    private func drain() {
        while let input = stream.input {
            let bytes = stream.bytes.bytes
            var offset = input.scanned
            var isIncomplete = false
            scan: while true {
                let limit = BufferPool.bufferSize
                switch reader.next(bytes, offset: &offset, limit: limit, wantsRows: probe != nil) {
                case .message(.closeComplete, _):
                    drainsBehindClose = false
                case .message(.readyForQuery, _):
                    if drainsBehindClose { continue }
                    drains -= 1
                    if drains == 0 { break scan }
                case .message(.parameterStatus, let range):
                    report(bytes.extracting(range))
                case .message(.notificationResponse, let range):
                    session?.wasNotified(bytes.extracting(range), on: self)
                case .message(let type, let range):
                    probe?.received(type, bytes.extracting(range))
                    if type == .errorResponse { drainedError(bytes.extracting(range)) }
                case .end:
                    break scan
                case .incomplete:
                    isIncomplete = true
                    break scan
                case .garbage:
                    breakOff("it broke the protocol")
                    return
                }
            }
            stream.consume(offset - input.start)
            if drains == 0 {
                replays = false
                attempts = 0
                stream.receive()
                becameQuiet()
                return
            }
            if isIncomplete {
                stream.markScanned(offset)
                guard stream.receiveMore() else { return }
            }
        }
        stream.receive()
    }

    private func drainedError(_ message: RawSpan) {
        let fields = ServerErrorFields(body: message.extracting(MessageHeader.size..<message.byteCount))
        if fields.isFatal { lastWords = message.array(0..<message.byteCount) }
        if replays, replayError == nil, drains > attempts { replayError = fields }
    }

    /// A server speaks while its connection is lent to nobody: changed parameters, or why it ends the connection.
    private func receivedIdle() {
        while let input = stream.input {
            let bytes = stream.bytes.bytes
            var offset = input.scanned
            var isIncomplete = false
            scan: while true {
                switch reader.next(bytes, offset: &offset, limit: BufferPool.bufferSize) {
                case .message(.parameterStatus, let range): report(bytes.extracting(range))
                case .message(.noticeResponse, _), .message(.notificationResponse, _): continue
                case .message(.errorResponse, _): continue
                case .end: break scan
                case .incomplete:
                    isIncomplete = true
                    break scan
                case .message, .garbage:
                    breakOff("it broke the protocol")
                    return
                }
            }
            stream.consume(offset - input.start)
            if isIncomplete, !stream.receiveMore() { return }
        }
        stream.receive()
    }

    private func logIn() {
        while state == .loggingIn, stream.hasUnread {
            let bytes = stream.unread.bytes
            guard let header = MessageHeader(bytes, at: 0) else { break }
            guard let type = BackendMessage(rawValue: header.type), header.length >= 4,
                header.totalSize <= BufferPool.bufferSize
            else {
                close(politely: false)
                pool.connectionFailed(self, .unreachable("it does not speak PostgreSQL's protocol"))
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
                reported = pool.worker.parameters.shared(login.reported)
                stream.receive()
                pool.connectionIsReady(self)
                return
            case .refused(let fields, let response):
                // pg_hba.conf may have a line for the other way.
                if fields.state == .invalidAuthorization, triesOtherWay() { return }
                close(politely: false)
                pool.connectionFailed(self, .refused(fields, response: response))
                return
            case .failed(let problem):
                close(politely: false)
                pool.connectionFailed(self, .unusable(problem))
                return
            }
        }
        if state == .loggingIn {
            _ = stream.receiveMore()
        }
    }
}

/// Why a server connection could not be had.
enum ConnectionFailure {
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

    /// The node has no connection left to give.
    var isExhaustion: Bool {
        if case .refused(let fields, _) = self { return fields.state == .tooManyConnections }
        return false
    }
}

/// Random numbers nobody can guess.
enum Random {
    static func bytes(_ count: Int) -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }
}
