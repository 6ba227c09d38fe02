import PostgresClient
import PostgresWire

/// Asks one node how it is, over a session that it keeps.
///
/// A session that breaks says nothing about its server (an administrator may have ended it), so the question is asked
/// once more over a new one before the node is called down. A server that does not answer in time is: it may be
/// stopped (SIGSTOP), or its machine gone.
struct NodeProbe: ~Copyable {
    private let parameters: ConnectionParameters
    private let timeout: Duration
    private var connection: DatabaseConnection?

    init(_ parameters: ConnectionParameters, timeout: Duration) {
        self.parameters = parameters
        self.timeout = timeout
    }

    deinit {
        connection?.close()
    }

    /// One question, answered or not, within the timeout.
    mutating func ask() async -> ProbeOutcome {
        let deadline = ContinuousClock.now + timeout
        let isReused = connection != nil
        do throws(DatabaseError) {
            return .answered(try await sample(until: deadline))
        } catch {
            hangUp()
            switch error.kind {
            case .connectionLost, .closed:
                guard isReused else { return outcome(of: error) }
            case .connect, .timedOut, .server:
                return outcome(of: error)
            }
        }
        do throws(DatabaseError) {
            return .answered(try await sample(until: deadline))
        } catch {
            hangUp()
            return outcome(of: error)
        }
    }

    private mutating func hangUp() {
        connection?.close()
        connection = nil
    }

    private func outcome(of error: DatabaseError) -> ProbeOutcome {
        if error.sqlState == "57P03" { return .starting(reason: Self.gist(of: error.message)) }
        if error.kind == .timedOut { return .failed(reason: "no answer within \(timeout)") }
        return .failed(reason: Self.gist(of: error.message))
    }

    /// libpq says where it failed first, over and over; which node it was is known.
    private static func gist(of message: String) -> String {
        let line = message.split(whereSeparator: \.isNewline).first.map(String.init) ?? message
        for mark in ["FATAL:  ", "failed: "] {
            if let range = line.firstRange(of: mark) { return String(line[range.upperBound...]) }
        }
        return line
    }

    // MARK: - Questions

    private mutating func sample(until deadline: ContinuousClock.Instant) async throws(DatabaseError) -> NodeSample {
        let connection = try await connected(until: deadline)
        guard let row = try await connection.query(Self.question, [], timeout: deadline - .now).first else {
            throw DatabaseError(kind: .server, message: "the node answered nothing")
        }
        var sample = NodeSample(
            isInRecovery: row["in_recovery"] == "t",
            timeline: row["timeline"].flatMap { UInt32($0) },
            position: row["position"].flatMap { LSN($0) }
        )
        sample.received = row["received"].flatMap { LSN($0) }
        sample.isStreaming = row["receiver"] == "streaming"
        sample.replayAge = row["replay_age"].flatMap { Double($0) }
        guard !sample.isInRecovery else { return sample }
        sample.archive = ArchiveStatus(
            lastArchived: row["last_archived_wal"],
            age: row["archive_age"].flatMap { Double($0) },
            failedCount: row["failed_count"].flatMap { Int($0) } ?? 0,
            failing: row["archive_failing"] == "t"
        )
        sample.replicas = try await connection.query(Self.replicas, [], timeout: deadline - .now).map { row in
            ReplicaSample(
                slot: SlotStatus(
                    name: row["slot_name"] ?? "",
                    active: row["active"] == "t",
                    walStatus: row["wal_status"],
                    retainedBytes: row["retained"].flatMap { UInt64($0) }
                ),
                state: row["state"]
            )
        }
        return sample
    }

    private mutating func connected(until deadline: ContinuousClock.Instant) async throws(DatabaseError)
        -> DatabaseConnection
    {
        if let connection { return connection }
        var parameters = parameters
        parameters.connectTimeout = deadline - .now
        let fresh = try await DatabaseConnection.connect(parameters)
        connection = fresh
        return fresh
    }

    /// For either role: `CASE` keeps a function that the other role refuses from being called.
    ///
    /// The timeline of a primary is in its WAL file names; a standby's is the one it receives, or that of its last
    /// restart point. A newer failure than success means that archiving fails now.
    private static let question = """
        select recovery as in_recovery,
            case when recovery then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end as position,
            case when recovery then pg_last_wal_receive_lsn() end as received,
            case when recovery
                then coalesce(
                    (select received_tli from pg_stat_wal_receiver),
                    (select timeline_id from pg_control_checkpoint()))
                else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int
                end as timeline,
            (select status from pg_stat_wal_receiver) as receiver,
            case when recovery
                then extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())
                end as replay_age,
            last_archived_wal,
            extract(epoch from clock_timestamp() - last_archived_time) as archive_age,
            failed_count,
            coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) as archive_failing
        from pg_is_in_recovery() as recovery, pg_stat_archiver
        """

    private static let replicas = """
        select slot_name, active, wal_status, replication.state,
            pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn)::bigint as retained
        from pg_replication_slots left join pg_stat_replication as replication on replication.pid = active_pid
        where slot_type = 'physical'
        """
}
