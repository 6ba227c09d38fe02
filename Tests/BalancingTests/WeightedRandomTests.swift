import Balancing
import TestSupport
import Testing

struct WeightedRandomTests {
    @Test("shares are as the weights of those that are eligible")
    func shares() {
        var random = SeededGenerator()
        let choice = WeightedRandom(weights: [1, 2, 0, 5])
        var counts = [0, 0, 0, 0]
        for _ in 0..<30_000 {
            if let member = choice.next(using: &random, where: { $0 != 3 }) { counts[member] += 1 }
        }
        #expect(counts[2] == 0 && counts[3] == 0, "seed \(random.seed)")
        #expect(abs(counts[0] - 10_000) < 500 && counts[0] + counts[1] == 30_000, "\(counts), seed \(random.seed)")
    }

    @Test("nobody is chosen when nobody who is eligible has a weight")
    func nobody() {
        let choice = WeightedRandom(weights: [0, 3])
        #expect(choice.next { $0 == 0 } == nil)
        #expect(choice.next { _ in false } == nil)
        #expect(choice.next { _ in true } == 1)
        #expect(WeightedRandom(weights: []).next { _ in true } == nil)
    }

    @Test("one who has to choose again, as its first choices are of no use, shifts nobody else's share")
    func secondChoices() {
        var random = SeededGenerator()
        var firsts = SmoothWeightedRoundRobin(weights: [1, 2, 2], using: &random)
        let seconds = WeightedRandom(weights: firsts.weights)
        var counts = [0, 0, 0]
        for _ in 0..<20_000 {
            for _ in 0..<Int.random(in: 0..<8, using: &random) {
                // Only member 0 is of use to this one.
                var untried: Set = [0, 1, 2]
                var choice = firsts.next { _ in true }
                while let member = choice, member != 0 {
                    untried.remove(member)
                    choice = seconds.next(using: &random) { untried.contains($0) }
                }
            }
            if let member = firsts.next(where: { _ in true }) { counts[member] += 1 }
        }
        for (member, share) in [4_000, 8_000, 8_000].enumerated() {
            #expect(abs(counts[member] - share) < 400, "\(counts), seed \(random.seed)")
        }
    }
}
