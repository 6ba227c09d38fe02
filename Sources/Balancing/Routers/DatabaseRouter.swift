/// Decides which database answers a query.
///
/// A router is a small value. Compose those of this library, or write your own: only the two functions that choose a
/// database are needed. Every answer may be `nil`, "no opinion", upon which the next router of a `RouterChain` is asked.
public protocol DatabaseRouter: Sendable {
    func databaseForRead(_ query: RoutedQuery) -> Database?

    func databaseForWrite(_ query: RoutedQuery) -> Database?

    /// Whether an object of one database may refer to one of the other.
    func allowRelation(between first: Database, and second: Database) -> Bool?

    /// Whether the schema of a database may be changed through it: on a replica it must not.
    func allowMigrate(_ database: Database) -> Bool?
}

extension DatabaseRouter {
    public func databaseForRead() -> Database? { databaseForRead(RoutedQuery()) }
    public func databaseForWrite() -> Database? { databaseForWrite(RoutedQuery()) }
    public func allowRelation(between first: Database, and second: Database) -> Bool? { nil }
    public func allowMigrate(_ database: Database) -> Bool? { nil }
}

/// Asks one router after the other; the first that has an opinion decides.
public struct RouterChain: DatabaseRouter {
    private let routers: [any DatabaseRouter]

    public init(_ routers: any DatabaseRouter...) {
        self.routers = routers
    }

    public func databaseForRead(_ query: RoutedQuery) -> Database? {
        first { $0.databaseForRead(query) }
    }

    public func databaseForWrite(_ query: RoutedQuery) -> Database? {
        first { $0.databaseForWrite(query) }
    }

    public func allowRelation(between first: Database, and second: Database) -> Bool? {
        self.first { $0.allowRelation(between: first, and: second) }
    }

    public func allowMigrate(_ database: Database) -> Bool? {
        first { $0.allowMigrate(database) }
    }

    private func first<Opinion>(_ ask: (any DatabaseRouter) -> Opinion?) -> Opinion? {
        for router in routers {
            if let opinion = ask(router) { return opinion }
        }
        return nil
    }
}
