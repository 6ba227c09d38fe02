/// Weighted round robin that spreads each member's turns evenly: with weights 1, 2, 2 every five consecutive
/// choices hold the first member once and the others twice, never in a row when that can be avoided.
///
/// Shares are computed over the *eligible* members of each choice, so a member that is out of service passes its
/// turns to all others by their weights, and not to its neighbour.
///
/// The rule: every eligible member's credit grows by its weight; the largest credit is chosen and pays the sum of all
/// eligible weights. A random start keeps many balancers that start together from choosing the same member first.
public struct SmoothWeightedRoundRobin: Sendable {
    private var credits: [Int]
    public let weights: [Int]

    /// - Parameter weights: one per member, each 0 or more; a member of weight 0 is never chosen.
    public init(weights: [Int]) {
        var generator = SystemRandomNumberGenerator()
        self.init(weights: weights, using: &generator)
    }

    /// As `init(weights:)`, with the random numbers from `generator`.
    public init(weights: [Int], using generator: inout some RandomNumberGenerator) {
        precondition(weights.allSatisfy { $0 >= 0 }, "a weight is 0 or more")
        self.weights = weights
        self.credits = weights.map { weight in
            weight == 0 ? 0 : Int.random(in: 0..<weight, using: &generator)
        }
    }

    /// The next member among those that `isEligible`, or `nil` when no eligible member has a weight.
    public mutating func next(where isEligible: (Int) -> Bool) -> Int? {
        var total = 0
        var best: Int?
        for member in weights.indices where weights[member] > 0 && isEligible(member) {
            total += weights[member]
            credits[member] += weights[member]
            if best.map({ credits[member] > credits[$0] }) ?? true {
                best = member
            }
        }
        if let best {
            credits[best] -= total
        }
        return best
    }
}
