package import PostgresWire
package import Topology

/// Which reads may miss which writes.
package enum Consistency: String, Sendable, CaseIterable {
    /// Any read may miss any write that a standby has not replayed yet.
    case eventual
    /// A session sees its own writes.
    case session
    /// A session sees its own writes, and those of all sessions that have the same `slipstream.key`.
    case key
    /// Every read sees every write that was acknowledged through this endpoint before it.
    case global
    /// A session reads from the primary for some seconds after a write, and hopes that this is enough.
    case seconds
}

extension Consistency {
    /// Whether reads must see writes that standbys may not have replayed yet.
    package var isExact: Bool {
        switch self {
        case .session, .key, .global: true
        case .eventual, .seconds: false
        }
    }
}

/// What a reader must have replayed, as it goes from one process or endpoint to another: `1:16/B374D848`.
package struct FreshnessToken: Sendable, Equatable, CustomStringConvertible {
    package let timeline: UInt32
    package let position: LSN

    package init(timeline: UInt32, position: LSN) {
        self.timeline = timeline
        self.position = position
    }

    package init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0].utf8.allSatisfy({ (48...57).contains($0) }), let timeline = UInt32(parts[0]),
            timeline > 0, let position = LSN(parts[1])
        else { return nil }
        self.init(timeline: timeline, position: position)
    }

    package var description: String { "\(timeline):\(position)" }
}

/// What the reads of one session must see.
package struct Freshness: Sendable, Equatable {
    /// The endpoint's number of the session's last write, as long as it is not known where in the log that is; 0: none.
    package var unresolved: UInt64 = 0
    /// The end of what a reader must have replayed.
    package var position = LSN(rawValue: 0)
    /// What the session has read last: only the node that showed it, and the primary, surely have it, until a probe covers it.
    fileprivate var seen = Seen.nothing
    /// Of the knowledge that `position` comes from.
    fileprivate var epoch: UInt32 = 0
    /// It has to find again what it has read, not only what it wrote last.
    package fileprivate(set) var isBoundByReads = false

    package init() {}

    /// The probe that others are compared with than the node read last, which is a standby's if that is behind; 0 for none.
    package var awaitedProbe: UInt64 { seen.probe }
}

/// A probe that covers what was read, and the node it was read from, in few bytes: every session has one.
private struct Seen: Sendable, Equatable {
    static let nothing = Seen(rawValue: 0)
    private static let nodeBits: UInt64 = 6
    private static let incarnationBits: UInt64 = 10

    private var rawValue: UInt64

    private init(rawValue: UInt64) { self.rawValue = rawValue }

    init(probe: UInt64, node: NodeID, incarnation: UInt16) {
        rawValue = probe << (Self.nodeBits + Self.incarnationBits)
        rawValue |= UInt64(incarnation) << Self.nodeBits & (1 << (Self.nodeBits + Self.incarnationBits) - 1)
        rawValue |= UInt64(node.rawValue) & 0x3F
    }

    var probe: UInt64 { rawValue >> (Self.nodeBits + Self.incarnationBits) }
    var node: Int { Int(rawValue & 0x3F) }
    var bit: UInt64 { 1 << UInt64(node) }
    func isOf(incarnation: UInt16) -> Bool {
        rawValue >> Self.nodeBits & 0x3FF == UInt64(incarnation) & 0x3FF
    }
}

/// What a worker knows of how far the nodes are.
///
/// The rules:
/// 1. A probe of the primary's insert position that was sent after a write was answered is at or past its commit record:
///    it resolves every write that was numbered before the probe was sent.
/// 2. A standby's replay position only grows while its server runs, so an old sample is a safe lower bound. A server that was
///    started again may be behind an earlier sample: only samples count that were asked for after the newest connection to it
///    was made, for with its server a connection ends.
/// 3. Positions of different timelines cannot be compared: a standby that was left behind on the old one may be further
///    than the new primary, and have none of it. When the timeline changes, what was known is forgotten, and who has written
///    reads from the primary until its first probe; standbys count that receive the primary's timeline.
/// 4. What a session has read is covered by any probe sent after that. The session goes on to read from the same node, from
///    the primary, or from nodes that have what such a probe found: it never goes back.
///
/// Insert, not flush position: with `synchronous_commit = off` a commit is answered before it is flushed.
/// Decision note on freshness.
package struct FreshnessView: Sendable {
    private struct Resolution {
        var probe: WriteLedger.Probe
        var position: LSN
        var askedAt: MonotonicTime
    }

    private struct Standby {
        var replayed: LSN?
        var timeline: UInt32?
        var askedAt = MonotonicTime.distantPast
        var connectedAt = MonotonicTime.distantPast
        /// Counts connections: its server may have been started again before each.
        var incarnation: UInt16 = 0
    }

    /// Older ones are not needed: a later one covers the same writes, and more.
    private static let resolutionCount = 64

    /// In order.
    private var resolutions: ContiguousArray<Resolution> = []
    private var standbys: ContiguousArray<Standby>
    private var primary: NodeID?
    private var timeline: UInt32?
    private var epoch: UInt32 = 0

    package init(nodes: Int, primary: NodeID?) {
        standbys = ContiguousArray(repeating: Standby(), count: nodes)
        self.primary = primary
    }

    // MARK: - What is learnt

    /// A primary's log ended at `position` when it was asked, at `askedAt` or later. Of one that was the primary before it says
    /// nothing of what the present one was given.
    package mutating func resolved(
        _ probe: WriteLedger.Probe,
        at position: LSN,
        timeline: UInt32,
        by node: NodeID,
        askedAt: MonotonicTime = .distantPast
    ) {
        guard node == primary else { return }
        if self.timeline != timeline {
            if self.timeline != nil { forget() }
            self.timeline = timeline
        }
        guard probe.number >= resolutions.last?.probe.number ?? 0 else { return }
        if resolutions.count == Self.resolutionCount { resolutions.removeFirst(Self.resolutionCount / 2) }
        resolutions.append(Resolution(probe: probe, position: position, askedAt: askedAt))
    }

    /// A standby, asked at `askedAt`, had replayed the log up to `position`; `nil` when it did not answer.
    ///
    /// - Parameter timeline: that it receives. While it receives none, as its primary is gone, it shows what it showed before.
    package mutating func replayed(_ node: NodeID, _ position: LSN?, timeline: UInt32?, askedAt: MonotonicTime) {
        guard timeline != nil || position == nil else { return }
        standbys[node.rawValue].replayed = position
        standbys[node.rawValue].timeline = timeline
        standbys[node.rawValue].askedAt = askedAt
    }

    /// A connection to a node was made.
    package mutating func connected(_ node: NodeID, at now: MonotonicTime) {
        standbys[node.rawValue].connectedAt = now
        standbys[node.rawValue].incarnation &+= 1
    }

    /// The node that takes writes from now on.
    package mutating func follow(_ primary: NodeID?) {
        guard primary != self.primary else { return }
        self.primary = primary
        forget()
    }

    private mutating func forget() {
        epoch &+= 1
        resolutions.removeAll(keepingCapacity: true)
        timeline = nil
        for index in standbys.indices { standbys[index].replayed = nil }
    }

    // MARK: - What follows

    /// The session has written.
    package func wrote(_ number: UInt64, _ freshness: inout Freshness) {
        settle(&freshness)
        // The probe that finds this finds what was seen before, too.
        freshness.seen = .nothing
        freshness.isBoundByReads = false
        freshness.unresolved = number
        freshness.epoch = epoch
    }

    /// The session has read what a node shows.
    ///
    /// - Parameter probe: of this number or a later one, covers it; 0 when there is nothing to cover.
    package func read(on node: NodeID, coveredBy probe: UInt64, _ freshness: inout Freshness) {
        guard probe != 0 else { return }
        settle(&freshness)
        if freshness.unresolved == 0, freshness.position.rawValue == 0 { freshness.epoch = epoch }
        freshness.seen = Seen(probe: probe, node: node, incarnation: standbys[node.rawValue].incarnation)
        freshness.isBoundByReads = true
    }

    /// Brings what a session must see up to date with what is known.
    package func settle(_ freshness: inout Freshness) {
        guard freshness.unresolved != 0 || freshness.position.rawValue != 0 || freshness.seen != .nothing else {
            return
        }
        if freshness.epoch != epoch {
            // Any probe from now on covers it.
            freshness.unresolved = max(1, freshness.unresolved)
            freshness.position = LSN(rawValue: 0)
            freshness.seen = .nothing
            freshness.epoch = epoch
        }
        if freshness.unresolved != 0, let position = firstPosition(where: { $0.through >= freshness.unresolved }) {
            freshness.position = max(freshness.position, position)
            freshness.unresolved = 0
        }
        // A standby that is behind the probe has what it showed all the same.
        if let position = covering(freshness.seen), (nodes(at: position) | primaryBit) & freshness.seen.bit != 0 {
            freshness.position = max(freshness.position, position)
            freshness.seen = .nothing
        }
    }

    /// Where the log ended for a probe that covers what was seen.
    private func covering(_ seen: Seen) -> LSN? {
        seen == .nothing ? nil : firstPosition { $0.number >= seen.probe }
    }

    /// What a reader must see who must see all writes up to number `last`.
    package func everything(upTo last: UInt64) -> Freshness {
        var freshness = Freshness()
        guard last > 0 else { return freshness }
        freshness.epoch = epoch
        freshness.unresolved = last
        settle(&freshness)
        return freshness
    }

    // MARK: - Tokens

    /// What other sessions must see to see what this one wrote; `nil` while that is not known, or when it wrote nothing.
    package func token(of freshness: Freshness) -> FreshnessToken? {
        guard freshness.unresolved == 0, freshness.position.rawValue != 0, freshness.epoch == epoch, let timeline else {
            return nil
        }
        return FreshnessToken(timeline: timeline, position: freshness.position)
    }

    /// The session must see what a token of somebody else stands for. Returns false when the token's timeline is not known
    /// here, yet or any more: then nothing has changed.
    package func accept(_ token: FreshnessToken, _ freshness: inout Freshness) -> Bool {
        guard let timeline, token.timeline <= timeline else { return false }
        settle(&freshness)
        if freshness.unresolved == 0 { freshness.epoch = epoch }
        if token.timeline == timeline {
            freshness.position = max(freshness.position, token.position)
        } else if freshness.unresolved == 0 {
            // Where the old timeline ended is not known here. Any probe of the present one is behind that.
            freshness.unresolved = 1
            settle(&freshness)
        }
        return true
    }

    /// Where the log ended for the first of the probes that cover something, all later ones of which do, too.
    private func firstPosition(where covers: (WriteLedger.Probe) -> Bool) -> LSN? {
        var found: LSN?
        for resolution in resolutions.reversed() {
            guard covers(resolution.probe) else { break }
            found = resolution.position
        }
        return found
    }

    /// The nodes, by bit, that have replayed what a session must see. The primary's bit means nothing: it has everything.
    package func satisfying(_ freshness: Freshness) -> UInt64 {
        guard freshness.unresolved == 0 else { return 0 }
        let bits = freshness.position.rawValue == 0 ? .max : nodes(at: freshness.position)
        let seen = freshness.seen
        guard seen != .nothing else { return bits }
        let others = covering(seen).map { nodes(at: $0) } ?? 0
        return bits & (seen.isOf(incarnation: standbys[seen.node].incarnation) ? others | seen.bit : others)
    }

    /// The nodes, by bit, that have what the primary had at `time`, or anything later; and whether a probe since then is known.
    package func satisfying(since time: MonotonicTime) -> (nodes: UInt64, isKnown: Bool) {
        guard let resolution = resolutions.first(where: { $0.askedAt >= time }) else { return (0, false) }
        return (nodes(at: resolution.position), true)
    }

    private var primaryBit: UInt64 { primary.map { 1 << UInt64($0.rawValue) } ?? 0 }

    private func nodes(at position: LSN) -> UInt64 {
        var bits: UInt64 = 0
        for index in standbys.indices {
            let standby = standbys[index]
            guard let replayed = standby.replayed, replayed >= position, standby.timeline == timeline,
                standby.askedAt > standby.connectedAt
            else { continue }
            bits |= 1 << UInt64(index)
        }
        return bits
    }
}
