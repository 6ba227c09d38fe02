package import Logging
package import PostgresAuth
package import PostgresClient
package import QueryAnalysis
package import Topology

/// The functions of a database, newly read because they had changed.
package struct ChangedFunctions: Sendable {
    package var database: String
    package var functions: FunctionCatalog
}

/// What the endpoint has to know of roles and functions, read from the nodes.
///
/// A verifier is read anew each time, over one kept session per node: a role's new password must work at once. It never waits for
/// a probe, and a broken session costs one retry. The functions of a database are kept, and read again in the
/// background when they changed: no session waits for that but the first of its database.
package actor DatabaseCatalog {
    /// How to connect to a node and database as a superuser.
    package typealias Parameters = @Sendable (_ node: NodeID, _ database: String) -> ConnectionParameters

    /// Databases whose functions changed since they were first asked for. One consumer.
    package nonisolated let changes: AsyncStream<ChangedFunctions>
    private let changed: AsyncStream<ChangedFunctions>.Continuation
    private let topology: @Sendable () async -> Topology
    private let parameters: Parameters
    private let logger: Logger
    private var sessions: [NodeID: Task<DatabaseConnection, any Error>] = [:]
    private var databases: [String: Functions] = [:]
    private var loads: [String: Task<Functions?, Never>] = [:]

    /// The functions of one database, and the mark by which a change is seen.
    private struct Functions: Sendable {
        var catalog: FunctionCatalog
        var fingerprint: String?
    }

    package init(
        logger: Logger,
        topology: @escaping @Sendable () async -> Topology,
        parameters: @escaping Parameters
    ) {
        self.logger = logger
        self.topology = topology
        self.parameters = parameters
        (changes, changed) = AsyncStream.makeStream(of: ChangedFunctions.self)
    }

    /// Looks for changed functions every `interval` until the task is cancelled.
    package func run(every interval: Duration = .seconds(10)) async {
        while !Task.isCancelled {
            try? await Task.sleep(for: interval)
            for database in databases.keys.sorted() where !Task.isCancelled {
                await refresh(database)
            }
        }
        for session in sessions.values { try? await session.value.close() }
        sessions = [:]
    }

    /// The primary first, for it alone knows the newest; a standby that is up when it is not.
    private func sources() async -> [NodeID] {
        let nodes = await topology().nodes.filter { $0.state == .up || $0.state == .detached }
        return nodes.sorted { $0.role == .primary && $1.role != .primary }.map(\.id)
    }

    // MARK: - Verifiers

    /// The password of `role` as `pg_authid` holds it; without text when the role is unknown, has none, or it has expired.
    ///
    /// Whether the role may log in is for the server to say, in its own words.
    ///
    /// - Throws: `DatabaseError` when no node can be asked.
    package func password(ofRole role: String) async throws -> RolePassword {
        var failure = DatabaseError(
            kind: .connect,
            sqlState: "57P03",
            message: "no node can be asked for the password of a role",
            hint: "See \"slipstream status\"."
        )
        for node in await sources() {
            do {
                return try await answer(of: node, role: role)
            } catch let error as DatabaseError {
                failure = error
            }
        }
        throw failure
    }

    private func answer(of node: NodeID, role: String) async throws -> RolePassword {
        let isReused = sessions[node] != nil
        let session = session(with: node)
        do {
            return try await Self.ask(session, role)
        } catch let error as DatabaseError {
            if error.kind == .server { throw error }
            // Others may have replaced it meanwhile.
            if sessions[node] == session { sessions[node] = nil }
            guard isReused, error.kind != .timedOut else { throw error }
            return try await Self.ask(self.session(with: node), role)
        }
    }

    private func session(with node: NodeID) -> Task<DatabaseConnection, any Error> {
        if let session = sessions[node] { return session }
        var parameters = parameters(node, "postgres")
        parameters.connectTimeout = .seconds(1)
        let session = Task { [parameters] in try await DatabaseConnection.connect(parameters) }
        sessions[node] = session
        return session
    }

    /// In a task of its own, for a client that gives up must not cancel what others share.
    private static func ask(_ session: Task<DatabaseConnection, any Error>, _ role: String) async throws
        -> RolePassword
    {
        try await Task {
            let rows = try await session.value.query(
                """
                select (
                    select rolpassword from pg_authid
                    where rolname = $1 and (rolvaliduntil is null or rolvaliduntil > clock_timestamp())
                ), current_setting('password_encryption') = 'md5'
                """,
                [role],
                timeout: .seconds(1)
            )
            return RolePassword(text: rows.first?[0], isMD5ByDefault: rows.first?[1] == "t")
        }.value
    }

    // MARK: - Functions

    /// The functions of `database`; `nil` when they cannot be read.
    package func functions(ofDatabase database: String) async -> FunctionCatalog? {
        if let known = databases[database] { return known.catalog }
        await refresh(database)
        return databases[database]?.catalog
    }

    private func refresh(_ database: String) async {
        let load = loads[database] ?? Task { await self.load(database) }
        loads[database] = load
        let functions = await load.value
        loads[database] = nil
        guard let functions else { return }
        let isKnown = databases.updateValue(functions, forKey: database) != nil
        if isKnown { changed.yield(ChangedFunctions(database: database, functions: functions.catalog)) }
    }

    /// `nil` when nothing changed or nothing could be read; what is known then stays.
    private func load(_ database: String) async -> Functions? {
        for node in await sources() {
            var parameters = parameters(node, database)
            parameters.connectTimeout = .seconds(1)
            do throws(DatabaseError) {
                // Opened for this and closed again: a session that stays would be in the way of DROP DATABASE.
                let connection = try await DatabaseConnection.connect(parameters)
                defer { connection.close() }
                let mark = try await connection.query(Self.fingerprint, [], timeout: .seconds(1)).first
                let fingerprint = mark.map { "\($0[0] ?? "") \($0[1] ?? "")" }
                if let known = databases[database], known.fingerprint == fingerprint { return nil }
                let rows = try await connection.query(Self.functions, [], timeout: .seconds(5))
                let asks = try await connection.query(Self.asksSequences, [], timeout: .seconds(5)).first?[0] == "t"
                let writers = try await connection.query(Self.writers, [], timeout: .seconds(5)).compactMap { $0[0] }
                let leavesState = rows.contains { $0[3] == "t" }
                let functions = rows.compactMap(Self.function)
                let catalog = FunctionCatalog(
                    functions,
                    leavesState: leavesState,
                    asksSequences: asks,
                    writers: writers,
                    beginsReadCommitted: mark?[1] == "t"
                )
                let believed = FunctionCatalog(rows.compactMap(Self.believedFunction), writers: writers)
                let hidden: (definitions: [Definition], sequences: [String])
                do throws(DatabaseError) {
                    hidden = try await Self.hidden(connection)
                } catch {
                    // Somebody changes a view, in a transaction that stays open. As it was, until it is over.
                    guard let known = databases[database] else { return Functions(catalog: catalog, fingerprint: nil) }
                    return Functions(catalog: catalog.hidingWhat(known.catalog), fingerprint: nil)
                }
                return Functions(
                    catalog: catalog.hiding(hidden.definitions, sequences: hidden.sequences, believed: believed),
                    fingerprint: fingerprint
                )
            } catch {
                logger.debug("cannot read the functions of a database: \(error.message)", metadata: ["node": "\(node)"])
            }
        }
        return nil
    }

    /// What names that are no functions' run.
    private static func hidden(_ connection: DatabaseConnection) async throws(DatabaseError) -> (
        definitions: [Definition], sequences: [String]
    ) {
        // A view's definition is read under a lock on its tables.
        _ = try await connection.query("set lock_timeout = '100ms'", [], timeout: .seconds(1))
        let rows = try await connection.query(Self.definitions, [], timeout: .seconds(5))
        let definitions = rows.compactMap { row in
            row[0].flatMap { name in row[1].map { Definition(name: name, query: $0) } }
        }
        let sequences = try await connection.query(Self.sequences, [], timeout: .seconds(5))
        return (definitions, sequences.compactMap { $0[0] })
    }

    /// A function of the users is volatile only if it leaves state: most are declared so because nobody said otherwise.
    private static func believedFunction(_ row: Row) -> (name: String, volatility: Volatility, isBuiltIn: Bool)? {
        guard var function = function(row) else { return nil }
        if !function.isBuiltIn, row[3] != "t" { function.volatility = min(function.volatility, .stable) }
        return function
    }

    private static func function(_ row: Row) -> (name: String, volatility: Volatility, isBuiltIn: Bool)? {
        guard let name = row[0] else { return nil }
        let isBuiltIn = row[1] == "t"
        switch row[2] {
        case "0": return (name, .immutable, isBuiltIn)
        case "1": return (name, .stable, isBuiltIn)
        // Anything unheard of is the worst.
        default: return (name, .volatile, isBuiltIn)
        }
    }

    /// Changes with every function, view, sequence, policy, domain or cast made, replaced, altered or dropped, and costs a
    /// millisecond or two. With it, whether a plain BEGIN begins a READ COMMITTED transaction, whoever says it.
    private static let fingerprint = """
        select concat_ws(' ', count(*), max(made), sum(made), sum(number)),
            current_setting('default_transaction_isolation') = 'read committed' and not exists (
                select from pg_db_role_setting, unnest(setconfig) as setting
                where setdatabase in (0, (select oid from pg_database where datname = current_database()))
                    and setting ilike 'default_transaction_isolation=%')
        from (
            select xmin::text::bigint, oid::bigint from pg_proc
            union all select xmin::text::bigint, oid::bigint from pg_class
                where relkind in ('v', 'S') and relpersistence <> 't'
            union all select xmin::text::bigint, oid::bigint from pg_rewrite where oid >= 16384
                and exists (select from pg_class where oid = ev_class and relpersistence <> 't')
            union all select xmin::text::bigint, oid::bigint from pg_policy
            union all select xmin::text::bigint, oid::bigint from pg_constraint where contypid <> 0
            union all select xmin::text::bigint, oid::bigint from pg_cast where oid >= 16384
        ) as object (made, number)
        """

    /// The worst of each name, in `pg_catalog` and elsewhere.
    ///
    /// A function in an untrusted procedural language may reach the world outside whatever its author declared, so it
    /// counts as volatile. C and internal functions come with extensions and are believed. So does one whose source looks
    /// as if it left state in the session, which triggers may do unseen; taking one for such that does not costs little.
    private static let functions = #"""
        select proname, pronamespace = 'pg_catalog'::regnamespace,
            max(case
                when provolatile = 'v' or (lanispl and not lanpltrusted) or leaves_state then 2
                when provolatile = 's' then 1
                else 0 end),
            bool_or(leaves_state)
        from pg_proc join pg_language on pg_language.oid = prolang, lateral (select
            lanname not in ('internal', 'c') and pronamespace <> 'pg_catalog'::regnamespace and prosrc ~* concat_ws('|',
                'set_config', 'pg_(try_)?advisory_lock', 'setseed', 'pg_temp', '\mwith\s+hold\M',
                '\m(listen|unlisten|load|prepare|deallocate|discard|temp|temporary)\M',
                '(^|;|''|\m(begin|then|else|loop)\M)\s*(set|reset)\s')) as source (leaves_state)
        group by 1, 2
        """#

    /// The functions that look as if they wrote: volatile ones with such a word in their source, or whose source is not text, and
    /// all that name one of these.
    private static let writers = #"""
        with recursive source as (
            select pg_proc.oid, lower(proname) as name, provolatile, prosrc, lanname from pg_proc
            join pg_language on pg_language.oid = prolang
            where pronamespace <> 'pg_catalog'::regnamespace and lanname not in ('internal', 'c') and prokind <> 'a'
        ), word as (
            select distinct name, word from source, regexp_split_to_table(lower(prosrc), '[^[:alnum:]_$]+') as word
        ), writer as (
            select name from source where provolatile = 'v' and (prosrc = '' or lanname not in ('sql', 'plpgsql'))
            union select name from source join word using (name) where provolatile = 'v' and word in (
                'insert', 'update', 'delete', 'merge', 'truncate', 'create', 'alter', 'drop', 'refresh', 'copy', 'lock',
                'execute', 'call', 'notify', 'nextval', 'setval', 'pg_notify', 'lowrite', 'dblink', 'dblink_exec')
            union select word.name from word join writer on writer.name = word.word
        )
        select proname from pg_proc where lower(proname) in (select name from writer)
            and pronamespace <> 'pg_catalog'::regnamespace
        union select proname from pg_aggregate join pg_proc on pg_proc.oid = aggfnoid where aggfnoid >= 16384
            and exists (select from pg_proc as part join writer on writer.name = lower(part.proname)
                where part.oid in (aggtransfn, aggfinalfn, aggmtransfn, aggminvtransfn, aggmfinalfn))
        """#

    /// What is run where a name is used: views, row security, domains, casts.
    private static let definitions = """
        select relname, pg_get_viewdef(oid) from pg_class where relkind = 'v' and oid >= 16384
        union all select relname, 'select ' || pg_get_expr(polqual, polrelid)
            from pg_policy join pg_class on pg_class.oid = polrelid where polcmd in ('r', '*')
        union all select typname, 'select ' || pg_get_expr(conbin, 0)
            from pg_constraint join pg_type on pg_type.oid = contypid where contypid >= 16384
        union all select typname, 'select null::' || format_type(typbasetype, null)
            from pg_type where typtype = 'd' and typbasetype >= 16384
        union all select typname, 'select ' || castfunc::regproc || '(null)'
            from pg_cast join pg_type on pg_type.oid = casttarget where casttarget >= 16384 and castfunc <> 0
        """

    /// Unless a column has the name, which is far more often what is meant.
    private static let sequences = """
        select relname from pg_class as sequence where relkind = 'S' and relpersistence <> 't' and not exists (
            select from pg_attribute where attname = relname and attrelid >= 16384 and attrelid <> sequence.oid)
        """

    /// Whether code, a default, a view or a rule of the users has `currval` or `lastval` in it; once it is parsed it has their
    /// numbers, 1575 and 2559. The standard's views are among the first 16384 objects.
    private static let asksSequences = """
        select exists (select from pg_proc where oid >= 16384 and prosrc ~* '(curr|last)val')
            or exists (select from pg_attrdef where adbin::text ~ ':funcid (1575|2559) ')
            or exists (select from pg_rewrite where oid >= 16384 and ev_action::text ~ ':funcid (1575|2559) ')
            or exists (select from pg_proc as p
                where oid >= 16384 and to_jsonb(p) ->> 'prosqlbody' ~ ':funcid (1575|2559) ')
        """
}
