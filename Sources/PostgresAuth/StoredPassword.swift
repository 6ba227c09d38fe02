/// What a server keeps of a role's password, in whichever form.
package enum StoredPassword: Sendable, Redacted {
    case scram(SCRAMVerifier)
    case md5(MD5Password)

    /// Reads the text of `pg_authid.rolpassword`; `nil` for a role without a password, and for text that is neither.
    package init?(_ text: String?) {
        guard let text else { return nil }
        if let verifier = SCRAMVerifier(text) {
            self = .scram(verifier)
        } else if let hash = MD5Password(text) {
            self = .md5(hash)
        } else {
            return nil
        }
    }

    /// One nobody has the password of, for a role that is unknown or has none.
    ///
    /// - Parameters:
    ///   - secret: random, and the same for the life of the process.
    ///   - isMD5: costs what a hash by MD5 costs, instead of a verifier.
    package static func mock(role: String, secret: [UInt8], isMD5: Bool) -> StoredPassword {
        isMD5 ? .md5(.mock(role: role, secret: secret)) : .scram(.mock(role: role, secret: secret))
    }

    package var verifier: SCRAMVerifier? {
        if case .scram(let verifier) = self { verifier } else { nil }
    }

    /// What the password of a client that sent it itself opens; `nil` when it is wrong. Costs what hashing it costs, and
    /// tells nothing by the time it takes.
    package func credential(for password: String, role: String) -> LoginCredential? {
        switch self {
        case .scram(let verifier):
            let key = ClientKey(password: password, verifier: verifier)
            return key.opens(verifier) ? LoginCredential(password: password, key: key, verifier: verifier) : nil
        case .md5(let hash):
            guard hash.isHash(of: password, role: role) else { return nil }
            return LoginCredential(password: password, md5: hash)
        }
    }
}

/// What `pg_authid` says of a role's password, and what to make of a role it says nothing of.
package struct RolePassword: Sendable, Redacted {
    /// `rolpassword`; `nil` for a role that is unknown or has no password that counts.
    package var text: String?
    /// New passwords are hashed by MD5 (`password_encryption`): then a role that is unknown is asked like one of those.
    package var isMD5ByDefault: Bool

    package init(text: String?, isMD5ByDefault: Bool = false) {
        self.text = text
        self.isMD5ByDefault = isMD5ByDefault
    }
}

/// What there is to log in to a node with, as far as it is known. A secret.
package struct LoginCredential: Sendable, Redacted {
    /// In clear text: the client sent it, or it is configured.
    package var password: String?
    /// What the client has proven to hold.
    package var key: ClientKey?
    /// Goes with the key.
    package var verifier: SCRAMVerifier?
    package var md5: MD5Password?

    package init(
        password: String? = nil,
        key: ClientKey? = nil,
        verifier: SCRAMVerifier? = nil,
        md5: MD5Password? = nil
    ) {
        self.password = password
        self.key = key
        self.verifier = verifier
        self.md5 = md5
    }

    /// Nothing is known: only a node that trusts can be logged in to.
    package var isEmpty: Bool { password == nil && key == nil && md5 == nil }

    /// What answers a challenge by SCRAM; `nil` when there is nothing.
    package var scram: SCRAMClient.Credential? {
        if let key { return .key(key, verifier) }
        return password.map { .password($0) }
    }

    /// What answers a challenge by MD5; `nil` when there is nothing.
    package func md5(role: String) -> MD5Password? {
        md5 ?? password.map { MD5Password(password: $0, role: role) }
    }
}
