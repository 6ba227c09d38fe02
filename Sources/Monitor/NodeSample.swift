package import PostgresWire

/// What one probe of one node learnt.
package struct NodeSample: Sendable, Equatable {
    /// `pg_is_in_recovery()`: a standby says yes.
    package var isInRecovery: Bool
    package var timeline: UInt32?
    /// Insert position of a primary, replay position of a standby; `nil` when a standby has replayed nothing yet.
    package var position: LSN?
    /// A standby: what it has received and flushed.
    package var received: LSN?
    /// A standby: whether its WAL receiver streams.
    package var isStreaming = false
    /// A standby: seconds since the commit of the last transaction it replayed.
    package var replayAge: Double?
    /// A primary: its replication slots and who streams through them.
    package var replicas: [ReplicaSample] = []
    /// A primary: its archiver.
    package var archive: ArchiveStatus?

    package init(isInRecovery: Bool, timeline: UInt32? = nil, position: LSN? = nil) {
        self.isInRecovery = isInRecovery
        self.timeline = timeline
        self.position = position
    }
}

/// A primary's view of one standby: a slot, and the WAL sender that uses it.
package struct ReplicaSample: Sendable, Equatable {
    package var slot: SlotStatus
    /// `pg_stat_replication.state`; `nil` when nobody uses the slot.
    package var state: String?

    package init(slot: SlotStatus, state: String?) {
        self.slot = slot
        self.state = state
    }
}

/// How a probe ended.
package enum ProbeOutcome: Sendable, Equatable {
    case answered(NodeSample)
    /// The server is there, but does not accept connections yet (SQLSTATE 57P03).
    case starting(reason: String)
    case failed(reason: String)
}
