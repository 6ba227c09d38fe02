/// What a plain SET or RESET does to the settings of its session.
///
/// Only the forms whose effect the text tells completely: running the same text again, in another session of the same
/// user, sets the same. For all others the server has to be asked.
package indirect enum SettingChange: Sendable, Equatable {
    /// `SET name TO value`, `SET TIME ZONE …`, `SET NAMES …`, `SET ROLE …`.
    case set(name: String)
    /// `RESET name`, `SET name TO DEFAULT`.
    case reset(name: String)
    case resetAll

    /// Reads one statement; `nil` when it is another one, more than one, or has to be asked for.
    package init?(_ sql: UnsafeRawBufferPointer) {
        guard let base = sql.baseAddress else { return nil }
        let text = UnsafeBufferPointer(start: base.assumingMemoryBound(to: UInt8.self), count: sql.count)
        var reader = SettingReader(Lexer(text))
        guard let change = reader.statement(), reader.isPlainToTheEnd() else { return nil }
        self = change
    }
}

private struct SettingReader {
    private var lexer: Lexer
    private var token: Token

    init(_ lexer: Lexer) {
        var lexer = lexer
        token = lexer.next()
        self.lexer = lexer
    }

    private mutating func advance() { token = lexer.next() }

    mutating func statement() -> SettingChange? {
        if lexer.matches(token, "reset") {
            advance()
            if token.keyword == .all {
                advance()
                return .resetAll
            }
            if token.keyword == .time, !isDotted {
                advance()
                return lexer.matches(token, "zone") ? .reset(name: "timezone") : nil
            }
            return name().map { .reset(name: $0) }
        }
        guard token.entry.start == .set else { return nil }
        advance()
        if lexer.matches(token, "session") { advance() }
        // But `time.x`, say, is a setting like any, and so is `role`.
        if !isDotted, !isAssigned {
            if token.keyword == .time {
                advance()
                guard lexer.matches(token, "zone") else { return nil }
                return value(of: "timezone")
            }
            if lexer.matches(token, "names") { return value(of: "client_encoding") }
            if lexer.matches(token, "role") { return value(of: "role") }
        }
        guard let name = name(), token.keyword == .to || lexer.matches(token, "=") else { return nil }
        return value(of: name)
    }

    /// The present token is the first part of a name of several.
    private var isDotted: Bool {
        var lexer = lexer
        return lexer.next().kind == .dot
    }

    /// TO or an equals sign comes next.
    private var isAssigned: Bool {
        var lexer = lexer
        let next = lexer.next()
        return next.keyword == .to || lexer.matches(next, "=")
    }

    /// What comes behind the present token is the value.
    private mutating func value(of name: String) -> SettingChange? {
        advance()
        guard token.kind != .end, token.kind != .semicolon, token.keyword != .from else { return nil }
        let isDefault = lexer.matches(token, "default") || (name == "timezone" && lexer.matches(token, "local"))
        // What a value of DateStyle does not say, style or order, stays as it was.
        if !isDefault, name == "datestyle" { return nil }
        return isDefault ? .reset(name: name) : .set(name: name)
    }

    /// A setting's name, in which case does not count even in quotes.
    private mutating func name() -> String? {
        guard token.kind == .word || token.kind == .quotedIdentifier else { return nil }
        var name = SettingNames.folded(lexer.name(token))
        // Dotted ones are of an extension or of the application.
        advance()
        while token.kind == .dot {
            advance()
            guard token.kind == .word || token.kind == .quotedIdentifier else { return nil }
            name += "." + SettingNames.folded(lexer.name(token))
            advance()
        }
        // These are not of the session, or are more than a setting.
        let isOther =
            name == "local" || name == "transaction" || name == "constraints" || name == "seed" || name == "session"
            || name == "authorization" || name == "session_authorization" || name == "characteristics"
            || name == "xml" || name == "schema" || name == "catalog" || name.hasPrefix("transaction_")
        return isOther ? nil : name
    }

    /// Nothing but the rest of this statement follows, and it can be read in one way only.
    mutating func isPlainToTheEnd() -> Bool {
        while token.kind != .end, token.kind != .semicolon, token.kind != .invalid { advance() }
        while token.kind == .semicolon { advance() }
        return token.kind == .end && lexer.failure == nil && lexer.doubt == nil && !lexer.isAmbiguous
    }
}
