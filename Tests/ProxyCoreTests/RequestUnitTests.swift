import PostgresWire
import ProxyCore
import QueryAnalysis
import Testing

struct RequestUnitTests {
    // MARK: - Simple queries

    @Test(
        "a simple query is a unit, with the effect of its statements",
        arguments: [
            ("SELECT 1", .read), ("", .empty), ("INSERT INTO t VALUES (1)", .write), ("BEGIN", .begin),
            ("BEGIN READ ONLY", .beginReadOnly), ("SELECT 1; DELETE FROM t", .write), ("SET a = b", .sessionState),
        ] as [(String, StatementEffect)]
    )
    func simpleQuery(sql: String, effect: StatementEffect) {
        let bytes = Frontend.query(sql)
        let unit = read(bytes).unit
        #expect(unit?.length == bytes.count)
        #expect(unit?.ending == .ready)
        #expect(unit?.isSimpleQuery == true)
        #expect(unit?.effect == effect)
        #expect(read(bytes + Frontend.query("DROP TABLE t")).unit == unit)
    }

    @Test("a function call is a unit that may do anything")
    func functionCall() {
        let bytes = Frontend.message(.functionCall, [0, 0, 0, 1])
        #expect(read(bytes).unit?.effect == .sessionState)
        #expect(read(bytes).unit?.length == bytes.count)
    }

    @Test("a query text that does not end where its message ends is for the primary to refuse")
    func malformedQuery() {
        for body in [[], [0x53], [0x53, 0, 0x53], [0x53, 0, 0]] as [[UInt8]] {
            let unit = read(Frontend.message(.query, body)).unit
            #expect(unit?.isOpaque == true)
            #expect(unit?.effect == .write)
            #expect(unit?.length == body.count + 5)
        }
    }

    @Test(
        "extended messages with a malformed body are for the primary to refuse",
        arguments: [
            [0x50, 0, 0, 0, 4], [0x50, 0, 0, 0, 5, 0], [0x42, 0, 0, 0, 5, 0], [0x44, 0, 0, 0, 4],
            [0x44, 0, 0, 0, 5, 0x53],
            [0x43, 0, 0, 0, 6, 0x53, 0x61],
        ] as [[UInt8]]
    )
    func malformedExtended(bytes: [UInt8]) {
        #expect(read(bytes + Frontend.sync).unit?.isOpaque == true)
        #expect(read(Frontend.parse("", "SELECT 1") + bytes + Frontend.sync).unit?.isOpaque == true)
    }

    // MARK: - Extended protocol

    @Test("extended messages are a unit up to Sync, with the greatest effect of all")
    func extended() {
        let bytes = Frontend.extended("SELECT 1")
        let unit = read(bytes + Frontend.query("SELECT 2")).unit
        #expect(unit == expected(bytes, .read))
        let two =
            Frontend.parse("", "SELECT 1") + Frontend.bind("") + Frontend.execute + Frontend.extended("DELETE FROM t")
        #expect(read(two).unit == expected(two, .write))
        #expect(read(Frontend.sync).unit == expected(Frontend.sync, .empty))
    }

    @Test("Flush ends a unit when nothing stands behind it, and not when more has come already")
    func flush() {
        let head = Frontend.parse("", "SELECT 1") + Frontend.describe(statement: "") + Frontend.flush
        var unit = expected(head, .read)
        unit.ending = .flush
        #expect(read(head) == .unit(unit))
        #expect(read(head + Frontend.bind("").dropLast()) == .unit(unit))
        let whole = head + Frontend.bind("") + Frontend.execute + Frontend.sync
        #expect(read(whole).unit == expected(whole, .read))
    }

    @Test("a query behind messages without Sync belongs to their implicit transaction")
    func queryBehindUnsynced() {
        let head = Frontend.parse("", "SELECT 1") + Frontend.bind("") + Frontend.execute
        for tail in [
            Frontend.query("SELECT 2"), Frontend.message(.functionCall, [0]), Frontend.terminate, Frontend.copyDone,
        ] {
            var unit = expected(head, .read)
            unit.ending = .flush
            #expect(read(head + tail) == .unit(unit))
        }
    }

    @Test("a named statement is noticed when it is parsed and when it is closed")
    func namedStatements() {
        let unnamed = Frontend.parse("", "SELECT 1") + Frontend.close(statement: "") + Frontend.close(portal: "p")
        #expect(read(unnamed + Frontend.sync).unit?.changesNames == false)
        #expect(read(Frontend.parse("s", "SELECT 1") + Frontend.sync).unit?.changesNames == true)
        #expect(read(Frontend.close(statement: "s") + Frontend.sync).unit?.changesNames == true)
    }

    @Test("what a unit does to prepared statements is told in the order of its messages")
    func operations() {
        let parse = Frontend.parse("s", "SELECT 1")
        let unit =
            Frontend.describe(statement: "known") + parse + Frontend.bind("s") + Frontend.close(statement: "s")
            + Frontend.close(portal: "p") + Frontend.describe(portal: "p") + Frontend.sync
        let start = Frontend.describe(statement: "known").count
        var reader = RequestUnitReader()
        var statements = PreparedStatements()
        statements.define("known", .read)
        _ = reader.read(unit.span.bytes, statements: statements, functions: FunctionCatalog())
        #expect(
            reader.operations == [
                .use(name("known")),
                .parse(name("s"), name: start + 5..<start + 6, message: start..<start + parse.count, effect: .read),
                .closeStatement(name("s")),
                .closePortal,
            ]
        )
        _ = reader.read(Frontend.query("SELECT 1").span.bytes, statements: statements, functions: FunctionCatalog())
        #expect(reader.operations.isEmpty)
    }

    @Test("executing a statement of an earlier unit has the effect it was parsed with")
    func knownStatements() {
        var statements = PreparedStatements()
        statements.define("r", .read)
        statements.define("w", .write)
        statements.define("", .begin)
        for (name, effect) in [("r", .read), ("w", .write), ("", .begin)] as [(String, StatementEffect)] {
            let unit = read(Frontend.bind(name) + Frontend.execute + Frontend.sync, statements).unit
            #expect(unit?.effect == effect)
            #expect(unit?.isOpaque == false)
        }
        let described = read(Frontend.describe(statement: "w") + Frontend.sync, statements).unit
        #expect(described?.effect == .empty)
        let both = Frontend.bind("r") + Frontend.execute + Frontend.bind("w") + Frontend.execute + Frontend.sync
        #expect(read(both, statements).unit?.effect == .write)
    }

    @Test("a statement that is not known may be anything")
    func unknownStatements() {
        for bytes in [Frontend.bind("x"), Frontend.bind(""), Frontend.describe(statement: "x")] {
            let unit = read(bytes + Frontend.sync).unit
            #expect(unit?.isOpaque == true)
            #expect(unit?.effect == .sessionState)
        }
    }

    @Test("a statement that was closed in the same unit is not known any more")
    func closedThenUsed() {
        var statements = PreparedStatements()
        statements.define("s", .read)
        let unit = read(Frontend.close(statement: "s") + Frontend.bind("s") + Frontend.sync, statements).unit
        #expect(unit?.changesNames == true)
    }

    // MARK: - Everything else

    @Test("Terminate stands alone")
    func terminate() {
        #expect(read(Frontend.terminate) == .terminate)
        #expect(read(Frontend.terminate.dropLast(0) + [1, 2, 3]) == .terminate)
    }

    @Test("copy messages after a failed copy are dropped, one at a time")
    func copyMessages() {
        for message in [Frontend.copyData("1\t2"), Frontend.copyDone, Frontend.copyFail] {
            #expect(read(message + Frontend.query("SELECT 1")) == .drop(message.count))
        }
    }

    @Test(
        "what ends a connection to PostgreSQL ends this one",
        arguments: [
            [0, 0, 0, 0, 4], [0x7A, 0, 0, 0, 4], [0x70, 0, 0, 0, 4], [0x51, 0, 0, 0, 3],
            [0x51, 0xFF, 0xFF, 0xFF, 0xFF],
            [0x53, 0, 0, 0x27, 0x11], [0x51, 0x3F, 0xFF, 0xFF, 0xFF],
        ] as [[UInt8]]
    )
    func violations(bytes: [UInt8]) {
        #expect(read(bytes).violation == .protocolViolation)
        #expect(read(Frontend.parse("", "SELECT 1") + bytes).violation == .protocolViolation)
    }

    @Test("every prefix of a unit is incomplete, whatever it is made of, and the whole is the same with more behind it")
    func prefixes() {
        var random = SeededGenerator()
        for _ in 0..<300 {
            let unit = randomUnit(&random)
            for count in 0..<unit.count {
                let answer = read(Array(unit[..<count]))
                guard case .incomplete(let known) = answer else {
                    Issue.record("\(answer) after \(count) of \(unit.count) bytes, seed \(random.seed)")
                    break
                }
                #expect(known.length <= count, "seed \(random.seed)")
            }
            let whole = read(unit)
            #expect(whole.unit?.length == unit.count, "seed \(random.seed)")
            #expect(read(unit + Frontend.query("SELECT 1")) == whole, "seed \(random.seed)")
        }
    }

    @Test("random bytes and random messages never trap, and no unit is longer than what is there")
    func randomBytes() {
        var random = SeededGenerator()
        var reader = RequestUnitReader()
        var statements = PreparedStatements()
        statements.define("a", .read)
        let types: [UInt8] = Array("BCDEFHPQSXcdfp".utf8)
        for _ in 0..<100_000 {
            var bytes: [UInt8] = []
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                var body = random.bytes(Int.random(in: 0..<12, using: &random))
                for index in body.indices where Bool.random(using: &random) { body[index] = 0 }
                let length =
                    Int.random(in: 0..<20, using: &random) == 0
                    ? UInt8.random(in: 0...20, using: &random) : UInt8(body.count + 4)
                bytes += [types.randomElement(using: &random) ?? 0, 0, 0, 0, length] + body
            }
            bytes += random.bytes(Int.random(in: 0..<8, using: &random))
            switch reader.read(bytes.span.bytes, statements: statements, functions: FunctionCatalog()) {
            case .unit(let unit): #expect((1...bytes.count).contains(unit.length), "seed \(random.seed)")
            case .incomplete(let unit): #expect((0...bytes.count).contains(unit.length), "seed \(random.seed)")
            case .drop(let count): #expect((1...bytes.count).contains(count), "seed \(random.seed)")
            case .terminate, .violation: break
            }
        }
    }

    private func randomUnit(_ random: inout SeededGenerator) -> [UInt8] {
        guard Int.random(in: 0..<4, using: &random) > 0 else { return Frontend.query("SELECT \(random.next())") }
        let messages = [
            Frontend.parse("", "SELECT 1"), Frontend.parse("a", "DELETE FROM t"), Frontend.bind("a"), Frontend.bind(""),
            Frontend.describe(statement: "a"), Frontend.describe(portal: ""), Frontend.close(statement: "a"),
            Frontend.execute,
        ]
        let count = Int.random(in: 0..<6, using: &random)
        return (0..<count).flatMap { _ in messages.randomElement(using: &random) ?? [] } + Frontend.sync
    }

    private func expected(_ bytes: [UInt8], _ effect: StatementEffect) -> RequestUnit {
        var unit = RequestUnit(length: bytes.count, ending: .ready)
        unit.effect = effect
        return unit
    }

    private func read(_ bytes: [UInt8], _ statements: PreparedStatements = PreparedStatements())
        -> RequestUnitReader.OnBytes
    {
        var reader = RequestUnitReader()
        return reader.read(bytes.span.bytes, statements: statements, functions: FunctionCatalog())
    }
}

extension RequestUnitReader.OnBytes {
    fileprivate var unit: RequestUnit? { if case .unit(let unit) = self { unit } else { nil } }
    fileprivate var violation: SQLState? { if case .violation(let message) = self { message.state } else { nil } }
}

extension PreparedStatements {
    mutating func define(_ text: String, _ effect: StatementEffect) {
        define(
            name(text),
            nameBytes: Array(text.utf8).span.bytes,
            message: Frontend.parse(text, "").span.bytes,
            effect: effect
        )
    }
}
