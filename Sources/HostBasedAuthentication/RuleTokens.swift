/// One word of a rule.
struct RuleToken: Equatable {
    var text: String
    /// It begins with a double quote: what would be a keyword is a name.
    var isQuoted: Bool

    /// Whether it is `keyword`, and not a name that is written the same.
    func isKeyword(_ keyword: String) -> Bool { !isQuoted && text == keyword }
}

/// Cuts the text of a rules file into rules, and those into fields of words, as PostgreSQL does.
///
/// Fields are separated by blanks, the words of one field by commas; a comma takes blanks behind it along. Double quotes
/// keep blanks, commas and `#` in a word, and two of them inside are one. A backslash at the end of a line continues it.
///
/// Source: PostgreSQL manual, "The pg_hba.conf File"; `src/backend/libpq/hba.c`.
struct RuleTokens {
    /// A rule that is not empty.
    struct Line {
        /// Of its first line, from 1.
        var number: Int
        var fields: [[RuleToken]]
    }

    static func lines(of text: String) -> [Line] {
        var lines: [Line] = []
        var pending: (number: Int, bytes: [UInt8])?
        let physical = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (index, bytes) in physical.enumerated() {
            var whole = pending ?? (index + 1, [])
            let known = whole.bytes.count
            whole.bytes += bytes
            while whole.bytes.last == UInt8(ascii: "\r") { whole.bytes.removeLast() }
            // A backslash counts once: what is left of two was meant.
            if whole.bytes.count > known, whole.bytes.last == UInt8(ascii: "\\") {
                whole.bytes.removeLast()
                pending = whole
                continue
            }
            pending = nil
            append(whole, to: &lines)
        }
        if let pending { append(pending, to: &lines) }
        return lines
    }

    private static func append(_ line: (number: Int, bytes: [UInt8]), to lines: inout [Line]) {
        var tokens = RuleTokens(bytes: line.bytes)
        var fields: [[RuleToken]] = []
        while let field = tokens.field() { fields.append(field) }
        if !fields.isEmpty { lines.append(Line(number: line.number, fields: fields)) }
    }

    private let bytes: [UInt8]
    private var position = 0

    private init(bytes: [UInt8]) {
        self.bytes = bytes
    }

    private static func isBlank(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") || byte == UInt8(ascii: "\r")
    }

    /// The words up to the next blank that follows no comma; `nil` at the end.
    private mutating func field() -> [RuleToken]? {
        var words: [RuleToken] = []
        while let (word, isFollowedByComma) = word() {
            words.append(word)
            if !isFollowedByComma { break }
        }
        return words.isEmpty ? nil : words
    }

    private mutating func word() -> (RuleToken, isFollowedByComma: Bool)? {
        while position < bytes.count, Self.isBlank(bytes[position]) || bytes[position] == UInt8(ascii: ",") {
            position += 1
        }
        var text: [UInt8] = []
        var isInQuotes = false
        var closedJustNow = false
        var isQuoted = false
        var hasQuotes = false
        while position < bytes.count {
            let byte = bytes[position]
            if !isInQuotes {
                if Self.isBlank(byte) { break }
                if byte == UInt8(ascii: "#") {
                    position = bytes.count
                    break
                }
                if byte == UInt8(ascii: ",") {
                    position += 1
                    return (RuleToken(text: String(decoding: text, as: UTF8.self), isQuoted: isQuoted), true)
                }
            }
            position += 1
            guard byte == UInt8(ascii: "\"") else {
                text.append(byte)
                closedJustNow = false
                continue
            }
            // The second of two quotes stands for one.
            if closedJustNow { text.append(byte) }
            if text.isEmpty { isQuoted = true }
            closedJustNow = isInQuotes
            isInQuotes.toggle()
            hasQuotes = true
        }
        guard hasQuotes || !text.isEmpty else { return nil }
        return (RuleToken(text: String(decoding: text, as: UTF8.self), isQuoted: isQuoted), false)
    }
}
