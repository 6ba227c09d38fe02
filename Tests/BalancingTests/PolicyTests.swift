import Balancing
import TestSupport
import Testing

/// Policies that learn, by a simulation with its own clock.
struct PolicyTests {
    private let start = ContinuousClock.now

    @Test("when nobody is busy, shares are the weights", arguments: ["least outstanding", "peak EWMA"])
    func idleShares(name: String) {
        var counts = [0, 0, 0]
        func count(_ policy: some BalancingPolicy) {
            var policy = policy
            for _ in 0..<20_000 {
                if let member = policy.next(at: start, where: { $0 != 3 }) { counts[member] += 1 }
            }
        }
        let weights = [1, 2, 2, 5]
        if name == "peak EWMA" { count(PeakEWMA(weights: weights)) } else { count(LeastOutstanding(weights: weights)) }
        #expect(abs(counts[0] - 4_000) < 400 && abs(counts[1] - 8_000) < 500, "\(counts)")
    }

    @Test("who has much to do is spared")
    func leastOutstanding() {
        var policy = LeastOutstanding(weights: [1, 1, 1])
        for _ in 0..<50 { policy.began(0, at: start) }
        var counts = [0, 0, 0]
        for _ in 0..<300 {
            let member = policy.next(at: start) { _ in true }!
            counts[member] += 1
            policy.began(member, at: start)
        }
        // All have the same in the end: 50 + 300 over three.
        #expect(abs(counts[0] - 67) < 15 && abs(counts[1] - counts[2]) < 30, "\(counts)")
    }

    @Test("one slow answer is enough to be left alone, and time heals")
    func peak() {
        var policy = PeakEWMA(weights: [1, 1], memory: .seconds(10))
        func share(at now: ContinuousClock.Instant) -> Double {
            Double((0..<1_000).count { _ in policy.next(at: now, where: { _ in true }) == 0 }) / 1_000
        }
        func answer(_ member: Int, at now: ContinuousClock.Instant, after duration: Duration?) {
            policy.began(member, at: now)
            policy.ended(member, at: now, after: duration)
        }
        answer(0, at: start, after: .milliseconds(1))
        answer(1, at: start, after: .milliseconds(1))
        #expect(abs(share(at: start) - 0.5) < 0.1)
        answer(0, at: start, after: .milliseconds(100))
        #expect(share(at: start) == 0)
        answer(0, at: start, after: .milliseconds(1))
        #expect(share(at: start) == 0, "one quick answer is not believed")
        // Nothing is known for sure of a time long ago: half of it after 10 s, and so on.
        answer(1, at: start + .seconds(2_000), after: .milliseconds(1))
        #expect(share(at: start + .seconds(2_000)) > 0.5)
        answer(1, at: start + .seconds(2_000), after: nil)
        #expect(share(at: start + .seconds(2_000)) > 0.5, "a failure says nothing about speed")
    }

    @Test("who has just returned begins with little and ends with its share")
    func slowStart() {
        var policy = SlowStart(
            SmoothWeightedRoundRobin(weights: [1, 1]),
            duration: .seconds(30),
            initialShare: 0.1,
            using: SeededGenerator(seed: 1)
        )
        func share(at now: ContinuousClock.Instant) -> Double {
            Double((0..<4_000).count { _ in policy.next(at: now, where: { _ in true }) == 1 }) / 4_000
        }
        #expect(share(at: start) == 0.5)
        policy.returned(1, at: start)
        let shares = [0, 5, 15, 25, 30, 60].map { share(at: start + .seconds($0)) }
        #expect(shares == shares.sorted() && shares[0] < 0.12 && shares[0] > 0.02, "\(shares)")
        #expect(shares[4] == 0.5 && shares[5] == 0.5, "\(shares)")
        policy.returned(1, at: start)
        for _ in 0..<100 { #expect(policy.next(at: start) { $0 == 1 } == 1, "alone it serves") }
    }

    @Test("whatever the policy: only eligible members with a weight, and nobody when there is none")
    func eligibility() {
        func check(_ policy: some BalancingPolicy, _ weights: [Int], _ random: inout SeededGenerator) {
            var policy = policy
            for _ in 0..<300 {
                let eligible = Set(weights.indices.filter { _ in Bool.random(using: &random) })
                let choice = policy.next(at: start) { eligible.contains($0) }
                let candidates = eligible.filter { weights[$0] > 0 }
                #expect(choice.map(candidates.contains) ?? candidates.isEmpty, "seed \(random.seed)")
                guard let choice else { continue }
                policy.began(choice, at: start)
                if Bool.random(using: &random) { policy.ended(choice, at: start, after: .milliseconds(3)) }
                if Bool.random(using: &random) { policy.returned(choice, at: start) }
            }
        }
        var random = SeededGenerator()
        for _ in 0..<20 {
            let weights = (0..<Int.random(in: 1...6, using: &random)).map { _ in Int.random(in: 0...3, using: &random) }
            check(LeastOutstanding(weights: weights), weights, &random)
            check(PeakEWMA(weights: weights), weights, &random)
            check(WeightedRandom(weights: weights), weights, &random)
            check(SlowStart(SmoothWeightedRoundRobin(weights: weights)), weights, &random)
            check(RoundRobin(count: weights.count), weights.map { _ in 1 }, &random)
        }
    }

    @Test("a pool tells its policy what it measures")
    func measuring() async throws {
        struct Failure: Error {}
        let pool = ReadPool(["one", "two"], policy: LeastOutstanding(weights: [1, 1]))
        await pool.measuring("one") {
            #expect(Set((0..<50).map { _ in pool.next() }) == ["two"], "one is busy")
        }
        await #expect(throws: Failure.self) { try await pool.measuring("one") { throw Failure() } }
        #expect(Set((0..<50).map { _ in pool.next() }) == ["one", "two"])
    }
}
