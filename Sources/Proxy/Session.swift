import PostgresAuth
import PostgresWire
import ProxyCore
import QueryAnalysis
import Reactor
import Topology

/// One client session: its socket, its server connections (at most one per node), and the unit it works on.
///
/// The decisions are made by the machines of `ProxyCore`; this class carries them out.
final class Session: StreamOwner {
    enum Phase {
        /// Until the client has proven who it is.
        case login
        /// Authenticated; the first server connection is being opened.
        case openingFirstLink
        /// Between units.
        case idle
        /// A unit stands at the start of the client's bytes and waits: for a server connection, for a cancel request to
        /// be done with, or for a primary.
        case waiting
        /// A unit was sent; its answer is not complete.
        case running
        case closed
    }

    /// The unit in hand.
    struct Current {
        var unit: RequestUnit
        var link: ServerLink?
        /// Bytes of the answer have reached the client: the unit can no more be sent again.
        var hasForwarded = false
        /// The unit's bytes were given away: it can no more be sent again.
        var isConsumed = false
        /// The answer will end with ReadyForQuery without further messages of the client.
        var expectsReady = true
        /// CopyDone or CopyFail was passed on before the server asked for copy data.
        var hasEndedCopy = false
        /// The server has answered one of its messages with an error, and skips the others up to Sync.
        var hasFailed = false
        /// It copies in, and its own Sync went out before the copy data: the server may have read it as a part of the copy, or
        /// will answer it.
        var copiesBehindSync = false
        /// Another Sync went out behind the copy data.
        var hasSyncedTwice = false
        /// How many commands were completed, and whether the last was DEALLOCATE ALL.
        var completions = 0
        var deallocatesAll = false
        /// ReadyForQuery answers a Sync of ours and is not for the client.
        var hidesReady = false
        /// Nodes that failed it.
        var tried: UInt64 = 0
        /// How often the primary's connection broke under it.
        var primaryBreaks = 0

        /// Whether it may run twice: it reads, and nothing of the answer has been shown.
        var isRepeatable: Bool {
            guard !hasForwarded, !isConsumed, !unit.isOpaque else { return false }
            switch unit.effect {
            case .empty, .read, .primaryRead, .beginReadOnly: return true
            case .begin, .transactionControl, .transactionEnd, .write, .sessionState: return false
            }
        }
    }

    /// A READ ONLY transaction on a standby.
    struct StandbyTransaction {
        /// The query that began it.
        var begin: [[UInt8]]
        /// Statements in it that leave state behind (SET, PREPARE, …): run on the primary, too, once it is committed.
        var state: [[UInt8]] = []
        /// Something but BEGIN was answered: it can no more be moved to the primary.
        var hasAnswered = false
        var isCommitted = false
    }

    let index: Int
    /// Tells apart sessions that had the same index.
    let serial: UInt64
    unowned(unsafe) let worker: Worker
    private(set) var client: Stream!
    let cancelKey: CancelKey

    var phase: Phase = .login
    var login: ClientLogin? = ClientLogin()
    var credential: SCRAMClient.Credential?
    var startupPacket: [UInt8] = []
    var role = ""
    var database = ""
    var functions: FunctionsOfDatabase?

    var links: [ServerLink?]
    var requests = RequestUnitReader()
    var statements = PreparedStatements()
    var route: SessionRoute
    var current: Current?
    /// The connection an open transaction runs on.
    var transactionLink: ServerLink?
    /// What the primary must be told of a READ ONLY transaction that runs, or ran, on a standby.
    var standbyTransaction: StandbyTransaction?
    /// Query messages to run on the primary before the next unit; the client does not see their answers.
    var prelude: [[UInt8]] = []
    /// The connection an open transaction ran on is gone; the client does not know yet.
    var lostTransaction = false
    /// Where an unnamed statement may be that is not known: its Parse failed, which destroyed it, or was skipped.
    var unnamedIsOn: ServerLink?
    /// Client messages that are not understood one by one, and where they go: `nil` throws them away.
    var passThrough: PassThrough?
    var passThroughLink: ServerLink?
    /// ReadyForQuery is due behind what is thrown away.
    var throwAwaySaysReady = true
    /// A message to the client was begun and is not complete: nothing else can be said to it.
    var isMidMessage = false
    /// Nodes that failed when the first server connection was opened.
    var firstLinkTried: UInt64 = 0
    /// The client will send no more; what it has sent is still worked off.
    var clientHasFinished = false
    /// When waiting for a primary ends.
    var waitsForPrimaryUntil: MonotonicTime?

    init(index: Int, serial: UInt64, worker: Worker) {
        self.index = index
        self.serial = serial
        self.worker = worker
        links = Array(repeating: nil, count: worker.topology.nodes.count)
        route = SessionRoute(pinTime: worker.configuration.pinTime)
        cancelKey = CancelKey(
            processID: worker.processID(ofSession: index),
            secret: Int32.random(in: .min ... .max)
        )
    }

    func adopt(_ stream: Stream) {
        client = stream
        login?.encryption = encryptionOffer
        stream.receive()
    }

    /// Ends the session and everything it holds.
    ///
    /// - Parameter message: sent to the client before its connection is closed.
    func close(_ message: ErrorMessage? = nil) {
        guard phase != .closed else { return }
        if phase == .running { worker.unitsInFlight -= 1 }
        phase = .closed
        if let message, !isMidMessage {
            client.send(message.bytes)
        }
        client.close(flush: true)
        let isQuiet = current == nil
        for link in links {
            link?.close(politely: isQuiet)
        }
        links.removeAll()
        current = nil
        transactionLink = nil
        unnamedIsOn = nil
        passThroughLink = nil
        login = nil
        worker.forget(self)
    }

    // MARK: - Client stream

    func streamDidConnect(_ stream: Stream) {}

    func streamDidSecure(_ stream: Stream) { clientIsSecured() }

    func streamDidReceive(_ stream: Stream) {
        advance()
    }

    func streamTookTooLong(_ stream: Stream) {}

    func streamDidBreak(_ stream: Stream, code: Int32) {
        if code == 0, phase != .login, phase != .openingFirstLink {
            clientHasFinished = true
            advance()
            return
        }
        logSecurityProblem()
        isMidMessage = true
        close()
    }

    func streamDidSendAll(_ stream: Stream) {
        // The client has taken what was forwarded: fetch more.
        for case let link? in links where link.state == .ready {
            resume(link)
        }
        if client.hasUnread, phase == .idle || phase == .running { advance() }
    }
}
