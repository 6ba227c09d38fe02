import PostgresAuth
import PostgresWire
import ProxyCore
import QueryAnalysis
import Topology

/// The server connections of one node, database and user on one worker, and the sessions that wait for one.
///
/// First come, first served: a connection that is given back goes to the session that has waited longest. A pool that is
/// empty makes sessions wait; it says nothing about its node.
final class Pool {
    private struct Waiter {
        let session: Session
        let since: MonotonicTime
    }

    let key: PoolKey
    let settings: PoolSettings
    let worker: Worker
    private let group: PoolGroup
    /// How long, in nanoseconds, a connection may idle before it is checked.
    private let checkDelay: UInt64
    private let slots: PoolSlots
    /// All that hold a slot.
    private var connections: [ObjectIdentifier: ServerConnection] = [:]
    /// Last used last: the one used last is lent first, and those not needed grow old.
    private var idle: [ServerConnection] = []
    private var waiters: [Waiter] = []
    private var waitersHead = 0
    private var connecting = 0
    private var isServing = false
    /// The limit that the first waiter waits for.
    private var limit = "pool_size"
    /// Since when another worker waits for a slot that this one holds.
    private var wantedSince: MonotonicTime?
    private var wantedBy: Int?
    private var askedOthersAt = MonotonicTime.distantPast
    /// A login has failed: until then none is tried that nobody waits for.
    private var warmsUpAt = MonotonicTime.distantPast

    init(key: PoolKey, group: PoolGroup, worker: Worker) {
        self.key = key
        self.group = group
        self.worker = worker
        checkDelay = UInt64(max(0, worker.configuration.pooling.serverCheckDelay.nanoseconds))
        settings = worker.configuration.pooling.settings(database: key.database, user: key.user)
        slots = worker.slots.of(key)
    }

    var waiting: Int { waiters.count - waitersHead }

    // MARK: - Lending

    /// Lends a connection to a session, now or, by `Session.serverIsLent`, later.
    func lend(to session: Session) {
        if waiters.isEmpty, !isServing, let connection = takeIdle(for: session) {
            isServing = true
            lend(connection, to: session)
            isServing = false
            serve()
            return
        }
        waiters.append(Waiter(session: session, since: worker.now))
        serve()
    }

    /// The session waits no more.
    func forget(_ session: Session) {
        guard let index = waiters[waitersHead...].firstIndex(where: { $0.session === session }) else { return }
        waiters.remove(at: index)
    }

    /// A session gives a connection back.
    func takeBack(_ connection: ServerConnection) {
        connection.takeBack(now: worker.now)
        guard connection.state == .ready else { return }
        if connection.mustClose {
            close(connection)
            serve()
        } else {
            if connection.mustDiscard { connection.discardAll() }
            connection.closeClientNames()
            if connection.isQuiet { connectionIsQuiet(connection) }
        }
    }

    /// A session gives back a connection that cannot be used again.
    func takeBackBroken(_ connection: ServerConnection, politely: Bool) {
        connection.takeBack(now: worker.now)
        close(connection, politely: politely)
        serve()
    }

    /// A connection that is lent to nobody has worked off what was under way.
    func connectionIsQuiet(_ connection: ServerConnection) {
        if connection.replayError != nil || isOutdated(connection) || isWantedElsewhere {
            close(connection)
        } else {
            idle.append(connection)
        }
        serve()
    }

    /// Gives the first waiters what they wait for, as far as it can be had.
    private func serve() {
        guard !isServing else { return }
        isServing = true
        defer { isServing = false }
        while waiting > 0 {
            let first = waiters[waitersHead]
            if let connection = takeIdle(for: first.session) {
                popWaiter()
                lend(connection, to: first.session)
            } else if connecting >= waiting || !openOne(for: first) {
                return
            }
        }
    }

    private func popWaiter() {
        waitersHead += 1
        if waitersHead == waiters.count {
            waiters.removeAll(keepingCapacity: true)
            waitersHead = 0
        } else if waitersHead > 256, waitersHead * 2 > waiters.count {
            waiters.removeFirst(waitersHead)
            waitersHead = 0
        }
    }

    private func lend(_ connection: ServerConnection, to session: Session) {
        let isOld = worker.now.nanoseconds &- connection.lastUse.nanoseconds > checkDelay
        connection.lend(to: session)
        // One that idled for long may be lost without our having heard of it.
        if isOld { connection.replay(Array("".utf8)) }
        session.serverIsLent(connection)
    }

    /// An idle connection of the session's profile; rather one that has its settings.
    private func takeIdle(for session: Session) -> ServerConnection? {
        guard !idle.isEmpty else { return nil }
        if session.current?.unit.traits.contains(.asksSequence) == true,
            let index = idle.lastIndex(where: { $0.sequenceUser == session.serial && $0.profile === session.profile })
        {
            return idle.remove(at: index)
        }
        var found: Int?
        var index = idle.count
        while index > 0 {
            index -= 1
            guard idle[index].profile === session.profile else { continue }
            if idle[index].settings === session.settings { return idle.remove(at: index) }
            found = found ?? index
            // Those used last are looked at; it is not worth a search.
            if idle.count - index >= 8 { break }
        }
        return found.map { idle.remove(at: $0) }
    }

    // MARK: - Opening

    /// - Returns: whether it is worth looking at the waiters again.
    private func openOne(for waiter: Waiter) -> Bool {
        let pooling = worker.configuration.pooling
        let mayUseReserve = waiter.since + pooling.reservePoolTimeout <= worker.now
        let size = settings.size == 0 ? 0 : settings.size + (mayUseReserve ? settings.reserveSize : 0)
        if let reached = slots.take(settings, poolLimit: size, nodeLimit: pooling.maxNodeConnections) {
            limit = reached
            // One that idles under another profile, or in another pool, is in the way.
            if !idle.isEmpty {
                close(idle.removeFirst())
                return true
            }
            if reached != "pool_size", worker.closeIdle(onNode: key.node) { return true }
            askOthers(waiter.since)
            return false
        }
        // The newest proof of who the user is: a session's own may be older than the present password.
        let credential = group.lastLogin?.credential ?? LoginCredential()
        return open(profile: waiter.session.profile, credential: credential)
    }

    /// Opens a connection; its slots are taken.
    private func open(profile: PoolGroup.Profile, credential: LoginCredential) -> Bool {
        let node = worker.topology[key.node]
        let connection = ServerConnection(
            node: node,
            pool: self,
            profile: profile,
            credential: credential,
            now: worker.now
        )
        connections[ObjectIdentifier(connection)] = connection
        connecting += 1
        guard let address = worker.address(of: key.node),
            connection.open(address: address, port: node.port, worker: worker)
        else {
            connectionFailed(connection, .unusable("the endpoint has no more sockets"))
            return false
        }
        return true
    }

    func connectionIsReady(_ connection: ServerConnection) {
        connecting -= 1
        worker.connected(to: key.node)
        connection.profile.welcome = connection.reported
        connectionIsQuiet(connection)
    }

    func connectionFailed(_ connection: ServerConnection, _ failure: ConnectionFailure) {
        guard remove(connection) else { return }
        connecting -= 1
        warmsUpAt = worker.now + worker.configuration.pooling.serverLoginRetry
        if failure.blamesNode {
            worker.report(key.node, "a client session cannot log in: \(failure.description)")
        }
        // Others of this pool will be given back.
        if failure.isExhaustion, !connections.isEmpty {
            limit = "the node's max_connections"
            return
        }
        let failed = waiters[waitersHead...].filter {
            failure.blamesNode || $0.session.profile === connection.profile
        }
        for waiter in failed {
            forget(waiter.session)
        }
        for waiter in failed {
            waiter.session.serverCannotBeHad(self, failure)
        }
        serve()
    }

    // MARK: - Closing

    private func remove(_ connection: ServerConnection) -> Bool {
        guard connections.removeValue(forKey: ObjectIdentifier(connection)) != nil else { return false }
        slots.giveBack()
        if let index = idle.firstIndex(where: { $0 === connection }) { idle.remove(at: index) }
        if wantedBy != nil { tellWhoWants() }
        return true
    }

    /// Closes one that is lent to nobody.
    func close(_ connection: ServerConnection, politely: Bool = true) {
        connection.close(politely: politely)
        _ = remove(connection)
    }

    /// A connection that was ready is gone.
    func connectionIsLost(_ connection: ServerConnection) {
        guard remove(connection) else { return }
        serve()
    }

    private func isOutdated(_ connection: ServerConnection) -> Bool {
        let lifetime = worker.configuration.pooling.serverLifetime
        let isOld = lifetime > .zero && connection.openedAt + lifetime < worker.now
        return isOld || connection.role != worker.topology[key.node].role || connection.openedAt < worker.renewedAt
    }

    /// Closes the one that has idled longest. Returns whether there was one.
    func closeOneIdle() -> Bool {
        guard !idle.isEmpty else { return false }
        close(idle.removeFirst())
        return true
    }

    func closeAllIdle() {
        while closeOneIdle() {}
    }

    /// The endpoint stops.
    func closeAll() {
        for connection in Array(connections.values) { close(connection) }
    }

    // MARK: - Other workers

    private var isWantedElsewhere: Bool {
        guard let wantedSince else { return false }
        // A slot changes hands for a login: not for those who hardly wait.
        return waiting == 0 || wantedSince + .milliseconds(50) < waiters[waitersHead].since
    }

    /// The slots that are missing here may be idle there.
    private func askOthers(_ since: MonotonicTime) {
        guard askedOthersAt + .milliseconds(10) < worker.now else { return }
        askedOthersAt = worker.now
        worker.askOthers(for: key, since: since)
    }

    /// Another worker waits for a slot.
    func isWanted(by worker: Int, since: MonotonicTime) {
        wantedBy = worker
        wantedSince = since
        if !closeOneIdle(), connections.isEmpty { tellWhoWants() }
    }

    private func tellWhoWants() {
        guard let number = wantedBy else { return }
        wantedBy = nil
        wantedSince = nil
        worker.tell(number, .slotIsFree(key))
    }

    /// A slot was given back somewhere.
    func slotIsFree() {
        serve()
    }

    // MARK: - Time

    func lookAtTime() {
        let pooling = worker.configuration.pooling
        while waiting > 0, pooling.queryWaitTimeout > .zero,
            waiters[waitersHead].since + pooling.queryWaitTimeout <= worker.now
        {
            let session = waiters[waitersHead].session
            popWaiter()
            session.waitedTooLong(for: limit, settings)
        }
        while let first = idle.first, pooling.serverIdleTimeout > .zero, connections.count > minimum,
            first.lastUse + pooling.serverIdleTimeout < worker.now
        {
            close(idle.removeFirst())
        }
        for connection in idle where isOutdated(connection) { close(connection) }
        warmUp()
        serve()
    }

    /// This worker's part of the minimum.
    private var minimum: Int {
        let workers = worker.configuration.workers
        return settings.minimumSize / workers + (worker.number < settings.minimumSize % workers ? 1 : 0)
    }

    /// Opens what is missing of the minimum, with the login of the session that came last.
    private func warmUp() {
        guard connections.count < minimum, warmsUpAt <= worker.now, let lastLogin = group.lastLogin,
            worker.topology[key.node].state == .up
        else { return }
        let size = settings.size
        while connections.count < minimum,
            slots.take(settings, poolLimit: size, nodeLimit: worker.configuration.pooling.maxNodeConnections) == nil
        {
            guard open(profile: lastLogin.profile, credential: lastLogin.credential) else { return }
        }
    }

    // MARK: - Nodes

    func topologyChanged() {
        let node = worker.topology[key.node]
        // What a connection may be used for was decided by its role.
        for connection in idle where connection.role != node.role { close(connection) }
        if node.state == .down {
            warmsUpAt = .distantPast
            closeAllIdle()
            for connection in connections.values where connection.state == .connecting || connection.state == .loggingIn
            {
                connection.breakOff("the node is down")
            }
        } else {
            warmUp()
        }
    }
}
