/// What statements share that differ only in their literals, the numbers of their parameters, white space, comments, and the
/// case of their words.
///
/// FNV-1a, 64 bits, over the tokens. It is written to files: who changes it changes the version of those.
package struct Fingerprint: Hashable, Sendable {
    package let rawValue: UInt64

    package init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Of a query string without its terminating zero. Allocates nothing.
    package init(_ sql: UnsafeRawBufferPointer) {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        func combine(_ byte: UInt8) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        forEachToken(of: sql) { token, text, _ in
            switch token {
            case .literal: combine(UInt8(ascii: "?"))
            case .word: for byte in text { combine(foldCase(byte)) }
            case .quotedIdentifier:
                combine(UInt8(ascii: "\""))
                for byte in text { combine(byte) }
            case .other: for byte in text { combine(byte) }
            }
            // No token holds it, so that their borders count.
            combine(0)
        }
        rawValue = hash
    }

    package init(_ sql: RawSpan) {
        self = sql.withUnsafeBytes { Fingerprint($0) }
    }
}

extension Fingerprint: CustomStringConvertible {
    /// 16 hexadecimal digits.
    package var description: String {
        let digits = String(rawValue, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    package init?(_ text: String) {
        guard text.utf8.count == 16, let value = UInt64(text, radix: 16) else { return nil }
        rawValue = value
    }
}

/// A statement as its fingerprint sees it, for a person: `select * from t where a = ?`.
///
/// - Parameter limit: bytes; what is longer ends with `…`.
package func normalizedText(of sql: UnsafeRawBufferPointer, limit: Int = 200) -> String {
    var bytes: [UInt8] = []
    forEachToken(of: sql) { token, text, isSpaced in
        guard bytes.count <= limit else { return }
        if isSpaced, !bytes.isEmpty { bytes.append(UInt8(ascii: " ")) }
        switch token {
        case .literal: bytes.append(UInt8(ascii: "?"))
        case .word: bytes += text.map { foldCase($0) }
        case .quotedIdentifier: bytes += [UInt8(ascii: "\"")] + text + [UInt8(ascii: "\"")]
        case .other: bytes += text
        }
    }
    guard bytes.count > limit else { return String(decoding: bytes, as: UTF8.self) }
    var end = limit
    // Not within a character.
    while end > 0, bytes[end] & 0xC0 == 0x80 { end -= 1 }
    return String(decoding: bytes[..<end], as: UTF8.self) + "…"
}

private enum FingerprintToken {
    case literal, word, quotedIdentifier, other
}

/// Calls `body` with each token, its text, and whether space or a comment stands before it. Semicolons at the ends do not count.
/// What cannot be lexed counts byte by byte.
@inline(__always)
private func forEachToken(
    of sql: UnsafeRawBufferPointer,
    _ body: (FingerprintToken, UnsafeBufferPointer<UInt8>, _ isSpaced: Bool) -> Void
) {
    guard let base = sql.baseAddress else { return }
    let text = UnsafeBufferPointer(start: base.assumingMemoryBound(to: UInt8.self), count: sql.count)
    var lexer = Lexer(text)
    var semicolon: Token?
    var hasBegun = false
    while true {
        let isSpaced = lexer.isAtSpace
        let token = lexer.next()
        let kind: FingerprintToken
        var range = token.range
        switch token.kind {
        case .end: return
        case .semicolon:
            semicolon = token
            continue
        case .word: kind = .word
        case .quotedIdentifier: kind = .quotedIdentifier
        case .string, .number, .parameter: kind = .literal
        case .openParenthesis, .closeParenthesis, .comma, .dot, .typecast, .symbol: kind = .other
        case .invalid:
            kind = .other
            range = range.lowerBound..<text.count
        }
        if let semicolon, hasBegun { body(.other, UnsafeBufferPointer(rebasing: text[semicolon.range]), false) }
        semicolon = nil
        hasBegun = true
        body(kind, UnsafeBufferPointer(rebasing: text[range]), isSpaced)
        if token.kind == .invalid { return }
    }
}
