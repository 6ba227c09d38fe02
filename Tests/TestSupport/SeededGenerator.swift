import Glibc

/// Random numbers that can be had again (SplitMix64, Steele et al. 2014).
///
/// Every run takes another seed, which belongs into the comment of each expectation; `SLIPSTREAM_SEED` repeats a run that
/// failed.
package struct SeededGenerator: RandomNumberGenerator {
    package let seed: UInt64
    private var state: UInt64

    package init(seed: UInt64 = environmentSeed ?? UInt64.random(in: .min ... .max)) {
        self.seed = seed
        state = seed
    }

    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    package mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &self) }
    }

    /// Cuts `count` bytes into parts of random sizes; the ends of the parts, in order.
    package mutating func cuts(_ count: Int, largest: Int) -> [Int] {
        var ends: [Int] = []
        while (ends.last ?? 0) < count {
            ends.append(min(count, (ends.last ?? 0) + Int.random(in: 1...largest, using: &self)))
        }
        return ends
    }
}

package let environmentSeed = getenv("SLIPSTREAM_SEED").flatMap { UInt64(String(cString: $0)) }
