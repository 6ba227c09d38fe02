extension Duration {
    private static let units: [(name: String, nanoseconds: Double)] = [
        ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("min", 60e9), ("h", 3_600e9), ("d", 86_400e9),
    ]
    package static let unitNames = units.map(\.name).joined(separator: ", ")

    /// Reads `15s`, `2min`, `500 ms`, or a plain number of seconds; `nil` for anything else, negative times and more than
    /// a hundred years.
    package init?(text: String) {
        let digits = text.prefix { ("0"..."9").contains($0) || $0 == "." }
        let unit = text.dropFirst(digits.count).drop { $0 == " " }
        guard !digits.isEmpty, digits.first != ".", digits.last != ".", let number = Double(digits),
            let scale = unit.isEmpty ? 1e9 : Self.units.first(where: { $0.name == unit })?.nanoseconds
        else { return nil }
        let nanoseconds = (number * scale).rounded()
        guard nanoseconds <= 3.2e18 else { return nil }
        self = .nanoseconds(Int64(nanoseconds))
    }
}
