import Monitor
import PostgresWire
import Testing
import Topology

/// Rule 5 of `ClusterAssessment`, and the time it compares.
extension ClusterAssessmentTests {
    private static let everybody = ["primary", "standby1"]

    // MARK: - Bytes

    @Test func aStandbyThatLagsServesNoReadsUntilItIsBelowHalf() {
        let cluster = Cluster.running(maxLag: MaxLag(bytes: 16 << 20))
        cluster.primary(at: 1000 + 16 << 20)
        #expect(!cluster.standby(at: 1000))
        #expect(cluster.readers == Self.everybody)
        cluster.primary(at: 1000 + 123 << 20)
        #expect(cluster.standby(at: 1000))
        #expect(cluster.readers == ["primary"])
        #expect(
            cluster.standbyStatus.lagProblem == "lags 123 MB behind, more than max_lag 16 MB: serves no reads"
        )
        #expect(cluster.standbyStatus.lastError == nil)
        #expect(!cluster.standby(at: 1000 + 115 << 20))
        #expect(
            cluster.standbyStatus.lagProblem
                == "lags 8 MB behind, not yet less than half of max_lag 16 MB: serves no reads"
        )
        #expect(cluster.standby(at: 1001 + 115 << 20))
        #expect(cluster.readers == Self.everybody)
        #expect(cluster.standbyStatus.lagProblem == nil)
    }

    @Test func aStandbyThatLagsIsUpAndTheClusterHealthy() {
        let cluster = Cluster.running(maxLag: MaxLag(bytes: 10))
        cluster.primary(at: 2000)
        cluster.standby(at: 1000)
        #expect(cluster.readers == ["primary"])
        #expect(cluster.states == [.up, .up])
        #expect(cluster.assessment.state == .healthy)
    }

    /// What the standby had replayed is older than what the primary says now.
    @Test func thePrimarysAnswerAloneTakesNobodyOut() {
        let cluster = Cluster.running(maxLag: MaxLag(bytes: 10))
        #expect(!cluster.primary(at: 2000))
        #expect(!cluster.standby(at: 2000))
        #expect(cluster.readers == Self.everybody)
    }

    // MARK: - Without a primary

    @Test func withoutAPrimaryNobodyLeaves() {
        let cluster = Cluster.running(maxLag: MaxLag(bytes: 10, time: .seconds(1)))
        // The last that the primary said is more than the standby ever gets.
        cluster.primary(at: 2000)
        cluster.probe(Cluster.primary, .failed(reason: "connection refused"))
        for _ in 0..<100 {
            cluster.pass(.seconds(1))
            cluster.standby(at: 1000, streaming: false, age: 100)
            #expect(cluster.readers == ["standby1"])
        }
    }

    /// A primary that has fallen silent is not known to be gone before its probe has run out of time.
    @Test func whileThePrimaryIsSilentTheAgeDoesNotGrow() {
        let cluster = Cluster.running(maxLag: MaxLag(time: .milliseconds(500)))
        cluster.primary(at: 2000)
        for _ in 0..<5 {
            cluster.pass(.milliseconds(250))
            cluster.standby(at: 1000, age: 100)
        }
        cluster.probe(Cluster.primary, .failed(reason: "no answer within 1 s"))
        #expect(cluster.readers == ["standby1"])
    }

    @Test func withoutAPrimaryNobodyComesBack() {
        let cluster = Cluster.running(maxLag: MaxLag(bytes: 10))
        cluster.primary(at: 2000)
        cluster.standby(at: 1000)
        cluster.probe(Cluster.primary, .failed(reason: "connection refused"))
        cluster.standby(at: 2000, streaming: false)
        #expect(cluster.readers.isEmpty)
        #expect(
            cluster.standbyStatus.lagProblem
                == "was behind more than its max_lag when the primary answered last: serves no reads"
        )
        cluster.primary(at: 2000)
        cluster.standby(at: 2000)
        #expect(cluster.readers == Self.everybody)
    }

    @Test func aNewPrimaryDoesNotLag() {
        let cluster = Cluster.running(maxLag: MaxLag(bytes: 10))
        cluster.primary(at: 2000)
        cluster.standby(at: 1000)
        cluster.probe(Cluster.primary, .failed(reason: "connection refused"))
        cluster.primary(at: 1100, timeline: 2, node: Cluster.standby)
        #expect(cluster.readers == ["standby1"])
        #expect(cluster.standbyStatus.lagProblem == nil)
    }

    @Test func aStandbyThatComesBackFarBehindServesNothingFromTheStart() {
        let cluster = Cluster.running(maxLag: MaxLag(bytes: 10))
        cluster.exit(Cluster.standby)
        cluster.primary(at: 2000)
        cluster.standby(at: 1000)
        #expect(cluster.states == [.up, .up])
        #expect(cluster.readers == ["primary"])
    }

    // MARK: - Time

    @Test func aStandbyWhoseDataIsOldServesNoReadsUntilItIsBelowHalf() throws {
        let cluster = Cluster.running(maxLag: MaxLag(time: .seconds(5)))
        // A thousand bytes each second, and replay stands.
        for second in 1...5 as ClosedRange<UInt64> {
            cluster.pass(.seconds(1) - .milliseconds(2))
            cluster.primary(at: 1000 + second * 1000)
            cluster.standby(at: 1000)
        }
        #expect(cluster.readers == Self.everybody)
        cluster.pass(.seconds(1))
        cluster.primary(at: 7000)
        cluster.standby(at: 1000)
        #expect(cluster.readers == ["primary"])
        let problem = try #require(cluster.standbyStatus.lagProblem)
        #expect(problem.hasPrefix("lags 6.0"), "\(problem)")
        #expect(problem.hasSuffix(" s behind, more than max_lag 5 s: serves no reads"), "\(problem)")
        // It catches up: three seconds behind, two seconds behind.
        cluster.standby(at: 4500)
        #expect(cluster.readers == ["primary"])
        cluster.standby(at: 5500)
        #expect(cluster.readers == Self.everybody)
    }

    @Test func aPrimaryThatDoesNotWriteMakesNobodyOld() {
        let cluster = Cluster.running(maxLag: MaxLag(time: .seconds(5)))
        for second in 0..<100 {
            cluster.pass(.seconds(1))
            cluster.primary(at: 1000)
            cluster.standby(at: 1000, age: Double(second))
            #expect(cluster.readers == Self.everybody)
        }
    }

    /// The row it lacks was written a moment ago; what it has is as good as new until then.
    @Test func afterAPauseTheAgeCountsFromTheFirstWriteThatIsMissing() throws {
        let cluster = Cluster.running(maxLag: MaxLag(time: .seconds(5)))
        for _ in 0..<100 {
            cluster.pass(.seconds(1))
            cluster.primary(at: 1000)
        }
        cluster.pass(.seconds(1))
        cluster.primary(at: 1100)
        cluster.standby(at: 1000, age: 101)
        #expect(cluster.readers == Self.everybody)
        #expect(try #require(cluster.standbyStatus.lagSeconds) < 1.1)
    }

    /// Slipstream was started while a standby was an hour behind.
    @Test func behindTheHistoryTheLastTransactionCounts() {
        let cluster = Cluster(maxLag: MaxLag(time: .seconds(60)))
        cluster.primary(at: 9000)
        cluster.standby(at: 1000, age: 3600)
        #expect(cluster.standbyStatus.lagSeconds == 3600)
        #expect(cluster.readers == ["primary"])
    }

    @Test func aPositionThatACrashCutOffIsForgotten() {
        let cluster = Cluster.running(maxLag: MaxLag(bytes: 10, time: .seconds(5)))
        cluster.primary(at: 5000)
        cluster.probe(Cluster.primary, .failed(reason: "connection refused"))
        cluster.pass(.seconds(1))
        // The end of its log was not on disk yet.
        cluster.primary(at: 1000)
        cluster.standby(at: 1000)
        #expect(cluster.standbyStatus.lagSeconds == 0 && cluster.standbyStatus.lagBytes == 0)
        #expect(cluster.readers == Self.everybody)
        // It gets there once more, and further. What the standby lacks was written after that.
        cluster.pass(.seconds(100))
        cluster.primary(at: 4900)
        cluster.primary(at: 5008)
        cluster.standby(at: 5000)
        #expect(cluster.readers == Self.everybody)
    }

    /// However long it runs: the age is right to a few percent and the time between two probes, and never too short.
    @Test(arguments: [1, 60, 1_000, 9_000])
    func theAgeIsNeverTooShort(_ seconds: Int) throws {
        let cluster = Cluster.running()
        // A record each second; no record ends behind a page's header.
        for second in 1...10_000 as ClosedRange<UInt64> {
            cluster.pass(.seconds(1) - .milliseconds(1))
            cluster.primary(at: 1001 + second * 2)
        }
        cluster.standby(at: 1001 + (10_000 - UInt64(seconds)) * 2)
        let age = try #require(cluster.standbyStatus.lagSeconds)
        #expect(age >= Double(seconds) && age <= Double(seconds) * 1.04 + 1, "\(age)")
    }
}
