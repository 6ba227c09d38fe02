import HostBasedAuthentication
import ProxyCore
import Yams

/// The names of keys.
enum SettingsKeys {
    static let top =
        [
            "listen_addr", "listen_port", "unix_socket_dir", "workers", "io", "pool_mode", "routing", "consistency",
            "pin_time", "transactions", "primary_wait", "max_lag",
        ]
        + Array(numbers.keys) + Array(times.keys) + tls + ["databases", "users", "nodes", "hba", "hba_file"]

    static let tls = [
        "client_tls_sslmode", "client_tls_cert_file", "client_tls_key_file", "client_tls_ca_file",
        "client_tls_protocols", "client_tls_ciphers", "server_tls_sslmode", "server_tls_cert_file",
        "server_tls_key_file", "server_tls_ca_file", "server_tls_protocols", "server_tls_ciphers",
    ]
    static let database = [
        "pool_mode", "pool_size", "min_pool_size", "reserve_pool_size", "max_db_connections", "consistency",
    ]
    static let user = ["pool_mode", "pool_size", "max_user_connections", "consistency", "password"]
    static let node = ["max_lag"]

    /// More server connections than a server can have.
    static let poolLimit = 262_143
    static let clientLimit = 1_000_000

    typealias Pooling = PoolingConfiguration

    /// Whole numbers, and the least and the most they may be.
    static var numbers: [String: (WritableKeyPath<Pooling, Int>, ClosedRange<Int>)] {
        [
            "default_pool_size": (\.defaultPoolSize, 1...poolLimit),
            "min_pool_size": (\.minPoolSize, 0...poolLimit),
            "reserve_pool_size": (\.reservePoolSize, 0...poolLimit),
            "max_client_conn": (\.maxClientConnections, 1...clientLimit),
            "max_db_connections": (\.maxDatabaseConnections, 0...poolLimit),
            "max_user_connections": (\.maxUserConnections, 0...poolLimit),
            "max_node_connections": (\.maxNodeConnections, 0...poolLimit),
            "max_prepared_statements": (\.maxPreparedStatements, 0...clientLimit),
            "max_unauthenticated": (\.maxUnauthenticated, 0...clientLimit),
        ]
    }

    static var times: [String: WritableKeyPath<Pooling, Duration>] {
        [
            "reserve_pool_timeout": \.reservePoolTimeout,
            "query_wait_timeout": \.queryWaitTimeout,
            "query_timeout": \.queryTimeout,
            "idle_transaction_timeout": \.idleTransactionTimeout,
            "transaction_timeout": \.transactionTimeout,
            "client_idle_timeout": \.clientIdleTimeout,
            "client_login_timeout": \.clientLoginTimeout,
            "server_idle_timeout": \.serverIdleTimeout,
            "server_lifetime": \.serverLifetime,
            "server_check_delay": \.serverCheckDelay,
            "server_connect_timeout": \.serverConnectTimeout,
            "server_login_retry": \.serverLoginRetry,
        ]
    }

    /// What people who come from PgBouncer may look for.
    static let elsewhere = [
        "auth_file": "Passwords are checked against those of the nodes; \"users\" may hold some.",
        "auth_query": "Passwords are checked against those of the nodes.",
        "auth_type": "Authentication is configured by rules: \"hba\" or \"hba_file\".",
        "auth_hba_file": "Did you mean \"hba_file\"?",
        "port": "Did you mean \"listen_port\"?",
        "host": "Did you mean \"listen_addr\"?",
        "pool_size": "Did you mean \"default_pool_size\"?",
        "server_reset_query": "The state of a session is tracked, and no query resets it.",
        "ignore_startup_parameters": "All parameters of PostgreSQL are passed on.",
    ]
}

extension SettingsReader {
    /// One key of the top level.
    mutating func take(_ key: String, _ value: Value) {
        if let (path, range) = SettingsKeys.numbers[key] {
            if let number = integer(value, range) { settings.pooling[keyPath: path] = number }
        } else if let path = SettingsKeys.times[key] {
            if let time = duration(value) { settings.pooling[keyPath: path] = time }
        } else if SettingsKeys.tls.contains(key) {
            takeTLS(key, value)
        } else {
            takeOther(key, value)
        }
    }

    private mutating func takeOther(_ key: String, _ value: Value) {
        switch key {
        case "listen_addr": settings.listenAddresses = addresses(value)
        case "listen_port": settings.listenPort = integer(value, 0...65_535).map { UInt16($0) }
        case "unix_socket_dir": settings.unixSocketDirectory = directory(value)
        case "workers": settings.workers = integer(value, 1...64)
        case "io": settings.inputOutput = choice(value, Settings.InputOutput.self)
        case "pool_mode":
            if let mode = choice(value, PoolMode.self) { settings.pooling.poolMode = mode }
        case "routing":
            if let routing = choice(value, RoutingMode.self) { settings.routing = routing }
        case "consistency":
            if let consistency = choice(value, Consistency.self) { settings.consistency = consistency }
        case "pin_time":
            settings.pinTime = duration(value)
        case "transactions":
            if let routing = choice(value, TransactionRouting.self) { settings.transactions = routing }
        case "primary_wait":
            if let time = duration(value) { settings.primaryWait = time }
        case "max_lag":
            if let maxLag = maxLag(value) { settings.maxLag = maxLag }
        case "databases": takeDatabases(value)
        case "users": takeUsers(value)
        case "nodes": takeNodes(value)
        case "hba", "hba_file": takeRules(key, value)
        default: preconditionFailure("\(key) is a known key that nobody reads")
        }
    }

    private mutating func addresses(_ value: Value) -> [String]? {
        guard let text = string(value) else { return nil }
        var addresses: [String] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let address = String(part.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
            guard address == "*" || address == "localhost" || NetworkAddress(address) != nil else {
                note(
                    value.line,
                    value.path,
                    "\"\(address)\" is not an IP address",
                    "Give addresses separated by commas, \"localhost\", or \"*\" for all."
                )
                return nil
            }
            addresses.append(address)
        }
        return addresses
    }

    private mutating func directory(_ value: Value) -> String? {
        guard let text = string(value), !text.isEmpty else { return value.node.scalar.map { _ in "" } }
        let path = resolved(text)
        guard files.exists(path) else {
            note(value.line, value.path, "there is no directory \"\(path)\"", "Make it, or name another.")
            return nil
        }
        // The name of a Unix-domain socket has at most 107 bytes (unix(7)).
        guard path.utf8.count + "/.s.PGSQL.65535".utf8.count <= 107 else {
            note(value.line, value.path, "the path is too long for a socket", "Name a directory of 92 bytes or less.")
            return nil
        }
        return path
    }

    private mutating func takeTLS(_ key: String, _ value: Value) {
        let isClient = key.hasPrefix("client_")
        var tls = isClient ? settings.clientTLS : settings.serverTLS
        switch key.dropFirst("client_tls_".count) {
        case "sslmode": tls.mode = choice(value, TLSSettings.Mode.self)
        case "cert_file": tls.certificateFile = existingFile(value)
        case "key_file": tls.keyFile = existingFile(value)
        case "ca_file": tls.authorityFile = existingFile(value)
        case "protocols": tls.protocols = string(value)
        case "ciphers": tls.ciphers = string(value)
        default: preconditionFailure("\(key) is a known key that nobody reads")
        }
        if isClient { settings.clientTLS = tls } else { settings.serverTLS = tls }
    }

    // MARK: - Overrides

    private mutating func takeDatabases(_ value: Value) {
        eachNamed(value, SettingsKeys.database) { reader, name, key, value in
            var overrides = reader.settings.pooling.databases[name] ?? DatabaseOverrides()
            switch key {
            case "pool_mode": overrides.poolMode = reader.choice(value, PoolMode.self)
            case "pool_size": overrides.poolSize = reader.integer(value, 1...SettingsKeys.poolLimit)
            case "min_pool_size": overrides.minPoolSize = reader.integer(value, 0...SettingsKeys.poolLimit)
            case "reserve_pool_size": overrides.reservePoolSize = reader.integer(value, 0...SettingsKeys.poolLimit)
            case "consistency": overrides.consistency = reader.choice(value, Consistency.self)
            case "max_db_connections":
                overrides.maxDatabaseConnections = reader.integer(value, 0...SettingsKeys.poolLimit)
            default: preconditionFailure("\(key) is a known key that nobody reads")
            }
            reader.settings.pooling.databases[name] = overrides
        }
    }

    private mutating func takeUsers(_ value: Value) {
        var passwords: [String: String] = [:]
        eachNamed(value, SettingsKeys.user) { reader, name, key, value in
            var overrides = reader.settings.pooling.users[name] ?? UserOverrides()
            switch key {
            case "pool_mode": overrides.poolMode = reader.choice(value, PoolMode.self)
            case "pool_size": overrides.poolSize = reader.integer(value, 1...SettingsKeys.poolLimit)
            case "consistency": overrides.consistency = reader.choice(value, Consistency.self)
            case "max_user_connections":
                overrides.maxUserConnections = reader.integer(value, 0...SettingsKeys.poolLimit)
            case "password": passwords[name] = reader.string(value)
            default: preconditionFailure("\(key) is a known key that nobody reads")
            }
            reader.settings.pooling.users[name] = overrides
        }
        settings.passwords = LoginPolicy.Passwords(passwords)
    }

    private mutating func takeNodes(_ value: Value) {
        eachNamed(value, SettingsKeys.node) { reader, name, key, value in
            switch key {
            case "max_lag": reader.settings.nodes[name] = NodeSettings(maxLag: reader.maxLag(value), line: value.line)
            default: preconditionFailure("\(key) is a known key that nobody reads")
            }
        }
    }

    /// The keys below each name.
    private mutating func eachNamed(
        _ value: Value,
        _ known: [String],
        _ body: (inout Self, String, String, Value) -> Void
    ) {
        guard let names = mapping(value) else { return }
        for (nameNode, node) in names {
            guard let name = nameNode.scalar?.string else {
                note(nameNode.mark?.line, value.path, "a name is not plain text")
                continue
            }
            let entry = Value(path: value.path + [name], line: nameNode.mark?.line, node: node)
            guard let keys = mapping(entry) else { continue }
            read(keys, at: entry.path, known: known) { reader, key, value in body(&reader, name, key, value) }
        }
    }
}
