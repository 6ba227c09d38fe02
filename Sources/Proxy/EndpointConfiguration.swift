package import ProxyCore

/// Which loop moves the bytes.
package enum IOBackend: String, Sendable, CaseIterable {
    /// io_uring where the kernel lets us, epoll elsewhere; the log says which and why.
    case auto
    case uring
    case epoll
}

/// What an endpoint needs to know before it listens.
package struct EndpointConfiguration: Sendable {
    /// IPv4 and IPv6 addresses to listen on; `*` for all, `localhost` for this host's own.
    package var hosts = ["127.0.0.1"]
    package var port: UInt16
    /// Directory of the Unix-domain socket `.s.PGSQL.<port>`; `nil` for none.
    package var socketDirectory: String?
    /// Data-plane threads.
    package var workers: Int
    package var backend: IOBackend = .auto
    /// Whether reads leave the primary.
    package var routing = RoutingMode.on
    /// Which reads may miss which writes.
    package var consistency = Consistency.session
    /// With `Consistency.seconds`: how long a session reads from the primary after it wrote.
    package var pinTime: Duration = .seconds(5)
    /// Where transactions begin.
    package var transactions = TransactionRouting.primary
    /// How long a statement that needs the primary waits for one to come up.
    package var primaryWait: Duration = .seconds(10)
    /// Pools, limits and times.
    package var pooling = PoolingConfiguration()
    /// Who may log in.
    package var login = LoginPolicy(networks: NetworkInterfaces.networks)
    /// How long a client may take to log in; PostgreSQL's `authentication_timeout`.
    package var loginTime: Duration { pooling.clientLoginTimeout }

    /// TLS with clients and with nodes.
    package var transportSecurity = TransportSecurityConfiguration()

    package init(port: UInt16, workers: Int) {
        self.port = port
        self.workers = workers
    }

    /// Where a client on this host connects to.
    package var host: String {
        switch hosts.first {
        case "*", "0.0.0.0", "localhost", nil: "127.0.0.1"
        case "::": "::1"
        case let host?: host
        }
    }
}
