/// What happened to a server of ours.
package enum ServerEvent: Sendable, Equatable {
    /// Its process runs; it may still be recovering.
    case started(node: String, processIdentifier: Int32)
    /// It accepts connections.
    case ready(node: String)
    /// Its process ended. `willRestartIn` is `nil` when it was stopped on purpose.
    case exited(node: String, status: String, willRestartIn: Duration?)
    /// A sentence for a person.
    case note(node: String, message: String)
}

extension ServerEvent: CustomStringConvertible {
    package var description: String {
        switch self {
        case .started(let node, let processIdentifier):
            "\(node): started, pid \(processIdentifier)"
        case .ready(let node):
            "\(node): accepts connections"
        case .exited(let node, let status, let delay?):
            "\(node): \(status); starting it again in \(delay)"
        case .exited(let node, let status, nil):
            "\(node): stopped (\(status))"
        case .note(let node, let message):
            "\(node): \(message)"
        }
    }
}
