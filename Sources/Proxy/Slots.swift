import ProxyCore
import Synchronization
import Topology

/// Which pool: one per worker and key.
struct PoolKey: Hashable, Sendable {
    var node: NodeID
    var database: String
    var user: String
}

/// How many server connections there are, over all workers.
final class SlotCounter: Sendable {
    private let count = Atomic<Int>(0)

    /// - Parameter limit: 0 for none.
    /// - Returns: whether there was one left.
    func take(limit: Int) -> Bool {
        let taken = count.add(1, ordering: .relaxed).newValue
        if limit == 0 || taken <= limit { return true }
        count.subtract(1, ordering: .relaxed)
        return false
    }

    func giveBack() {
        count.subtract(1, ordering: .relaxed)
    }
}

/// The counters of an endpoint. Looked up once per pool, never per query.
final class Slots: Sendable {
    private enum Key: Hashable {
        case pool(PoolKey)
        case node(NodeID)
        case database(NodeID, String)
        case user(NodeID, String)
    }

    private let counters = Mutex<[Key: SlotCounter]>([:])
    /// Client sessions that have logged in.
    let clients = SlotCounter()

    /// Those that a connection of a pool takes a slot of.
    func of(_ key: PoolKey) -> PoolSlots {
        counters.withLock { counters in
            func counter(_ key: Key) -> SlotCounter {
                if let known = counters[key] { return known }
                let fresh = SlotCounter()
                counters[key] = fresh
                return fresh
            }
            return PoolSlots(
                pool: counter(.pool(key)),
                node: counter(.node(key.node)),
                database: counter(.database(key.node, key.database)),
                user: counter(.user(key.node, key.user))
            )
        }
    }
}

struct PoolSlots {
    let pool: SlotCounter
    let node: SlotCounter
    let database: SlotCounter
    let user: SlotCounter

    /// Takes a slot of each.
    ///
    /// - Returns: the name of the limit that is reached; `nil` when the connection may be opened.
    func take(_ settings: PoolSettings, poolLimit: Int, nodeLimit: Int) -> String? {
        guard pool.take(limit: poolLimit) else { return "pool_size" }
        guard node.take(limit: nodeLimit) else {
            pool.giveBack()
            return "max_node_connections"
        }
        guard database.take(limit: settings.maxDatabaseConnections) else {
            pool.giveBack()
            node.giveBack()
            return "max_db_connections"
        }
        guard user.take(limit: settings.maxUserConnections) else {
            pool.giveBack()
            node.giveBack()
            database.giveBack()
            return "max_user_connections"
        }
        return nil
    }

    func giveBack() {
        pool.giveBack()
        node.giveBack()
        database.giveBack()
        user.giveBack()
    }
}
