/// One rule: which connections it is about, and how those have to prove who they are.
package struct HostBasedRule: Sendable, Hashable {
    /// The way a client came.
    package enum Transport: String, Sendable, Hashable {
        /// Through a Unix-domain socket.
        case local
        /// By TCP, encrypted or not.
        case host
        case hostssl
        case hostnossl
        /// By TCP without GSSAPI encryption, which the endpoint knows nothing of: the same as `host`.
        case hostnogssenc
    }

    /// A name, or what stands for some.
    package enum DatabaseName: Sendable, Hashable {
        case all
        /// The database that is called as the user.
        case sameUser
        /// Physical replication, which the endpoint does not serve: never matches.
        case replication
        case named(String)
    }

    package enum UserName: Sendable, Hashable {
        case all
        case named(String)
    }

    package enum Addresses: Sendable, Hashable {
        case all
        /// Any address of this host.
        case sameHost
        /// Any address of a network this host is in.
        case sameNetwork
        case range(AddressRange)
    }

    /// How a client proves who it is.
    package enum Method: String, Sendable, Hashable, CaseIterable {
        /// Not at all.
        case trust
        /// It may not come in.
        case reject
        /// By MD5 where the role's password is stored so, by SCRAM-SHA-256 otherwise.
        case md5
        /// By the password itself.
        case password
        case scramSHA256 = "scram-sha-256"
        /// By a certificate that names the user.
        case certificate = "cert"
    }

    /// Whether a client has to show a certificate besides.
    package enum ClientCertificate: String, Sendable, Hashable {
        /// One that the authority has signed.
        case verifyAuthority = "verify-ca"
        /// One that names the user, too.
        case verifyFull = "verify-full"
    }

    /// Where it stands, from 1.
    package var line: Int
    package var transport: Transport
    package var databases: [DatabaseName]
    package var users: [UserName]
    /// `all` for a `local` rule.
    package var addresses: Addresses
    package var method: Method
    package var clientCertificate: ClientCertificate?

    package init(
        line: Int,
        transport: Transport,
        databases: [DatabaseName] = [.all],
        users: [UserName] = [.all],
        addresses: Addresses = .all,
        method: Method,
        clientCertificate: ClientCertificate? = nil
    ) {
        self.line = line
        self.transport = transport
        self.databases = databases
        self.users = users
        self.addresses = addresses
        self.method = method
        self.clientCertificate = clientCertificate
    }
}

/// Why a line is no rule.
package struct HostBasedRuleProblem: Error, Sendable, Hashable {
    /// From 1.
    package var line: Int
    /// In PostgreSQL's words, where it has some.
    package var message: String
    /// What to do about it.
    package var remedy: String?
}
