/// "Read from the primary until …": until a time, or until a database has replayed a token; both when both are set.
///
/// Times are seconds since 1970, so that a pin can leave the process: in a cookie, a session, a job's arguments.
public struct Pin: Hashable, Sendable {
    /// Seconds since 1970; 0 when no time is set.
    public var until: Double
    public var token: FreshnessToken?

    public init(until: Double = 0, token: FreshnessToken? = nil) {
        self.until = until
        self.token = token
    }

    /// Reads go anywhere.
    public static let none = Pin()

    /// Both must be over: the later time, and the token that covers the other. Of tokens that cannot be compared the other's
    /// counts, which is the newer one.
    public mutating func extend(by other: Pin) {
        until = max(until, other.until)
        if let newer = other.token, token?.covers(newer) != true { token = newer }
    }
}

extension Pin: LosslessStringConvertible {
    /// As `description` writes it: `UNTIL` or `UNTIL:TOKEN`.
    public init?(_ description: String) {
        let parts = description.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard let until = parts.first.flatMap({ Double($0) }), until.isFinite, until >= 0 else { return nil }
        self.init(until: until)
        if parts.count == 2 {
            guard let token = FreshnessToken(String(parts[1])) else { return nil }
            self.token = token
        }
    }

    public var description: String {
        token.map { "\(until):\($0)" } ?? "\(until)"
    }
}
