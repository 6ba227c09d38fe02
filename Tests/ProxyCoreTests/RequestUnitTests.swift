import PostgresWire
import ProxyCore
import QueryAnalysis
import TestSupport
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
        #expect(unit?.isSimpleQuery == true && unit?.isAlone == true)
        #expect(unit?.effect == effect && unit?.executes == effect)
        #expect(read(bytes + Frontend.query("DROP TABLE t")).unit == unit)
    }

    @Test("a function call is a unit that may do anything")
    func functionCall() {
        let bytes = Frontend.message(.functionCall, [0, 0, 0, 1])
        let unit = read(bytes).unit
        #expect(unit?.effect == .sessionState && unit?.executes == .sessionState)
        #expect(unit?.isAlone == true && unit?.isSimpleQuery == false)
        #expect(unit?.length == bytes.count)
    }

    @Test("a query text that does not end where its message ends is for the primary to refuse")
    func malformedQuery() {
        for body in [[], [0x53], [0x53, 0, 0x53], [0x53, 0, 0]] as [[UInt8]] {
            let unit = read(Frontend.message(.query, body)).unit
            #expect(unit?.isOpaque == true)
            #expect(unit?.effect == .write && unit?.executes == .write)
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
        #expect(read(bytes + Frontend.query("SELECT 2")).unit == expected(bytes, .read, executes: .read, binds: 1))
        let two =
            Frontend.parse("", "SELECT 1") + Frontend.bind("") + Frontend.execute + Frontend.extended("DELETE FROM t")
        #expect(read(two).unit == expected(two, .write, executes: .write, traits: .mayTakeFromSequence, binds: 2))
        #expect(read(Frontend.sync).unit == expected(Frontend.sync, .empty))
    }

    @Test("a Parse alone executes nothing, wherever its statement would have to go")
    func parseExecutesNothing() {
        for (sql, effect) in [
            ("SELECT 1", .read), ("DELETE FROM t", .write), ("SET a = b", .sessionState), ("", .empty),
        ] as [(String, StatementEffect)] {
            let bytes = Frontend.parse("", sql) + Frontend.describe(statement: "") + Frontend.sync
            #expect(read(bytes).unit == expected(bytes, effect))
            let bound = Frontend.parse("", sql) + Frontend.bind("") + Frontend.sync
            let traits: StatementTraits = effect == .write ? .mayTakeFromSequence : []
            #expect(read(bound).unit == expected(bound, effect, executes: effect, traits: traits, binds: 1))
        }
        let both = Frontend.parse("w", "DELETE FROM t") + Frontend.extended("SELECT 1")
        #expect(read(both).unit == expected(both, .write, executes: .read, binds: 1, hasNames: true))
    }

    @Test("traits are those of what is executed, and of what a simple query says")
    func traits() {
        let prepares = Frontend.parse("", "EXECUTE a")
        #expect(read(prepares + Frontend.sync).unit?.traits == [])
        #expect(
            read(prepares + Frontend.bind("") + Frontend.sync).unit?.traits == [.namesStatements, .mayTakeFromSequence]
        )
        let simple = read(Frontend.query("DROP DATABASE d; LOAD 'x'")).unit
        #expect(simple?.traits == [.changesDatabases, .cannotBeDiscarded])
        var statements = PreparedStatements()
        statements.define("s", .primaryRead, .asksSequence)
        #expect(read(Frontend.bind("s") + Frontend.sync, statements).unit?.traits == .asksSequence)
        #expect(read(Frontend.describe(statement: "s") + Frontend.sync, statements).unit?.traits == [])
    }

    @Test("Flush ends a unit when nothing stands behind it, and not when more has come already")
    func flush() {
        let head = Frontend.parse("", "SELECT 1") + Frontend.describe(statement: "") + Frontend.flush
        var unit = expected(head, .read)
        unit.ending = .flush
        #expect(read(head) == .unit(unit))
        #expect(read(head + Frontend.bind("").dropLast()) == .unit(unit))
        let whole = head + Frontend.bind("") + Frontend.execute + Frontend.sync
        #expect(read(whole).unit == expected(whole, .read, executes: .read, binds: 1))
    }

    @Test("operations behind the last Flush belong to the next unit")
    func operationsUpToFlush() {
        let head = Frontend.parse("a", "SELECT 1") + Frontend.flush + Frontend.parse("b", "SELECT 2") + Frontend.flush
        let tail = Frontend.bind("a") + Frontend.execute
        var reader = RequestUnitReader()
        let statements = PreparedStatements()
        guard
            case .unit(let unit) = reader.read(
                (head + tail).span.bytes,
                statements: statements,
                functions: FunctionCatalog()
            )
        else {
            Issue.record("no unit")
            return
        }
        #expect(unit.ending == .flush && unit.length == head.count)
        #expect(reader.operations.map(\.statement) == [name("a"), name("b")])
        #expect(reader.operations.allSatisfy { $0.message.upperBound <= head.count })
    }

    @Test("a query behind messages without Sync belongs to their implicit transaction")
    func queryBehindUnsynced() {
        let head = Frontend.parse("", "SELECT 1") + Frontend.bind("") + Frontend.execute
        for tail in [
            Frontend.query("SELECT 2"), Frontend.message(.functionCall, [0]), Frontend.terminate, Frontend.copyDone,
        ] {
            var unit = expected(head, .read, executes: .read, binds: 1)
            unit.ending = .flush
            #expect(read(head + tail) == .unit(unit))
        }
    }

    @Test("a named statement is noticed when it is parsed and when it is referred to")
    func namedStatements() {
        let unnamed = Frontend.parse("", "SELECT 1") + Frontend.bind("", portal: "p") + Frontend.close(portal: "p")
        #expect(read(unnamed + Frontend.sync).unit?.hasNames == false)
        for bytes in [Frontend.parse("s", "SELECT 1"), Frontend.bind("s"), Frontend.describe(statement: "s")] {
            #expect(read(bytes + Frontend.sync).unit?.hasNames == true)
        }
    }

    @Test("what a unit does to prepared statements is told in the order of its messages")
    func operations() {
        let messages: [(bytes: [UInt8], kind: StatementOperation.Kind?, name: String)] = [
            (Frontend.describe(statement: "known"), .describe, "known"),
            (Frontend.parse("s", "SELECT 1"), .parse(.read, []), "s"),
            (Frontend.parse("", "EXECUTE x"), .parse(.sessionState, [.namesStatements, .mayTakeFromSequence]), ""),
            (Frontend.bind("s", portal: "p"), .bind, "s"),
            (Frontend.execute, nil, ""),
            (Frontend.close(statement: "s"), .close, "s"),
            (Frontend.close(portal: "p"), .closePortal, "p"),
            (Frontend.describe(portal: "p"), nil, ""),
            (Frontend.sync, nil, ""),
        ]
        let unit = messages.flatMap(\.bytes)
        var reader = RequestUnitReader()
        var statements = PreparedStatements()
        statements.define("known", .read)
        _ = reader.read(unit.span.bytes, statements: statements, functions: FunctionCatalog())
        var operations = reader.operations[...]
        var start = 0
        for message in messages {
            defer { start += message.bytes.count }
            guard let kind = message.kind else { continue }
            let operation = operations.popFirst()
            #expect(operation?.kind == kind)
            #expect(operation?.statement == name(message.name))
            #expect(operation.map { Array(unit[$0.name]) } == Array(message.name.utf8))
            #expect(operation?.message == start..<start + message.bytes.count)
        }
        #expect(operations.isEmpty)
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
            #expect(unit?.effect == effect && unit?.executes == effect)
            #expect(unit?.isOpaque == false)
        }
        let described = read(Frontend.describe(statement: "w") + Frontend.sync, statements).unit
        #expect(described?.effect == .write && described?.executes == .empty)
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

    @Test("a statement parsed again in the same unit is the new one")
    func parsedAgain() {
        var statements = PreparedStatements()
        statements.define("", .write)
        let bytes = Frontend.extended("SELECT 1")
        #expect(read(bytes, statements).unit == expected(bytes, .read, executes: .read, binds: 1))
    }

    // MARK: - Messages longer than a buffer

    @Test("an oversized Bind executes what its statement does, on the primary")
    func oversizedBind() {
        var statements = PreparedStatements()
        statements.define("r", .read)
        statements.define("s", .sessionState, .namesStatements)
        let known = readOversized(Array(Frontend.bind("r").dropLast(3)), statements)
        #expect(known.unit.isOpaque && known.unit.hasNames && known.unit.binds == 1)
        #expect(known.unit.effect == .write && known.unit.executes == .read)
        #expect(known.operations.map(\.kind) == [.bind])
        let message = 0..<Frontend.bind("r").count
        #expect(known.operations.last?.message == message, "the whole message, as far as it is not there, too")
        let state = readOversized(Array(Frontend.bind("s").dropLast(3)), statements)
        #expect(state.unit.executes == .sessionState && state.unit.traits == .namesStatements)
        let unknown = readOversized(Array(Frontend.bind("x").dropLast(3)), statements)
        #expect(unknown.unit.executes == .sessionState && unknown.operations.map(\.statement) == [name("x")])
    }

    @Test("of an oversized Parse the name is told, and nothing of its text", arguments: ["", "s", "a longer name"])
    func oversizedParse(text: String) {
        let message = Frontend.parse(text, "SELECT 1")
        let read = readOversized(Array(message.dropLast(4)))
        #expect(read.unit.isOpaque && read.unit.effect == .sessionState)
        #expect(read.unit.executes == .empty && read.unit.binds == 0, "it executes nothing")
        #expect(read.operations.map(\.kind) == [.parseUnseen])
        #expect(read.operations.first?.statement == name(text))
        #expect(read.operations.first?.message == 0..<message.count)
    }

    @Test(
        "an oversized message whose name is not to be seen, or of another type, may do anything",
        arguments: [
            Array(Frontend.parse("endless", "").prefix(9)), Array(Frontend.bind("endless", portal: "p").prefix(12)),
            Array(Frontend.bind("", portal: "endless").prefix(9)), Array(Frontend.describe(statement: "s").dropLast()),
            Array(Frontend.copyData("abc").dropLast()), Array(Frontend.execute.dropLast()),
            Array(Frontend.parse("", "").prefix(5)), Array(Frontend.parse("", "").prefix(3)),
        ]
    )
    func oversizedOther(bytes: [UInt8]) {
        let read = readOversized(bytes)
        #expect(read.operations.isEmpty)
        #expect(read.unit.isOpaque)
        #expect(read.unit.executes == .sessionState || bytes.count < MessageHeader.size)
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

    private func expected(
        _ bytes: [UInt8],
        _ effect: StatementEffect,
        executes: StatementEffect = .empty,
        traits: StatementTraits = [],
        binds: Int = 0,
        hasNames: Bool = false
    ) -> RequestUnit {
        var unit = RequestUnit(length: bytes.count, ending: .ready)
        unit.effect = effect
        unit.executes = executes
        unit.traits = traits
        unit.binds = binds
        unit.hasNames = hasNames
        return unit
    }

    /// Reads a unit whose last message does not end within what can be read of it.
    private func readOversized(
        _ bytes: [UInt8],
        _ statements: PreparedStatements = PreparedStatements()
    ) -> (unit: RequestUnit, operations: [StatementOperation]) {
        var reader = RequestUnitReader()
        guard
            case .incomplete(var unit) = reader.read(
                bytes.span.bytes,
                statements: statements,
                functions: FunctionCatalog()
            )
        else { preconditionFailure("the unit is complete") }
        #expect(unit.length == 0)
        reader.readOversized(bytes.span.bytes, into: &unit, statements: statements)
        return (unit, reader.operations)
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
    mutating func define(_ text: String, _ effect: StatementEffect, _ traits: StatementTraits = []) {
        if text.isEmpty {
            let message = Frontend.parse("", "")
            defineUnnamed(message.span.bytes, effect: effect, traits: traits, generation: 1)
        } else {
            var shared = SharedStatements(secret: [1, 2, 3, 4, 5])
            define(name(text), Array(text.utf8), shared.statement(Frontend.content(""), effect: effect, traits: traits))
        }
    }
}
