import Synchronization

/// Databases that hold the same data, and a policy that says which of them is next.
///
/// One pool is shared by all tasks of a process. It keeps what its policy has learnt, and which databases are out of
/// service: those pass their turns to the others by their weights.
public final class ReadPool: Sendable {
    private struct State {
        var policy: any BalancingPolicy
        var isDown: [Bool]
    }

    public let databases: [Database]
    private let state: Mutex<State>
    private let now: @Sendable () -> ContinuousClock.Instant

    /// - Parameters:
    ///   - databases: the members the policy knows by their numbers, each once.
    ///   - policy: made for as many members.
    ///   - now: the clock, for tests.
    public init(
        _ databases: [Database],
        policy: some BalancingPolicy,
        now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }
    ) {
        precondition(Set(databases).count == databases.count, "a pool holds each database once")
        self.databases = databases
        self.now = now
        state = Mutex(State(policy: policy, isDown: databases.map { _ in false }))
    }

    /// The database for the next query, or `nil` when none that has a weight can serve it.
    public func next(for query: RoutedQuery = RoutedQuery()) -> Database? {
        // Asked before the lock is taken: it is somebody else's code.
        let eligible = databases.map(query.isEligible)
        return state.withLock { state in
            state.policy.next(at: now()) { eligible[$0] && !state.isDown[$0] }.map { databases[$0] }
        }
    }

    /// Whether a database of the pool is in service and may serve the query.
    public func canServe(_ database: Database, _ query: RoutedQuery = RoutedQuery()) -> Bool {
        guard let member = databases.firstIndex(of: database), query.isEligible(database) else { return false }
        return !state.withLock { $0.isDown[member] }
    }

    /// Takes a database out of service, or back into it.
    public func setInService(_ database: Database, _ isInService: Bool) {
        guard let member = databases.firstIndex(of: database) else { return }
        state.withLock { state in
            guard state.isDown[member] == isInService else { return }
            state.isDown[member] = !isInService
            if isInService { state.policy.returned(member, at: now()) }
        }
    }

    /// Runs a query on a database of the pool, so that policies which look at load and latency learn from it.
    ///
    /// - Throws: what `operation` throws.
    public func measuring<Result>(
        _ database: Database,
        isolation: isolated (any Actor)? = #isolation,
        _ operation: () async throws -> Result
    ) async rethrows -> Result {
        guard let member = databases.firstIndex(of: database) else { return try await operation() }
        let start = now()
        state.withLock { $0.policy.began(member, at: start) }
        do {
            let result = try await operation()
            let end = now()
            state.withLock { $0.policy.ended(member, at: end, after: end - start) }
            return result
        } catch {
            state.withLock { $0.policy.ended(member, at: now(), after: nil) }
            throw error
        }
    }
}

extension ReadPool {
    /// One after the other, in an order shuffled at the start.
    public static func roundRobin(_ databases: Database...) -> ReadPool {
        roundRobin(among: databases)
    }

    static func roundRobin(among databases: [Database]) -> ReadPool {
        ReadPool(databases, policy: RoundRobin(count: databases.count))
    }

    /// Any of them.
    public static func random(_ databases: Database...) -> ReadPool {
        random(among: databases)
    }

    static func random(among databases: [Database]) -> ReadPool {
        ReadPool(databases, policy: WeightedRandom(weights: databases.map { _ in 1 }))
    }

    /// At random, by weight; weight 0: never.
    public static func weightedRandom(_ weights: KeyValuePairs<Database, Int>) -> ReadPool {
        ReadPool(weights.map(\.key), policy: WeightedRandom(weights: weights.map(\.value)))
    }

    /// In turn, by weight, evenly spread; weight 0: never.
    public static func weightedRoundRobin(_ weights: KeyValuePairs<Database, Int>) -> ReadPool {
        ReadPool(weights.map(\.key), policy: SmoothWeightedRoundRobin(weights: weights.map(\.value)))
    }

    /// The less busy of two that are drawn by weight.
    public static func leastOutstanding(_ weights: KeyValuePairs<Database, Int>) -> ReadPool {
        ReadPool(weights.map(\.key), policy: LeastOutstanding(weights: weights.map(\.value)))
    }

    /// The one of two, drawn by weight, that is expected to answer sooner.
    public static func peakEWMA(_ weights: KeyValuePairs<Database, Int>) -> ReadPool {
        ReadPool(weights.map(\.key), policy: PeakEWMA(weights: weights.map(\.value)))
    }
}
