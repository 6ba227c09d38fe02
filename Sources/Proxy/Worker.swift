import Balancing
import Glibc
import HostBasedAuthentication
import Logging
import PostgresWire
import ProxyCore
import QueryAnalysis
import Reactor
import Synchronization
import Topology

/// The functions of a database, shared by its sessions on a worker and exchanged when they are read anew.
final class FunctionsOfDatabase {
    var catalog = FunctionCatalog()
    /// Somebody asked for the value last taken from a sequence, or something there will: sessions that may have taken one keep
    /// their connections.
    var asksSequences = false
    /// They were read, or cannot be read. Until then sessions wait with their first unit: what is not known to be harmless
    /// would keep them on the primary.
    var isSettled = false
}

private struct GroupKey: Hashable {
    var database: String
    var user: String
}

/// One data-plane thread: its reactor, its client sessions, and everything they hold.
///
/// Only `mailbox` and the constants are touched by other threads; the rest belongs to the thread in `run`, which is why
/// the class may be sent to it.
final class Worker: @unchecked Sendable {
    let number: Int
    let configuration: EndpointConfiguration
    let catalog: any Catalog
    let logger: Logger
    let mailbox = Mailbox()
    /// How many connections and clients there are, over all workers.
    let slots: Slots
    let exchange: FreshnessExchange
    let learnedExchange: LearnedExchange
    /// Makes the mock verifiers of unknown roles the same on every try.
    let mockSecret: [UInt8]
    let admission: Admission
    /// In shadow mode.
    let shadow: ShadowCounts?
    private let listeners: [Int32]
    private let reports: AsyncStream<NodeReport>.Continuation
    /// All workers, for cancel requests; set before any thread starts.
    var siblings: [Worker] = []

    // Below: only on the worker's thread.
    private(set) var reactor: Reactor!
    private(set) var now = MonotonicTime.distantPast
    private(set) var topology: Topology
    private var readers: SmoothWeightedRoundRobin
    private var secondChoices: WeightedRandom
    /// The primary, while it is up.
    private(set) var writer: NodeID?
    private(set) var readerSets: ReaderSets
    var freshness: FreshnessView
    /// Statements that only standbys refuse.
    private(set) var learned: LearnedStatements
    /// Whether there are any: what every unit asks.
    private(set) var hasLearned: Bool
    /// Sessions that are told when the next probe has come back.
    var probeWaiters: Set<SessionID> = []
    var unitsInFlight = 0
    /// For new connections; those that are open keep what they began with.
    private(set) var transportContexts: TransportContexts
    var securityProblems = NodeSecurityProblems()
    private var streams: ContiguousArray<Stream?> = []
    private var freeStreams: [Int] = []
    private var streamSerials: ContiguousArray<UInt64> = []
    private(set) var sessions: ContiguousArray<Session?> = []
    private var freeSessions: [Int] = []
    /// A session's number is the process number of its client, who must not meet it again at once.
    private static let unusedSessions = 64
    private var nextSerial: UInt64 = 0
    private var sessionCount = 0
    private var timers = Timers()
    private var databases: [String: FunctionsOfDatabase] = [:]
    private var pools: [PoolKey: Pool] = [:]
    private var groups: [GroupKey: PoolGroup] = [:]
    /// Server connections opened before then are not lent again.
    private(set) var renewedAt = MonotonicTime.distantPast
    var statements: SharedStatements
    var parameters = ReportedParameters.Table()
    private var lastGeneration: PreparedStatements.Generation = 0
    var naming = StatementNaming()
    /// With `transactions: deferred`: which of them write in the end, and how the last of them began.
    var writers = WriterHistory()
    var lastBegin: [[UInt8]] = []
    private var isStopping = false
    private var stopsAt: MonotonicTime?
    var cancellers: [ObjectIdentifier: Canceller] = [:]
    /// Nodes that live traffic could not reach take no reads for a moment, until the monitor has looked.
    private var avoidedUntil: [MonotonicTime] = []

    init(
        number: Int,
        configuration: EndpointConfiguration,
        topology: Topology,
        transportContexts: TransportContexts,
        catalog: any Catalog,
        logger: Logger,
        admission: Admission,
        listeners: [Int32],
        mockSecret: [UInt8],
        slots: Slots,
        exchange: FreshnessExchange,
        learnedExchange: LearnedExchange,
        reports: AsyncStream<NodeReport>.Continuation
    ) {
        self.number = number
        self.configuration = configuration
        self.topology = topology
        readerSets = ReaderSets(topology)
        self.transportContexts = transportContexts
        self.catalog = catalog
        self.logger = logger
        self.admission = admission
        shadow = configuration.routing == .shadow ? ShadowCounts() : nil
        self.listeners = listeners
        self.mockSecret = mockSecret
        self.slots = slots
        self.exchange = exchange
        self.learnedExchange = learnedExchange
        learned = learnedExchange.statements
        hasLearned = !learned.isEmpty
        freshness = FreshnessView(nodes: topology.nodes.count, primary: topology.primary?.id)
        statements = SharedStatements(secret: Random.bytes(5))
        self.reports = reports
        readers = SmoothWeightedRoundRobin(weights: topology.nodes.map(\.weight))
        secondChoices = WeightedRandom(weights: readers.weights)
        noteRoles()
    }

    // MARK: - The loop

    /// Serves until told to stop. Runs on the worker's own thread.
    func run(kind: Reactor.Kind) throws(ReactorError) {
        reactor = try Reactor(kind: kind)
        reactor.nameThread("worker \(number)")
        reactor.askForLongTurns()
        mailbox.setWaker(reactor.waker)
        tick()
        for index in listeners.indices { accept(on: index) }
        timers.add(.lookAtTime, at: now + .seconds(1))
        while !isOver {
            for letter in mailbox.takeAll() { open(letter) }
            while let event = timers.popDue(now) { fire(event) }
            reactor.wait(timeout: timeout, gather: gather, gatherMicroseconds: 50)
            tick()
            while let completion = reactor.next() {
                handle(completion)
            }
        }
        mailbox.setWaker(nil)
    }

    private func tick() {
        now = MonotonicClock.now
    }

    private var timeout: Int64 {
        guard let next = timers.next else { return -1 }
        return next <= now ? 0 : Int64(next.nanoseconds - now.nanoseconds)
    }

    /// How many completions are worth waiting for together: with many answers on their way a wake-up for each costs more
    /// than the little time the first one waits for the others; with few it would only add latency.
    private var gather: Int {
        unitsInFlight < 8 ? 1 : min(16, unitsInFlight / 2)
    }

    private var isOver: Bool {
        guard isStopping else { return false }
        return streams.allSatisfy { $0 == nil } || stopsAt.map { $0 <= now } ?? false
    }

    private func handle(_ completion: Completion) {
        guard let (kind, index) = Token.split(completion.token) else { return }
        switch kind {
        case .accept:
            accepted(completion.result, on: index)
            if completion.result >= 0, completion.isLast { accept(on: index) }
        case .connect:
            streams[index]?.didConnect(completion.result)
        case .receive:
            streams[index]?.didReceive(completion.result, completion.buffer)
        case .send:
            streams[index]?.didSend(completion.result)
        }
    }

    private func fire(_ event: Timers.Event) {
        switch event {
        case .primaryWait(let id):
            session(id)?.primaryWaitEnded()
        case .closingTooLong(let index, let serial):
            if streamSerials[index] == serial { streams[index]?.abandon() }
        case .acceptAgain(let listener):
            accept(on: listener)
        case .lookAtTime:
            for session in sessions { session?.lookAtTime() }
            for pool in Array(pools.values) { pool.lookAtTime() }
            timers.add(.lookAtTime, at: now + .seconds(1))
        case .stop:
            break  // the loop looks whether it is over
        case .receiveAgain(let index, let serial):
            if streamSerials[index] == serial { streams[index]?.receive() }
        case .decrypt(let index, let serial):
            if streamSerials[index] == serial { streams[index]?.decryptWaiting() }
        case .tookTooLong(let index, let serial):
            if streamSerials[index] == serial { streams[index]?.tookTooLong() }
        case .breakNow(let index, let serial):
            if streamSerials[index] == serial { streams[index]?.breakNow() }
        }
    }

    // MARK: - Mail

    private func open(_ mail: Mail) {
        switch mail {
        case .topology(let topology):
            adopt(topology)
        case .verifier(let id, let result):
            session(id)?.verifierFound(result)
        case .functions(let database, let catalog):
            settle(functions(of: database, load: false), catalog)
        case .cancel(let key, let worker, let requester):
            cancelHere(key) { worker.mailbox.put(.cancelDone(session: requester)) }
        case .cancelDone(let id):
            session(id)?.close()
        case .transportContexts(let contexts):
            transportContexts = contexts
        case .slotIsWanted(let key, let number, let since):
            if let pool = pools[key] {
                pool.isWanted(by: number, since: since)
            } else {
                _ = closeIdle(onNode: key.node)
            }
        case .slotIsFree(let key):
            pools[key]?.slotIsFree()
        case .closeIdle:
            closeIdle()
        case .renew:
            renew()
        case .definitionsChanged:
            statements.definitionsChanged()
        case .learned(let statements):
            adopt(statements)
        case .asksSequences(let database):
            functions(of: database).asksSequences = true
        case .resolved(let probe, let position, let timeline, let node, let askedAt):
            freshness.resolved(probe, at: position, timeline: timeline, by: node, askedAt: askedAt)
            probeAnswered()
        case .replayed(let node, let position, let timeline, let askedAt):
            freshness.replayed(node, position, timeline: timeline, askedAt: askedAt)
        case .shutdown:
            stop()
        }
    }

    private func adopt(_ new: Topology) {
        guard new.version >= topology.version else { return }
        if new.nodes.map(\.weight) != topology.nodes.map(\.weight) {
            readers = SmoothWeightedRoundRobin(weights: new.nodes.map(\.weight))
            secondChoices = WeightedRandom(weights: readers.weights)
        }
        topology = new
        freshness.follow(new.primary?.id)
        noteRoles()
        for session in sessions { session?.topologyChanged() }
        for pool in Array(pools.values) { pool.topologyChanged() }
    }

    /// What every unit asks of the topology.
    private func noteRoles() {
        readerSets = ReaderSets(topology)
        writer = topology.primary.flatMap { $0.state == .up ? $0.id : nil }
    }

    private func stop() {
        guard !isStopping else { return }
        isStopping = true
        stopsAt = now + .seconds(3)
        timers.add(.stop, at: now + .seconds(3))
        for listener in listeners { reactor.cancel(listener) }
        for session in sessions {
            session?.close(
                ErrorMessage(.fatal, .adminShutdown, "terminating connection due to administrator command")
            )
        }
        for pool in pools.values { pool.closeAll() }
    }

    /// Statements that only standbys refuse: the newest that is known here may be out of date with another worker.
    func adopt(_ statements: LearnedStatements) {
        guard statements.version > learned.version else { return }
        learned = statements
        hasLearned = !statements.isEmpty
    }

    // MARK: - Pools

    func group(database: String, user: String) -> PoolGroup {
        let key = GroupKey(database: database, user: user)
        if let known = groups[key] { return known }
        let fresh = PoolGroup(database: database, user: user, worker: self)
        groups[key] = fresh
        return fresh
    }

    func makePool(_ key: PoolKey, in group: PoolGroup) -> Pool {
        let pool = Pool(key: key, group: group, worker: self)
        pools[key] = pool
        return pool
    }

    /// Makes room on a node: closes a connection that idles in any pool. Returns whether there was one.
    func closeIdle(onNode node: NodeID) -> Bool {
        for (key, pool) in pools where key.node == node {
            if pool.closeOneIdle() { return true }
        }
        return false
    }

    private func closeIdle() {
        // Those that are being put in order are closed when they are.
        renewedAt = now
        for pool in Array(pools.values) { pool.closeAllIdle() }
    }

    /// A database is about to be made, dropped or changed: nobody may be connected to it, or to the one it is a copy of.
    func closeIdleEverywhere() {
        closeIdle()
        for sibling in siblings where sibling !== self { sibling.mailbox.put(.closeIdle) }
    }

    private func renew() {
        for group in groups.values { group.renew() }
        closeIdle()
    }

    /// What servers tell at login, and the settings they begin with, may have changed.
    func renewEverywhere() {
        renew()
        for sibling in siblings where sibling !== self { sibling.mailbox.put(.renew) }
    }

    /// Definitions in a database have changed.
    func definitionsChanged() {
        statements.definitionsChanged()
        for sibling in siblings where sibling !== self { sibling.mailbox.put(.definitionsChanged) }
    }

    /// Somebody asks for last values of sequences, or defines what will.
    func asksSequences(in database: String, _ functions: FunctionsOfDatabase) {
        guard !functions.asksSequences else { return }
        functions.asksSequences = true
        for sibling in siblings where sibling !== self { sibling.mailbox.put(.asksSequences(database: database)) }
    }

    /// Asks the other workers for a slot that idles there.
    func askOthers(for key: PoolKey, since: MonotonicTime) {
        for sibling in siblings where sibling !== self {
            sibling.mailbox.put(.slotIsWanted(key, by: number, since: since))
        }
    }

    func tell(_ number: Int, _ mail: Mail) {
        siblings[number].mailbox.put(mail)
    }

    /// Tells definitions of unnamed statements apart; never 0.
    func nextGeneration() -> PreparedStatements.Generation {
        lastGeneration += 1
        return lastGeneration
    }

    // MARK: - Nodes

    /// The next node for a read, by weight among those that serve reads, were not tried and have replayed enough.
    ///
    /// - Parameters:
    ///   - fresh: by bit; the primary always is.
    ///   - wantsStandby: the primary only if there is no standby.
    func chooseReader(except tried: UInt64, among fresh: UInt64, wantsStandby: Bool) -> NodeID? {
        let candidates = readerSets.candidates(except: tried | avoided, among: fresh, wantsStandby: wantsStandby)
        func isCandidate(_ index: Int) -> Bool { candidates & (1 << index) != 0 }
        let index =
            candidates == readerSets.readable
            ? readers.next(where: isCandidate) : secondChoices.next(where: isCandidate)
        return index.map { NodeID($0) }
    }

    var standbys: UInt64 { readerSets.standbys }

    /// Nodes that failed live traffic a moment ago, by bit.
    var avoided: UInt64 {
        guard !avoidedUntil.isEmpty else { return 0 }
        return avoidedUntil.indices.reduce(0) { avoidedUntil[$1] <= now ? $0 : $0 | 1 << UInt64($1) }
    }

    func name(of node: NodeID) -> String { topology[node].name }

    /// IPv4 address in host byte order.
    func address(of node: NodeID) -> UInt32? {
        var address = in_addr()
        guard inet_pton(AF_INET, topology[node].host, &address) == 1 else { return nil }
        return UInt32(bigEndian: address.s_addr)
    }

    /// Tells the monitor, and sends no reads there until it has looked.
    func report(_ node: NodeID, _ problem: String) {
        while avoidedUntil.count < topology.nodes.count { avoidedUntil.append(.distantPast) }
        guard avoidedUntil[node.rawValue] <= now else { return }
        avoidedUntil[node.rawValue] = now + .milliseconds(500)
        reports.yield(NodeReport(node: node, problem: problem))
    }

    func noteRepeated(on node: NodeID, _ fields: ServerErrorFields) {
        logger.debug("ran again on the primary what \(name(of: node)) refused: \(fields.state) \(fields.message)")
    }

    func waitForPrimary(_ session: Session, until deadline: MonotonicTime) {
        timers.add(.primaryWait(id(of: session)), at: deadline)
    }

    // MARK: - The control plane

    func lookUpVerifier(of role: String, for session: Session) {
        let id = id(of: session)
        let (catalog, mailbox) = (catalog, mailbox)
        Task.detached {
            do {
                mailbox.put(.verifier(session: id, .success(try await catalog.password(ofRole: role))))
            } catch {
                mailbox.put(.verifier(session: id, .failure(error)))
            }
        }
    }

    /// The functions of a database; the first who asks has them loaded.
    func functions(of database: String, load: Bool = true) -> FunctionsOfDatabase {
        if let known = databases[database] { return known }
        let fresh = FunctionsOfDatabase()
        databases[database] = fresh
        if load { refreshFunctions(of: database) }
        return fresh
    }

    private func refreshFunctions(of database: String) {
        let (catalog, mailbox) = (catalog, mailbox)
        Task.detached {
            mailbox.put(.functions(database: database, await catalog.functions(ofDatabase: database)))
        }
    }

    private func settle(_ functions: FunctionsOfDatabase, _ catalog: FunctionCatalog?) {
        if let catalog {
            functions.catalog = catalog
            functions.asksSequences = functions.asksSequences || catalog.asksSequences
        }
        guard !functions.isSettled else { return }
        functions.isSettled = true
        for session in sessions where session?.functions === functions { session?.functionsSettled() }
    }

    // MARK: - Streams

    /// A stream on a new socket; `nil` when there are no more descriptors.
    func makeStream(owner: any StreamOwner) -> Stream? {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | O_NONBLOCK | O_CLOEXEC, 0)
        guard descriptor >= 0 else { return nil }
        Listener.setOptions(ofConnection: descriptor)
        let stream = add(descriptor)
        stream.belongs(to: owner)
        return stream
    }

    private func add(_ descriptor: Int32) -> Stream {
        let index: Int
        if let free = freeStreams.popLast() {
            index = free
        } else {
            index = streams.count
            streams.append(nil)
            streamSerials.append(0)
        }
        let stream = Stream(index: index, descriptor: descriptor, worker: self)
        streams[index] = stream
        return stream
    }

    func forget(_ stream: Stream) {
        streams[stream.index] = nil
        streamSerials[stream.index] &+= 1
        freeStreams.append(stream.index)
    }

    /// A closing stream gets a few seconds for what it has still to send.
    func limitClosing(_ stream: Stream) {
        timers.add(
            .closingTooLong(stream: stream.index, serial: streamSerials[stream.index]),
            at: now + .seconds(3)
        )
    }

    /// A connection to a node gets this long to be of use.
    func limitTime(of stream: Stream) {
        let limit = configuration.pooling.serverConnectTimeout
        guard limit > .zero else { return }
        timers.add(.tookTooLong(stream: stream.index, serial: streamSerials[stream.index]), at: now + limit)
    }

    /// No buffer could be had for what must be sent: the stream is lost, which its owner learns from the loop.
    func breakLater(_ stream: Stream) {
        timers.add(.breakNow(stream: stream.index, serial: streamSerials[stream.index]), at: now)
    }

    /// No buffer could be lent: try again when some will have been returned.
    func retryReceive(_ stream: Stream) {
        timers.add(
            .receiveAgain(stream: stream.index, serial: streamSerials[stream.index]),
            at: now + .milliseconds(1)
        )
    }

    /// Bytes that were received are to be decrypted, but not from within a call of the stream's owner.
    func decryptLater(_ stream: Stream) {
        timers.add(.decrypt(stream: stream.index, serial: streamSerials[stream.index]), at: now)
    }

    // MARK: - Sessions

    private func accept(on listener: Int) {
        guard !isStopping else { return }
        reactor.accept(listeners[listener], token: Token.accept.token(for: listener))
    }

    private func accepted(_ result: Int32, on listener: Int) {
        guard result >= 0 else {
            guard !isStopping else { return }
            if result == -EMFILE || result == -ENFILE {
                logger.error(
                    "cannot accept a client: \(String(cString: strerror(-result))); raise the limit (ulimit -n)"
                )
            }
            timers.add(.acceptAgain(listener: listener), at: now + .milliseconds(100))
            return
        }
        guard !isStopping else {
            close(result)
            return
        }
        let peer = NetworkInterfaces.peer(of: result)
        let address: NetworkAddress?
        switch peer {
        case .local: address = nil
        case .address(let known): address = known
        case .unknown:
            close(result)
            return
        }
        let verdict = admission.enter()
        if case .full = verdict {
            close(result)
            return
        }
        Listener.setOptions(ofConnection: result)
        nextSerial += 1
        let index: Int
        if freeSessions.count > Self.unusedSessions {
            index = freeSessions.removeFirst()
        } else {
            index = sessions.count
            sessions.append(nil)
        }
        let stream = add(result)
        let session = Session(index: index, serial: nextSerial, worker: self, client: stream)
        stream.belongs(to: session)
        session.login = ClientLogin(policy: configuration.login, address: address)
        if case .refused(let message) = verdict { session.login?.refusal = message }
        sessions[index] = session
        sessionCount += 1
        session.begin()
    }

    func forget(_ session: Session) {
        guard sessions[session.index] === session else { return }
        sessions[session.index] = nil
        if session.isCounted { slots.clients.giveBack() }
        freeSessions.append(session.index)
        sessionCount -= 1
    }

    func id(of session: Session) -> SessionID {
        SessionID(index: session.index, serial: session.serial)
    }

    func session(_ id: SessionID) -> Session? {
        guard sessions.indices.contains(id.index), let session = sessions[id.index], session.serial == id.serial else {
            return nil
        }
        return session
    }

    /// Whether there may be one more client; if not, the session is ended.
    func admitsClient(_ session: Session) -> Bool {
        let limit = configuration.pooling.maxClientConnections
        guard slots.clients.take(limit: limit) else {
            session.close(
                ErrorMessage(
                    .fatal,
                    .tooManyConnections,
                    "no more connections allowed (max_client_conn)",
                    detail: "The endpoint serves \(limit) clients at most."
                )
            )
            return false
        }
        session.isCounted = true
        return true
    }
}
