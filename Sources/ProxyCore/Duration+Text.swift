/// Reads `15s` or `500 ms` as a whole number of the smallest unit; `nil` for what is no number or has another unit.
///
/// - Parameters:
///   - units: what each is of the smallest.
///   - plain: what a number without a unit is of it.
package func number(_ text: String, in units: [(name: String, scale: Double)], plain: Double) -> Double? {
    let digits = text.prefix { ("0"..."9").contains($0) || $0 == "." }
    let unit = text.dropFirst(digits.count).drop { $0 == " " }
    guard !digits.isEmpty, digits.first != ".", digits.last != ".", let number = Double(digits),
        let scale = unit.isEmpty ? plain : units.first(where: { $0.name == unit })?.scale
    else { return nil }
    return (number * scale).rounded()
}

extension Duration {
    /// In nanoseconds.
    private static let units: [(name: String, scale: Double)] = [
        ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("min", 60e9), ("h", 3_600e9), ("d", 86_400e9),
    ]
    package static let unitNames = units.map(\.name).joined(separator: ", ")

    /// Reads `15s`, `2min`, `500 ms`, or a plain number of seconds; `nil` for anything else, negative times and more than
    /// a hundred years.
    package init?(text: String) {
        guard let nanoseconds = number(text, in: Self.units, plain: 1e9), nanoseconds <= 3.2e18 else { return nil }
        self = .nanoseconds(Int64(nanoseconds))
    }
}
