import CPQ
import Glibc

/// The blocking half of `DatabaseConnection`: libpq's non-blocking calls and poll(2), with deadlines.
///
/// Source: PostgreSQL manual, libpq, "Asynchronous Command Processing".
struct Session: ~Copyable {
    private var connection: OpaquePointer?
    private let interruption: Interruption

    /// Connects, or throws with nothing left open.
    init(
        _ parameters: ConnectionParameters,
        deadline: ContinuousClock.Instant,
        interruption: Interruption
    ) throws(DatabaseError) {
        self.interruption = interruption
        connection = Session.start(parameters)
        guard let connection else {
            throw DatabaseError(kind: .connect, message: "out of memory")
        }
        // libpq prints notices to stderr unless told otherwise.
        PQsetNoticeReceiver(connection, { _, _ in }, nil)
        do throws(DatabaseError) {
            try waitUntilConnected(connection, parameters, deadline: deadline)
        } catch {
            finish()
            throw error
        }
    }

    private static func start(_ parameters: ConnectionParameters) -> OpaquePointer? {
        let isLoopback = parameters.host == "::1" || parameters.host.hasPrefix("127.")
        var settings: [(String, String)] = [
            ("host", parameters.host),
            ("port", String(parameters.port)),
            ("user", parameters.user),
            ("dbname", parameters.database),
            ("application_name", parameters.applicationName),
            ("client_encoding", "UTF8"),
            ("options", "-c search_path=pg_catalog"),
            ("target_session_attrs", "any"),
            ("gssencmode", "disable"),
            ("sslmode", isLoopback ? "disable" : "prefer"),
        ]
        if let password = parameters.password {
            settings.append(("password", password.revealed))
        }
        // libpq copies both arrays before it returns.
        let keywords = settings.map { strdup($0.0) }
        let values = settings.map { strdup($0.1) }
        defer {
            for pointer in keywords + values { free(pointer) }
        }
        let terminatedKeywords = keywords.map { UnsafePointer($0) } + [nil]
        let terminatedValues = values.map { UnsafePointer($0) } + [nil]
        return PQconnectStartParams(terminatedKeywords, terminatedValues, 0)
    }

    private mutating func waitUntilConnected(
        _ connection: OpaquePointer,
        _ parameters: ConnectionParameters,
        deadline: ContinuousClock.Instant
    ) throws(DatabaseError) {
        guard PQstatus(connection) != CONNECTION_BAD else {
            throw connectError(connection)
        }
        let activity = "connecting to \(parameters.place)"
        var next = PGRES_POLLING_WRITING
        while true {
            switch next {
            case PGRES_POLLING_OK:
                return
            case PGRES_POLLING_READING:
                try wait(for: Int16(POLLIN), on: connection, until: deadline, doing: activity)
            case PGRES_POLLING_WRITING:
                try wait(for: Int16(POLLOUT), on: connection, until: deadline, doing: activity)
            default:
                throw connectError(connection)
            }
            next = PQconnectPoll(connection)
        }
    }

    private func connectError(_ connection: OpaquePointer) -> DatabaseError {
        let message = text(PQerrorMessage(connection)) ?? "connection failed"
        // libpq gives no SQLSTATE for a failed connection; this one matters to whoever waits for a server.
        let isStarting =
            message.contains("the database system is starting up")
            || message.contains("the database system is not yet accepting connections")
            || message.contains("the database system is shutting down")
            || message.contains("the database system is in recovery mode")
        return DatabaseError(kind: .connect, sqlState: isStarting ? "57P03" : nil, message: message)
    }

    /// Ends the session. Harmless when called twice.
    mutating func finish() {
        if let connection { PQfinish(connection) }
        connection = nil
    }

    // MARK: - Queries

    mutating func query(
        _ sql: String,
        _ parameters: [String?],
        deadline: ContinuousClock.Instant
    ) throws(DatabaseError) -> [Row] {
        let connection = try open()
        let values = parameters.map { $0.map { strdup($0) } ?? nil }
        defer {
            for pointer in values { free(pointer) }
        }
        let pointers = values.map { UnsafePointer($0) }
        guard PQsendQueryParams(connection, sql, CInt(pointers.count), nil, pointers, nil, nil, 0) == 1 else {
            throw lost(connection)
        }
        do throws(DatabaseError) {
            return try receive(on: connection, deadline: deadline)
        } catch {
            if error.kind != .server { finish() }
            throw error
        }
    }

    private mutating func receive(
        on connection: OpaquePointer,
        deadline: ContinuousClock.Instant
    ) throws(DatabaseError) -> [Row] {
        var rows: [Row] = []
        var failure: DatabaseError?
        while true {
            while PQisBusy(connection) == 1 {
                try wait(for: Int16(POLLIN), on: connection, until: deadline, doing: "waiting for an answer")
                guard PQconsumeInput(connection) == 1 else { throw lost(connection) }
            }
            guard let result = PQgetResult(connection) else { break }
            defer { PQclear(result) }
            switch PQresultStatus(result) {
            case PGRES_TUPLES_OK, PGRES_SINGLE_TUPLE:
                rows.append(contentsOf: self.rows(of: result))
            case PGRES_COMMAND_OK, PGRES_EMPTY_QUERY:
                break
            default:
                failure = failure ?? error(of: result)
            }
        }
        if PQstatus(connection) == CONNECTION_BAD {
            var error = lost(connection)
            error.sqlState = failure?.sqlState
            throw error
        }
        if let failure { throw failure }
        return rows
    }

    private func rows(of result: OpaquePointer) -> [Row] {
        let columns = (0..<PQnfields(result)).map { text(PQfname(result, $0)) ?? "" }
        return (0..<PQntuples(result)).map { row in
            let values = columns.indices.map { column -> String? in
                guard PQgetisnull(result, row, CInt(column)) == 0 else { return nil }
                return String(cString: PQgetvalue(result, row, CInt(column)))
            }
            return Row(columns: columns, values: values)
        }
    }

    private func error(of result: OpaquePointer) -> DatabaseError {
        // The field codes are character macros of postgres_ext.h, which Swift does not import.
        func field(_ code: Character) -> String? {
            text(PQresultErrorField(result, CInt(code.asciiValue ?? 0)))
        }
        return DatabaseError(
            kind: .server,
            sqlState: field("C"),
            message: field("M") ?? text(PQresultErrorMessage(result)) ?? "unknown error",
            detail: field("D"),
            hint: field("H")
        )
    }

    mutating func verifier(ofPassword password: Secret, user: String) throws(DatabaseError) -> String {
        let connection = try open()
        guard let verifier = PQencryptPasswordConn(connection, password.revealed, user, "scram-sha-256") else {
            throw DatabaseError(kind: .server, message: text(PQerrorMessage(connection)) ?? "cannot derive a verifier")
        }
        defer { PQfreemem(verifier) }
        return String(cString: verifier)
    }

    mutating func serverVersion() throws(DatabaseError) -> Int {
        Int(PQserverVersion(try open()))
    }

    // MARK: - Waiting

    private func open() throws(DatabaseError) -> OpaquePointer {
        guard let connection else {
            throw DatabaseError(kind: .closed, message: "the connection is closed")
        }
        return connection
    }

    private func lost(_ connection: OpaquePointer) -> DatabaseError {
        DatabaseError(kind: .connectionLost, message: text(PQerrorMessage(connection)) ?? "the connection was lost")
    }

    private func wait(
        for events: Int16,
        on connection: OpaquePointer,
        until deadline: ContinuousClock.Instant,
        doing activity: String
    ) throws(DatabaseError) {
        while true {
            let remaining = deadline - .now
            guard remaining > .zero else {
                throw DatabaseError(kind: .timedOut, message: "timed out \(activity)")
            }
            var descriptors = [
                pollfd(fd: PQsocket(connection), events: events, revents: 0),
                pollfd(fd: interruption.readEnd, events: Int16(POLLIN), revents: 0),
            ]
            let count = poll(&descriptors, 2, remaining.pollMilliseconds)
            if count < 0, errno != EINTR {
                throw DatabaseError(kind: .connectionLost, message: "poll: \(String(cString: strerror(errno)))")
            }
            if descriptors[1].revents != 0 {
                throw DatabaseError(kind: .closed, message: "interrupted while \(activity)")
            }
            if count > 0 { return }
        }
    }

    private func text(_ pointer: UnsafePointer<CChar>?) -> String? {
        guard let pointer, pointer.pointee != 0 else { return nil }
        var text = String(cString: pointer)
        while text.last?.isNewline == true { text.removeLast() }
        return text
    }

    private func text(_ pointer: UnsafeMutablePointer<CChar>?) -> String? {
        text(pointer.map { UnsafePointer($0) })
    }
}

extension ConnectionParameters {
    /// For messages: where, not with what password.
    fileprivate var place: String { "\(host):\(port) as \(user)" }
}

extension Duration {
    /// Rounded up, so that a wait never ends just before its deadline only to be repeated.
    fileprivate var pollMilliseconds: CInt {
        let (seconds, attoseconds) = components
        let milliseconds = seconds.multipliedReportingOverflow(by: 1000)
        guard !milliseconds.overflow, milliseconds.partialValue < Int64(CInt.max) - 1000 else { return CInt.max }
        return CInt(milliseconds.partialValue + attoseconds / 1_000_000_000_000_000 + 1)
    }
}
