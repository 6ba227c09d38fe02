import Monitor
import PostgresWire
import Testing
import Topology

/// One primary, one standby, and a clock that the test moves.
final class Cluster {
    static let primary = NodeID(0)
    static let standby = NodeID(1)

    var assessment: ClusterAssessment
    private(set) var now = ContinuousClock.now

    init(maxLag: MaxLag = MaxLag()) {
        assessment = ClusterAssessment(
            nodes: [
                Node(id: Self.primary, name: "primary", role: .primary, host: "127.0.0.1", port: 1, weight: 1),
                Node(id: Self.standby, name: "standby1", role: .standby, host: "127.0.0.1", port: 2, weight: 2),
            ],
            slotNames: [Self.standby: "standby1"],
            maxLags: [Self.standby: maxLag]
        )
    }

    var states: [NodeState] { assessment.topology.nodes.map(\.state) }
    var readers: [String] { assessment.topology.nodes.filter(\.servesReads).map(\.name) }
    var standbyStatus: NodeStatus { assessment.nodeStatuses[1] }
    var roles: [Role] { assessment.topology.nodes.map(\.role) }

    func pass(_ duration: Duration) {
        now += duration
    }

    @discardableResult
    func primary(at position: UInt64, timeline: UInt32 = 1, node: NodeID = primary) -> Bool {
        probe(node, .answered(NodeSample(isInRecovery: false, timeline: timeline, position: LSN(rawValue: position))))
    }

    @discardableResult
    func standby(at position: UInt64, streaming: Bool = true, age: Double? = nil) -> Bool {
        var sample = NodeSample(isInRecovery: true, timeline: 1, position: LSN(rawValue: position))
        sample.isStreaming = streaming
        sample.replayAge = age
        return probe(Self.standby, .answered(sample))
    }

    @discardableResult
    func probe(_ node: NodeID, _ outcome: ProbeOutcome, startedAt: ContinuousClock.Instant? = nil) -> Bool {
        pass(.milliseconds(1))
        return assessment.probed(node, outcome, startedAt: startedAt ?? now)
    }

    @discardableResult
    func exit(_ node: NodeID) -> Bool {
        pass(.milliseconds(1))
        return assessment.exited(node, problem: "killed by signal 9", at: now)
    }

    /// Both up and level.
    static func running(maxLag: MaxLag = MaxLag()) -> Cluster {
        let cluster = Cluster(maxLag: maxLag)
        cluster.primary(at: 1000)
        cluster.standby(at: 1000)
        return cluster
    }
}

@Suite struct ClusterAssessmentTests {
    @Test func nothingIsUpBeforeItAnswered() {
        let cluster = Cluster()
        #expect(cluster.states == [.starting, .starting])
        #expect(cluster.assessment.state == .noPrimary)
    }

    @Test func everyNodeThatAnswersAndStreamsIsUp() {
        let cluster = Cluster.running()
        #expect(cluster.states == [.up, .up])
        #expect(cluster.assessment.state == .healthy)
    }

    @Test func anUnchangedAnswerIsNoChange() {
        let cluster = Cluster.running()
        let version = cluster.assessment.topology.version
        #expect(!cluster.primary(at: 2000))
        #expect(!cluster.standby(at: 2000))
        #expect(cluster.assessment.topology.version == version)
    }

    @Test func aServerThatStartsIsStarting() {
        let cluster = Cluster.running()
        #expect(cluster.probe(Cluster.standby, .starting(reason: "the database system is starting up")))
        #expect(cluster.states == [.up, .starting])
        #expect(cluster.assessment.nodeStatuses[1].lastError == "the database system is starting up")
    }

    @Test func aFailedProbeTakesANodeDownAndAnAnswerBringsItBack() {
        let cluster = Cluster.running()
        #expect(cluster.probe(Cluster.standby, .failed(reason: "no answer within 1 s")))
        #expect(cluster.states == [.up, .down])
        #expect(cluster.assessment.state == .degraded)
        #expect(cluster.standby(at: 1000))
        #expect(cluster.states == [.up, .up])
        #expect(cluster.assessment.nodeStatuses[1].lastError == nil)
    }

    @Test func anExitTakesANodeDownAtOnce() {
        let cluster = Cluster.running()
        #expect(cluster.exit(Cluster.primary))
        #expect(cluster.states == [.down, .up])
        #expect(cluster.assessment.state == .noPrimary)
        #expect(!cluster.exit(Cluster.primary))
    }

    @Test func anAnswerFromBeforeTheExitDoesNotBringANodeBack() {
        let cluster = Cluster.running()
        let before = cluster.now
        cluster.exit(Cluster.primary)
        let answer = ProbeOutcome.answered(NodeSample(isInRecovery: false, timeline: 1, position: LSN(rawValue: 1000)))
        #expect(!cluster.probe(Cluster.primary, answer, startedAt: before))
        #expect(cluster.states == [.down, .up])
        #expect(cluster.probe(Cluster.primary, answer))
        #expect(cluster.states == [.up, .up])
    }

    @Test func aStandbyOutlivesItsPrimary() {
        let cluster = Cluster.running()
        // The stream breaks before any probe has noticed the primary's death.
        cluster.standby(at: 1000, streaming: false)
        #expect(cluster.states == [.up, .up])
        cluster.probe(Cluster.primary, .failed(reason: "connection refused"))
        cluster.standby(at: 1000, streaming: false)
        #expect(cluster.states == [.down, .up])
    }

    @Test func aStandbyIsDetachedOnceThePrimaryProvesAlive() {
        let cluster = Cluster.running()
        cluster.standby(at: 1000, streaming: false)
        #expect(cluster.states == [.up, .up])
        #expect(cluster.primary(at: 1100))
        #expect(cluster.states == [.up, .detached])
        #expect(cluster.assessment.nodeStatuses[1].lastError == "does not stream from the primary")
        cluster.standby(at: 1100)
        #expect(cluster.states == [.up, .up])
    }

    @Test func aStandbyThatRestartsWithoutAPrimaryServesNoReads() {
        let cluster = Cluster.running()
        cluster.probe(Cluster.primary, .failed(reason: "connection refused"))
        cluster.exit(Cluster.standby)
        cluster.standby(at: 1000, streaming: false)
        #expect(cluster.states == [.down, .detached])
    }

    @Test func ofTwoPrimariesTheHigherTimelineCounts() {
        let cluster = Cluster.running()
        cluster.primary(at: 1200, timeline: 2, node: Cluster.standby)
        #expect(cluster.roles == [.standby, .primary])
        #expect(cluster.states == [.detached, .up])
        #expect(cluster.assessment.topology.primary?.id == Cluster.standby)
    }

    @Test func aPrimaryThatAnswersBeatsOneThatDoesNot() {
        let cluster = Cluster.running()
        cluster.primary(at: 1200, timeline: 1, node: Cluster.standby)
        #expect(cluster.roles == [.primary, .standby])
        cluster.probe(Cluster.primary, .failed(reason: "connection refused"))
        #expect(cluster.roles == [.standby, .primary])
        #expect(cluster.states == [.down, .up])
    }

    @Test func anHourWithoutWritesIsNoLag() throws {
        let cluster = Cluster.running()
        // Then one write that the standby has not replayed yet.
        cluster.pass(.seconds(3600))
        cluster.primary(at: 1000)
        cluster.standby(at: 1000, age: 3600)
        #expect(cluster.assessment.nodeStatuses[1].lagSeconds == 0)
        cluster.primary(at: 5000)
        cluster.standby(at: 1000, age: 3600)
        let status = cluster.assessment.nodeStatuses[1]
        #expect(status.lagBytes == 4000)
        let lag = try #require(status.lagSeconds)
        #expect(lag > 0 && lag < 1)
    }

    @Test func aStandbyThatAnswersFirstIsMeasuredWhenItsPrimaryAnswers() {
        let cluster = Cluster()
        cluster.standby(at: 1000)
        #expect(cluster.assessment.nodeStatuses[1].lagSeconds == nil)
        cluster.primary(at: 1000)
        #expect(cluster.assessment.nodeStatuses[1].lagSeconds == 0)
    }

    @Test(
        arguments: [
            (0x0_0300_0018, 0x0_0300_0000), (0x0_0300_2018, 0x0_0300_2000), (0x0_0300_0028, 0x0_0300_0000),
            (0x0_0300_2028, 0x0_0300_2028), (0x0_0300_2020, 0x0_0300_2020),
        ] as [(UInt64, UInt64)]
    )
    func aPositionBehindAPageHeaderIsWhereTheLastRecordEnded(_ position: UInt64, _ end: UInt64) {
        #expect(LSN(rawValue: position).endOfLastRecord == LSN(rawValue: end))
    }

    @Test func aStandbyIsLevelAcrossAPageHeader() {
        let cluster = Cluster.running()
        cluster.primary(at: 0x0300_2018)
        cluster.standby(at: 0x0300_2000, age: 60)
        #expect(cluster.assessment.nodeStatuses[1].lagBytes == 0)
        #expect(cluster.assessment.nodeStatuses[1].lagSeconds == 0)
    }

    @Test func aLostSlotOrAFailingArchiveDegrades() {
        var sample = NodeSample(isInRecovery: false, timeline: 1, position: LSN(rawValue: 1000))
        let cluster = Cluster.running()
        let slot = SlotStatus(name: "standby1", active: false, walStatus: "lost", retainedBytes: nil)
        sample.replicas = [ReplicaSample(slot: slot, state: nil)]
        cluster.probe(Cluster.primary, .answered(sample))
        #expect(cluster.assessment.nodeStatuses[1].slot == slot)
        #expect(cluster.assessment.state == .degraded)
        sample.replicas = []
        sample.archive = ArchiveStatus(lastArchived: nil, age: nil, failedCount: 3, failing: true)
        cluster.probe(Cluster.primary, .answered(sample))
        #expect(cluster.assessment.state == .degraded)
        sample.archive?.failing = false
        cluster.probe(Cluster.primary, .answered(sample))
        #expect(cluster.assessment.state == .healthy)
    }
}
