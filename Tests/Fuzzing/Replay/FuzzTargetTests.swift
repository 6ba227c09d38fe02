import Foundation
import FuzzTargets
import TestSupport
import Testing

/// What `script/fuzz` does at length, in short; and everything that it ever found.
struct FuzzTargetTests {
    @Test("seeds, and changed seeds", arguments: FuzzTarget.all)
    func changedSeeds(target: FuzzTarget) throws {
        for seed in target.seeds { try target.check(seed) }
        try target.check([])
        var random = SeededGenerator()
        for _ in 0..<1_000 {
            var input = target.seeds.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 1...4, using: &random) { change(&input, &random) }
            #expect(throws: Never.self, "seed \(random.seed), \(target.name): \(input)") { try target.check(input) }
        }
    }

    /// The inputs in `Findings/<target>`, each of which a target has failed on.
    @Test("findings", arguments: FuzzTarget.all)
    func findings(target: FuzzTarget) throws {
        let directory = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(components: "Findings", target.name)
        let files = (try? FileManager.default.contentsOfDirectory(at: directory, includingPropertiesForKeys: nil)) ?? []
        for file in files {
            let input = try Data(contentsOf: file)
            #expect(throws: Never.self, "\(file.lastPathComponent)") { try target.check(Array(input)) }
        }
    }

    private func change(_ input: inout [UInt8], _ random: inout SeededGenerator) {
        guard let index = input.indices.randomElement(using: &random) else { return }
        switch Int.random(in: 0..<4, using: &random) {
        case 0: input[index] = UInt8.random(in: .min ... .max, using: &random)
        case 1: input.remove(at: index)
        case 2: input.insert(UInt8.random(in: .min ... .max, using: &random), at: index)
        default: input.removeSubrange(index...)
        }
    }
}

extension FuzzTarget: CustomTestStringConvertible {
    package var testDescription: String { name }
}
