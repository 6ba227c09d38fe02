/// One token of a query string. A value of a few words; its text stays where it is.
struct Token {
    enum Kind {
        case end, semicolon
        /// An unquoted identifier or key word.
        case word
        case quotedIdentifier
        case string, number, parameter
        case openParenthesis, closeParenthesis
        case comma, dot, typecast
        /// Any other operator or symbol.
        case symbol
        /// Text PostgreSQL's own lexer or grammar refuses in any version: ``Lexer/failure`` says why.
        case invalid
    }

    var kind: Kind
    /// Where the text lies in the query string, without the quotes of a quoted identifier or a plain string.
    var range: Range<Int>
    /// What an unquoted word means to the grammar; ``KeywordEntry/none`` for everything else.
    var entry = KeywordEntry.none

    var keyword: Keyword { entry.keyword }
}

/// Splits a query string into tokens as PostgreSQL's `scan.l` (versions 14 to 18) does, without its actions on the
/// text.
///
/// Where versions differ, the tokens are those of the version that sees more of them, and ``doubt`` says so.
struct Lexer {
    private let text: UnsafeBufferPointer<UInt8>
    private let keywords: KeywordTable
    /// Whether plain strings are read as with `standard_conforming_strings = off`.
    private let backslashEscapes: Bool
    private var position = 0

    /// A plain string ended where it would not have ended under the other value of `standard_conforming_strings`.
    private(set) var isAmbiguous = false
    /// Why the text cannot be lexed to its end.
    private(set) var failure: Problem?
    /// Why the text, although lexed, is not to be trusted.
    private(set) var doubt: Problem?
    /// What comments ask for.
    private(set) var hints: RoutingHint = []

    /// In words for a person, behind "the statement …".
    enum Problem: String {
        case unterminatedComment = "has an unterminated comment"
        case unterminatedString = "has an unterminated string"
        case unterminatedIdentifier = "has an unterminated quoted identifier"
        case foreignByte = "holds a byte that is no SQL"
        /// Longer names are cut by the server, so that they may not be what they seem (`NAMEDATALEN` - 1).
        case longName = "has a name longer than 63 bytes"
        case unicodeEscapes = "has a name with Unicode escapes"
        case nameBehindNumber = "has a name that directly follows a number"
    }

    init(_ text: UnsafeBufferPointer<UInt8>, backslashEscapes: Bool = false) {
        self.text = text
        self.backslashEscapes = backslashEscapes
        keywords = KeywordTable.shared
    }

    /// The byte at a position, zero past the end: the text itself holds no zero.
    @inline(__always)
    private func byte(_ index: Int) -> UInt8 { index < text.count ? text[index] : 0 }

    mutating func next() -> Token {
        if failure != nil || !skipSpaceAndComments() { return Token(kind: .invalid, range: position..<position) }
        let start = position
        guard start < text.count else { return Token(kind: .end, range: start..<start) }
        let first = text[start]
        if isIdentifierStart(first) { return wordOrPrefixedString(start) }
        switch first {
        case UInt8(ascii: "'"): return plainString(start)
        case UInt8(ascii: "\""): return quotedIdentifier(start + 1, escaped: false)
        case UInt8(ascii: "0")...UInt8(ascii: "9"): return number(start)
        case UInt8(ascii: "."): return isDigit(byte(start + 1)) ? number(start) : symbol(.dot)
        case UInt8(ascii: "$"): return isDigit(byte(start + 1)) ? parameter(start) : dollarQuotedString(start)
        case UInt8(ascii: "("): return symbol(.openParenthesis)
        case UInt8(ascii: ")"): return symbol(.closeParenthesis)
        case UInt8(ascii: ","): return symbol(.comma)
        case UInt8(ascii: ";"): return symbol(.semicolon)
        case UInt8(ascii: "["), UInt8(ascii: "]"): return symbol(.symbol)
        case UInt8(ascii: ":"): return byte(start + 1) == first ? symbol(.typecast, length: 2) : symbol(.symbol)
        default: return isOperator(first) ? operatorRun(start) : fail(.foreignByte)
        }
    }

    // MARK: - Text of tokens

    /// Whether a token's text is this one, which is lower-case ASCII, whatever the case of the token.
    func matches(_ token: Token, _ expected: StaticString) -> Bool {
        token.range.count == expected.utf8CodeUnitCount && hasPrefix(token, expected)
    }

    /// The first byte of a token's text in lower case; 0 when it has none.
    func first(_ token: Token) -> UInt8 { token.range.isEmpty ? 0 : foldCase(text[token.range.lowerBound]) }

    func hasPrefix(_ token: Token, _ expected: StaticString) -> Bool {
        let count = expected.utf8CodeUnitCount
        guard token.range.count >= count else { return false }
        let bytes = expected.utf8Start
        for index in 0..<count where foldCase(text[token.range.lowerBound + index]) != bytes[index] { return false }
        return true
    }

    /// Whether a token's text contains this one, which is lower-case ASCII, whatever the case of the token.
    func contains(_ token: Token, _ expected: StaticString) -> Bool {
        let (count, bytes) = (expected.utf8CodeUnitCount, expected.utf8Start)
        guard token.range.count >= count else { return false }
        return (token.range.lowerBound...token.range.upperBound - count).contains { start in
            (0..<count).allSatisfy { foldCase(text[start + $0]) == bytes[$0] }
        }
    }

    /// The name as the server's catalogs spell it: folded to lower case unless it is quoted.
    func name(_ token: Token) -> String {
        let fold = token.kind == .word
        let name = String(unsafeUninitializedCapacity: token.range.count) { buffer in
            for (offset, index) in token.range.enumerated() {
                buffer[offset] = fold ? foldCase(text[index]) : text[index]
            }
            return token.range.count
        }
        guard !fold, name.utf8.contains(UInt8(ascii: "\"")) else { return name }
        var result: [UInt8] = []
        var isSecond = false
        for byte in name.utf8 {
            isSecond = byte == UInt8(ascii: "\"") && !isSecond
            if !isSecond { result.append(byte) }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// A number from 0 to 63 that equal names share, for a filter in front of a look-up.
    func shape(_ token: Token) -> UInt64 {
        guard let last = token.range.last else { return 0 }
        return nameShape(length: token.range.count, first: text[token.range.lowerBound], last: text[last])
    }

    /// Of ``name(_:)``, without making it. A doubled quote, which hardly any name has, counts as two.
    func hash(_ token: Token) -> UInt64 {
        let fold = token.kind == .word
        return nameHash(text[token.range].lazy.map { fold ? foldCase($0) : $0 })
    }

    // MARK: - Space and comments

    /// Whether white space or a comment comes before the next token.
    var isAtSpace: Bool {
        let (current, following) = (byte(position), byte(position + 1))
        return isSpace(current) || (current == UInt8(ascii: "-") && following == current)
            || (current == UInt8(ascii: "/") && following == UInt8(ascii: "*"))
    }

    /// False when a block comment has no end.
    private mutating func skipSpaceAndComments() -> Bool {
        while position < text.count {
            let current = text[position]
            if isSpace(current) {
                position += 1
            } else if current == UInt8(ascii: "-"), byte(position + 1) == current {
                skipLine()
            } else if current == UInt8(ascii: "/"), byte(position + 1) == UInt8(ascii: "*") {
                if !skipBlockComment() { return false }
            } else {
                return true
            }
        }
        return true
    }

    private mutating func skipLine() {
        while position < text.count, !isNewline(text[position]) { position += 1 }
    }

    private mutating func skipBlockComment() -> Bool {
        let start = position
        var depth = 0
        while position < text.count {
            let (current, following) = (text[position], byte(position + 1))
            if current == UInt8(ascii: "/"), following == UInt8(ascii: "*") {
                depth += 1
                position += 2
            } else if current == UInt8(ascii: "*"), following == UInt8(ascii: "/") {
                depth -= 1
                position += 2
                if depth == 0 {
                    hints.formUnion(RoutingHint(comment: UnsafeBufferPointer(rebasing: text[start..<position])))
                    return true
                }
            } else {
                position += 1
            }
        }
        failure = .unterminatedComment
        return false
    }

    // MARK: - Tokens

    private mutating func fail(_ reason: Problem) -> Token {
        failure = reason
        return Token(kind: .invalid, range: position..<position)
    }

    private mutating func symbol(_ kind: Token.Kind, length: Int = 1) -> Token {
        defer { position += length }
        return Token(kind: kind, range: position..<position + length)
    }

    /// Operators need not be told apart, but a comment ends their run.
    private mutating func operatorRun(_ start: Int) -> Token {
        position += 1
        while isOperator(byte(position)) {
            let (current, following) = (text[position], byte(position + 1))
            if current == UInt8(ascii: "-"), following == UInt8(ascii: "-") { break }
            if current == UInt8(ascii: "/"), following == UInt8(ascii: "*") { break }
            position += 1
        }
        return Token(kind: .symbol, range: start..<position)
    }

    private mutating func wordOrPrefixedString(_ start: Int) -> Token {
        let following = byte(start + 1)
        if following == UInt8(ascii: "'") {
            switch foldCase(text[start]) {
            case UInt8(ascii: "e"): return escapeString(start + 2)
            case UInt8(ascii: "b"), UInt8(ascii: "x"): return verbatimString(start + 2)
            case UInt8(ascii: "n"): return plainString(start + 1)
            default: break
            }
        } else if following == UInt8(ascii: "&"), foldCase(text[start]) == UInt8(ascii: "u") {
            // Unicode escapes are replaced after lexing, and are an error unless standard_conforming_strings is on.
            if byte(start + 2) == UInt8(ascii: "'") { return verbatimString(start + 3) }
            if byte(start + 2) == UInt8(ascii: "\"") { return quotedIdentifier(start + 3, escaped: true) }
        }
        return word(start)
    }

    private mutating func word(_ start: Int) -> Token {
        let bytes = text.baseAddress! + start
        let rest = text.count - start
        var length = 1
        while length < rest, isIdentifierByte(bytes[length]) { length += 1 }
        position = start + length
        if length > Self.longestName { doubt = .longName }
        return Token(
            kind: .word,
            range: start..<position,
            entry: keywords.entry(of: bytes, count: length, readable: rest)
        )
    }

    private static let longestName = 63

    private mutating func quotedIdentifier(_ start: Int, escaped: Bool) -> Token {
        position = start
        while position < text.count {
            let current = text[position]
            position += 1
            if escaped, current == UInt8(ascii: "\\") { doubt = .unicodeEscapes }
            guard current == UInt8(ascii: "\"") else { continue }
            guard byte(position) == UInt8(ascii: "\"") else {
                let range = start..<position - 1
                if range.count > Self.longestName { doubt = .longName }
                return Token(kind: .quotedIdentifier, range: range)
            }
            position += 1
        }
        return fail(.unterminatedIdentifier)
    }

    private mutating func number(_ start: Int) -> Token {
        position = start
        if text[start] == UInt8(ascii: "0"), let isRadixDigit = radix(foldCase(byte(start + 1))) {
            let first = byte(start + 2) == UInt8(ascii: "_") ? start + 3 : start + 2
            if isRadixDigit(byte(first)) {
                position = first
                skipDigits(isRadixDigit)
            }
        }
        if position == start {
            skipDigits(isDigit)
            if byte(position) == UInt8(ascii: "."), byte(position + 1) != UInt8(ascii: ".") {
                position += 1
                skipDigits(isDigit)
            }
            if foldCase(byte(position)) == UInt8(ascii: "e") {
                let sign = byte(position + 1)
                let exponent = position + (sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-") ? 2 : 1)
                if isDigit(byte(exponent)) {
                    position = exponent
                    skipDigits(isDigit)
                }
            }
        }
        return endOfNumber(.number, start)
    }

    private func radix(_ letter: UInt8) -> ((UInt8) -> Bool)? {
        switch letter {
        case UInt8(ascii: "x"): { isDigit($0) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(foldCase($0)) }
        case UInt8(ascii: "o"): { (UInt8(ascii: "0")...UInt8(ascii: "7")).contains($0) }
        case UInt8(ascii: "b"): { (UInt8(ascii: "0")...UInt8(ascii: "1")).contains($0) }
        default: nil
        }
    }

    private mutating func skipDigits(_ isDigit: (UInt8) -> Bool) {
        while isDigit(byte(position)) || (byte(position) == UInt8(ascii: "_") && isDigit(byte(position + 1))) {
            position += 1
        }
    }

    private mutating func parameter(_ start: Int) -> Token {
        position = start + 1
        while isDigit(byte(position)) { position += 1 }
        return endOfNumber(.parameter, start)
    }

    /// PostgreSQL 14 takes `1into` for two tokens, later ones refuse it.
    private mutating func endOfNumber(_ kind: Token.Kind, _ start: Int) -> Token {
        if isIdentifierStart(byte(position)) { doubt = .nameBehindNumber }
        return Token(kind: kind, range: start..<position)
    }
}

// MARK: - Strings

extension Lexer {
    /// A plain string from its opening quote. One continued on the next line comes out as several tokens.
    private mutating func plainString(_ quote: Int) -> Token {
        let start = quote + 1
        if backslashEscapes { return escapeString(start) }
        guard let (end, hasBackslash) = endOfString(start, escapes: false) else {
            if endOfString(start, escapes: true) != nil { isAmbiguous = true }
            return unterminatedString()
        }
        if hasBackslash, endOfString(start, escapes: true)?.end != end { isAmbiguous = true }
        position = end
        return Token(kind: .string, range: start..<end - 1)
    }

    /// Bit strings and strings with Unicode escapes: a backslash cannot hide their closing quote.
    private mutating func verbatimString(_ start: Int) -> Token {
        guard let (end, _) = endOfString(start, escapes: false) else { return unterminatedString() }
        position = end
        return Token(kind: .string, range: start..<end - 1)
    }

    /// A string with backslash escapes, with its continuations: they keep its escapes.
    private mutating func escapeString(_ start: Int) -> Token {
        var segment = start
        while true {
            guard let (end, _) = endOfString(segment, escapes: true) else { return unterminatedString() }
            position = end
            guard let continuation = continuation(after: end) else {
                return Token(kind: .string, range: start..<end - 1)
            }
            segment = continuation
        }
    }

    private mutating func unterminatedString() -> Token { fail(.unterminatedString) }

    /// The position after the closing quote of a string whose contents begin at `start`.
    private func endOfString(_ start: Int, escapes: Bool) -> (end: Int, hasBackslash: Bool)? {
        var (index, hasBackslash) = (start, false)
        while index < text.count {
            let current = text[index]
            index += 1
            if current == UInt8(ascii: "\\") {
                hasBackslash = true
                if escapes { index += 1 }
            } else if current == UInt8(ascii: "'") {
                guard byte(index) == UInt8(ascii: "'") else { return (index, hasBackslash) }
                index += 1
            }
        }
        return nil
    }

    /// Where the contents go on when only white space with a newline, or line comments, stand before the next quote.
    private func continuation(after end: Int) -> Int? {
        var (index, hasNewline) = (end, false)
        while index < text.count {
            let current = text[index]
            if current == UInt8(ascii: "'") { return hasNewline ? index + 1 : nil }
            if isSpace(current) {
                hasNewline = hasNewline || isNewline(current)
                index += 1
            } else if current == UInt8(ascii: "-"), byte(index + 1) == current {
                while index < text.count, !isNewline(text[index]) { index += 1 }
            } else {
                return nil
            }
        }
        return nil
    }

    private mutating func dollarQuotedString(_ start: Int) -> Token {
        var index = start + 1
        if isIdentifierStart(byte(index)) {
            while isIdentifierByte(byte(index)), text[index] != UInt8(ascii: "$") { index += 1 }
        }
        guard byte(index) == UInt8(ascii: "$") else { return fail(.foreignByte) }
        let delimiter = UnsafeBufferPointer(rebasing: text[start...index])
        let contents = index + 1
        index = contents
        while index + delimiter.count <= text.count {
            if text[index] == UInt8(ascii: "$"),
                UnsafeBufferPointer(rebasing: text[index..<index + delimiter.count]).elementsEqual(delimiter)
            {
                position = index + delimiter.count
                return Token(kind: .string, range: contents..<index)
            }
            index += 1
        }
        return unterminatedString()
    }
}
