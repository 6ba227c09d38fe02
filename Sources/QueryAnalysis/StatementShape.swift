/// A statement's fingerprint as a number that is never 0.
///
/// Good enough to learn by, not to decide by: two statements may share one by chance.
package func statementShape(_ sql: UnsafeRawBufferPointer) -> UInt64 { max(1, Fingerprint(sql).rawValue) }

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
