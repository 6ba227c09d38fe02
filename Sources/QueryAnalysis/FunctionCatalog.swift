/// `pg_proc.provolatile`, worst first.
package enum Volatility: UInt8, Sendable, Comparable {
    case immutable
    case stable
    case volatile

    package static func < (left: Volatility, right: Volatility) -> Bool { left.rawValue < right.rawValue }
}

/// The functions of one database by unqualified name, each with the worst volatility of all its overloads in all schemas.
package struct FunctionCatalog: Sendable, Equatable {
    package private(set) var volatilities: [String: Volatility]

    package init(_ functions: some Sequence<(name: String, volatility: Volatility)>) {
        volatilities = Dictionary(functions.map { ($0.name, $0.volatility) }, uniquingKeysWith: max)
    }

    package init() {
        volatilities = [:]
    }
}
