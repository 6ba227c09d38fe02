/// Who is next, among members that are known by their numbers.
///
/// A policy is a small value: whoever owns it decides about locks and clocks. `ReadPool` puts one behind a lock for the
/// routers; a worker of the endpoint has its own. Write your own by conforming to this protocol; only `next(at:where:)`
/// is needed, and a policy that learns from what it is told implements the others, too.
public protocol BalancingPolicy: Sendable {
    /// The next member among those that `isEligible`, or `nil` when there is none that may be chosen.
    ///
    /// Shares are to be computed over the eligible members of each choice: a member that is out of service passes its
    /// turns to all others by their weights.
    mutating func next(at now: ContinuousClock.Instant, where isEligible: (Int) -> Bool) -> Int?

    /// The chosen member was given something to do.
    mutating func began(_ member: Int, at now: ContinuousClock.Instant)

    /// The member is done with it, after `duration`; `nil` when it failed, which says nothing about how fast it is.
    mutating func ended(_ member: Int, at now: ContinuousClock.Instant, after duration: Duration?)

    /// The member is in service again after a time in which it was not.
    mutating func returned(_ member: Int, at now: ContinuousClock.Instant)
}

extension BalancingPolicy {
    public mutating func began(_ member: Int, at now: ContinuousClock.Instant) {}
    public mutating func ended(_ member: Int, at now: ContinuousClock.Instant, after duration: Duration?) {}
    public mutating func returned(_ member: Int, at now: ContinuousClock.Instant) {}
}

extension SmoothWeightedRoundRobin: BalancingPolicy {
    public mutating func next(at now: ContinuousClock.Instant, where isEligible: (Int) -> Bool) -> Int? {
        next(where: isEligible)
    }
}

extension WeightedRandom: BalancingPolicy {
    public func next(at now: ContinuousClock.Instant, where isEligible: (Int) -> Bool) -> Int? {
        next(where: isEligible)
    }
}
