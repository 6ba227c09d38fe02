/// A statement about the endpoint itself, which it answers without a server: `SET slipstream.key = 'user:42'`,
/// `SHOW slipstream.token`, `SHOW LEARNED`, `EXPLAIN (ROUTE) SELECT …`.
///
/// The forms are those of PostgreSQL's SET, RESET and SHOW. What is written in another way (`set_config`, one statement
/// among several) reaches a server, which takes the setting for one of an application.
package enum EndpointCommand: Sendable, Equatable {
    /// - Parameter value: `nil` for DEFAULT.
    case set(name: String, value: String?, isLocal: Bool)
    case reset(name: String)
    case show(name: String)
    /// - Parameter statement: the text of one.
    case explainRoute(statement: [UInt8])

    /// The settings' first name.
    package static let prefix = "slipstream."

    /// Reads one statement; `nil` when it is none of these, or more than one.
    package init?(_ sql: UnsafeRawBufferPointer) {
        guard let base = sql.baseAddress else { return nil }
        let text = UnsafeBufferPointer(start: base.assumingMemoryBound(to: UInt8.self), count: sql.count)
        var reader = EndpointCommandReader(text)
        if let statement = reader.explainedStatement() {
            self = .explainRoute(statement: Array(sql[statement]))
            return
        }
        guard let command = reader.statement(), reader.isAtEnd else { return nil }
        self = command
    }

    /// How many parameters the statement that is explained has.
    package var parameterCount: Int {
        guard case .explainRoute(let statement) = self else { return 0 }
        return statement.withUnsafeBytes { sql in
            var lexer = Lexer(sql.bindMemory(to: UInt8.self))
            var count = 0
            while true {
                let token = lexer.next()
                if token.kind == .end || token.kind == .invalid { return count }
                guard token.kind == .parameter else { continue }
                let number = sql[token.range].dropFirst().reduce(0) { min($0 * 10 + Int($1 & 15), .max / 100) }
                count = max(count, min(number, Int(Int16.max)))
            }
        }
    }
}

private struct EndpointCommandReader {
    private let text: UnsafeBufferPointer<UInt8>
    private var lexer: Lexer
    private var token: Token

    init(_ text: UnsafeBufferPointer<UInt8>) {
        self.text = text
        var lexer = Lexer(text)
        token = lexer.next()
        self.lexer = lexer
    }

    private mutating func advance() { token = lexer.next() }

    var isAtEnd: Bool {
        var (lexer, token) = (lexer, token)
        while token.kind == .semicolon { token = lexer.next() }
        return token.kind == .end && lexer.failure == nil && lexer.doubt == nil && !lexer.isAmbiguous
    }

    /// What stands behind `EXPLAIN (ROUTE)`, if it is one statement.
    func explainedStatement() -> Range<Int>? {
        var reader = self
        guard reader.token.entry.start == .explain else { return nil }
        for kind in [Token.Kind.openParenthesis, .word, .closeParenthesis] {
            reader.advance()
            guard reader.token.kind == kind else { return nil }
            guard kind != .word || reader.lexer.matches(reader.token, "route") else { return nil }
        }
        let start = reader.token.range.upperBound
        reader.advance()
        guard reader.token.kind != .end, reader.token.kind != .semicolon else { return nil }
        while reader.token.kind != .semicolon {
            guard reader.token.kind != .end, reader.token.kind != .invalid else { return start..<text.count }
            reader.advance()
        }
        let end = reader.token.range.lowerBound
        while reader.token.kind == .semicolon { reader.advance() }
        return reader.token.kind == .end ? start..<end : nil
    }

    mutating func statement() -> EndpointCommand? {
        let isReset = lexer.matches(token, "reset")
        if isReset || token.entry.start == .show {
            advance()
            if !isReset, token.kind == .word, lexer.matches(token, "learned") {
                advance()
                return .show(name: "learned")
            }
            return name().map { isReset ? .reset(name: $0) : .show(name: $0) }
        }
        guard token.entry.start == .set else { return nil }
        advance()
        let isLocal = token.keyword == .local
        if isLocal || lexer.matches(token, "session") { advance() }
        guard let name = name(), token.keyword == .to || lexer.matches(token, "=") else { return nil }
        advance()
        if lexer.matches(token, "default"), token.kind == .word {
            advance()
            return .set(name: name, value: nil, isLocal: isLocal)
        }
        return value().map { .set(name: name, value: $0, isLocal: isLocal) }
    }

    /// The second part of a name whose first is ours.
    private mutating func name() -> String? {
        var name = ""
        while token.kind == .word || token.kind == .quotedIdentifier {
            // Case does not count even in quotes.
            name += SettingNames.folded(lexer.name(token))
            advance()
            guard token.kind == .dot else { break }
            name += "."
            advance()
        }
        guard name.utf8.starts(with: EndpointCommand.prefix.utf8) else { return nil }
        return String(name.dropFirst(EndpointCommand.prefix.count))
    }

    private mutating func value() -> String? {
        let bytes = text[token.range]
        switch token.kind {
        case .word, .number:
            defer { advance() }
            return String(decoding: bytes, as: UTF8.self)
        case .string:
            // With a backslash it would depend on the kind of string what it means.
            guard token.range.lowerBound > 0, text[token.range.lowerBound - 1] == UInt8(ascii: "'"),
                !bytes.contains(UInt8(ascii: "\\"))
            else { return nil }
            var value: [UInt8] = []
            var isSecond = false
            for byte in bytes {
                isSecond = byte == UInt8(ascii: "'") && !isSecond
                if !isSecond { value.append(byte) }
            }
            advance()
            return String(decoding: value, as: UTF8.self)
        case .end, .semicolon, .quotedIdentifier, .parameter, .openParenthesis, .closeParenthesis, .comma, .dot,
            .typecast, .symbol, .invalid:
            return nil
        }
    }
}
