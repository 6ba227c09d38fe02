import Glibc
package import Logging
package import PostgresAuth
import PostgresWire
package import ProxyCore
package import QueryAnalysis
import Reactor
import Synchronization
package import Topology
import TransportSecurity

/// What the data plane asks of the control plane: things only a database session can tell.
package protocol Catalog: Sendable {
    /// The password of `role` as `pg_authid` holds it; without text when the role is unknown, has no password, or its
    /// password has expired. Throws when no node can be asked.
    func password(ofRole role: String) async throws -> RolePassword
    /// The functions of `database`; `nil` when they cannot be read (the endpoint then trusts only its built-in list).
    func functions(ofDatabase database: String) async -> FunctionCatalog?
}

/// Live traffic's view of a node, told to the monitor.
package struct NodeReport: Sendable, Equatable {
    package var node: NodeID
    /// What went wrong, for the log.
    package var problem: String
}

/// The address clients connect to, and the workers behind it.
package final class Endpoint: Sendable {
    /// Nodes that failed live traffic, as they fail.
    package let reports: AsyncStream<NodeReport>
    /// The port it listens on: the configured one, or the one chosen for 0.
    package let port: UInt16
    /// The Unix-domain socket it listens on.
    package let socketPath: String?

    /// What the data plane wants to know of the nodes' logs.
    package let freshness = FreshnessExchange()
    /// Statements that only standbys refuse.
    package let learned: LearnedExchange

    let workers: [Worker]
    private let kind: Reactor.Kind
    private let listeners: [Int32]
    private let threads = Mutex<[pthread_t]>([])

    /// Opens the listening sockets; nothing is served before `start()`.
    ///
    /// - Parameter learned: what an earlier process has learned.
    /// - Throws: `ListenError` when an address is taken or malformed, or when the configured loop cannot be had.
    package init(
        configuration: EndpointConfiguration,
        topology: Topology,
        catalog: any Catalog,
        learned: LearnedStatements = LearnedStatements(),
        logger: Logger
    ) throws(ListenError) {
        self.learned = LearnedExchange(learned)
        kind = try Self.kind(for: configuration.backend, logger)
        let contexts = try Self.contexts(configuration.transportSecurity)
        Self.raiseDescriptorLimit()
        let count = max(1, min(configuration.workers, 64))
        let (sockets, port) = try Listener.tcp(hosts: configuration.hosts, port: configuration.port, count: count)
        self.port = port
        var unix: (descriptor: Int32, path: String)?
        if let directory = configuration.socketDirectory {
            do throws(ListenError) {
                unix = try Listener.unix(directory: directory, port: port)
            } catch {
                sockets.joined().forEach { close($0) }
                throw error
            }
        }
        socketPath = unix?.path
        listeners = sockets.flatMap(\.self) + (unix.map { [$0.descriptor] } ?? [])
        let (reports, continuation) = AsyncStream.makeStream(
            of: NodeReport.self,
            bufferingPolicy: .bufferingNewest(64)
        )
        self.reports = reports
        let secret = Random.bytes(32)
        let admission = Admission(maxUnauthenticated: configuration.pooling.maxUnauthenticated)
        let slots = Slots()
        let exchange = freshness
        let learnedExchange = self.learned
        workers = (0..<count).map { number in
            Worker(
                number: number,
                configuration: configuration,
                topology: topology,
                transportContexts: contexts,
                catalog: catalog,
                logger: logger,
                admission: admission,
                listeners: sockets.map { $0[number] } + (unix.map { [$0.descriptor] } ?? []),
                mockSecret: secret,
                slots: slots,
                exchange: exchange,
                learnedExchange: learnedExchange,
                reports: continuation
            )
        }
        for worker in workers { worker.siblings = workers }
    }

    /// Starts the workers.
    package func start() {
        threads.withLock { threads in
            threads = workers.map { worker in
                Self.thread { [kind] in
                    do throws(ReactorError) {
                        try worker.run(kind: kind)
                    } catch {
                        worker.logger.critical("a worker cannot run: \(error)")
                    }
                }
            }
        }
    }

    /// Gives every worker a newer picture of the nodes.
    package func publish(_ topology: Topology) {
        for worker in workers { worker.mailbox.put(.topology(topology)) }
    }

    /// Gives every worker a newer picture of the functions of a database.
    package func publish(_ functions: FunctionCatalog, ofDatabase database: String) {
        for worker in workers { worker.mailbox.put(.functions(database: database, functions)) }
    }

    /// Reads certificates, keys and authorities again. Open connections keep theirs; new ones get the new, or the old ones when
    /// there is something wrong with the new.
    ///
    /// - Throws: `ListenError` that names the file.
    package func reload(_ configuration: TransportSecurityConfiguration) throws(ListenError) {
        let contexts = try Self.contexts(configuration)
        for worker in workers { worker.mailbox.put(.transportContexts(contexts)) }
    }

    /// Tells every client session that the endpoint shuts down (57P01), closes the sockets and joins the workers.
    package func shutdown() async {
        for worker in workers { worker.mailbox.put(.shutdown) }
        let threads = threads.withLock { threads in
            defer { threads = [] }
            return threads
        }
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let joining = Self.thread {
                for thread in threads { pthread_join(thread, nil) }
                continuation.resume()
            }
            pthread_detach(joining)  // nobody joins this one
        }
        listeners.forEach { close($0) }
        for worker in workers { worker.siblings = [] }
        if let socketPath { unlink(socketPath) }
    }

    // MARK: - Parts

    private static func kind(for backend: IOBackend, _ logger: Logger) throws(ListenError) -> Reactor.Kind {
        switch backend {
        case .epoll:
            return .epoll
        case .uring:
            if let problem = Reactor.uringProblem() {
                throw ListenError(description: "io_uring was asked for (--io uring) but cannot be had: \(problem)")
            }
            return .uring
        case .auto:
            if let problem = Reactor.uringProblem() {
                logger.notice("serving on epoll: io_uring cannot be had (\(problem))")
                return .epoll
            }
            logger.info("serving on io_uring")
            return .uring
        }
    }

    private static func contexts(
        _ configuration: TransportSecurityConfiguration
    ) throws(ListenError) -> TransportContexts {
        do throws(TLSError) {
            return try TransportContexts(configuration)
        } catch {
            throw ListenError(description: error.description)
        }
    }

    /// A client needs a descriptor, and so does each of its server connections.
    private static func raiseDescriptorLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    private static func thread(_ body: @escaping @Sendable () -> Void) -> pthread_t {
        final class Box {
            let body: @Sendable () -> Void
            init(_ body: @escaping @Sendable () -> Void) { self.body = body }
        }
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(Box(body)).toOpaque()
        let result = pthread_create(
            &thread,
            nil,
            { pointer in
                if let pointer { Unmanaged<Box>.fromOpaque(pointer).takeRetainedValue().body() }
                return nil
            },
            argument
        )
        precondition(result == 0, "cannot start a thread: \(String(cString: strerror(result)))")
        return thread
    }
}
