package import PostgresWire

/// What a session asks of the endpoint with `SET slipstream.…`.
package struct SessionPreferences: Sendable, Equatable {
    /// Where reads go.
    package enum Route: String, Sendable, CaseIterable {
        /// By weight, to nodes that are fresh enough.
        case auto
        case primary
        /// To a standby that is fresh enough, if there is one.
        case standby
    }

    /// Which reads may miss which writes; `nil` for what is configured.
    package private(set) var consistency: Consistency?
    /// Sessions of one key see each other's writes; empty for none.
    package private(set) var key = ""
    package private(set) var route = Route.auto
    /// How old what is read may be; `nil` for no limit.
    package private(set) var maxStaleness: Duration?
    /// Whether the client is told, by ParameterStatus, the token of each of its writes.
    package private(set) var reportsToken = false
    /// Whether the client is told, by NoticeResponse, where each of its statements ran, and why.
    package private(set) var sendsNotices = false

    package init() {}

    /// The settings' names behind `slipstream.`, in order; `token` is among them, and is kept elsewhere.
    package static let names = ["consistency", "key", "max_staleness", "notices", "report_token", "route", "token"]

    /// What SHOW tells besides: no settings, though RESET forgets them.
    package static let reports = ["learned", "shadow"]

    /// A key is remembered by the endpoint: it is to be a name, not a document.
    private static let longestKey = 255

    /// - Parameter value: `nil` for DEFAULT.
    package mutating func set(_ name: String, to value: String?) throws(ErrorMessage) {
        switch name {
        case "consistency": consistency = try Self.choice(name, value)
        case "route": route = try Self.choice(name, value) ?? .auto
        case "key":
            guard (value?.utf8.count ?? 0) <= Self.longestKey else {
                throw Self.refusal(name, value ?? "", "A key has \(Self.longestKey) bytes at most.")
            }
            key = value ?? ""
        case "max_staleness":
            let duration = try value.map { text throws(ErrorMessage) in
                guard let duration = Duration(text: text) else {
                    throw Self.refusal(
                        name,
                        text,
                        "Give a number of seconds, or one with a unit: \(Duration.unitNames)."
                    )
                }
                return duration
            }
            maxStaleness = duration == .zero ? nil : duration
        case "report_token": reportsToken = try Self.flag(name, value)
        case "notices": sendsNotices = try Self.flag(name, value)
        default: throw Self.unknown(name)
        }
    }

    /// As SHOW tells it; `nil` when there is no such setting.
    ///
    /// - Parameter configured: the level that holds where the session has none of its own.
    package func value(of name: String, configured: Consistency) -> String? {
        switch name {
        case "consistency": (consistency ?? configured).rawValue
        case "key": key
        case "route": route.rawValue
        case "max_staleness": maxStaleness.map { "\($0.nanoseconds / 1_000_000)ms" } ?? "0"
        case "report_token": reportsToken ? "on" : "off"
        case "notices": sendsNotices ? "on" : "off"
        default: nil
        }
    }

    package static func unknown(_ name: String) -> ErrorMessage {
        ErrorMessage(
            .error,
            .undefinedObject,
            "unrecognized configuration parameter \"slipstream.\(name)\"",
            hint: "There are: \((names + reports).sorted().joined(separator: ", "))."
        )
    }

    private static func flag(_ name: String, _ value: String?) throws(ErrorMessage) -> Bool {
        switch value?.lowercased() {
        case "on", "true", "yes", "1": true
        case "off", "false", "no", "0", nil: false
        case let other?: throw refusal(name, other, "Give on or off.")
        }
    }

    private static func choice<Choice: RawRepresentable<String> & CaseIterable>(
        _ name: String,
        _ value: String?
    ) throws(ErrorMessage) -> Choice? {
        guard let value else { return nil }
        guard let choice = Choice(rawValue: value.lowercased()) else {
            throw refusal(name, value, "Available values: \(Choice.allCases.map(\.rawValue).joined(separator: ", ")).")
        }
        return choice
    }

    package static func refusal(_ name: String, _ value: String, _ hint: String) -> ErrorMessage {
        ErrorMessage(
            .error,
            .invalidParameterValue,
            "invalid value for parameter \"slipstream.\(name)\": \"\(value)\"",
            hint: hint
        )
    }
}

/// The preferences of a session, which a transaction that is rolled back has not changed.
///
/// A savepoint that is gone back to does not take them back.
package final class TransactionalPreferences {
    package private(set) var present = SessionPreferences()
    /// As they were when the transaction began, and as they are when it is committed, if it has changed them.
    private var transaction: (before: SessionPreferences, committed: SessionPreferences)?

    package init() {}

    /// - Parameters:
    ///   - isLocal: to the transaction.
    ///   - isInTransaction: whether one is open.
    package func set(
        _ name: String,
        to value: String?,
        isLocal: Bool = false,
        isInTransaction: Bool
    ) throws(ErrorMessage) {
        var changed = present
        try changed.set(name, to: value)
        // As on a server, which warns.
        guard isInTransaction || !isLocal else { return }
        if isInTransaction {
            var committed = transaction?.committed ?? present
            if !isLocal { try committed.set(name, to: value) }
            transaction = (transaction?.before ?? present, committed)
        }
        present = changed
    }

    /// RESET ALL, or DISCARD ALL.
    package func resetAll(isInTransaction: Bool) {
        if isInTransaction { transaction = (transaction?.before ?? present, SessionPreferences()) }
        present = SessionPreferences()
    }

    package func transactionEnded(isCommitted: Bool) {
        guard let transaction else { return }
        present = isCommitted ? transaction.committed : transaction.before
        self.transaction = nil
    }
}
