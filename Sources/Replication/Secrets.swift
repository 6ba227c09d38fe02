package import PostgresClient

/// The generated passwords of a local cluster.
package struct Secrets: Sendable {
    /// Of role `postgres`.
    package let superuser: Secret
    /// Of role `app`.
    package let app: Secret
    /// Of role `slipstream_replication`.
    package let replication: Secret
}

extension ClusterDirectory {
    /// Reads the passwords.
    ///
    /// - Throws: `noCluster` when they were never made; `system` for a user who may not read them.
    package func readSecrets() throws(ReplicationError) -> Secrets {
        Secrets(
            superuser: try readSecret("superuser"),
            app: try readSecret("app"),
            replication: try readSecret("replication")
        )
    }

    private func readSecret(_ name: String) throws(ReplicationError) -> Secret {
        let file = "\(secretsDirectory)/\(name)"
        guard let bytes = try FileSystem.read(file) else {
            throw ReplicationError(
                .noCluster,
                "\"\(file)\" is missing",
                remedy: "Run \"slipstream up\" on the directory first."
            )
        }
        let text = String(decoding: bytes, as: UTF8.self).filter { !$0.isNewline }
        guard !text.isEmpty else { throw ReplicationError(.damaged, "\"\(file)\" is empty") }
        return Secret(text)
    }

    /// Makes the passwords that do not exist yet, and the passfile. Killed in between, the next call completes it.
    ///
    /// A password exists before any server does, so a server never knows one that its file does not hold.
    func ensureSecrets(superuser: String, user: String) throws(ReplicationError) -> Secrets {
        try FileSystem.makeDirectory(secretsDirectory, mode: 0o700)
        for name in ["superuser", "app", "replication"] {
            let file = "\(secretsDirectory)/\(name)"
            if try FileSystem.read(file) == nil {
                try FileSystem.replace(file, with: Array((Secrets.generate() + "\n").utf8), mode: 0o600)
            }
        }
        let secrets = try readSecrets()
        // Source: PostgreSQL manual, "The Password File". Ports change, addresses do not.
        var lines = ""
        for (role, secret) in [(user, secrets.app), (superuser, secrets.superuser)] {
            // The last is the directory of the endpoint's Unix-domain socket.
            for host in ["127.0.0.1", "localhost", "::1", path] {
                let field = host.replacing("\\", with: "\\\\").replacing(":", with: "\\:")
                lines += "\(field):*:*:\(role):\(secret.revealed)\n"
            }
        }
        try FileSystem.replace(passwordFile, with: Array(lines.utf8), mode: 0o600, onlyIfDifferent: true)
        return secrets
    }
}

extension Secrets {
    /// 256 bits from the system's generator, in letters, digits, `-` and `_`: nothing that a URI, a passfile or a
    /// connection string would need to quote.
    static func generate() -> String {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
        var generator = SystemRandomNumberGenerator()
        // 6 bits each.
        return String((0..<43).map { _ in alphabet[Int(generator.next() & 63)] })
    }
}

extension ClusterDescription {
    /// How to reach one node as superuser.
    package func superuserParameters(
        node: NodeDescription,
        secrets: Secrets,
        database: String = "postgres"
    ) -> ConnectionParameters {
        ConnectionParameters(
            host: node.host,
            port: node.port,
            user: superuser,
            database: database,
            password: secrets.superuser
        )
    }
}
