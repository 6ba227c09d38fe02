import Monitor
import PostgresClient
import Replication
import Topology

/// Runs the smoke test, past the endpoint, as the superuser.
///
/// Everything it makes is in a schema of its own, whose name an advisory lock of its session protects. What a check
/// that crashed has left is recognised by the lock nobody holds any more, and dropped by the next.
struct ClusterCheck: Sendable {
    private static let schemaPrefix = "slipstream_check_"
    private static let lockClass = 7_411
    /// For one row to reach a standby, and for one segment to reach the archive.
    static let patience: Duration = .seconds(20)

    let status: ClusterStatus
    let description: ClusterDescription
    let secrets: Secrets
    let rows: Int

    /// - Throws: `CommandFailure` when it was interrupted, or when there is no primary to begin with.
    func run(progress: @escaping @Sendable (String) -> Void) async throws -> CheckReport {
        guard let primary = status.nodes.first(where: { $0.role == .primary }), primary.state == .up else {
            throw CommandFailure("no primary is up", remedy: "See \"slipstream status\".")
        }
        let connection = try await connect(to: primary.name)
        defer { connection.close() }
        try await dropLeftovers(connection, progress)

        let schema = Self.schemaPrefix + String(UInt64.random(in: 1 << 60 ... .max), radix: 16)
        var report = CheckReport()
        do {
            try await make(schema, connection)
            report.standbys = try await liveness(connection, progress)
            try await measure(schema, connection, &report, progress)
            _ = try await connection.query("drop schema \(schema) cascade")
            report.problems += report.standbys.filter { $0.sender != "streaming" || $0.receiver != "streaming" }
                .map { "\($0.name) does not stream" }
            progress("archive: switching WAL and waiting for the segment")
            try await ArchiveCheck(description: description, primary: primary.name).run(connection, &report)
        } catch {
            await cleanUp(schema, primary.name)
            if Task.isCancelled { throw CommandFailure("interrupted; nothing was left behind") }
            throw error
        }
        return report
    }

    private func connect(to node: String) async throws -> DatabaseConnection {
        guard let described = description[node: node] else { throw CommandFailure("there is no node \"\(node)\"") }
        return try await DatabaseConnection.connect(
            description.superuserParameters(node: described, secrets: secrets, database: description.database)
        )
    }

    // MARK: - Schema

    /// The lock comes first, so that nobody takes the new schema for a leftover.
    private func make(_ schema: String, _ connection: DatabaseConnection) async throws {
        let key = Self.lockKey(of: SQLText.literal(schema))
        _ = try await connection.query("select pg_advisory_lock(\(key))")
        _ = try await connection.query("create schema \(schema)")
        _ = try await connection.query("create table \(schema).visible (number int primary key)")
    }

    private static func lockKey(of schema: String) -> String { "\(lockClass), hashtext(\(schema))" }

    private func dropLeftovers(
        _ connection: DatabaseConnection,
        _ progress: @escaping @Sendable (String) -> Void
    ) async throws {
        let leftovers = try await connection.query(
            """
            select nspname from pg_namespace
            where starts_with(nspname, '\(Self.schemaPrefix)') and pg_try_advisory_lock(\(Self.lockKey(of: "nspname")))
            """
        )
        for schema in leftovers.compactMap({ $0[0] }) {
            progress("dropping \(schema), which an earlier check left behind")
            _ = try await connection.query("drop schema \(SQLText.identifier(schema)) cascade")
        }
        _ = try await connection.query("select pg_advisory_unlock_all()")
    }

    /// Over a new connection and in a new task: the old ones may be what was interrupted.
    private func cleanUp(_ schema: String, _ primary: String) async {
        await Task {
            do {
                let connection = try await connect(to: primary)
                _ = try await connection.query("drop schema if exists \(schema) cascade")
                connection.close()
            } catch {
                Console.warn("schema \(schema) is left behind; the next check drops it: \(error)")
            }
        }.value
    }

    // MARK: - Standbys

    private var standbys: [NodeStatus] { status.nodes.filter { $0.role == .standby } }

    /// What sender and receiver of each standby say.
    private func liveness(
        _ connection: DatabaseConnection,
        _ progress: @escaping @Sendable (String) -> Void
    ) async throws -> [CheckReport.Standby] {
        var found: [CheckReport.Standby] = []
        for standby in standbys {
            progress("\(standby.name): looking for its WAL sender and receiver")
            let sender = try await connection.query(
                """
                select state from pg_stat_replication join pg_replication_slots on active_pid = pid
                where slot_name = $1
                """,
                [description[node: standby.name]?.slot]
            ).first?[0]
            let receiver = try? await receiverStatus(of: standby.name)
            try Task.checkCancellation()
            found.append(CheckReport.Standby(name: standby.name, sender: sender, receiver: receiver))
        }
        return found
    }

    private func receiverStatus(of standby: String) async throws -> String? {
        let connection = try await connect(to: standby)
        defer { connection.close() }
        return try await connection.query("select status from pg_stat_wal_receiver").first?[0]
    }

    /// Inserts rows one by one; all standbys are asked at once until they show each.
    private func measure(
        _ schema: String,
        _ connection: DatabaseConnection,
        _ report: inout CheckReport,
        _ progress: @escaping @Sendable (String) -> Void
    ) async throws {
        var readers: [(index: Int, reader: VisibilityReader)] = []
        for (index, standby) in report.standbys.enumerated() {
            do {
                let reader = VisibilityReader(connection: try await connect(to: standby.name), schema: schema)
                readers.append((index, reader))
            } catch {
                report.problems.append("\(standby.name) cannot be asked: \(error)")
            }
        }
        defer { for (_, reader) in readers { reader.connection.close() } }
        guard !readers.isEmpty else { return }
        progress("inserting \(rows) rows, one by one, and waiting for each on every standby")

        var samples: [Int: [Duration]] = [:]
        for number in 1...rows {
            _ = try await connection.query("insert into \(schema).visible values ($1)", [String(number)])
            let committed = ContinuousClock.now
            let delays = try await withThrowingTaskGroup(of: (Int, Duration?).self) { group in
                for (index, reader) in readers {
                    group.addTask { (index, try await reader.delay(of: number, since: committed)) }
                }
                return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
            }
            for (index, reader) in readers {
                if let delay = delays[index] {
                    samples[index, default: []].append(delay)
                } else {
                    report.problems.append("\(report.standbys[index].name) has not shown a row in \(Self.patience)")
                    reader.connection.close()
                }
            }
            // A standby that missed one is not asked for the rest.
            readers.removeAll { delays[$0.index] == nil }
            guard !readers.isEmpty else { break }
        }
        for (index, samples) in samples { report.standbys[index].delay = CheckReport.Delay(samples) }
    }
}

/// One standby's side of the measurement.
private struct VisibilityReader: Sendable {
    let connection: DatabaseConnection
    let schema: String

    /// From `committed` until row `number` is seen; `nil` when patience ends first.
    func delay(of number: Int, since committed: ContinuousClock.Instant) async throws -> Duration? {
        while ContinuousClock.now - committed < ClusterCheck.patience {
            do throws(DatabaseError) {
                let rows = try await connection.query(
                    "select from \(schema).visible where number = $1",
                    [String(number)]
                )
                if !rows.isEmpty { return ContinuousClock.now - committed }
            } catch {
                // The table itself has not arrived yet, or its replay cancelled the question.
                guard error.kind == .server else {
                    try Task.checkCancellation()
                    return nil
                }
            }
        }
        return nil
    }
}
