import HostBasedAuthentication
import PostgresWire
import Synchronization

/// How many clients there are, over all workers, and how many of them have not logged in yet.
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

    private let unauthenticated = Atomic<Int>(0)
    private let clients = Atomic<Int>(0)
    private let maxUnauthenticated: Int
    private let maxClients: Int

    /// - Parameter maxClients: 0 for no limit; and so for the other one.
    init(maxUnauthenticated: Int, maxClients: Int) {
        self.maxUnauthenticated = maxUnauthenticated == 0 ? Int.max / 2 : maxUnauthenticated
        self.maxClients = maxClients == 0 ? .max : maxClients
    }

    /// A client has come. Whatever the verdict but `full`, `loggedIn` or `left` follows.
    func enter() -> Verdict {
        let waiting = unauthenticated.wrappingAdd(1, ordering: .relaxed).newValue
        if waiting > maxUnauthenticated * 2 {
            unauthenticated.wrappingSubtract(1, ordering: .relaxed)
            return .full
        }
        let count = clients.wrappingAdd(1, ordering: .relaxed).newValue
        if waiting > maxUnauthenticated {
            return .refused(
                Self.tooMany(
                    "too many clients that have not logged in yet (max_unauthenticated is \(maxUnauthenticated))"
                )
            )
        }
        if count > maxClients {
            return .refused(Self.tooMany("too many clients (max_client_conn is \(maxClients))"))
        }
        return .admitted
    }

    /// A client has proven who it is.
    func loggedIn() {
        unauthenticated.wrappingSubtract(1, ordering: .relaxed)
    }

    /// A client is gone.
    func left(wasLoggedIn: Bool) {
        if !wasLoggedIn { loggedIn() }
        clients.wrappingSubtract(1, ordering: .relaxed)
    }

    private static func tooMany(_ text: String) -> ErrorMessage {
        ErrorMessage(.fatal, .tooManyConnections, "sorry, \(text)")
    }
}
