import Logging
import PostgresWire
import ProxyCore
import Topology
import TransportSecurity

/// Carries out on a stream what `ServerEncryption` decides: everything from the connection to a node up to the first byte of
/// PostgreSQL's protocol on it.
struct NodeSecurity {
    enum Step {
        /// Receive more.
        case wait
        case startUp
        case fail(String)
    }

    private let contexts: TransportContexts
    private let host: String
    private var encryption: ServerEncryption
    /// What is received is for `received`.
    private(set) var isNegotiating = false
    private var isConnected = false
    private(set) var transport: ServerTransport = .plain

    init(_ contexts: TransportContexts, host: String) {
        self.contexts = contexts
        self.host = host
        encryption = ServerEncryption(mode: contexts.serverMode)
    }

    /// For a connection beside one that travels by `transport`.
    init(_ contexts: TransportContexts, host: String, like transport: ServerTransport) {
        self.init(contexts, host: host)
        // TLS may have been switched off since.
        encryption = ServerEncryption(like: contexts.servers == nil ? .plain : transport, mode: contexts.serverMode)
    }

    mutating func connected(_ stream: Stream) -> Step {
        isConnected = true
        return carryOut(encryption.connected(), stream)
    }

    mutating func received(_ stream: Stream) -> Step {
        carryOut(encryption.answered(stream.unread.bytes), stream)
    }

    /// The handshake is done: `startUp`.
    mutating func secured(_ stream: Stream) {
        isNegotiating = false
        transport = .encrypted(stream.security?.engine.serverEndPoint)
    }

    /// It came to nothing. Returns whether to connect again, the other way.
    mutating func failed() -> Bool {
        guard isConnected, encryption.failed() else { return false }
        isNegotiating = false
        isConnected = false
        transport = .plain
        return true
    }

    private mutating func carryOut(_ step: ServerEncryption.Step, _ stream: Stream) -> Step {
        switch step {
        case .ask(let request):
            isNegotiating = true
            stream.send(request)
            return .wait
        case .wait:
            return .wait
        case .shakeHands:
            return shakeHands(stream)
        case .startUp:
            stream.consume(stream.unread.count)
            isNegotiating = false
            return .startUp
        case .fail(let problem):
            return .fail(problem)
        }
    }

    private func shakeHands(_ stream: Stream) -> Step {
        guard let context = contexts.servers else { return .fail("TLS is not configured") }
        stream.consume(1)
        do throws(TLSError) {
            let engine = try TLSEngine(
                client: context,
                host: host,
                verification: contexts.serverMode == .verifyFull ? .host(host) : .none
            )
            return stream.secure(engine) ? .wait : .fail("it sent unencrypted data after its answer to SSLRequest")
        } catch {
            return .fail(error.description)
        }
    }
}

/// What is wrong with the nodes' TLS, said again only when it is something else or after a minute: every login would say it.
struct NodeSecurityProblems {
    private var said: [NodeID: (problem: String, at: MonotonicTime)] = [:]

    mutating func isNews(_ problem: String, of node: NodeID, now: MonotonicTime) -> Bool {
        if let last = said[node], last.problem == problem, now < last.at + .seconds(60) { return false }
        said[node] = (problem, now)
        return true
    }
}

extension Worker {
    func noteSecurityProblem(_ problem: String, of node: NodeID) {
        guard securityProblems.isNews(problem, of: node, now: now) else { return }
        logger.warning("no TLS with node \(name(of: node)): \(problem)")
    }
}
