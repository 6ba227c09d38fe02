import PostgresAuth
import PostgresWire
import ProxyCore
import Topology

/// The pools of one database and user on a worker, and what their sessions have in common.
///
/// Sessions hold it, so that nothing has to be looked up per query.
final class PoolGroup {
    /// What sessions asked for when they logged in. Those who asked for the same share one of these.
    final class Profile {
        let startup: StartupProfile
        /// What such a client is told when it logs in, once a connection has told us.
        var welcome: ReportedParameters?

        let choosesIsolation: Bool

        init(_ startup: StartupProfile) {
            self.startup = startup
            choosesIsolation = startup.choosesIsolation
        }
    }

    let database: String
    let user: String
    /// Of sessions that ask for none of their own.
    let consistency: Consistency
    private let worker: Worker
    /// By node.
    private var pools: [Pool?] = []
    private var profiles: [StartupProfile: Profile] = [:]
    private var settings: [[UInt8]: SessionSettings] = [:]
    /// How many of the above are kept before those that nobody uses go.
    private var sweepsAt = 64
    /// How a session logged in last: what connections log in to nodes with, and those that nobody waits for begin with.
    var lastLogin: (profile: Profile, credential: LoginCredential)?

    init(database: String, user: String, worker: Worker) {
        self.database = database
        self.user = user
        self.worker = worker
        let configuration = worker.configuration
        consistency =
            configuration.pooling.consistency(database: database, user: user) ?? configuration.consistency
    }

    func pool(of node: NodeID) -> Pool {
        while pools.count <= node.rawValue { pools.append(nil) }
        if let known = pools[node.rawValue] { return known }
        let fresh = worker.makePool(PoolKey(node: node, database: database, user: user), in: self)
        pools[node.rawValue] = fresh
        return fresh
    }

    func profile(_ startup: StartupProfile) -> Profile {
        if let known = profiles[startup] { return known }
        sweep()
        let fresh = Profile(startup)
        profiles[startup] = fresh
        return fresh
    }

    /// The settings that a startup packet with this name begins with.
    func settings(of startup: StartupMessage) -> SessionSettings {
        guard let name = startup.applicationName else { return .none }
        if let known = settings[name] { return known }
        sweep()
        let fresh = startup.settings
        settings[name] = fresh
        return fresh
    }

    private func sweep() {
        guard profiles.count + settings.count >= sweepsAt else { return }
        profiles.removeUnshared()
        settings.removeUnshared()
        sweepsAt = max(64, 2 * (profiles.count + settings.count))
    }

    /// What was told of the database or the role may have changed.
    func renew() {
        for profile in profiles.values { profile.welcome = nil }
    }
}
