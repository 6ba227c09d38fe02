package import HostBasedAuthentication
import PostgresAuth
import PostgresWire

/// Who may log in to the endpoint, and what of it is configured.
package struct LoginPolicy: Sendable {
    package var rules: HostBasedRules
    /// Passwords in clear text, by user: what logs in to the nodes for a client that has shown none.
    package var passwords: Passwords
    /// The addresses of this host with their masks.
    package var networks: @Sendable () -> [AddressRange]

    package init(
        rules: HostBasedRules = .standard,
        passwords: Passwords = Passwords(),
        networks: @escaping @Sendable () -> [AddressRange] = { [] }
    ) {
        self.rules = rules
        self.passwords = passwords
        self.networks = networks
    }

    /// Passwords by user. A secret.
    package struct Passwords: Sendable, Equatable, Redacted {
        private var passwords: [String: String]

        package init(_ passwords: [String: String] = [:]) {
            self.passwords = passwords
        }

        package subscript(user: String) -> String? { passwords[user] }
        package var users: [String] { passwords.keys.sorted() }
    }

    /// What logs in to the nodes for a client that has proven who it is without a password.
    func credential(of role: String, _ stored: StoredPassword?) -> LoginCredential {
        var credential = LoginCredential(password: passwords[role])
        if let password = passwords[role], let stored {
            // Hashed once, instead of at each login to a node.
            credential = stored.credential(for: password, role: role) ?? credential
        }
        if case .md5(let hash) = stored { credential.md5 = hash }
        return credential
    }

    // MARK: - PostgreSQL's words

    static func noEntry(for attempt: HostBasedRules.Attempt) -> ErrorMessage {
        ErrorMessage(.fatal, .invalidAuthorization, "no pg_hba.conf entry for \(text(of: attempt))")
    }

    static func rejection(of attempt: HostBasedRules.Attempt) -> ErrorMessage {
        ErrorMessage(.fatal, .invalidAuthorization, "pg_hba.conf rejects connection for \(text(of: attempt))")
    }

    private static func text(of attempt: HostBasedRules.Attempt) -> String {
        let host = attempt.address?.description ?? "[local]"
        let encryption = attempt.isEncrypted ? "SSL encryption" : "no encryption"
        return "host \"\(host)\", user \"\(attempt.user)\", database \"\(attempt.database)\", \(encryption)"
    }
}
