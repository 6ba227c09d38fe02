/// A password or key. It never shows itself in a description, a dump or an interpolated log message; whoever needs the
/// text asks for `revealed` by name.
package struct Secret: Sendable, Hashable {
    /// The text itself. Write it to a wire or to a file of mode 0600, nowhere else.
    package let revealed: String

    package init(_ text: String) {
        revealed = text
    }
}

extension Secret: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    package var description: String { "(redacted)" }
    package var debugDescription: String { "(redacted)" }
    package var customMirror: Mirror { Mirror(self, children: [:]) }
}

/// Where and as whom to connect for administrative SQL.
///
/// Source: PostgreSQL manual, "Database Connection Control Functions", section "Parameter Key Words".
package struct ConnectionParameters: Sendable, Hashable {
    /// A numeric address or a host name. Prefer an address: libpq resolves names synchronously.
    package var host: String
    package var port: UInt16
    package var user: String
    package var database: String
    /// `nil` leaves the choice to libpq (its passfile), as for psql.
    package var password: Secret?
    /// What `pg_stat_activity.application_name` shows.
    package var applicationName: String
    /// Bounds everything from the first packet to the first ReadyForQuery.
    package var connectTimeout: Duration

    package init(
        host: String,
        port: UInt16,
        user: String,
        database: String,
        password: Secret? = nil,
        applicationName: String = "slipstream",
        connectTimeout: Duration = .seconds(5)
    ) {
        self.host = host
        self.port = port
        self.user = user
        self.database = database
        self.password = password
        self.applicationName = applicationName
        self.connectTimeout = connectTimeout
    }
}
