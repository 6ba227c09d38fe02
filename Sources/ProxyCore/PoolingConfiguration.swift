/// When a server connection goes back to its pool.
package enum PoolMode: String, Sendable, Hashable, CaseIterable {
    /// At the end of each transaction.
    case transaction
    /// At the end of the client session.
    case session
}

/// The values that configure pools and limit times, with PgBouncer's names, meanings and, but for a few, defaults.
///
/// A size or a limit of 0 means none, and so does a time of zero, unless said otherwise.
///
/// Source: PgBouncer's manual, "Configuration".
package struct PoolingConfiguration: Sendable, Equatable {
    // MARK: - Pools, unless the database or the user says otherwise

    package var poolMode: PoolMode = .transaction
    /// Server connections of one pool. PgBouncer's default is 20.
    package var defaultPoolSize = 50
    /// Server connections that a pool keeps open once a client has used it.
    package var minPoolSize = 0
    /// Server connections beyond its size that a pool may open for clients that have waited `reservePoolTimeout`.
    package var reservePoolSize = 0
    package var reservePoolTimeout: Duration = .seconds(5)

    // MARK: - Limits

    /// Client sessions of the endpoint. PgBouncer's default is 100.
    package var maxClientConnections = 10_000
    /// Server connections per database, over all users.
    package var maxDatabaseConnections = 0
    /// Server connections per user, over all databases.
    package var maxUserConnections = 0
    /// Server connections per node, over all pools. PgBouncer has no such limit.
    package var maxNodeConnections = 0
    /// Prepared statements kept on a server connection.
    package var maxPreparedStatements = 200
    /// Clients that have not logged in yet, at one time. PgBouncer has no such limit.
    package var maxUnauthenticated = 5_000

    // MARK: - Times

    /// How long a unit waits for a server connection before its session is ended.
    package var queryWaitTimeout: Duration = .seconds(120)
    /// How long a unit may run before its session is ended.
    package var queryTimeout: Duration = .zero
    /// How long a session may idle inside a transaction.
    package var idleTransactionTimeout: Duration = .zero
    /// How long a transaction may last.
    package var transactionTimeout: Duration = .zero
    /// How long a session may idle outside a transaction.
    package var clientIdleTimeout: Duration = .zero
    /// How long a client may take to log in.
    package var clientLoginTimeout: Duration = .seconds(60)
    /// How long an unused server connection is kept.
    package var serverIdleTimeout: Duration = .seconds(600)
    /// The age at which an unused server connection is closed.
    package var serverLifetime: Duration = .seconds(3_600)
    /// How long a server connection may go unused before it is checked when it is lent; 0 checks it each time.
    package var serverCheckDelay: Duration = .seconds(30)
    /// How long connecting and logging in to a node may take.
    package var serverConnectTimeout: Duration = .seconds(15)
    /// How long after a failed login a pool opens nothing that nobody waits for.
    package var serverLoginRetry: Duration = .seconds(15)

    // MARK: - Overrides, by name

    package var databases: [String: DatabaseOverrides] = [:]
    package var users: [String: UserOverrides] = [:]

    package init() {}

    /// What holds for the pool of `user` in `database`: the user's value beats the database's, which beats the default.
    package func settings(database: String, user: String) -> PoolSettings {
        let database = databases[database]
        let user = users[user]
        return PoolSettings(
            mode: user?.poolMode ?? database?.poolMode ?? poolMode,
            size: user?.poolSize ?? database?.poolSize ?? defaultPoolSize,
            minimumSize: database?.minPoolSize ?? minPoolSize,
            reserveSize: database?.reservePoolSize ?? reservePoolSize,
            maxDatabaseConnections: database?.maxDatabaseConnections ?? maxDatabaseConnections,
            maxUserConnections: user?.maxUserConnections ?? maxUserConnections
        )
    }

    /// What sessions of `user` in `database` have of their own; `nil` leaves the endpoint's.
    package func consistency(database: String, user: String) -> Consistency? {
        users[user]?.consistency ?? databases[database]?.consistency
    }
}

/// What a database has of its own; `nil` leaves the default.
package struct DatabaseOverrides: Sendable, Equatable {
    package var poolMode: PoolMode?
    package var poolSize: Int?
    package var minPoolSize: Int?
    package var reservePoolSize: Int?
    package var maxDatabaseConnections: Int?
    package var consistency: Consistency?

    package init() {}
}

/// What a user has of its own; `nil` leaves the database's value, or the default.
package struct UserOverrides: Sendable, Equatable {
    package var poolMode: PoolMode?
    package var poolSize: Int?
    package var maxUserConnections: Int?
    package var consistency: Consistency?

    package init() {}
}

/// What holds for one pool; 0 means no limit.
package struct PoolSettings: Sendable, Equatable {
    package var mode: PoolMode
    package var size: Int
    package var minimumSize: Int
    package var reserveSize: Int
    /// Of all pools of the database together.
    package var maxDatabaseConnections: Int
    /// Of all pools of the user together.
    package var maxUserConnections: Int

    package init(
        mode: PoolMode,
        size: Int,
        minimumSize: Int,
        reserveSize: Int,
        maxDatabaseConnections: Int,
        maxUserConnections: Int
    ) {
        self.mode = mode
        self.size = size
        self.minimumSize = minimumSize
        self.reserveSize = reserveSize
        self.maxDatabaseConnections = maxDatabaseConnections
        self.maxUserConnections = maxUserConnections
    }
}
