import PostgresWire
import ProxyCore
import QueryAnalysis

/// Messages of a client and of a server, for transcripts.
enum Frontend {
    static func message(_ type: FrontendMessage, _ body: [UInt8] = []) -> [UInt8] {
        var writer = MessageWriter()
        writer.message(type) { $0.raw(body) }
        return writer.bytes
    }

    static func query(_ sql: String) -> [UInt8] { message(.query, string(sql)) }
    static func parse(_ name: String, _ sql: String) -> [UInt8] {
        message(.parse, string(name) + string(sql) + [0, 0])
    }
    /// What stands behind the name in a Parse message.
    static func content(_ sql: String) -> [UInt8] { string(sql) + [0, 0] }
    static func bind(_ statement: String, portal: String = "") -> [UInt8] {
        message(.bind, string(portal) + string(statement) + [0, 0, 0, 0, 0, 0])
    }
    static func describe(statement: String) -> [UInt8] { message(.describe, string("S" + statement)) }
    static func describe(portal: String) -> [UInt8] { message(.describe, string("P" + portal)) }
    static func close(statement: String) -> [UInt8] { message(.close, string("S" + statement)) }
    static func close(portal: String) -> [UInt8] { message(.close, string("P" + portal)) }
    static let execute = message(.execute, [0, 0, 0, 0, 0])
    static let sync = message(.sync)
    static let flush = message(.flush)
    static let terminate = message(.terminate)
    static func copyData(_ text: String) -> [UInt8] { message(.copyData, Array(text.utf8)) }
    static let copyDone = message(.copyDone)
    static let copyFail = message(.copyFail, string("no"))

    /// One statement through the unnamed statement and portal.
    static func extended(_ sql: String) -> [UInt8] { parse("", sql) + bind("") + execute + sync }
}

enum Backend {
    static func message(_ type: BackendMessage, _ body: [UInt8] = []) -> [UInt8] {
        var writer = MessageWriter()
        writer.message(type) { $0.raw(body) }
        return writer.bytes
    }
}

/// Text with its terminating zero.
func string(_ text: String) -> [UInt8] { Array(text.utf8) + [0] }

/// A statement's name as a key.
func name(_ text: String) -> StatementName { StatementName(Array(text.utf8).span.bytes) }

// Machines take spans, transcripts are arrays.

extension AnswerReader {
    mutating func next(_ bytes: some Sequence<UInt8>, offset: inout Int, limit: Int) -> Step {
        next(Array(bytes).span.bytes, offset: &offset, limit: limit)
    }

    mutating func skipRows(_ bytes: some Sequence<UInt8>, offset: inout Int) -> Bool {
        skipRows(Array(bytes).span.bytes, offset: &offset)
    }
}

extension PassThrough {
    mutating func scan(_ bytes: some Sequence<UInt8>) -> Scan { scan(Array(bytes).span.bytes) }
}

extension SharedStatements {
    mutating func statement(
        _ content: [UInt8],
        settings: UInt64 = 0,
        effect: StatementEffect = .read,
        traits: StatementTraits = []
    ) -> SharedStatement {
        statement(content.span.bytes, settings: settings, effect: effect, traits: traits)
    }
}
