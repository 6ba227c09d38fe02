/// Keeps the reads of one `PinScope` on one database while it can serve: two reads of one page from replicas that lag
/// differently would let time run backwards.
public struct SteadyRouter: DatabaseRouter {
    public let base: PrimaryReplicaRouter

    public init(_ base: PrimaryReplicaRouter) {
        self.base = base
    }

    public func databaseForRead(_ query: RoutedQuery) -> Database? {
        // Work that shares nothing but that it is outside of any scope need not read from one database.
        guard let scope = PinScope.bound else { return base.databaseForRead(query) }
        return scope.chosen { chosen in
            if let chosen, base.reads.canServe(chosen, query) { return chosen }
            return base.databaseForRead(query)
        }
    }

    public func databaseForWrite(_ query: RoutedQuery) -> Database? { base.databaseForWrite(query) }

    public func allowRelation(between first: Database, and second: Database) -> Bool? {
        base.allowRelation(between: first, and: second)
    }

    public func allowMigrate(_ database: Database) -> Bool? { base.allowMigrate(database) }
}
