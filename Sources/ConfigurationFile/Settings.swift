package import HostBasedAuthentication
package import ProxyCore

/// What a configuration file says; `nil` where it says nothing and another place has the default.
package struct Settings: Sendable, Equatable {
    /// How bytes are moved.
    package enum InputOutput: String, Sendable, CaseIterable {
        case auto
        case uring
        case epoll
    }

    package var listenAddresses: [String]?
    package var listenPort: UInt16?
    /// Empty: no Unix-domain socket.
    package var unixSocketDirectory: String?
    package var workers: Int?
    package var inputOutput: InputOutput?
    package var pooling = PoolingConfiguration()
    package var routing = RoutingMode.on
    package var consistency = Consistency.session
    package var pinTime: Duration?
    package var primaryWait: Duration = .seconds(10)
    package var clientTLS = TLSSettings()
    package var serverTLS = TLSSettings()
    /// Of users, in clear text, for nodes.
    package var passwords = LoginPolicy.Passwords()
    /// `nil`: the standard rules hold.
    package var rules: HostBasedRules?

    package init() {}
}

/// The TLS keys of one side. Files are known to exist, and no more.
package struct TLSSettings: Sendable, Equatable {
    package enum Mode: String, Sendable, CaseIterable {
        case disable
        case allow
        case prefer
        case require
        case verifyAuthority = "verify-ca"
        case verifyFull = "verify-full"
    }

    package var mode: Mode?
    package var certificateFile: String?
    package var keyFile: String?
    package var authorityFile: String?
    package var protocols: String?
    package var ciphers: String?

    package init() {}
}

/// The files a configuration names.
package protocol ConfigurationFiles {
    func exists(_ path: String) -> Bool
    /// Throws an error that describes itself to a person.
    func read(_ path: String) throws -> String
}
