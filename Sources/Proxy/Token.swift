/// What a completion belongs to: the kind of operation, and the index of its stream or listener.
///
/// A stream's index is given away again only when nothing is outstanding on it, so that no token is ever stale.
enum Token: UInt8 {
    case accept
    case connect
    case receive
    case send

    func token(for index: Int) -> UInt64 {
        UInt64(index) << 8 | UInt64(rawValue)
    }

    static func split(_ token: UInt64) -> (kind: Token, index: Int)? {
        Token(rawValue: UInt8(truncatingIfNeeded: token)).map { ($0, Int(token >> 8)) }
    }
}
