/// Chooses among weighted members at random, each choice apart from all others: nothing is remembered, so what one
/// caller asks changes no other's share.
///
/// For the second choice of one who had a first: taken from a `SmoothWeightedRoundRobin`, second choices would fall
/// in step with the first ones and shift the shares of everybody else.
public struct WeightedRandom: Sendable {
    public let weights: [Int]

    /// - Parameter weights: one per member, each 0 or more; a member of weight 0 is never chosen.
    public init(weights: [Int]) {
        precondition(weights.allSatisfy { $0 >= 0 }, "a weight is 0 or more")
        self.weights = weights
    }

    /// A member among those that `isEligible`, or `nil` when no eligible member has a weight.
    public func next(where isEligible: (Int) -> Bool) -> Int? {
        var generator = SystemRandomNumberGenerator()
        return next(using: &generator, where: isEligible)
    }

    /// As `next(where:)`, with the random numbers from `generator`.
    public func next(using generator: inout some RandomNumberGenerator, where isEligible: (Int) -> Bool) -> Int? {
        let eligible = weights.indices.filter { weights[$0] > 0 && isEligible($0) }
        let total = eligible.reduce(0) { $0 + weights[$1] }
        guard total > 0 else { return nil }
        var point = Int.random(in: 0..<total, using: &generator)
        return eligible.first { member in
            point -= weights[member]
            return point < 0
        }
    }
}
