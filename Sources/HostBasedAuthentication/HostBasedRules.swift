/// Who may log in, from where, to what and how: the rules of PostgreSQL's `pg_hba.conf`. The first that matches decides.
///
/// Source: PostgreSQL manual, "The pg_hba.conf File".
package struct HostBasedRules: Sendable, Hashable {
    package var rules: [HostBasedRule]

    package init(_ rules: [HostBasedRule]) {
        self.rules = rules
    }

    /// What holds when nothing is configured: everybody may log in with a password, however it is stored.
    package static let standard = HostBasedRules([
        HostBasedRule(line: 1, transport: .local, method: .md5),
        HostBasedRule(line: 2, transport: .host, method: .md5),
    ])

    /// A connection that wants to be let in.
    package struct Attempt: Sendable, Hashable {
        /// `nil` for a Unix-domain socket.
        package var address: NetworkAddress?
        package var isEncrypted: Bool
        package var database: String
        package var user: String

        package init(address: NetworkAddress?, isEncrypted: Bool = false, database: String, user: String) {
            self.address = address
            self.isEncrypted = isEncrypted
            self.database = database
            self.user = user
        }
    }

    /// The rule that decides; `nil` when none is about this connection, which is then refused.
    ///
    /// - Parameter networks: the addresses of this host with their masks. Asked only when a rule needs them.
    package func first(matching attempt: Attempt, networks: () -> [AddressRange]) -> HostBasedRule? {
        rules.first { $0.matches(attempt, networks: networks) }
    }
}

extension HostBasedRule {
    func matches(_ attempt: HostBasedRules.Attempt, networks: () -> [AddressRange]) -> Bool {
        matchesTransport(attempt, networks: networks)
            && databases.contains { $0.matches(attempt.database, user: attempt.user) }
            && users.contains { $0.matches(attempt.user) }
    }

    private func matchesTransport(_ attempt: HostBasedRules.Attempt, networks: () -> [AddressRange]) -> Bool {
        guard let address = attempt.address else { return transport == .local }
        switch transport {
        case .local: return false
        case .hostssl where !attempt.isEncrypted: return false
        case .hostnossl where attempt.isEncrypted: return false
        case .host, .hostssl, .hostnossl, .hostnogssenc: break
        }
        switch addresses {
        case .all: return true
        case .sameHost: return networks().contains { $0.address == address }
        case .sameNetwork: return networks().contains { $0.contains(address) }
        case .range(let range): return range.contains(address)
        }
    }
}

extension HostBasedRule.DatabaseName {
    func matches(_ database: String, user: String) -> Bool {
        switch self {
        case .all: true
        case .sameUser: database.isSame(as: user)
        case .replication: false
        case .named(let name): database.isSame(as: name)
        }
    }
}

extension HostBasedRule.UserName {
    func matches(_ user: String) -> Bool {
        switch self {
        case .all: true
        case .named(let name): user.isSame(as: name)
        }
    }
}

extension String {
    /// Byte by byte, as PostgreSQL compares names: to `==` an "é" and an "e" with its accent behind are the same, and they
    /// are different roles.
    fileprivate func isSame(as other: String) -> Bool {
        utf8.elementsEqual(other.utf8)
    }
}
