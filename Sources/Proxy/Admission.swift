import PostgresWire
import Synchronization

/// How many clients there are, over all workers, that have not logged in yet.
///
/// A client that is one too many is still asked what it wants, so that it can be told why it may not have it; when there
/// are as many of those again, the rest is closed without a word.
final class Admission: Sendable {
    enum Verdict {
        case admitted
        /// To be told so, and closed.
        case refused(ErrorMessage)
        /// To be closed at once.
        case full
    }

    private let count = Atomic<Int>(0)
    private let limit: Int

    /// - Parameter maxUnauthenticated: 0 for no limit.
    init(maxUnauthenticated: Int) {
        limit = maxUnauthenticated == 0 ? Int.max / 2 : maxUnauthenticated
    }

    /// A client has come. Whatever the verdict but `full`, `left` follows.
    func enter() -> Verdict {
        let count = count.wrappingAdd(1, ordering: .relaxed).newValue
        if count <= limit { return .admitted }
        if count <= limit * 2 {
            return .refused(
                ErrorMessage(
                    .fatal,
                    .tooManyConnections,
                    "sorry, too many clients that have not logged in yet (max_unauthenticated is \(limit))"
                )
            )
        }
        left()
        return .full
    }

    /// A client has proven who it is, or is gone without.
    func left() {
        count.wrappingSubtract(1, ordering: .relaxed)
    }
}
