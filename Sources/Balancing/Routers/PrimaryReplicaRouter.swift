/// Writes to one database and reads from a pool. The primary takes reads when it is in the pool, by its weight there,
/// and when no database of the pool can serve.
public struct PrimaryReplicaRouter: DatabaseRouter {
    public let primary: Database
    public let reads: ReadPool

    public init(primary: Database, reads: ReadPool) {
        self.primary = primary
        self.reads = reads
    }

    public func databaseForRead(_ query: RoutedQuery) -> Database? {
        reads.next(for: query) ?? primary
    }

    public func databaseForWrite(_ query: RoutedQuery) -> Database? {
        primary
    }

    public func allowRelation(between first: Database, and second: Database) -> Bool? {
        holds(first) && holds(second) ? true : nil
    }

    public func allowMigrate(_ database: Database) -> Bool? {
        database == primary
    }

    private func holds(_ database: Database) -> Bool {
        database == primary || reads.databases.contains(database)
    }
}
