import Synchronization

/// Numbers of what happens to the primary's log, for all workers of an endpoint.
///
/// A probe of the primary that begins after something happened covers it. So that not every read has to wait for a probe, it is
/// known since which one nothing can have happened.
package final class WriteLedger: Sendable {
    /// A question of where the primary's log ends.
    package struct Probe: Sendable, Equatable {
        /// From 1.
        package let number: UInt64
        /// The last of the writes it covers.
        package let through: UInt64

        package init(number: UInt64, through: UInt64) {
            self.number = number
            self.through = through
        }
    }

    private let lastWrite = Atomic<UInt64>(0)
    private let commitsBegun = Atomic<UInt64>(0)
    private let commitsEnded = Atomic<UInt64>(0)
    private let lastProbe = Atomic<UInt64>(0)
    /// How many commits had begun, and were all over, when the last probe began; `.max` when some were not over.
    private let quietSince = Atomic<UInt64>(0)

    package init() {}

    /// How many writes were answered so far.
    package var writes: UInt64 { lastWrite.load(ordering: .sequentiallyConsistent) }

    /// A write is about to be answered. Its number.
    package func wrote() -> UInt64 { lastWrite.add(1, ordering: .sequentiallyConsistent).newValue }

    /// What may commit is about to be sent: from now on somebody may see it.
    package func commitBegins() { commitsBegun.add(1, ordering: .sequentiallyConsistent) }

    package func commitEnded() { commitsEnded.add(1, ordering: .sequentiallyConsistent) }

    /// A probe is about to be sent. One at a time.
    package func beginProbe() -> Probe {
        let through = writes
        let ended = commitsEnded.load(ordering: .sequentiallyConsistent)
        let begun = commitsBegun.load(ordering: .sequentiallyConsistent)
        let number = lastProbe.add(1, ordering: .sequentiallyConsistent).newValue
        // In this order: who sees the quiet of a probe must see the probe.
        quietSince.store(ended == begun ? begun : .max, ordering: .sequentiallyConsistent)
        return Probe(number: number, through: through)
    }

    /// Whatever is visible anywhere now is covered by any probe with this number or a later one; 0 when it is not known that
    /// anything was ever written.
    package func coveringProbe() -> UInt64 {
        let quiet = quietSince.load(ordering: .sequentiallyConsistent)
        let begun = commitsBegun.load(ordering: .sequentiallyConsistent)
        let last = lastProbe.load(ordering: .sequentiallyConsistent)
        return begun == quiet ? last : last + 1
    }

    /// Nothing is committing: what any node has shown so far the primary shows, too. A standby may show a commit a moment before the
    /// primary does, which first writes it to the log, and then makes it visible.
    package var isQuiet: Bool {
        let ended = commitsEnded.load(ordering: .sequentiallyConsistent)
        return commitsBegun.load(ordering: .sequentiallyConsistent) == ended
    }

    /// Whether a probe with this number has begun.
    package func hasBegun(_ probe: UInt64) -> Bool { lastProbe.load(ordering: .sequentiallyConsistent) >= probe }
}
