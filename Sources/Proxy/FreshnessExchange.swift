package import PostgresWire
import ProxyCore
import Synchronization
package import Topology

/// Where workers and the control plane meet over freshness: workers number their writes and say that something should be
/// asked; the control plane asks, and tells all workers.
package final class FreshnessExchange: Sendable {
    /// Something is wanted. One stands for many.
    package let demands: AsyncStream<Void>
    private let demand: AsyncStream<Void>.Continuation
    private let lastWrite = Atomic<UInt64>(0)
    private let isProbeWanted = Atomic<Bool>(false)
    private let isSomebodyWaiting = Atomic<Bool>(false)
    private let areSamplesWanted = Atomic<Bool>(false)
    private let keys = Mutex(KeyedWrites())

    init() {
        (demands, demand) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    // MARK: - Workers

    /// How many writes were answered so far, on all workers.
    var writes: UInt64 { lastWrite.load(ordering: .sequentiallyConsistent) }

    /// A write is about to be answered. Its number; a probe that begins later covers it.
    ///
    /// - Parameter key: of the sessions that must see it; empty for none.
    func wrote(key: String) -> UInt64 {
        guard !key.isEmpty else { return lastWrite.add(1, ordering: .sequentiallyConsistent).newValue }
        return keys.withLock { keys in
            let number = lastWrite.add(1, ordering: .sequentiallyConsistent).newValue
            keys.wrote(key, number)
            return number
        }
    }

    /// The number of the last write with a key; 0 when there was none.
    func lastWrite(withKey key: String) -> UInt64 { keys.withLock { $0.lastWrite(of: key) } }

    /// A session would read from a standby if it were known where its write is.
    func waits() {
        isSomebodyWaiting.store(true, ordering: .relaxed)
    }

    /// Somebody needs to know where the primary's log ends.
    package func wantProbe() {
        if isProbeWanted.load(ordering: .sequentiallyConsistent) { return }
        if !isProbeWanted.exchange(true, ordering: .sequentiallyConsistent) { demand.yield() }
    }

    /// Somebody needs to know how far the standbys are.
    func wantSamples() {
        if !areSamplesWanted.exchange(true, ordering: .sequentiallyConsistent) { demand.yield() }
    }

    // MARK: - The control plane

    /// If a probe is wanted: the number of the last write it covers when it is sent now.
    package func beginProbe() -> UInt64? {
        isProbeWanted.exchange(false, ordering: .sequentiallyConsistent) ? writes : nil
    }

    /// Whether a session has waited since this was asked last.
    package func somebodyWaits() -> Bool {
        isSomebodyWaiting.exchange(false, ordering: .relaxed)
    }

    /// Whether the standbys are to be asked.
    package func beginSamples() -> Bool {
        areSamplesWanted.exchange(false, ordering: .sequentiallyConsistent)
    }
}

extension Endpoint {
    /// A primary's log ended at `position` after all writes up to number `through`.
    package func publish(resolvedThrough through: UInt64, at position: LSN, timeline: UInt32, by node: NodeID) {
        for worker in workers {
            worker.mailbox.put(.resolved(through: through, position: position, timeline: timeline, by: node))
        }
    }

    /// A standby that was asked at `nanoseconds` of CLOCK_MONOTONIC had replayed the log up to `position`, and received this
    /// timeline; `nil` when it did not answer, or received none.
    package func publish(replayed position: LSN?, timeline: UInt32?, on node: NodeID, askedAt nanoseconds: UInt64) {
        let askedAt = MonotonicTime(nanoseconds: nanoseconds)
        for worker in workers {
            worker.mailbox.put(.replayed(node, position, timeline: timeline, askedAt: askedAt))
        }
    }
}
