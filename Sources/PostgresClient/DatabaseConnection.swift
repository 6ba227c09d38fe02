import Dispatch
import Synchronization

/// One libpq session for administrative SQL.
///
/// Calls are serialised: each runs to its end, in the order in which they were made, on a queue of this connection's
/// own. The queue's thread may wait in poll(2); Swift's cooperative pool never does. Every call has a deadline. A call that
/// misses it, loses the session or is cancelled closes the connection: an answer that arrives late must never be taken for
/// that of the next query.
///
/// The session has `search_path = pg_catalog` from its startup packet on, so that no object in `public` can stand in
/// for a function of ours (CVE-2018-1058), and UTF8 as client encoding.
package final class DatabaseConnection: Sendable {
    private let queue: DispatchQueue
    private let session: Mutex<Session>
    private let interruption: Interruption

    private init(queue: DispatchQueue, session: consuming sending Session, interruption: Interruption) {
        self.queue = queue
        self.session = Mutex(session)
        self.interruption = interruption
    }

    deinit {
        // No call can be in flight: each holds a reference to this object.
        session.withLock { $0.finish() }
    }

    /// Opens a session.
    ///
    /// - Throws: `DatabaseError` of kind `connect`, `timedOut` (after `parameters.connectTimeout`) or `closed` (cancelled).
    package static func connect(
        _ parameters: ConnectionParameters
    ) async throws(DatabaseError) -> DatabaseConnection {
        let interruption = try Interruption()
        let queue = DispatchQueue(label: "slipstream.postgres-client")
        let deadline = ContinuousClock.now + parameters.connectTimeout
        let outcome: Result<DatabaseConnection, DatabaseError> = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                queue.async {
                    do throws(DatabaseError) {
                        let session = try Session(parameters, deadline: deadline, interruption: interruption)
                        let connection = DatabaseConnection(queue: queue, session: session, interruption: interruption)
                        continuation.resume(returning: .success(connection))
                    } catch {
                        continuation.resume(returning: .failure(error))
                    }
                }
            }
        } onCancel: {
            interruption.raise()
        }
        return try outcome.get()
    }

    /// Runs one statement and returns its rows (none for a command that returns none).
    ///
    /// - Parameters:
    ///   - parameters: Values of `$1`, `$2`, … in text form; their types are inferred by the server.
    ///   - timeout: Until when the whole answer must be here. The statement itself may run on in the server.
    package func query(
        _ sql: String,
        _ parameters: [String?] = [],
        timeout: Duration = .seconds(10)
    ) async throws(DatabaseError) -> [Row] {
        let deadline = ContinuousClock.now + timeout
        return try await perform { session throws(DatabaseError) in
            try session.query(sql, parameters, deadline: deadline)
        }
    }

    /// The SCRAM-SHA-256 verifier of a password, computed here, so that the password itself never travels inside a
    /// statement that a log could keep.
    ///
    /// Source: PostgreSQL manual, `PQencryptPasswordConn`.
    package func verifier(ofPassword password: Secret, user: String) async throws(DatabaseError) -> String {
        try await perform { session throws(DatabaseError) in
            try session.verifier(ofPassword: password, user: user)
        }
    }

    /// Major version times 10,000 plus minor version, as `PQserverVersion` gives it: 150020 is 15.20.
    package func serverVersion() async throws(DatabaseError) -> Int {
        try await perform { session throws(DatabaseError) in
            try session.serverVersion()
        }
    }

    /// Ends the session. A call in flight fails with kind `closed`. Harmless when called twice.
    package func close() {
        interruption.raise()
        queue.async { [self] in
            session.withLock { $0.finish() }
        }
    }

    private func perform<Value: Sendable>(
        _ body: @escaping @Sendable (inout Session) throws(DatabaseError) -> Value
    ) async throws(DatabaseError) -> Value {
        let outcome: Result<Value, DatabaseError> = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                queue.async { [self] in
                    let outcome = session.withLock { session in
                        do throws(DatabaseError) {
                            return Result<Value, DatabaseError>.success(try body(&session))
                        } catch {
                            return .failure(error)
                        }
                    }
                    continuation.resume(returning: outcome)
                }
            }
        } onCancel: {
            interruption.raise()
        }
        return try outcome.get()
    }
}
