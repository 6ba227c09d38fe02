/// A database an application can reach, by the application's own name for it.
public struct Database: Hashable, Sendable, CustomStringConvertible {
    public let name: String

    public init(_ name: String) {
        self.name = name
    }

    public var description: String { name }
}

extension Database: ExpressibleByStringLiteral {
    public init(stringLiteral name: String) {
        self.init(name)
    }
}

/// What a router may know about a query that looks for its database. Everything is optional, as Django's hints are.
public struct RoutedQuery: Sendable {
    /// What is read or written, in the application's words: a type, a table.
    public var model: String?
    /// Where the object came from that the query starts from.
    public var origin: Database?
    /// The databases that can serve it; what a router narrows for the routers inside of it.
    public var isEligible: @Sendable (Database) -> Bool

    public init(
        model: String? = nil,
        origin: Database? = nil,
        isEligible: @escaping @Sendable (Database) -> Bool = { _ in true }
    ) {
        self.model = model
        self.origin = origin
        self.isEligible = isEligible
    }

    /// The same query for fewer databases.
    public func limited(to isAllowed: @escaping @Sendable (Database) -> Bool) -> RoutedQuery {
        var limited = self
        limited.isEligible = { [isEligible] in isEligible($0) && isAllowed($0) }
        return limited
    }
}
