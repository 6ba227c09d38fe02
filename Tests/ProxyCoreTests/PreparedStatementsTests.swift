import PostgresWire
import ProxyCore
import QueryAnalysis
import Testing

struct PreparedStatementsTests {
    @Test("a definition keeps what is needed to prepare it elsewhere")
    func define() {
        var statements = PreparedStatements()
        let message = Frontend.parse("s", "SELECT 1")
        let generation = statements.define(
            name("s"),
            nameBytes: Array("s".utf8).span.bytes,
            message: message.span.bytes,
            effect: .read
        )
        #expect(statements.effect(of: name("s")) == .read)
        #expect(statements.generation(of: name("s")) == generation)
        #expect(statements.bytes(of: name("s")) == Array("s".utf8))
        #expect(parse(statements, "s") == message)
        #expect(statements.effect(of: name("t")) == nil)
        #expect(statements.generation(of: name("t")) == nil)
        #expect(parse(statements, "t").isEmpty)
    }

    @Test("the unnamed statement is kept like any other, and its name has no bytes")
    func unnamed() {
        var statements = PreparedStatements()
        #expect(name("").isUnnamed)
        #expect(statements.generation(of: name("")) == nil)
        statements.define("", .write)
        #expect(statements.effect(of: name("")) == .write)
        #expect(statements.bytes(of: name("")).isEmpty)
        #expect(parse(statements, "") == Frontend.parse("", ""))
        statements.removeUnnamed()
        #expect(statements.effect(of: name("")) == nil)
        #expect(statements.generation(of: name("")) == nil)
    }

    @Test("a name defined anew is another statement")
    func generations() {
        var statements = PreparedStatements()
        var seen: Set<PreparedStatements.Generation> = []
        for text in ["a", "a", "", "b", "", "a"] {
            statements.define(text, .read)
            #expect(seen.insert(statements.generation(of: name(text)) ?? 0).inserted)
        }
    }

    @Test("what was removed is not known; the others are")
    func remove() {
        var statements = PreparedStatements()
        for text in ["", "a", "b"] { statements.define(text, .read) }
        statements.remove(name("a"))
        #expect(statements.effect(of: name("a")) == nil)
        #expect(statements.effect(of: name("b")) == .read)
        #expect(statements.effect(of: name("")) == .read)
        statements.remove(name(""))
        #expect(statements.effect(of: name("")) == nil)
        statements.define("", .read)
        statements.removeAll()
        for text in ["", "a", "b"] { #expect(statements.effect(of: name(text)) == nil) }
    }

    @Test("names are told apart by all their bytes")
    func names() {
        let texts = ["", "a", "b", "ab", "ba", "s1", "s2", "\u{e9}", "e\u{301}", "\0"]
        #expect(Set(texts.map(name)).count == texts.count)
        #expect(name("s1") == name("s1"))
    }

    @Test("a server connection remembers which definition of each name it has")
    func onServer() {
        var prepared = PreparedOnServer()
        #expect(prepared.generation(of: name("s")) == nil)
        prepared.add(name("s"), Array("s".utf8), 1)
        prepared.add(name(""), [], 2)
        #expect(prepared.generation(of: name("s")) == 1)
        #expect(prepared.bytes(of: name("s")) == Array("s".utf8))
        #expect(prepared.generation(of: name("")) == 2)
        #expect(prepared.bytes(of: name("")) == [])
        prepared.add(name("s"), Array("s".utf8), 3)
        #expect(prepared.generation(of: name("s")) == 3)
        prepared.removeUnnamed()
        #expect(prepared.generation(of: name("")) == nil)
        prepared.remove(name("s"))
        #expect(prepared.generation(of: name("s")) == nil)
        prepared.add(name("s"), Array("s".utf8), 4)
        prepared.add(name(""), [], 5)
        prepared.removeAll()
        #expect(prepared.generation(of: name("s")) == nil)
        #expect(prepared.generation(of: name("")) == nil)
    }

    private func parse(_ statements: PreparedStatements, _ text: String) -> [UInt8] {
        var writer = MessageWriter()
        statements.appendParse(of: name(text), to: &writer)
        return writer.bytes
    }
}
