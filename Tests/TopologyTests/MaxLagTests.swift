import Testing
import Topology

/// What becomes of a standby whose lag goes up and down: `.` it serves reads, `x` it does not.
private func transcript(_ maxLag: MaxLag, _ lags: [Lag]) -> String {
    var exceeded = false
    return lags.map { lag in
        exceeded = maxLag.isExceeded(by: lag, before: exceeded)
        return exceeded ? "x" : "."
    }.joined()
}

private func bytes(_ lags: UInt64...) -> [Lag] { lags.map { Lag(bytes: $0, time: .zero) } }
private func milliseconds(_ lags: Int...) -> [Lag] { lags.map { Lag(bytes: 1, time: .milliseconds($0)) } }

struct MaxLagTests {
    @Test("without a limit a standby may be any far behind")
    func unlimited() {
        #expect(transcript(MaxLag(), bytes(0, .max)) == "..")
        #expect(transcript(MaxLag(), milliseconds(0, .max)) == "..")
    }

    @Test("it leaves beyond the limit, not at it, and comes back below half of it, not at half")
    func hysteresis() {
        #expect(transcript(MaxLag(bytes: 100), bytes(0, 50, 100, 101, 100, 60, 50, 49, 60, 100, 101)) == "...xxxx...x")
        let second = MaxLag(time: .seconds(1))
        #expect(transcript(second, milliseconds(0, 500, 1000, 1001, 1000, 501, 500, 499, 999, 1001)) == "...xxxx..x")
    }

    @Test("around the limit it does not come and go")
    func flapping() {
        #expect(transcript(MaxLag(bytes: 100), bytes(99, 101, 99, 101, 99, 101, 51, 101)) == ".xxxxxxx")
    }

    @Test("either limit takes it out, and it is back when it is below half of both")
    func both() {
        let maxLag = MaxLag(bytes: 100, time: .seconds(10))
        func lag(_ bytes: UInt64, _ seconds: Int) -> Lag { Lag(bytes: bytes, time: .seconds(seconds)) }
        #expect(transcript(maxLag, [lag(101, 1), lag(1, 9), lag(49, 5), lag(50, 4), lag(49, 4)]) == "xxxx.")
        #expect(transcript(maxLag, [lag(1, 11), lag(99, 1), lag(49, 5), lag(50, 4), lag(49, 4)]) == "xxxx.")
    }

    @Test("a limit that has no half is met by who has everything")
    func smallest() {
        #expect(transcript(MaxLag(bytes: 1), bytes(1, 2, 1, 0)) == ".xx.")
        #expect(transcript(MaxLag(time: .nanoseconds(1)), milliseconds(0, 1, 0)) == ".x.")
    }
}
