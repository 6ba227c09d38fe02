import PostgresWire
import ProxyCore
import QueryAnalysis
import TestSupport
import Testing

struct PreparedStatementsTests {
    @Test("a named definition keeps what is needed to prepare it elsewhere")
    func define() {
        var shared = SharedStatements(secret: [1, 2, 3, 4, 5])
        var statements = PreparedStatements()
        #expect(!statements.hasNamed)
        let statement = shared.statement(Frontend.content("SELECT 1"), effect: .read, traits: .asksSequence)
        statements.define(name("s"), Array("s".utf8), statement)
        #expect(statements.hasNamed)
        #expect(statements.verdict(on: name("s"))?.effect == .read)
        #expect(statements.verdict(on: name("s"))?.traits == .asksSequence)
        #expect(statements.statement(name("s")) === statement)
        #expect(statements.text(of: name("s")) == Array("SELECT 1".utf8))
        #expect(statements.definitions.map(\.name) == [Array("s".utf8)])
        #expect(statements.definitions.map(\.statement.id) == [statement.id])
        #expect(statements.verdict(on: name("t")) == nil)
        #expect(statements.statement(name("t")) == nil)
        #expect(statements.text(of: name("t")).isEmpty)
    }

    @Test("the unnamed statement is kept as its message, and is none of the named ones")
    func unnamed() {
        var statements = PreparedStatements()
        #expect(name("").isUnnamed)
        #expect(statements.unnamed == nil && statements.verdict(on: name("")) == nil)
        #expect(statements.text(of: name("")).isEmpty)
        let message = Frontend.parse("", "DELETE FROM t")
        statements.defineUnnamed(message.span.bytes, effect: .write, traits: .asksSequence, generation: 7)
        #expect(statements.unnamed == 7 && !statements.hasNamed)
        #expect(statements.verdict(on: name(""))?.effect == .write)
        #expect(statements.verdict(on: name(""))?.traits == .asksSequence)
        #expect(statements.text(of: name("")) == Array("DELETE FROM t".utf8))
        var writer = MessageWriter()
        statements.appendUnnamedParse(to: &writer)
        #expect(writer.bytes == message)
        let another = Frontend.parse("", "TABLE t")
        statements.defineUnnamed(another.span.bytes, effect: .read, traits: [], generation: 8)
        #expect(statements.unnamed == 8 && statements.text(of: name("")) == Array("TABLE t".utf8))
        #expect(statements.verdict(on: name(""))?.traits == [])
        statements.removeUnnamed()
        #expect(statements.unnamed == nil && statements.verdict(on: name("")) == nil)
        #expect(statements.text(of: name("")).isEmpty)
    }

    @Test("what was removed is not known; the others are")
    func remove() {
        var statements = PreparedStatements()
        func known() -> [Bool] { ["", "a", "b", "c"].map { statements.verdict(on: name($0)) != nil } }
        for text in ["", "a", "b", "c"] { statements.define(text, .read) }
        #expect(known() == [true, true, true, true])
        statements.remove(name("a"))
        #expect(known() == [true, false, true, true])
        statements.remove(name(""))
        #expect(known() == [false, false, true, true])
        statements.remove([Array("c".utf8), Array("unknown".utf8), []])
        #expect(known() == [false, false, true, false])
        statements.define("", .read)
        statements.remove([[]])
        #expect(known() == [true, false, true, false], "names are those of named statements")
        statements.removeAll()
        #expect(known() == [false, false, false, false] && !statements.hasNamed)
    }

    @Test("names are told apart by all their bytes")
    func names() {
        let texts = ["", "a", "b", "ab", "ba", "s1", "s2", "\u{e9}", "e\u{301}", "\0"]
        #expect(Set(texts.map(name)).count == texts.count)
        #expect(name("s1") == name("s1"))
    }
}

struct SharedStatementsTests {
    @Test("the same content under the same settings is one statement, whatever clients call it")
    func sharing() {
        var shared = SharedStatements(secret: [1, 2, 3, 4, 5])
        let one = shared.statement(Frontend.content("SELECT 1"), settings: 1, traits: .asksSequence)
        #expect(shared.statement(Frontend.content("SELECT 1"), settings: 1) === one)
        #expect(shared.count == 1)
        #expect(one.content == Frontend.content("SELECT 1") && one.text == Array("SELECT 1".utf8))
        #expect(one.effect == .read && one.traits == .asksSequence)
        let others = [
            shared.statement(Frontend.content("SELECT 2"), settings: 1),
            shared.statement(Frontend.content("SELECT 1"), settings: 2),
            shared.statement(string("SELECT 1") + [0, 1, 0, 0, 0, 23], settings: 1),
            shared.statement(string("SELECT 1") + [0, 1, 0, 0, 0, 25], settings: 1),
        ]
        #expect(Set((others + [one]).map(\.id)).count == 5)
        #expect(Set((others + [one]).map(\.name)).count == 5)
        #expect(shared.count == 5)
    }

    @Test("a change of definitions separates what is prepared before from what is prepared after")
    func epoch() {
        var shared = SharedStatements(secret: [1, 2, 3, 4, 5])
        let before = shared.statement(Frontend.content("TABLE t"))
        shared.definitionsChanged()
        let after = shared.statement(Frontend.content("TABLE t"))
        #expect(after !== before && after.name != before.name)
        #expect(shared.statement(Frontend.content("TABLE t")) === after)
    }

    @Test("the Parse that prepares it has its own name, or another")
    func parse() {
        var shared = SharedStatements(secret: [1, 2, 3, 4, 5])
        let statement = shared.statement(Frontend.content("SELECT $1"))
        var writer = MessageWriter()
        statement.appendParse(to: &writer)
        statement.appendParse(as: Array("s".utf8), to: &writer)
        let own = String(decoding: statement.name, as: UTF8.self)
        #expect(writer.bytes == Frontend.parse(own, "SELECT $1") + Frontend.parse("s", "SELECT $1"))
    }

    @Test("names cannot be guessed: they hold the worker's secret")
    func secret() {
        var random = SeededGenerator()
        var names: Set<[UInt8]> = []
        for _ in 0..<100 {
            var shared = SharedStatements(secret: random.bytes(16))
            let name = shared.statement(Frontend.content("SELECT 1")).name
            #expect(name.starts(with: Array("slipstream_".utf8)))
            #expect(name.count < 64, "the server cuts longer names")
            #expect(!name.contains { $0 < 0x21 || $0 > 0x7E }, "seed \(random.seed)")
            names.insert(name)
        }
        #expect(names.count > 95, "seed \(random.seed)")
    }

    @Test("a name is found in a message of the server, with its place")
    func nameInMessage() {
        var shared = SharedStatements(secret: [1, 2, 3, 4, 5])
        var last = shared.statement(Frontend.content(""))
        for number in 0..<100 { last = shared.statement(Frontend.content("SELECT \(number)")) }
        let name = last.name
        for (before, after) in [
            ("prepared statement \"", "\" does not exist"), ("", "\0"), ("", ""), ("slipstream_", "\"x"),
            ("slipstream_slipstream_bcde", " "),
        ] {
            let message = Array(before.utf8) + name + Array(after.utf8)
            let found = shared.name(in: message.span.bytes)
            #expect(found?.name == name, "\(before)…\(after)")
            #expect(found?.range == before.utf8.count..<before.utf8.count + name.count)
        }
        for message in ["", "slipstream_", "slipstream_xxxxx_1", "prepared statement \"s1\" does not exist"] {
            #expect(shared.name(in: Array(message.utf8).span.bytes) == nil)
        }
    }

    @Test("a sweep forgets what nobody has, and keeps what somebody has")
    func sweep() {
        var random = SeededGenerator()
        var shared = SharedStatements(secret: [1, 2, 3, 4, 5])
        var kept: [(content: [UInt8], statement: SharedStatement)] = []
        var largest = 0
        for number in 0..<20_000 {
            let content = Frontend.content("SELECT \(number)")
            let statement = shared.statement(content)
            if Int.random(in: 0..<100, using: &random) == 0 { kept.append((content, statement)) }
            largest = max(largest, shared.count)
        }
        #expect(largest <= 1_024, "what nobody has is not kept, seed \(random.seed)")
        for (content, statement) in kept {
            #expect(shared.statement(content) === statement, "seed \(random.seed)")
        }
    }

    @Test("where most are in use the table grows, and sweeps seldom")
    func growth() {
        var shared = SharedStatements(secret: [1, 2, 3, 4, 5])
        var kept: [SharedStatement] = []
        for number in 0..<5_000 { kept.append(shared.statement(Frontend.content("SELECT \(number)"))) }
        #expect(shared.count == 5_000)
        #expect(Set(kept.map(\.name)).count == 5_000)
    }
}

struct PreparedOnServerTests {
    @Test("a connection knows what it has prepared")
    func prepared() {
        var shared = SharedStatements(secret: [1, 2, 3, 4, 5])
        var prepared = PreparedOnServer()
        let (a, b) = (shared.statement(Frontend.content("a")), shared.statement(Frontend.content("b")))
        #expect(prepared.use(a) == false && prepared.count == 0)
        prepared.add(a)
        prepared.add(a)
        prepared.add(b)
        #expect(prepared.use(a) == true && prepared.use(b) == true && prepared.count == 2)
        prepared.remove(a)
        #expect(prepared.use(a) == false && prepared.use(b) == true)
        prepared.add(a)
        prepared.unnamed = 3
        #expect(Set(prepared.takeAll().map(\.id)) == [a.id, b.id])
        #expect(prepared.count == 0 && prepared.unnamed == 3)
        prepared.add(b)
        prepared.removeAll()
        #expect(prepared.count == 0 && prepared.unnamed == nil)
    }

    @Test("there is no eviction up to the limit, and none without one")
    func limit() {
        var shared = SharedStatements(secret: [1, 2, 3, 4, 5])
        var prepared = PreparedOnServer()
        for number in 0..<10 { prepared.add(shared.statement(Frontend.content("\(number)"))) }
        #expect(prepared.evict(limit: 10) == nil)
        #expect(prepared.evict(limit: 0) == nil)
        #expect(prepared.evict(limit: 9) != nil)
        #expect(prepared.evict(limit: 9) == nil)
        #expect(prepared.count == 9)
    }

    @Test("what a unit itself uses is not evicted for it, however many there are")
    func usedSince() {
        var shared = SharedStatements(secret: [1, 2, 3, 4, 5])
        var prepared = PreparedOnServer()
        let statements = (0..<4).map { shared.statement(Frontend.content("\($0)")) }
        for statement in statements { prepared.add(statement) }
        let mark = prepared.uses
        #expect(prepared.use(statements[0]) && prepared.use(statements[2]))
        #expect(prepared.evict(limit: 1, usedBefore: mark) === statements[1])
        #expect(prepared.evict(limit: 1, usedBefore: mark) === statements[3])
        #expect(prepared.evict(limit: 1, usedBefore: mark) == nil && prepared.count == 2)
        #expect(prepared.evict(limit: 1) === statements[0])
    }

    @Test("what was not used for the longest time is evicted first")
    func leastRecentlyUsed() {
        var random = SeededGenerator()
        var shared = SharedStatements(secret: [1, 2, 3, 4, 5])
        let statements = (0..<30).map { shared.statement(Frontend.content("\($0)")) }
        for _ in 0..<200 {
            var prepared = PreparedOnServer()
            /// Least recently used first.
            var model: [UInt32] = []
            for _ in 0..<60 {
                let statement = statements.randomElement(using: &random) ?? statements[0]
                let isThere = model.contains(statement.id)
                switch Int.random(in: 0..<5, using: &random) {
                case 0:
                    prepared.remove(statement)
                    model.removeAll { $0 == statement.id }
                case 1:
                    let limit = Int.random(in: 1...20, using: &random)
                    let expected = model.count > limit ? model.removeFirst() : nil
                    #expect(prepared.evict(limit: limit)?.id == expected, "seed \(random.seed)")
                default:
                    #expect(prepared.use(statement) == isThere, "seed \(random.seed)")
                    if !isThere { prepared.add(statement) }
                    model.removeAll { $0 == statement.id }
                    model.append(statement.id)
                }
                #expect(prepared.count == model.count, "seed \(random.seed)")
            }
        }
    }
}

extension PreparedOnServer {
    /// Whatever was used last may go.
    fileprivate mutating func evict(limit: Int) -> SharedStatement? { evict(limit: limit, usedBefore: uses) }
}
