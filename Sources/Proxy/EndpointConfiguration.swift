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
    /// IPv4 address to listen on.
    package var host = "127.0.0.1"
    package var port: UInt16
    /// Directory of the Unix-domain socket `.s.PGSQL.<port>`; `nil` for none.
    package var socketDirectory: String?
    /// Data-plane threads.
    package var workers: Int
    package var backend: IOBackend = .auto
    /// How long a session reads from the primary after it wrote.
    package var pinTime: Duration = .seconds(5)
    /// How long a statement that needs the primary waits for one to come up.
    package var primaryWait: Duration = .seconds(10)
    /// How long a client may take to log in; PostgreSQL's `authentication_timeout`.
    package var loginTime: Duration = .seconds(60)
    package var pooling = PoolingConfiguration()

    /// TLS with clients and with nodes.
    package var transportSecurity = TransportSecurityConfiguration()

    package init(port: UInt16, workers: Int) {
        self.port = port
        self.workers = workers
    }
}
