import PostgresAuth
import PostgresWire
import ProxyCore
import QueryAnalysis
import Reactor
import Synchronization
import Topology

/// What other threads tell a worker.
enum Mail: Sendable {
    case topology(Topology)
    case verifier(session: SessionID, Result<RolePassword, any Error>)
    /// `nil`: they cannot be read.
    case functions(database: String, FunctionCatalog?)
    /// A cancel request that another worker received.
    case cancel(CancelKey, replyTo: Worker, session: SessionID)
    /// A cancel request that this worker passed on is done with.
    case cancelDone(session: SessionID)
    /// Certificates were read again.
    case transportContexts(TransportContexts)
    /// Another worker waits for a slot of a pool.
    case slotIsWanted(PoolKey, by: Int, since: MonotonicTime)
    case slotIsFree(PoolKey)
    case closeIdle
    case renew
    case definitionsChanged
    /// Another worker has learned, or forgotten.
    case learned(LearnedStatements)
    /// Somebody asks for last values of sequences in this database.
    case asksSequences(database: String)
    /// A primary's log ended there.
    case resolved(WriteLedger.Probe, position: LSN, timeline: UInt32, by: NodeID, askedAt: MonotonicTime)
    /// How far a standby had replayed the log; `nil` when it did not say.
    case replayed(NodeID, LSN?, timeline: UInt32?, askedAt: MonotonicTime)
    case shutdown
}

/// A client session of one worker, told apart from a later one with the same index.
struct SessionID: Sendable, Hashable {
    var index: Int
    var serial: UInt64
}

/// A worker's letter box. The lock is held for an append or a swap, never per query.
final class Mailbox: Sendable {
    private let letters = Mutex<[Mail]>([])
    private let hasLetters = Atomic<Bool>(false)
    private let waker = Mutex<Reactor.Waker?>(nil)

    func put(_ mail: Mail) {
        letters.withLock { $0.append(mail) }
        hasLetters.store(true, ordering: .releasing)
        waker.withLock { $0?.wake() }
    }

    /// From now on letters wake this reactor; `nil` when it is gone.
    func setWaker(_ waker: Reactor.Waker?) {
        self.waker.withLock { $0 = waker }
    }

    func takeAll() -> [Mail] {
        guard hasLetters.exchange(false, ordering: .acquiring) else { return [] }
        return letters.withLock { letters in
            defer { letters.removeAll() }
            return letters
        }
    }
}
