import Glibc

/// Random numbers that can be had again (SplitMix64, Steele et al. 2014). Every run takes another seed, which belongs into
/// the comment of each expectation; `SLIPSTREAM_TEST_SEED` repeats a run that failed.
struct SeededGenerator: RandomNumberGenerator {
    let seed: UInt64
    private var state: UInt64

    init(seed: UInt64 = environmentSeed ?? UInt64.random(in: .min ... .max)) {
        self.seed = seed
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &self) }
    }
}

private let environmentSeed = getenv("SLIPSTREAM_TEST_SEED").flatMap { UInt64(String(cString: $0)) }
