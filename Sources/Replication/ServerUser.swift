import Glibc

/// As whom the servers and PostgreSQL's programs run. PostgreSQL refuses to run as root.
struct ServerUser: Sendable, Equatable {
    struct Identity: Sendable, Equatable {
        var name: String
        var userID: uid_t
        var groupID: gid_t
    }

    /// `nil`: as the user that runs Slipstream.
    var identity: Identity?

    /// Chooses: the current user, or, for root, `postgres` if there is one and `nobody` if not.
    static func current() throws(ReplicationError) -> ServerUser {
        guard geteuid() == 0 else { return ServerUser(identity: nil) }
        for name in ["postgres", "nobody"] {
            if let identity = Identity(name: name) { return ServerUser(identity: identity) }
        }
        throw ReplicationError(
            .environment,
            "PostgreSQL does not run as root, and there is neither a user \"postgres\" nor a user \"nobody\"",
            remedy: "Make one (useradd --system postgres), or run Slipstream as another user."
        )
    }
}

// MARK: - Running as this user

extension ServerUser {
    /// Becomes another user and then runs a program, under the same process number (util-linux, setpriv(1)).
    ///
    /// A child of a process with several threads must not do this between fork and exec: glibc's `setuid` waits there for
    /// threads that the child does not have, and sometimes for ever.
    private static let setpriv = "/usr/bin/setpriv"

    /// What to execute in order to run a program as this user.
    func executable(for program: String) -> String {
        identity == nil ? program : Self.setpriv
    }

    /// The arguments that go with `executable(for:)`.
    func arguments(for program: String, _ arguments: [String]) -> [String] {
        guard let identity else { return arguments }
        let change = ["--reuid=\(identity.userID)", "--regid=\(identity.groupID)", "--clear-groups"]
        return change + ["--", program] + arguments
    }
}

extension ServerUser.Identity {
    /// Looks a user up; `nil` when there is none of that name, or when it is root.
    init?(name: String) {
        var entry = passwd()
        var found: UnsafeMutablePointer<passwd>?
        var buffer = [CChar](repeating: 0, count: 16384)
        guard getpwnam_r(name, &entry, &buffer, buffer.count, &found) == 0, found != nil, entry.pw_uid != 0 else {
            return nil
        }
        self.init(name: name, userID: entry.pw_uid, groupID: entry.pw_gid)
    }
}
