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
    /// Of the knowledge that `position` comes from.
    fileprivate var epoch: UInt32 = 0

    package init() {}
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
///
/// Insert, not flush position: with `synchronous_commit = off` a commit is answered before it is flushed.
/// Decision note on freshness.
package struct FreshnessView: Sendable {
    private struct Resolution {
        /// The last of the writes it covers.
        var through: UInt64
        var position: LSN
    }

    private struct Standby {
        var replayed: LSN?
        var timeline: UInt32?
        var askedAt = MonotonicTime.distantPast
        var connectedAt = MonotonicTime.distantPast
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

    /// A primary's log ended at `position` when all writes up to number `through` were answered. Of one that was the primary
    /// before it says nothing of what the present one was given.
    package mutating func resolved(through: UInt64, at position: LSN, timeline: UInt32, by node: NodeID) {
        guard node == primary else { return }
        if self.timeline != timeline {
            if self.timeline != nil { forget() }
            self.timeline = timeline
        }
        guard through >= resolutions.last?.through ?? 0 else { return }
        if resolutions.count == Self.resolutionCount { resolutions.removeFirst(Self.resolutionCount / 2) }
        resolutions.append(Resolution(through: through, position: position))
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
        freshness.unresolved = number
        freshness.epoch = epoch
    }

    /// Brings what a session must see up to date with what is known.
    package func settle(_ freshness: inout Freshness) {
        guard freshness.unresolved != 0 || freshness.position.rawValue != 0 else { return }
        if freshness.epoch != epoch {
            // Any probe from now on covers it.
            freshness.unresolved = max(1, freshness.unresolved)
            freshness.position = LSN(rawValue: 0)
            freshness.epoch = epoch
        }
        guard freshness.unresolved != 0, let position = position(coveringWrite: freshness.unresolved) else { return }
        freshness.position = max(freshness.position, position)
        freshness.unresolved = 0
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

    private func position(coveringWrite number: UInt64) -> LSN? {
        guard let last = resolutions.last, last.through >= number else { return nil }
        var found = last.position
        for resolution in resolutions.reversed() {
            guard resolution.through >= number else { break }
            found = resolution.position
        }
        return found
    }

    /// The nodes, by bit, that have replayed what a session must see. The primary's bit means nothing: it has everything.
    package func satisfying(_ freshness: Freshness) -> UInt64 {
        guard freshness.unresolved == 0 else { return 0 }
        guard freshness.position.rawValue != 0 else { return .max }
        var bits: UInt64 = 0
        for index in standbys.indices {
            let standby = standbys[index]
            guard let replayed = standby.replayed, replayed >= freshness.position, standby.timeline == timeline,
                standby.askedAt > standby.connectedAt
            else { continue }
            bits |= 1 << UInt64(index)
        }
        return bits
    }
}
