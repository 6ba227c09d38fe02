#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// Lets a client read what it has written: after a write, its reads go to the primary, which is what the inner router writes
/// to. The write pins the present `PinScope`, and with it all reads in it.
///
/// For how long depends on how the router is made:
/// - `init(_:seconds:)`: for some seconds after the last write; each write begins them anew. That is a guess: a replica
///   that lags more shows old data.
/// - `init(_:hasReplayed:)`: until a replica has replayed what was written, which is exact. Until a token is known
///   (`PinScope.resolveWrites`) that is the primary alone.
public struct PinningRouter<Base: DatabaseRouter>: DatabaseRouter {
    public let base: Base
    private enum Length: Sendable {
        case seconds(Double, now: @Sendable () -> Double)
        case untilReplayed(@Sendable (Database, FreshnessToken) -> Bool)
    }
    private let length: Length

    /// - Parameters:
    ///   - base: who decides when nothing is pinned.
    ///   - seconds: how long a write pins.
    ///   - now: seconds since 1970, for tests.
    public init(_ base: Base, seconds: Double = 5, now: @escaping @Sendable () -> Double = secondsSince1970) {
        precondition(seconds > 0, "a pin lasts more than 0 seconds")
        self.base = base
        length = .seconds(seconds, now: now)
    }

    /// - Parameters:
    ///   - base: who decides when nothing is pinned, and among the databases that have replayed enough.
    ///   - hasReplayed: whether a database has replayed a token, as far as is known.
    public init(_ base: Base, hasReplayed: @escaping @Sendable (Database, FreshnessToken) -> Bool) {
        self.base = base
        length = .untilReplayed(hasReplayed)
    }

    public func databaseForRead(_ query: RoutedQuery) -> Database? {
        let scope = PinScope.current
        let pin = scope.pin
        guard !PinScope.readsFromPrimary, pin.until <= now else { return base.databaseForWrite(query) }
        switch length {
        case .seconds:
            return pin.token == nil ? base.databaseForRead(query) : base.databaseForWrite(query)
        case .untilReplayed(let hasReplayed):
            guard !scope.isUnresolved else { return base.databaseForWrite(query) }
            guard let token = pin.token else { return base.databaseForRead(query) }
            let primary = base.databaseForWrite(query)
            let choice = base.databaseForRead(query.limited { $0 == primary || hasReplayed($0, token) })
            // A router may answer with a database that is not eligible when it knows no other.
            return choice.map { $0 == primary || hasReplayed($0, token) } == true ? choice : primary
        }
    }

    public func databaseForWrite(_ query: RoutedQuery) -> Database? {
        switch length {
        case .seconds(let seconds, let now): PinScope.current.wrote(until: now() + seconds)
        case .untilReplayed: PinScope.current.wrote()
        }
        return base.databaseForWrite(query)
    }

    private var now: Double {
        switch length {
        case .seconds(_, let now): now()
        case .untilReplayed: secondsSince1970()
        }
    }

    public func allowRelation(between first: Database, and second: Database) -> Bool? {
        base.allowRelation(between: first, and: second)
    }

    public func allowMigrate(_ database: Database) -> Bool? {
        base.allowMigrate(database)
    }
}

/// The clock that pins are measured with: it is the same in all processes.
@Sendable public func secondsSince1970() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}
