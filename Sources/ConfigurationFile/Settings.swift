package import HostBasedAuthentication
package import ProxyCore
package import Topology

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
    package var transactions = TransactionRouting.primary
    package var primaryWait: Duration = .seconds(10)
    /// How far a standby may be behind and serve reads, unless `nodes` says otherwise.
    package var maxLag = MaxLag()
    package var nodes: [String: NodeSettings] = [:]
    package var clientTLS = TLSSettings()
    package var serverTLS = TLSSettings()
    /// Of users, in clear text, for nodes.
    package var passwords = LoginPolicy.Passwords()
    /// `nil`: the standard rules hold.
    package var rules: HostBasedRules?

    package init() {}
}

/// What a node has of its own.
package struct NodeSettings: Sendable, Equatable {
    /// In place of everybody's.
    package var maxLag: MaxLag?
    /// Where the file says so.
    package var line: Int?

    package init(maxLag: MaxLag? = nil, line: Int? = nil) {
        self.maxLag = maxLag
        self.line = line
    }
}

extension Settings {
    /// How far each node of a cluster may be behind and serve reads.
    ///
    /// - Parameters:
    ///   - names: of all its nodes.
    ///   - file: name of the file that was read, for messages.
    /// - Throws: what is said of nodes that it does not have. No file can tell: which there are is a matter of the cluster.
    package func maxLags(ofNodes names: [String], file: String) throws(ConfigurationProblems) -> [MaxLag] {
        let problems = nodes.filter { !names.contains($0.key) }.sorted { ($0.value.line ?? 0) < ($1.value.line ?? 0) }
            .map { name, node in
                ConfigurationProblem(
                    file: file,
                    line: node.line,
                    key: "nodes.\(name).max_lag",
                    message: "the cluster has no node of this name",
                    remedy: "Its nodes are \(names.joined(separator: ", "))."
                )
            }
        guard problems.isEmpty else { throw ConfigurationProblems(problems: problems) }
        return names.map { nodes[$0]?.maxLag ?? maxLag }
    }
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
