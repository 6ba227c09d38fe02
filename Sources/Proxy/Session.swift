import PostgresAuth
import PostgresWire
import ProxyCore
import QueryAnalysis
import Reactor
import Topology

/// One client session: its socket, the unit it works on, and what must be the same on every server connection it is lent.
///
/// The decisions are made by the machines of `ProxyCore`; this class carries them out.
final class Session: StreamOwner {
    enum Phase {
        /// Until the client has proven who it is.
        case login
        /// Authenticated; what the client is to be told of the server is not known yet.
        case starting
        /// Between units.
        case idle
        /// A unit stands at the start of the client's bytes and waits: for a server connection, for something that must be
        /// over first, or for a primary.
        case waiting
        /// A unit was sent; its answer is not complete.
        case running
        /// A unit about the endpoint itself waits for the next probe of the primary.
        case answering
        case closed
    }

    /// The unit in hand.
    struct Current {
        var unit: RequestUnit
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
        /// How many commands were completed, and what the last was.
        var completions = 0
        var lastCommand = Command.other
        /// ReadyForQuery answers a Sync of ours and is not for the client.
        var hidesReady = false
        /// Nodes that failed it.
        var tried: UInt64 = 0
        var refusal = Refusal.nothing
        /// It might have gone to a standby, and went where it went by weight.
        var wasFreeToChoose = false
        /// How often the primary's connection broke under it.
        var primaryBreaks = 0

        /// Whether it may run twice: it reads, and nothing of the answer has been shown.
        var isRepeatable: Bool {
            guard !hasForwarded, !isConsumed, !unit.isOpaque else { return false }
            switch refusal {
            case .nothing, .passing: break
            case .lasting, .known: return false
            }
            switch unit.executes {
            case .empty, .read, .primaryRead, .beginReadOnly: return true
            case .begin, .transactionControl, .transactionEnd, .write, .sessionState: return false
            }
        }
    }

    /// What standbys say of a unit. What they refuse may write, whatever it looks like.
    enum Refusal {
        case nothing
        /// One of them refused it, and may not another time.
        case passing
        /// One refused it for being a standby: `lesson` is to be remembered if the primary runs it.
        case lasting
        /// They have refused one like it before.
        case known
    }

    /// What is learned if the primary runs what a standby has refused.
    final class Lesson {
        let statement: LearnedStatement

        init(_ statement: LearnedStatement) { self.statement = statement }
    }

    /// Commands that are known by their CommandComplete.
    enum Command {
        case commit, deallocateAll, discardAll, other
    }

    /// A READ ONLY transaction on a standby.
    final class StandbyTransaction {
        /// The query that began it.
        let begin: [[UInt8]]
        /// Statements in it that leave state behind which is not a setting (PREPARE, …): run on the primary, too, once it is
        /// committed.
        var state: [[UInt8]] = []
        /// Something but BEGIN was answered: it can no more be moved to the primary.
        var hasAnswered = false
        var isCommitted = false

        init(begin: [[UInt8]]) { self.begin = begin }
    }

    /// What the present transaction does to the session's state.
    struct TransactionState {
        /// Settings made in it, which count when it is committed.
        var changes: [(SettingChange, text: [UInt8])] = []
        /// Something may have been undone within it.
        var hasSavepoints = false
        /// It ran what may leave state that its text does not tell.
        var mayLeaveState = false
        /// It has created, altered or dropped something.
        var changesDefinitions = false
        /// Names of settings that have to be asked for one by one.
        var names: Set<String> = []
    }

    let index: Int
    /// Tells apart sessions that had the same index.
    let serial: UInt64
    let worker: Worker
    let client: Stream
    let cancelKey: CancelKey

    /// When the phase, or the state of the transaction, last changed.
    var since: MonotonicTime
    var transactionSince: MonotonicTime
    var login: ClientLogin?
    var profile: PoolGroup.Profile!
    var group: PoolGroup!
    var functions: FunctionsOfDatabase?

    var role: String { group?.user ?? login?.role ?? "" }
    var database: String { group?.database ?? login?.database ?? "" }

    // What must be the same on every server connection.
    var statements = PreparedStatements()
    var settings = SessionSettings.none
    /// The settings of the startup packet that are made like others.
    var startupSettings = SessionSettings.none
    /// The name that the startup packet gives the client.
    var applicationName: [UInt8]?
    /// What the client was told of the server's parameters.
    var told = ReportedParameters.none

    var requests = RequestUnitReader()
    var route: SessionRoute
    /// What its reads must see.
    var freshness = Freshness()
    /// What it asked of the endpoint, if anything.
    var preferences: TransactionalPreferences?
    var current: Current?
    var lesson: Lesson?
    /// Where the current unit runs, and why, for a client that has asked to be told.
    var notice: [UInt8]?
    /// The setting that the current unit makes, and nothing else.
    var change: (SettingChange, text: [UInt8])?
    /// The session's statements before the current unit was sent to a standby.
    var statementsBefore: PreparedStatements?
    /// The server connection that the unit or the transaction runs on.
    var server: ServerConnection?
    /// The primary's connection that the session keeps, for what it holds.
    var home: ServerConnection?
    /// When it was last asked what `home` holds.
    var probedAt = MonotonicTime.distantPast
    /// The pools it waits for.
    var awaited: Pool?
    var transaction = TransactionState()
    /// What the primary must be told of a READ ONLY transaction that runs, or ran, on a standby.
    var standbyTransaction: StandbyTransaction?
    /// The present transaction, as long as the primary has nothing of it.
    var deferred: DeferredTransaction?
    /// Query messages to run on the primary before the next unit; the client does not see their answers.
    var prelude: [[UInt8]] = []
    /// Client messages that are not understood one by one, and where they go: `nil` throws them away.
    var passThrough: PassThrough?
    /// How many of the client's bytes waited to be read as a unit when the session was last looked at.
    var unreadAtLastLook = 0
    /// Nodes that failed while the session was starting.
    var startTried: UInt64 = 0
    /// When waiting for a primary ends.
    var waitsForPrimaryUntil: MonotonicTime?

    // Side by side, for a session that idles is to be small.
    var phase: Phase = .login
    var isAuthenticated = false
    var mode = PoolMode.transaction
    /// It counts among the clients of the endpoint.
    var isCounted = false
    /// Of the transaction on a server, as of the last ReadyForQuery: one that is `deferred` may be nowhere yet.
    var status = TransactionStatus.idle
    /// `home` holds what cannot be made again elsewhere.
    var isSticky = false
    /// Statements were prepared, on `home`, by messages that were not seen.
    var hasUnseenNames = false
    /// The prelude was sent to `server`, and the unit behind it was not.
    var sentPrelude = false
    /// The prelude leaves state on the primary.
    var preludeLeavesState = false
    /// A deferred transaction's BEGIN was sent, and its first statement was not.
    var hasJustBegun = false
    /// The connection an open transaction ran on is gone; the client does not know yet.
    var lostTransaction = false
    /// Client messages that are passed through go to `server`.
    var passesToServer = false
    /// ReadyForQuery is due behind what is thrown away.
    var throwAwaySaysReady = true
    /// A message to the client was begun and is not complete: nothing else can be said to it.
    var isMidMessage = false
    /// It counts among those that may be committing something.
    var isCommitting = false
    /// The client will send no more; what it has sent is still worked off.
    var clientHasFinished = false

    init(index: Int, serial: UInt64, worker: Worker, client: Stream) {
        self.index = index
        self.serial = serial
        self.worker = worker
        self.client = client
        since = worker.now
        transactionSince = worker.now
        route = SessionRoute(pinTime: .zero)
        cancelKey = CancelKey(
            processID: worker.processID(ofSession: index),
            secret: Int32.random(in: .min ... .max)
        )
    }

    func begin() {
        login?.encryption = encryptionOffer
        client.receive()
    }

    /// Ends the session and everything it holds.
    ///
    /// - Parameter message: sent to the client before its connection is closed.
    func close(_ message: ErrorMessage? = nil) {
        guard phase != .closed else { return }
        // Who has logged in does not count any more.
        if !isAuthenticated { worker.admission.left() }
        let wasRunning = phase == .running
        if wasRunning { worker.unitsInFlight -= 1 }
        phase = .closed
        if let message, !isMidMessage {
            client.send(message.bytes)
        }
        client.close(flush: true)
        awaited?.forget(self)
        awaited = nil
        if let server {
            self.server = nil
            if wasRunning || status != .idle || current?.isConsumed == true {
                // The server ends what runs, as it would without us.
                abandon(server, politely: !wasRunning)
            } else if server !== home {
                giveBack(server)
            }
        }
        if let home {
            self.home = nil
            home.mustDiscard = true
            home.mustClose = home.mustClose || home.hasTemporarySchema
            giveBack(home)
        }
        current = nil
        login = nil
        commitEnded()
        worker.forget(self)
    }

    /// Gives a connection back to its pool.
    func giveBack(_ connection: ServerConnection) {
        guard connection.session === self, connection !== home || phase == .closed else { return }
        if phase == .closed, transaction.mayLeaveState || connection.probe != nil { connection.mustDiscard = true }
        connection.pool.takeBack(connection)
    }

    /// Closes a connection on which something of this session runs.
    func abandon(_ connection: ServerConnection, politely: Bool = false) {
        if home === connection { home = nil }
        connection.pool.takeBackBroken(connection, politely: politely)
    }

    // MARK: - Client stream

    func streamDidConnect(_ stream: Stream) {}

    func streamDidSecure(_ stream: Stream) { clientIsSecured() }

    func streamDidReceive(_ stream: Stream) {
        advance()
    }

    func streamTookTooLong(_ stream: Stream) {}

    func streamDidBreak(_ stream: Stream, code: Int32) {
        if code == 0, phase != .login, phase != .starting {
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
        if let server, server.state == .ready { resume(server) }
        if let home, home !== server, home.state == .ready { resume(home) }
        if client.hasUnread, phase == .idle || phase == .running { advance() }
    }
}
