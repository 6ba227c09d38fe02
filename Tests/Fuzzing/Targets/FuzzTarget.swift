import Glibc

/// A parser, with what must be true of it whatever it is given.
package struct FuzzTarget: Sendable {
    package let name: String
    /// Inputs from which others are made.
    package let seeds: [[UInt8]]
    /// Throws when something is not as it must be. A trap is as bad, and so is what a sanitizer reports.
    package let check: @Sendable ([UInt8]) throws(Violation) -> Void

    package static let all: [FuzzTarget] = [
        .classification, .soundness, .settingChange, .requests, .passThrough, .answers, .stateProbe, .clientLogin,
        .serverLogin, .hostBasedRules,
    ]
}

/// What is not as it must be.
package struct Violation: Error, CustomStringConvertible {
    package let description: String
}

func require(_ condition: Bool, _ description: @autoclosure () -> String) throws(Violation) {
    if !condition { throw Violation(description: description()) }
}

extension [UInt8] {
    /// The first byte, which says how the rest is to be tried, and the rest in memory of its own: a sanitizer sees what is
    /// read behind its end.
    var optionsAndRest: (options: UInt8, rest: [UInt8]) { (first ?? 0, Array(dropFirst())) }

    /// Where the bytes are cut in two, so that both halves arrive by themselves: everywhere, if there are few.
    var cuts: [Int] {
        guard count > 1 else { return [] }
        guard count > 48 else { return Array<Int>(1..<count) }
        let hash = reduce(0x811C_9DC5 as UInt32) { ($0 ^ UInt32($1)) &* 0x0100_0193 }
        return (0..<16).map { 1 + Int((hash >> $0) & 0xFFFF) % (count - 1) }
    }
}

// MARK: - For libFuzzer

/// Checks the input with the target that `SLIPSTREAM_FUZZ_TARGET` names.
public func fuzzOneInput(_ bytes: UnsafeRawBufferPointer) {
    do throws(Violation) {
        try chosen.check(Array(bytes))
    } catch {
        fatalError(error.description)
    }
}

/// Writes the seeds of the target that `SLIPSTREAM_FUZZ_TARGET` names into the directory `SLIPSTREAM_FUZZ_SEEDS`, if that is
/// set.
public func writeSeeds() {
    guard let directory = getenv("SLIPSTREAM_FUZZ_SEEDS") else { return }
    for (index, seed) in chosen.seeds.enumerated() {
        guard let file = fopen("\(String(cString: directory))/seed-\(index)", "w") else { fatalError("cannot write") }
        fwrite(seed, 1, seed.count, file)
        fclose(file)
    }
}

private let chosen: FuzzTarget = {
    let name = getenv("SLIPSTREAM_FUZZ_TARGET").map { String(cString: $0) } ?? ""
    guard let target = FuzzTarget.all.first(where: { $0.name == name }) else {
        fatalError("SLIPSTREAM_FUZZ_TARGET must be one of \(FuzzTarget.all.map(\.name).joined(separator: " "))")
    }
    return target
}()
