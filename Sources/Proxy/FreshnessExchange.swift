package import PostgresWire
package import ProxyCore
import Synchronization
package import Topology

/// Where workers and the control plane meet over freshness: workers number their writes and say that something should be
/// asked; the control plane asks, and tells all workers.
package final class FreshnessExchange: Sendable {
    /// Something is wanted. One stands for many.
    package let demands: AsyncStream<Void>
    private let demand: AsyncStream<Void>.Continuation
    let ledger = WriteLedger()
    private let isProbeWanted = Atomic<Bool>(false)
    private let isSomebodyWaiting = Atomic<Bool>(false)
    private let areSamplesWanted = Atomic<Bool>(false)
    private let keys = Mutex(KeyedWrites())

    init() {
        (demands, demand) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    // MARK: - Workers

    /// A write is about to be answered. Its number; a probe that begins later covers it.
    ///
    /// - Parameter key: of the sessions that must see it; empty for none.
    func wrote(key: String) -> UInt64 {
        guard !key.isEmpty else { return ledger.wrote() }
        return keys.withLock { keys in
            let number = ledger.wrote()
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

    /// If a probe is wanted: what it covers when it is sent now.
    package func beginProbe() -> WriteLedger.Probe? {
        isProbeWanted.exchange(false, ordering: .sequentiallyConsistent) ? ledger.beginProbe() : nil
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
    /// A primary, asked at `askedAt`, said that its log ended at `position`.
    package func publish(
        _ probe: WriteLedger.Probe,
        at position: LSN,
        timeline: UInt32,
        by node: NodeID,
        askedAt: MonotonicTime
    ) {
        for worker in workers {
            worker.mailbox.put(.resolved(probe, position: position, timeline: timeline, by: node, askedAt: askedAt))
        }
    }

    /// A standby that was asked at `askedAt` had replayed the log up to `position`, and received this
    /// timeline; `nil` when it did not answer, or received none.
    package func publish(replayed position: LSN?, timeline: UInt32?, on node: NodeID, askedAt: MonotonicTime) {
        for worker in workers {
            worker.mailbox.put(.replayed(node, position, timeline: timeline, askedAt: askedAt))
        }
    }
}
