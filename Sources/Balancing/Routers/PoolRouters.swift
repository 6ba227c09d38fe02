/// A router that reads from, and writes to, any database of a pool: for databases that replicate each other.
///
/// Objects of any two databases of the pool may refer to each other, and each of them may be migrated.
public protocol PoolRouter: DatabaseRouter {
    var pool: ReadPool { get }
}

extension PoolRouter {
    public func databaseForRead(_ query: RoutedQuery) -> Database? { pool.next(for: query) }

    public func databaseForWrite(_ query: RoutedQuery) -> Database? { pool.next(for: query) }

    public func allowRelation(between first: Database, and second: Database) -> Bool? {
        pool.databases.contains(first) && pool.databases.contains(second) ? true : nil
    }

    public func allowMigrate(_ database: Database) -> Bool? { true }
}

/// Any database of the pool.
public struct RandomRouter: PoolRouter {
    public let pool: ReadPool

    public init(_ databases: Database...) {
        pool = .random(among: databases)
    }
}

/// Any database of the pool, by weight; weight 0: never.
public struct WeightedRandomRouter: PoolRouter {
    public let pool: ReadPool

    public init(_ weights: KeyValuePairs<Database, Int>) {
        pool = .weightedRandom(weights)
    }
}

/// One database after the other, in an order shuffled at the start. Reads and writes take turns of their own: a write does
/// not make the next read skip a database.
public struct RoundRobinRouter: PoolRouter {
    public let pool: ReadPool
    private let writes: ReadPool

    public init(_ databases: Database...) {
        pool = .roundRobin(among: databases)
        writes = .roundRobin(among: databases)
    }

    public func databaseForWrite(_ query: RoutedQuery) -> Database? { writes.next(for: query) }
}
