/// Of two members drawn by weight, the one that is expected to answer sooner: how long it took lately, times what it has
/// to do.
///
/// How long it took is a moving average that forgets: what is `memory` old counts half. A duration above the average
/// replaces it at once (the peak), so that a member that stalls is left alone after its first slow answer, and is trusted again
/// only little by little. Source: Finagle's `PeakEwma`, after which it is named.
public struct PeakEWMA: BalancingPolicy {
    private struct Member {
        var outstanding = 0
        /// Seconds; 0 until something is known, so that a member nobody has tried is tried.
        var average = 0.0
        var measuredAt: ContinuousClock.Instant?
    }

    private let draw: WeightedRandom
    private let memory: Duration
    private var members: [Member]

    /// - Parameters:
    ///   - weights: one per member, each 0 or more; a member of weight 0 is never chosen.
    ///   - memory: what is as old as this counts half.
    public init(weights: [Int], memory: Duration = .seconds(10)) {
        precondition(memory > .zero, "a memory is longer than nothing")
        draw = WeightedRandom(weights: weights)
        self.memory = memory
        members = weights.map { _ in Member() }
    }

    public mutating func next(at now: ContinuousClock.Instant, where isEligible: (Int) -> Bool) -> Int? {
        draw.lighterOfTwo(where: isEligible) { cost(of: $0, at: now) }
    }

    /// Seconds that one more request is expected to take.
    private func cost(of index: Int, at now: ContinuousClock.Instant) -> Double {
        let member = members[index]
        return member.average * share(of: member, at: now) * Double(member.outstanding + 1)
    }

    /// How much of the average is still believed: one half after `memory`, less and less later.
    private func share(of member: Member, at now: ContinuousClock.Instant) -> Double {
        guard let measuredAt = member.measuredAt, measuredAt < now else { return 1 }
        return memory / (memory + (now - measuredAt))
    }

    public mutating func began(_ member: Int, at now: ContinuousClock.Instant) {
        members[member].outstanding += 1
    }

    public mutating func ended(_ index: Int, at now: ContinuousClock.Instant, after duration: Duration?) {
        var member = members[index]
        member.outstanding = max(0, member.outstanding - 1)
        if let duration {
            let seconds = duration / .seconds(1)
            let old = share(of: member, at: now)
            member.average = seconds > member.average ? seconds : member.average * old + seconds * (1 - old)
            member.measuredAt = now
        }
        members[index] = member
    }
}
