/// How long to wait before a server that ended by itself is started again: 100 ms, doubling up to 10 s; from the
/// beginning after it ran for half a minute.
struct Backoff: Sendable, Equatable {
    static let shortest: Duration = .milliseconds(100)
    static let longest: Duration = .seconds(10)
    static let healthyAfter: Duration = .seconds(30)

    private var delay = Backoff.shortest

    /// - Parameter ranFor: How long the server ran before it ended.
    mutating func next(ranFor: Duration) -> Duration {
        if ranFor >= Backoff.healthyAfter { delay = Backoff.shortest }
        defer { delay = min(delay * 2, Backoff.longest) }
        return delay
    }
}
