/// Gives a member that has just returned less than its share at first: its caches are cold.
///
/// Over `duration` its share grows evenly from `initialShare` to the whole. When only members that have just returned
/// are eligible, they serve all the same.
public struct SlowStart<Base: BalancingPolicy>: BalancingPolicy {
    private var base: Base
    private let duration: Duration
    private let initialShare: Double
    private var returnedAt: [Int: ContinuousClock.Instant] = [:]
    private var generator: any RandomNumberGenerator & Sendable

    /// - Parameters:
    ///   - base: who is next among those that are warm enough.
    ///   - duration: from the return to the whole share.
    ///   - initialShare: of its usual share, from 0 to 1; more than nothing, or nothing would get warm.
    ///   - generator: where the random numbers come from.
    public init(
        _ base: Base,
        duration: Duration = .seconds(30),
        initialShare: Double = 0.1,
        using generator: some RandomNumberGenerator & Sendable = SystemRandomNumberGenerator()
    ) {
        precondition(
            duration > .zero && (0...1).contains(initialShare),
            "a slow start takes time and ends at the whole"
        )
        self.base = base
        self.duration = duration
        self.initialShare = initialShare
        self.generator = generator
    }

    public mutating func next(at now: ContinuousClock.Instant, where isEligible: (Int) -> Bool) -> Int? {
        guard !returnedAt.isEmpty else { return base.next(at: now, where: isEligible) }
        returnedAt = returnedAt.filter { now - $0.value < duration }
        var sitsOut: Set<Int> = []
        for (member, since) in returnedAt {
            let share = initialShare + (1 - initialShare) * max(0, (now - since) / duration)
            if Double.random(in: 0..<1, using: &generator) >= share { sitsOut.insert(member) }
        }
        return base.next(at: now) { !sitsOut.contains($0) && isEligible($0) } ?? base.next(at: now, where: isEligible)
    }

    public mutating func began(_ member: Int, at now: ContinuousClock.Instant) {
        base.began(member, at: now)
    }

    public mutating func ended(_ member: Int, at now: ContinuousClock.Instant, after duration: Duration?) {
        base.ended(member, at: now, after: duration)
    }

    public mutating func returned(_ member: Int, at now: ContinuousClock.Instant) {
        returnedAt[member] = now
        base.returned(member, at: now)
    }
}
