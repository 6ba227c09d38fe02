/// One member after the other, in an order that was shuffled at the start: many that start together do not all begin
/// with the same member.
public struct RoundRobin: BalancingPolicy {
    /// The members, in the order of their turns.
    public let order: [Int]
    private var position = 0

    /// - Parameter count: how many members there are.
    public init(count: Int) {
        var generator = SystemRandomNumberGenerator()
        self.init(count: count, using: &generator)
    }

    /// As `init(count:)`, with the random numbers from `generator`.
    public init(count: Int, using generator: inout some RandomNumberGenerator) {
        order = (0..<count).shuffled(using: &generator)
    }

    public mutating func next(at now: ContinuousClock.Instant, where isEligible: (Int) -> Bool) -> Int? {
        for step in order.indices {
            let index = (position + step) % order.count
            guard isEligible(order[index]) else { continue }
            position = (index + 1) % order.count
            return order[index]
        }
        return nil
    }
}
