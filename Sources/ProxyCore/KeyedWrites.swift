/// The last write of each key: of what sessions with the same `slipstream.key` must see.
package struct KeyedWrites: Sendable {
    private var numbers: [String: UInt64] = [:]
    /// The greatest number that was forgotten: a key that is not known may have written it.
    private var forgotten: UInt64 = 0
    private let limit: Int

    /// - Parameter limit: how many keys are remembered.
    package init(limit: Int = 65_536) { self.limit = limit }

    package mutating func wrote(_ key: String, _ number: UInt64) {
        numbers[key] = number
        if numbers.count > limit { forgetOlderHalf() }
    }

    /// The number of its last write, or of a later one of another key; 0 for none.
    package func lastWrite(of key: String) -> UInt64 { numbers[key] ?? forgotten }

    private mutating func forgetOlderHalf() {
        forgotten = numbers.values.sorted()[numbers.count / 2]
        numbers = numbers.filter { $0.value > forgotten }
    }
}
