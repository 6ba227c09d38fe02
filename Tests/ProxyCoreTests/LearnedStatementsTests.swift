import PostgresWire
import ProxyCore
import QueryAnalysis
import Testing

@Suite("Statements that only standbys refuse")
struct LearnedStatementsTests {
    private func statement(_ number: Int, in database: String = "app") -> LearnedStatement {
        LearnedStatement(
            database: database,
            fingerprint: Fingerprint(rawValue: UInt64(number)),
            state: .readOnlyTransaction,
            text: "statement \(number)",
            learnedAt: number
        )
    }

    @Test("one is known in its database, and its uses are counted, whoever counts")
    func known() {
        let first = Fingerprint(rawValue: 1)
        var table = LearnedStatements()
        #expect(table.isEmpty && !table.use(first, in: "app"))
        let isNew = table.learn(statement(1))
        let snapshot = table
        let isNewAgain = table.learn(statement(1))
        let isNewElsewhere = table.learn(statement(1, in: "other"))
        #expect(isNew && !isNewAgain && isNewElsewhere)
        #expect(table.version > snapshot.version && !table.isEmpty)
        #expect(table.use(first, in: "app") && snapshot.use(first, in: "app"))
        #expect(!table.use(first, in: "third") && !table.use(Fingerprint(rawValue: 2), in: "app"))
        #expect(snapshot.contains(first, in: "app") && !snapshot.contains(first, in: "other"))
        #expect(table.all.map(\.count) == [2, 0])
        #expect(LearnedStatements(table.all).all == table.all)
    }

    @Test("of too many the oldest goes")
    func bounded() {
        let statements = (0..<LearnedStatements.limit + 10).map { statement($0) }
        #expect(LearnedStatements(statements).all == Array(statements.dropFirst(10)))
    }

    @Test("those of a database are forgotten, or all")
    func forgotten() {
        var table = LearnedStatements()
        let forgotNothing = table.forget()
        #expect(!forgotNothing && table.version == 0)
        for number in 0..<4 { _ = table.learn(statement(number, in: number < 2 ? "app" : "other")) }
        let forgot = table.forget(database: "app")
        let forgotAgain = table.forget(database: "app")
        #expect(forgot && !forgotAgain)
        #expect(table.all == [statement(2, in: "other"), statement(3, in: "other")])
        _ = table.learn(statement(0))
        let forgotAll = table.forget()
        #expect(forgotAll && table.isEmpty)
    }

    @Test(
        "only what comes of being a standby, and of the statement, is learned",
        arguments: [
            ("25006", "PreventCommandIfReadOnly", true), ("0A000", "get_relation_info", true),
            ("0A000", "GetSerializableTransactionSnapshot", false), ("40001", "ProcessInterrupts", false),
            ("42P01", "parserOpenTable", false), ("22012", "int4div", false),
        ]
    )
    func errors(_ state: String, _ routine: String, _ isLearned: Bool) {
        var writer = MessageWriter()
        for field in ["SERROR", "VERROR", "C" + state, "Mmessage", "R" + routine] { writer.string(field) }
        writer.byte(0)
        #expect(LearnedStatement.isLearned(from: ServerErrorFields(body: writer.bytes.span.bytes)) == isLearned)
    }
}
