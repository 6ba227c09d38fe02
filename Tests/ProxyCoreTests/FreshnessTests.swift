import PostgresWire
import ProxyCore
import TestSupport
import Testing
import Topology

struct FreshnessTests {
    private let standby = NodeID(1)
    private let other = NodeID(2)

    private func view() -> FreshnessView { FreshnessView(nodes: 3, primary: NodeID(0)) }

    // MARK: - Transcripts

    @Test("who has not written reads anywhere; who has, from the primary until it is known who has it")
    func ownWrites() {
        var view = view()
        var session = Freshness()
        #expect(view.satisfying(session) == .max)
        view.wrote(7, &session)
        #expect(view.satisfying(session) == 0)
        view.resolved(probe(6), at: lsn(900), timeline: 1, by: NodeID(0))
        view.settle(&session)
        #expect(session.unresolved == 7, "a probe that was sent before the write was answered says nothing of it")
        view.resolved(probe(9), at: lsn(1_000), timeline: 1, by: NodeID(0))
        view.settle(&session)
        #expect(session.unresolved == 0 && session.position == lsn(1_000))
        view.replayed(standby, lsn(999), timeline: 1, askedAt: at(1))
        #expect(view.satisfying(session) == 0)
        view.replayed(standby, lsn(1_000), timeline: 1, askedAt: at(2))
        #expect(view.satisfying(session) == 0b010, "each standby is compared")
        view.replayed(other, lsn(5_000), timeline: 1, askedAt: at(2))
        #expect(view.satisfying(session) == 0b110)
    }

    @Test(
        "a token of this timeline is a position, one of an older timeline is behind any probe, and one of a newer is not known"
    )
    func tokens() throws {
        var view = view()
        var session = Freshness()
        #expect(
            !view.accept(FreshnessToken(timeline: 2, position: lsn(500)), &session),
            "nothing is known of the primary yet"
        )
        view.resolved(probe(0), at: lsn(400), timeline: 2, by: NodeID(0))
        #expect(view.token(of: session) == nil, "it has nothing to see")
        #expect(!view.accept(FreshnessToken(timeline: 3, position: lsn(1)), &session))
        #expect(view.accept(FreshnessToken(timeline: 2, position: lsn(500)), &session))
        #expect(view.token(of: session) == FreshnessToken(timeline: 2, position: lsn(500)))
        #expect(view.accept(FreshnessToken(timeline: 2, position: lsn(300)), &session))
        #expect(view.token(of: session)?.position == lsn(500), "what has to be seen is not taken back")

        var other = Freshness()
        #expect(view.accept(FreshnessToken(timeline: 1, position: lsn(99_999)), &other))
        view.resolved(probe(1), at: lsn(600), timeline: 2, by: NodeID(0))
        view.settle(&other)
        #expect(view.token(of: other) == FreshnessToken(timeline: 2, position: lsn(600)))

        #expect(FreshnessToken("1:16/B374D848")?.description == "1:16/B374D848")
        for text in ["", "1", "1:", "0:0/1", "+1:0/1", "1:0/1:2", "4294967296:0/1", "x:0/1", "1:g/1"] {
            #expect(FreshnessToken(text) == nil)
        }
    }

    @Test("the first probe that covers a write counts, not the last: others may write on and on")
    func firstCoveringProbe() {
        var view = view()
        var session = Freshness()
        view.wrote(3, &session)
        for number in 1...200 {
            view.resolved(probe(UInt64(number)), at: lsn(number * 10), timeline: 1, by: NodeID(0))
        }
        view.settle(&session)
        #expect(session.position >= lsn(30), "older ones may be forgotten")
        var late = Freshness()
        view.wrote(190, &late)
        view.settle(&late)
        #expect(late.position == lsn(1_900))
    }

    @Test("a standby counts that was asked after the newest connection to it was made")
    func newConnections() {
        var view = view()
        var session = Freshness()
        view.wrote(1, &session)
        view.resolved(probe(1), at: lsn(100), timeline: 1, by: NodeID(0))
        view.settle(&session)
        view.replayed(standby, lsn(100), timeline: 1, askedAt: at(1))
        #expect(view.satisfying(session) == 0b010)
        view.connected(standby, at: at(2))
        #expect(view.satisfying(session) == 0, "its server may have been started again, and be behind")
        view.replayed(standby, lsn(100), timeline: 1, askedAt: at(2))
        #expect(view.satisfying(session) == 0, "asked before, for all that is known")
        view.replayed(standby, lsn(100), timeline: 1, askedAt: at(3))
        #expect(view.satisfying(session) == 0b010)
        view.replayed(standby, nil, timeline: nil, askedAt: at(4))
        #expect(view.satisfying(session) == 0)
    }

    @Test("on another timeline everything has to be learnt anew; a standby left on the old one has nothing")
    func timelines() {
        var view = view()
        var session = Freshness()
        view.wrote(1, &session)
        view.resolved(probe(1), at: lsn(100), timeline: 1, by: NodeID(0))
        view.settle(&session)
        view.replayed(standby, lsn(300), timeline: 1, askedAt: at(1))
        view.replayed(other, lsn(300), timeline: 1, askedAt: at(1))
        #expect(view.satisfying(session) == 0b110)
        view.follow(NodeID(3))
        view.settle(&session)
        #expect(view.satisfying(session) == 0)
        view.resolved(probe(1), at: lsn(400), timeline: 1, by: NodeID(0))
        view.settle(&session)
        #expect(session.unresolved != 0, "who was the primary knows nothing of it")
        view.resolved(probe(1), at: lsn(200), timeline: 2, by: NodeID(3))
        view.settle(&session)
        view.replayed(standby, lsn(200), timeline: 2, askedAt: at(2))
        view.replayed(other, lsn(300), timeline: 1, askedAt: at(2))
        #expect(view.satisfying(session) == 0b010)
        view.replayed(standby, lsn(200), timeline: nil, askedAt: at(3))
        #expect(view.satisfying(session) == 0b010, "its primary is gone, and it shows what it showed")
    }

    @Test("who must see everything waits for a probe that covers the last write of all")
    func everything() {
        var view = view()
        #expect(view.satisfying(view.everything(upTo: 0)) == .max)
        #expect(view.satisfying(view.everything(upTo: 5)) == 0)
        view.resolved(probe(5), at: lsn(100), timeline: 1, by: NodeID(0))
        view.replayed(standby, lsn(100), timeline: 1, askedAt: at(1))
        #expect(view.satisfying(view.everything(upTo: 5)) == 0b010)
        #expect(view.satisfying(view.everything(upTo: 6)) == 0)
    }

    @Test(
        "an insert position behind a page's header is the end of the page before",
        arguments: [
            (0, 0), (24, 0), (40, 40), (8192, 8192), (8192 + 24, 8192), (8192 + 40, 8192 + 40), (8192 + 48, 8192 + 48),
            (16 << 20, 16 << 20), ((16 << 20) + 40, 16 << 20), ((16 << 20) + 24, (16 << 20) + 24),
            ((16 << 20) + 8192 + 24, (16 << 20) + 8192),
        ]
    )
    func pageBoundaries(position: Int, end: Int) {
        // The first segment begins at 0, where nothing is ever written.
        guard position != 24, position != 40 else { return }
        #expect(lsn(position).endOfLastRecord(segmentSize: 16 << 20) == lsn(end))
    }

    @Test("who has read is shown nothing older: the same node, or the primary, until a probe covers it")
    func reads() {
        var view = view()
        var session = Freshness()
        let ledger = WriteLedger()
        view.read(on: standby, coveredBy: ledger.coveringProbe(), &session)
        #expect(view.satisfying(session) == .max, "nobody has written anything")
        ledger.commitBegins()
        view.read(on: standby, coveredBy: ledger.coveringProbe(), &session)
        #expect(view.satisfying(session) == 0b010)
        view.connected(standby, at: at(1))
        #expect(view.satisfying(session) == 0, "its server may have been started again, and be behind")
        view.resolved(ledger.beginProbe(), at: lsn(100), timeline: 1, by: NodeID(0))
        view.replayed(standby, lsn(100), timeline: 1, askedAt: at(2))
        view.settle(&session)
        #expect(view.satisfying(session) == 0b010)
        view.read(on: standby, coveredBy: ledger.coveringProbe(), &session)
        #expect(session.awaitedProbe == 2, "the commit that was under way when the probe was sent may be visible now")
        ledger.commitEnded()
        view.resolved(ledger.beginProbe(), at: lsn(200), timeline: 1, by: NodeID(0))
        view.read(on: standby, coveredBy: ledger.coveringProbe(), &session)
        #expect(session.awaitedProbe == 2, "nothing was begun since")
        #expect(view.satisfying(session) == 0b010, "it shows what it showed, although it is behind")
        view.replayed(other, lsn(200), timeline: 1, askedAt: at(3))
        #expect(view.satisfying(session) == 0b110)
        view.replayed(standby, lsn(200), timeline: 1, askedAt: at(4))
        view.settle(&session)
        #expect(session.awaitedProbe == 0)
        view.read(on: NodeID(0), coveredBy: 3, &session)
        #expect(view.satisfying(session) & 0b110 == 0, "what the primary shows a standby may not have")
    }

    @Test("what was the end of the log some time ago, or later, bounds how old a standby is")
    func staleness() {
        var view = view()
        #expect(view.satisfying(since: at(0)) == (0, false))
        view.resolved(probe(1), at: lsn(100), timeline: 1, by: NodeID(0), askedAt: at(1_000))
        view.resolved(probe(2), at: lsn(200), timeline: 1, by: NodeID(0), askedAt: at(2_000))
        view.replayed(standby, lsn(100), timeline: 1, askedAt: at(2_100))
        view.replayed(other, lsn(200), timeline: 1, askedAt: at(2_100))
        #expect(view.satisfying(since: at(500)) == (0b110, true))
        #expect(view.satisfying(since: at(1_500)) == (0b100, true))
        #expect(view.satisfying(since: at(2_500)) == (0, false))
    }

    // MARK: - The model

    /// What is broken on purpose, to see that the model notices.
    enum Fault: CaseIterable {
        case none
        /// A probe covers the writes that are answered when its answer comes, not when it was sent.
        case probeCoversTooMuch
        /// The probe asks how far the log is flushed: a commit that need not wait for that is not in it.
        case flushPosition
        /// Samples survive new connections.
        case believesOldSamples
        /// A standby counts whatever timeline it receives.
        case comparesTimelines
        /// It is not noted what a session was shown.
        case forgetsWhatWasShown
        /// A commit counts when it is answered, although others may have seen it before.
        case countsCommitsLate
    }

    /// A primary, two standbys and some sessions, by what matters here: positions in the log.
    private struct Model {
        let fault: Fault
        var random: SeededGenerator
        var view = FreshnessView(nodes: 64, primary: NodeID(4))
        let ledger = WriteLedger()
        var now: UInt64 = 1
        var timeline: UInt32 = 1
        var inserted = 10_000
        var flushed = 10_000
        /// Sessions whose commit is under way, and where its record is, once there is one.
        var committing: [Int: Int?] = [:]
        /// Position of each session's last write on the present timeline; 0 when it was lost, or never was.
        var written = [0, 0, 0]
        /// Where the records of commits are, on the present timeline: nothing else in the log can be seen.
        var commits: [Int] = []
        /// The last commit that each session was shown.
        var shown = [0, 0, 0]
        var sessions = [Freshness(), Freshness(), Freshness()]
        var standbys = [Standby(), Standby()]
        var probe: (asked: WriteLedger.Probe, position: Int, timeline: UInt32)?
        var samples: [(index: Int, position: Int, timeline: UInt32?, askedAt: UInt64)] = []
        var staleReads = 0
        var readsBack = 0
        var standbyReads = 0

        struct Standby {
            var replayed = 10_000
            var timeline: UInt32 = 1
            var isConnected = false
            /// It has replayed what the new primary never had.
            var hasDiverged = false
        }

        mutating func step() {
            now += 1
            let session = Int.random(in: 0..<3, using: &random)
            let index = Int.random(in: 0..<2, using: &random)
            switch Int.random(in: 0..<100, using: &random) {
            case 0..<12: commit(session)
            case 12..<22: flushed = inserted
            case 22..<32: beginProbe()
            case 32..<42: endProbe()
            case 42..<56: replay(index)
            case 56..<64: beginSample(index)
            case 64..<74: endSample()
            case 74: restart(index)
            case 75: if Int.random(in: 0..<4, using: &random) == 0 { failOver() }
            case 76..<80: readOnPrimary(session)
            default: read(session, index)
            }
        }

        /// Each timeline has another primary.
        func primary(_ timeline: UInt32) -> NodeID { NodeID(3 + Int(timeline) % 60) }

        /// A session's commit takes its next step: it is sent, its record is written, it is answered.
        mutating func commit(_ session: Int) {
            switch committing[session] {
            case nil:
                committing[session] = .some(nil)
                if fault != .countsCommitsLate { ledger.commitBegins() }
            case .some(nil):
                inserted += Int.random(in: 1...50, using: &random)
                committing[session] = inserted
                commits.append(inserted)
            case .some(let position?):
                committing[session] = nil
                if fault == .countsCommitsLate { ledger.commitBegins() }
                ledger.commitEnded()
                written[session] = position
                view.wrote(ledger.wrote(), &sessions[session])
            }
        }

        mutating func beginProbe() {
            guard probe == nil else { return }
            probe = (ledger.beginProbe(), fault == .flushPosition ? flushed : inserted, timeline)
        }

        mutating func endProbe() {
            guard let answer = probe else { return }
            probe = nil
            let through = fault == .probeCoversTooMuch ? ledger.writes : answer.asked.through
            view.resolved(
                WriteLedger.Probe(number: answer.asked.number, through: through),
                at: LSN(rawValue: UInt64(answer.position)),
                timeline: answer.timeline,
                by: primary(answer.timeline)
            )
        }

        mutating func replay(_ index: Int) {
            guard !standbys[index].hasDiverged else {
                // Somebody makes it anew, now and then.
                if Int.random(in: 0..<20, using: &random) == 0 {
                    standbys[index] = Standby(replayed: inserted, timeline: timeline)
                }
                return
            }
            standbys[index].timeline = timeline
            standbys[index].replayed = min(inserted, standbys[index].replayed + Int.random(in: 0...200, using: &random))
        }

        mutating func beginSample(_ index: Int) {
            let standby = standbys[index]
            let received = fault == .comparesTimelines ? timeline : standby.timeline
            samples.append((index, standby.replayed, received, now))
        }

        mutating func endSample() {
            guard !samples.isEmpty else { return }
            let sample = samples.removeFirst()
            view.replayed(
                NodeID(sample.index + 1),
                LSN(rawValue: UInt64(sample.position)),
                timeline: sample.timeline,
                askedAt: MonotonicTime(nanoseconds: sample.askedAt)
            )
        }

        mutating func restart(_ index: Int) {
            standbys[index].replayed = max(0, standbys[index].replayed - Int.random(in: 0...100, using: &random))
            standbys[index].isConnected = false
        }

        /// The primary is lost, with what its standbys have not; one of them takes over.
        mutating func failOver() {
            let fork = standbys.filter { !$0.hasDiverged }.map(\.replayed).randomElement(using: &random) ?? inserted
            timeline += 1
            for index in standbys.indices where standbys[index].replayed > fork { standbys[index].hasDiverged = true }
            for session in written.indices where written[session] > fork { written[session] = 0 }
            commits.removeAll { $0 > fork }
            for session in shown.indices { shown[session] = lastCommit(upTo: shown[session]) }
            for (session, position) in committing where position ?? 0 > fork { committing[session] = .some(nil) }
            inserted = fork + Int.random(in: 1...10, using: &random)
            flushed = inserted
            view.follow(primary(timeline))
        }

        mutating func read(_ session: Int, _ index: Int) {
            if !standbys[index].isConnected {
                standbys[index].isConnected = true
                if fault != .believesOldSamples {
                    view.connected(NodeID(index + 1), at: MonotonicTime(nanoseconds: now))
                }
            }
            view.settle(&sessions[session])
            guard view.satisfying(sessions[session]) & 1 << UInt64(index + 1) != 0 else { return }
            let standby = standbys[index]
            // What a standby shows that was left behind is nothing that this primary ever had.
            let position = standby.hasDiverged ? 0 : standby.replayed
            // Who has neither written nor read can have no wrong answer.
            if written[session] != 0 || shown[session] != 0 { standbyReads += 1 }
            if written[session] > position { staleReads += 1 }
            if shown[session] > lastCommit(upTo: position) { readsBack += 1 }
            show(session, position, NodeID(index + 1))
        }

        func lastCommit(upTo position: Int) -> Int { commits.last { $0 <= position } ?? 0 }

        mutating func readOnPrimary(_ session: Int) {
            show(session, inserted, primary(timeline))
        }

        mutating func show(_ session: Int, _ position: Int, _ node: NodeID) {
            shown[session] = max(shown[session], lastCommit(upTo: position))
            guard fault != .forgetsWhatWasShown else { return }
            view.read(on: node, coveredBy: ledger.coveringProbe(), &sessions[session])
        }
    }

    @Test(
        "nobody reads less than he wrote, whatever happens in whatever order; a broken rule is noticed",
        arguments: Fault.allCases
    )
    func neverStale(fault: Fault) {
        let seed = SeededGenerator().seed
        var (stale, back, served) = (0, 0, 0)
        for run in 0..<300 {
            var model = Model(fault: fault, random: SeededGenerator(seed: seed &+ UInt64(run)))
            for _ in 0..<2_000 { model.step() }
            stale += model.staleReads
            back += model.readsBack
            served += model.standbyReads
        }
        if fault == .none {
            #expect(stale == 0, "seed \(seed)")
            #expect(back == 0, "seed \(seed)")
            #expect(served > 10_000, "the standbys serve: \(served), seed \(seed)")
        } else {
            #expect(stale + back > 0, "\(fault) is not noticed, seed \(seed)")
        }
    }

    /// Of this number, covering as many writes.
    private func probe(_ number: UInt64) -> WriteLedger.Probe { WriteLedger.Probe(number: number, through: number) }
    private func lsn(_ position: Int) -> LSN { LSN(rawValue: UInt64(position)) }
    private func at(_ time: UInt64) -> MonotonicTime { MonotonicTime(nanoseconds: time) }
}
