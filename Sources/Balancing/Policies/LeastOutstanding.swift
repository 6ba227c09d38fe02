/// Of two members drawn by weight, the one that has less to do (power of two choices, Mitzenmacher 2001).
///
/// When nobody is busy the shares are those of the weights. Comparing two instead of all keeps many balancers, which do not
/// know of each other, from rushing to the same idle member.
public struct LeastOutstanding: BalancingPolicy {
    private let draw: WeightedRandom
    private var outstanding: [Int]

    /// - Parameter weights: one per member, each 0 or more; a member of weight 0 is never chosen.
    public init(weights: [Int]) {
        draw = WeightedRandom(weights: weights)
        outstanding = weights.map { _ in 0 }
    }

    public mutating func next(at now: ContinuousClock.Instant, where isEligible: (Int) -> Bool) -> Int? {
        draw.lighterOfTwo(where: isEligible) { outstanding[$0] }
    }

    public mutating func began(_ member: Int, at now: ContinuousClock.Instant) {
        outstanding[member] += 1
    }

    public mutating func ended(_ member: Int, at now: ContinuousClock.Instant, after duration: Duration?) {
        outstanding[member] = max(0, outstanding[member] - 1)
    }
}

extension WeightedRandom {
    /// Draws two different members and returns the one with the smaller load; the first one drawn when both are equal.
    func lighterOfTwo(where isEligible: (Int) -> Bool, load: (Int) -> some Comparable) -> Int? {
        guard let first = next(where: isEligible) else { return nil }
        guard let second = next(where: { $0 != first && isEligible($0) }) else { return first }
        return load(second) < load(first) ? second : first
    }
}
