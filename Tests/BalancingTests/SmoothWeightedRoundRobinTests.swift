import Balancing
import TestSupport
import Testing

struct SmoothWeightedRoundRobinTests {
    @Test(
        "every cycle holds each member exactly as often as its weight",
        arguments: [[1], [1, 1], [1, 2, 2], [5, 1, 1], [7, 0, 3, 100]]
    )
    func shares(weights: [Int]) {
        var random = SeededGenerator()
        for _ in 0..<50 {
            var router = SmoothWeightedRoundRobin(weights: weights, using: &random)
            for _ in 0..<5 {
                #expect(counts(&router, choices: weights.reduce(0, +)) == weights, "seed \(random.seed)")
            }
        }
    }

    @Test("turns are spread: between two turns of a member the others have had theirs")
    func smoothness() {
        var random = SeededGenerator()
        for _ in 0..<100 {
            var router = SmoothWeightedRoundRobin(weights: [5, 1, 1], using: &random)
            let choices = (0..<70).compactMap { _ in router.next { _ in true } }
            let runs = choices.split { $0 != 0 }.map(\.count)
            #expect(runs.allSatisfy { $0 <= 5 }, "seed \(random.seed)")
            var even = SmoothWeightedRoundRobin(weights: [1, 1], using: &random)
            let alternating = (0..<20).compactMap { _ in even.next { _ in true } }
            #expect(zip(alternating, alternating.dropFirst()).allSatisfy { $0 != $1 }, "seed \(random.seed)")
        }
    }

    @Test("a member of weight 0 is never chosen, even when it is the only one that is eligible")
    func weightZero() {
        var router = SmoothWeightedRoundRobin(weights: [0, 3])
        for _ in 0..<100 { #expect(router.next { _ in true } == 1) }
        #expect(router.next { $0 == 0 } == nil)
    }

    @Test("who is out of service passes its turns to the others in proportion to their weights")
    func eligibility() {
        var random = SeededGenerator()
        for _ in 0..<50 {
            var router = SmoothWeightedRoundRobin(weights: [1, 2, 3, 4], using: &random)
            _ = counts(&router, choices: Int.random(in: 0..<20, using: &random))
            // Whatever credit is left over evens out within a cycle; from then on the shares are exact.
            _ = counts(&router, choices: 8) { $0 != 1 }
            let got = counts(&router, choices: 8 * 100) { $0 != 1 }
            for (member, share) in [100, 0, 300, 400].enumerated() {
                #expect(abs(got[member] - share) <= 2, "\(got), seed \(random.seed)")
            }
        }
    }

    @Test("who comes back gets its share again, and no more than a few turns on top")
    func comesBack() {
        var random = SeededGenerator()
        for _ in 0..<50 {
            var router = SmoothWeightedRoundRobin(weights: [1, 2, 2], using: &random)
            _ = counts(&router, choices: 1_000) { $0 != 2 }
            let got = counts(&router, choices: 500)
            for (member, share) in [100, 200, 200].enumerated() {
                #expect(abs(got[member] - share) <= 5, "\(got), seed \(random.seed)")
            }
        }
    }

    @Test("with random eligibility the shares stay bounded, and only eligible members are chosen")
    func randomEligibility() {
        var random = SeededGenerator()
        for _ in 0..<100 {
            let weights = (0..<Int.random(in: 1...8, using: &random)).map { _ in Int.random(in: 0...5, using: &random) }
            var router = SmoothWeightedRoundRobin(weights: weights, using: &random)
            for _ in 0..<200 {
                let eligible = Set(weights.indices.filter { _ in Bool.random(using: &random) })
                let choice = router.next { eligible.contains($0) }
                let candidates = eligible.filter { weights[$0] > 0 }
                #expect(choice.map(candidates.contains) ?? candidates.isEmpty, "seed \(random.seed)")
            }
        }
    }

    @Test("nobody is chosen when nobody is eligible, and the turns that follow are as before")
    func nobody() {
        var router = SmoothWeightedRoundRobin(weights: [1, 2])
        for _ in 0..<10 { #expect(router.next { _ in false } == nil) }
        #expect(counts(&router, choices: 3) == [1, 2])
        var empty = SmoothWeightedRoundRobin(weights: [])
        #expect(empty.next { _ in true } == nil)
        var unweighted = SmoothWeightedRoundRobin(weights: [0, 0])
        #expect(unweighted.next { _ in true } == nil)
    }

    @Test("balancers that start together do not all choose the same member first")
    func randomStart() {
        var random = SeededGenerator()
        let first = (0..<200).map { _ in
            var router = SmoothWeightedRoundRobin(weights: [10, 10, 10], using: &random)
            return router.next { _ in true } ?? -1
        }
        #expect(Set(first) == [0, 1, 2], "seed \(random.seed)")
    }

    private func counts(
        _ router: inout SmoothWeightedRoundRobin,
        choices: Int,
        where isEligible: (Int) -> Bool = { _ in true }
    ) -> [Int] {
        var counts = router.weights.map { _ in 0 }
        for _ in 0..<choices {
            if let member = router.next(where: isEligible) { counts[member] += 1 }
        }
        return counts
    }
}
