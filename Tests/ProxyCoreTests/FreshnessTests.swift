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
        view.resolved(through: 6, at: lsn(900), timeline: 1, by: NodeID(0))
        view.settle(&session)
        #expect(session.unresolved == 7, "a probe that was sent before the write was answered says nothing of it")
        view.resolved(through: 9, at: lsn(1_000), timeline: 1, by: NodeID(0))
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
        view.resolved(through: 0, at: lsn(400), timeline: 2, by: NodeID(0))
        #expect(view.token(of: session) == nil, "it has nothing to see")
        #expect(!view.accept(FreshnessToken(timeline: 3, position: lsn(1)), &session))
        #expect(view.accept(FreshnessToken(timeline: 2, position: lsn(500)), &session))
        #expect(view.token(of: session) == FreshnessToken(timeline: 2, position: lsn(500)))
        #expect(view.accept(FreshnessToken(timeline: 2, position: lsn(300)), &session))
        #expect(view.token(of: session)?.position == lsn(500), "what has to be seen is not taken back")

        var other = Freshness()
        #expect(view.accept(FreshnessToken(timeline: 1, position: lsn(99_999)), &other))
        view.resolved(through: 1, at: lsn(600), timeline: 2, by: NodeID(0))
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
            view.resolved(through: UInt64(number), at: lsn(number * 10), timeline: 1, by: NodeID(0))
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
        view.resolved(through: 1, at: lsn(100), timeline: 1, by: NodeID(0))
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
        view.resolved(through: 1, at: lsn(100), timeline: 1, by: NodeID(0))
        view.settle(&session)
        view.replayed(standby, lsn(300), timeline: 1, askedAt: at(1))
        view.replayed(other, lsn(300), timeline: 1, askedAt: at(1))
        #expect(view.satisfying(session) == 0b110)
        view.follow(NodeID(3))
        view.settle(&session)
        #expect(view.satisfying(session) == 0)
        view.resolved(through: 1, at: lsn(400), timeline: 1, by: NodeID(0))
        view.settle(&session)
        #expect(session.unresolved != 0, "who was the primary knows nothing of it")
        view.resolved(through: 1, at: lsn(200), timeline: 2, by: NodeID(3))
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
        view.resolved(through: 5, at: lsn(100), timeline: 1, by: NodeID(0))
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
    }

    /// A primary, two standbys and some sessions, by what matters here: positions in the log.
    private struct Model {
        let fault: Fault
        var random: SeededGenerator
        var view = FreshnessView(nodes: 3, primary: NodeID(101))
        var now: UInt64 = 1
        var timeline: UInt32 = 1
        var inserted = 10_000
        var flushed = 10_000
        var writes: UInt64 = 0
        /// Position of each session's last write on the present timeline; 0 when it was lost, or never was.
        var written = [0, 0, 0]
        var sessions = [Freshness(), Freshness(), Freshness()]
        var standbys = [Standby(), Standby()]
        var probe: (through: UInt64, position: Int, timeline: UInt32)?
        var samples: [(index: Int, position: Int, timeline: UInt32?, askedAt: UInt64)] = []
        var staleReads = 0
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
            case 0..<6:
                inserted += Int.random(in: 1...50, using: &random)
                writes += 1
                written[session] = inserted
                view.wrote(writes, &sessions[session])
            case 6..<22: flushed = inserted
            case 22..<32: beginProbe()
            case 32..<42: endProbe()
            case 42..<56: replay(index)
            case 56..<64: beginSample(index)
            case 64..<74: endSample()
            case 74: restart(index)
            case 75: if Int.random(in: 0..<4, using: &random) == 0 { failOver() }
            default: read(session, index)
            }
        }

        /// Each timeline has another primary.
        func primary(_ timeline: UInt32) -> NodeID { NodeID(100 + Int(timeline)) }

        mutating func beginProbe() {
            guard probe == nil else { return }
            probe = (writes, fault == .flushPosition ? flushed : inserted, timeline)
        }

        mutating func endProbe() {
            guard let answer = probe else { return }
            probe = nil
            let through = fault == .probeCoversTooMuch ? writes : answer.through
            view.resolved(
                through: through,
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
            guard view.satisfying(sessions[session]) & 1 << UInt64(index + 1) != 0, written[session] != 0 else {
                return
            }
            standbyReads += 1
            let standby = standbys[index]
            if standby.replayed < written[session] || standby.hasDiverged { staleReads += 1 }
        }
    }

    @Test(
        "nobody reads less than he wrote, whatever happens in whatever order; a broken rule is noticed",
        arguments: Fault.allCases
    )
    func neverStale(fault: Fault) {
        let seed = SeededGenerator().seed
        var stale = 0
        var served = 0
        for run in 0..<300 {
            var model = Model(fault: fault, random: SeededGenerator(seed: seed &+ UInt64(run)))
            for _ in 0..<2_000 { model.step() }
            stale += model.staleReads
            served += model.standbyReads
        }
        if fault == .none {
            #expect(stale == 0, "seed \(seed)")
            #expect(served > 10_000, "the standbys serve: \(served), seed \(seed)")
        } else {
            #expect(stale > 0, "\(fault) is not noticed, seed \(seed)")
        }
    }

    private func lsn(_ position: Int) -> LSN { LSN(rawValue: UInt64(position)) }
    private func at(_ time: UInt64) -> MonotonicTime { MonotonicTime(nanoseconds: time) }
}
