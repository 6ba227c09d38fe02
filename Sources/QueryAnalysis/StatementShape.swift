/// A number that statements share which differ in their literals, parameters, spaces and comments only; never 0.
///
/// Good enough to learn by, not to decide by: two statements may share one by chance (FNV-1a, 64 bits).
package func statementShape(_ sql: UnsafeRawBufferPointer) -> UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    func combine(_ byte: UInt8) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    guard let base = sql.baseAddress else { return hash }
    let text = UnsafeBufferPointer(start: base.assumingMemoryBound(to: UInt8.self), count: sql.count)
    var lexer = Lexer(text)
    while true {
        let token = lexer.next()
        switch token.kind {
        case .end, .invalid: return max(1, hash)
        case .string, .number, .parameter: combine(UInt8(ascii: "?"))
        case .word:
            for index in token.range { combine(foldCase(text[index])) }
        case .semicolon, .quotedIdentifier, .openParenthesis, .closeParenthesis, .comma, .dot, .typecast, .symbol:
            for index in token.range { combine(text[index]) }
        }
        combine(0xFF)
    }
}

/// Whether a string of reads has one for which a server takes a snapshot, that is any but SHOW: then it is too late for
/// SET TRANSACTION.
package func takesSnapshot(_ sql: UnsafeRawBufferPointer) -> Bool {
    guard let base = sql.baseAddress else { return false }
    var lexer = Lexer(UnsafeBufferPointer(start: base.assumingMemoryBound(to: UInt8.self), count: sql.count))
    var isFirst = true
    while true {
        let token = lexer.next()
        switch token.kind {
        case .end, .invalid: return false
        case .semicolon: isFirst = true
        default:
            if isFirst, token.entry.start != .show { return true }
            isFirst = false
        }
    }
}
