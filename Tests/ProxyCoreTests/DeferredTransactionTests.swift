import PostgresWire
import ProxyCore
import QueryAnalysis
import Testing

struct DeferredTransactionTests {
    private static let begin = [Frontend.query("BEGIN")]
    private static let read = DeferredTransaction.Statement.read(mayStay: true)

    private func transaction() -> DeferredTransaction { DeferredTransaction(begin: Self.begin) }

    /// One that has read on a standby.
    private func onStandby() -> DeferredTransaction {
        var transaction = transaction()
        _ = next(&transaction, .read(mayStay: false))
        transaction.began()
        transaction.answered(.inTransaction, tookSnapshot: true)
        return transaction
    }

    private func next(
        _ transaction: inout DeferredTransaction,
        _ statement: DeferredTransaction.Statement
    ) -> DeferredTransaction.OnStatement {
        transaction.next(statement)
    }

    // MARK: - Transcripts

    @Test("one that says nothing is ended where it was begun: nowhere")
    func empty() {
        var transaction = transaction()
        #expect(next(&transaction, .end(.commit)) == .answer(.commit))
        #expect(next(&transaction, .end(.rollback)) == .answer(.rollback))
    }

    @Test("reads begin it on any node, and then stay there")
    func reads() {
        var transaction = transaction()
        #expect(next(&transaction, .read(mayStay: false)) == .begin)
        #expect(!transaction.needsPrimary)
        transaction.began()
        #expect(transaction.place == .standby)
        #expect(next(&transaction, Self.read) == .stay)
        transaction.answered(.inTransaction, tookSnapshot: true)
        #expect(next(&transaction, Self.read) == .stay)
        #expect(next(&transaction, .end(.commit)) == .stay)
    }

    @Test("what is no read begins it on the primary")
    func write() {
        var transaction = transaction()
        #expect(next(&transaction, .other) == .begin)
        #expect(transaction.needsPrimary)
        #expect(transaction.primaryBeginning == Self.begin)
    }

    @Test(
        "what is no read, and a read that the standby may not answer now, moves it for good",
        arguments: [.other, .read(mayStay: false)] as [DeferredTransaction.Statement]
    )
    func move(_ statement: DeferredTransaction.Statement) {
        var transaction = onStandby()
        #expect(next(&transaction, statement) == .move)
        #expect(next(&transaction, statement) == .move, "asked again, it says the same")
        transaction.leftForPrimary()
        #expect(transaction.place == .nowhere)
        #expect(next(&transaction, statement) == .begin)
        #expect(transaction.needsPrimary)
    }

    @Test("a connection that breaks before anything was read leaves the choice of another standby, and none afterwards")
    func breaks() {
        var unread = transaction()
        _ = next(&unread, .read(mayStay: false))
        unread.began()
        unread.left()
        #expect(next(&unread, .read(mayStay: false)) == .begin)
        #expect(!unread.needsPrimary)

        var read = onStandby()
        read.left()
        #expect(read.needsPrimary)
        #expect(next(&read, .end(.commit)) == .answer(.commit))
    }

    @Test("one that has failed ends by a rollback, and has failed on the primary, too")
    func failure() {
        var transaction = onStandby()
        transaction.answered(.failed, tookSnapshot: false)
        #expect(transaction.hasFailed)
        #expect(next(&transaction, .other) == .move)
        transaction.left()
        #expect(transaction.hasFailed && transaction.needsPrimary)
        #expect(next(&transaction, .end(.commit)) == .answer(.rollback))
    }

    @Test("SET TRANSACTION comes too late on the primary if it would have without the move")
    func snapshot() {
        var transaction = transaction()
        transaction.began()
        transaction.answered(.inTransaction, tookSnapshot: false)
        transaction.leftForPrimary()
        #expect(transaction.primaryBeginning == Self.begin)
        transaction = onStandby()
        transaction.answered(.inTransaction, tookSnapshot: false)
        transaction.leftForPrimary()
        #expect(transaction.primaryBeginning == Self.begin + [Frontend.query("SELECT")])
    }

    @Test("those that have always written begin on the primary")
    func learned() {
        var transaction = transaction()
        transaction.startsWith(7, writes: false)
        #expect(transaction.shape == 7 && !transaction.needsPrimary)
        transaction.startsWith(7, writes: true)
        #expect(transaction.needsPrimary)
    }

    // MARK: - Units

    private static func answer(_ unit: [UInt8], _ command: TransactionCommand = .begin) -> [UInt8]? {
        DeferredTransaction.answer(to: unit.span.bytes, as: command)
    }

    private static let complete = Backend.message(.commandComplete, string("BEGIN"))
    private static let ready = Backend.message(.readyForQuery, [UInt8(ascii: "T")])

    @Test("a Query is answered as a server does")
    func queries() {
        #expect(Self.answer(Frontend.query("BEGIN")) == Self.complete + Self.ready)
        for (command, tag, status) in [
            (.startTransaction, "START TRANSACTION", "T"), (.commit, "COMMIT", "I"), (.rollback, "ROLLBACK", "I"),
        ] as [(TransactionCommand, String, String)] {
            let complete = Backend.message(.commandComplete, string(tag))
            let ready = Backend.message(.readyForQuery, Array(status.utf8))
            #expect(Self.answer(Frontend.query(""), command) == complete + ready)
        }
    }

    @Test("so are the messages that drivers send")
    func messages() {
        let parsed = Backend.message(.parseComplete)
        let bound = Backend.message(.bindComplete)
        let empty = Backend.message(.noData)
        let parse = Frontend.parse("", "BEGIN")
        let bind = Frontend.bind("")
        let describe = Frontend.describe(portal: "")
        let end = Frontend.execute + Frontend.sync
        #expect(Self.answer(parse + bind + describe + end) == parsed + bound + empty + Self.complete + Self.ready)
        #expect(Self.answer(parse + bind + end) == parsed + bound + Self.complete + Self.ready)
        #expect(Self.answer(Frontend.bind("b") + end) == bound + Self.complete + Self.ready)
    }

    @Test(
        "anything else is for a server",
        arguments: [
            [], Frontend.sync, Frontend.parse("", "BEGIN") + Frontend.sync, Frontend.bind("") + Frontend.sync,
            Frontend.execute + Frontend.sync, Frontend.bind("") + Frontend.execute,
            Frontend.parse("b", "BEGIN") + Frontend.bind("b") + Frontend.execute + Frontend.sync,
            Frontend.bind("", portal: "p") + Frontend.execute + Frontend.sync,
            Frontend.bind("") + Frontend.execute + Frontend.execute + Frontend.sync,
            Frontend.bind("") + Frontend.execute + Frontend.flush + Frontend.sync,
            Frontend.bind("") + Frontend.describe(statement: "") + Frontend.execute + Frontend.sync,
            Frontend.extended("BEGIN") + Frontend.extended("BEGIN"),
            Frontend.message(.bind, [0, 0, 0, 0, 0, 1, 0, 0]) + Frontend.execute + Frontend.sync,
            Frontend.message(.bind, [0, 0, 0, 0, 0, 0, 0, 1]) + Frontend.execute + Frontend.sync,
            Frontend.message(.bind, [0, 0, 0, 0]) + Frontend.execute + Frontend.sync,
            Frontend.message(.parse, [0, 0]) + Frontend.bind("") + Frontend.execute + Frontend.sync,
            Frontend.message(.bind) + Frontend.execute + Frontend.sync,
        ]
    )
    func others(_ unit: [UInt8]) { #expect(unit.isEmpty || Self.answer(unit) == nil) }

    @Test("a portal that a later unit could ask for is seen")
    func portals() {
        func leavesNone(_ unit: [UInt8]) -> Bool { DeferredTransaction.leavesNoPortal(unit.span.bytes) }
        let once = Frontend.parse("", "SELECT 1") + Frontend.bind("") + Frontend.describe(portal: "") + Frontend.execute
        #expect(leavesNone(Frontend.sync))
        #expect(leavesNone(once + Frontend.sync))
        #expect(leavesNone(once + once + Frontend.sync))
        #expect(leavesNone(Frontend.parse("s", "SELECT 1") + Frontend.describe(statement: "s") + Frontend.sync))
        #expect(!leavesNone(Frontend.bind("") + Frontend.sync))
        #expect(!leavesNone(Frontend.bind("") + once + Frontend.sync))
        #expect(!leavesNone(Frontend.bind("", portal: "p") + Frontend.execute + Frontend.sync))
        #expect(!leavesNone(Frontend.bind("") + Frontend.message(.execute, [0, 0, 0, 0, 9]) + Frontend.sync))
        #expect(!leavesNone(Frontend.bind("") + Frontend.message(.execute, string("p") + [0, 0, 0, 0])))
    }
}

struct WriterHistoryTests {
    private func writes(_ history: inout WriterHistory, _ shape: UInt64) -> Bool { history.writes(shape) }

    private func writes(_ history: inout WriterHistory, _ shape: UInt64, times: Int) -> [Bool] {
        (0..<times).map { _ in history.writes(shape) }
    }

    @Test("three moves in succession make the next ones begin on the primary, all but one of 64")
    func learning() {
        var history = WriterHistory()
        for _ in 0..<3 {
            #expect(!writes(&history, 5))
            history.ended(5, moved: true)
        }
        for _ in 0..<3 {
            #expect(writes(&history, 5, times: 64) == Array(repeating: true, count: 63) + [false])
            history.ended(5, moved: true)
        }
        #expect(!writes(&history, 6))
    }

    @Test("one that ends on a standby is enough to be believed again")
    func forgetting() {
        var history = WriterHistory()
        for moved in [true, true, false, true, true] { history.ended(5, moved: moved) }
        #expect(!writes(&history, 5))
        history.ended(5, moved: true)
        #expect(writes(&history, 5))
        history.ended(5, moved: false)
        #expect(!writes(&history, 5))
    }

    @Test("nothing is learned of no shape; a shape in the place of another takes it")
    func bounds() {
        var history = WriterHistory()
        for _ in 0..<9 { history.ended(0, moved: true) }
        #expect(!writes(&history, 0))
        for _ in 0..<3 { history.ended(5, moved: true) }
        history.ended(5 + 1_024, moved: false)
        #expect(writes(&history, 5), "one that reads has nothing to remember")
        history.ended(5 + 1_024, moved: true)
        #expect(!writes(&history, 5) && !writes(&history, 5 + 1_024))
    }
}
