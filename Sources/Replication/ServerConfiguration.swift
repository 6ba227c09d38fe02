import Topology

/// What a node's `slipstream.conf` and `pg_hba.conf` say.
///
/// The settings are in a file of their own, which `postgresql.conf` includes with its last line: it is rewritten at every
/// start without reading anybody else's text, ALTER SYSTEM stays the user's, and a directive below the include wins. The
/// include is not `include_if_exists`: without the file a server would start on port 5432.
struct ServerConfiguration: Sendable {
    var node: NodeDescription
    var primary: NodeDescription
    /// Absolute path of the program for `archive_command` and `restore_command`.
    var executable: String
    var archiveDirectory: String
    /// Of a standby: the passfile with the replication role's password.
    var passwordFile: String
    /// Bytes; see `slotCeiling(freeBytes:)`.
    var slotCeiling: UInt64

    static let fileName = "slipstream.conf"
    static let includeLine = "include = '\(fileName)'  # Slipstream's settings; directives below this line win\n"
    static let replicationRole = "slipstream_replication"

    /// How much WAL a standby that is away may keep on the primary before its slot is given up: a quarter of what is
    /// free, between 256 MiB and 16 GiB, rounded down to a power of two so that it does not change with every start.
    ///
    /// Giving a slot up is no loss: the standby goes on from the archive. A full disk stops the primary.
    static func slotCeiling(freeBytes: UInt64) -> UInt64 {
        let bounded = min(max(freeBytes / 4, 256 << 20), 16 << 30)
        return 1 << (63 - UInt64(bounded.leadingZeroBitCount))
    }

    /// Source: PostgreSQL manual, "Server Configuration".
    func settings() -> String {
        var lines: [(String, String)] = [
            ("cluster_name", quoted(node.name)),
            ("listen_addresses", quoted(node.host)),
            ("port", String(node.port)),
            // Paths of sockets are limited to 107 bytes, and the directory's may be longer.
            ("unix_socket_directories", "''"),
            ("password_encryption", "'scram-sha-256'"),
            // The next four must not be lower on a standby than on its primary, so they are the same everywhere.
            ("max_connections", "300"),
            ("max_wal_senders", "32"),
            ("max_worker_processes", "8"),
            ("max_prepared_transactions", "0"),
            ("max_replication_slots", "32"),
            ("wal_level", "replica"),
            ("max_slot_wal_keep_size", "\(slotCeiling >> 20)MB"),
            // Not only "on": what a primary streamed but had not archived when it was lost, its standbys archive.
            ("archive_mode", "always"),
            ("archive_command", quoted(command("archive push", "%p"))),
            ("hot_standby", "on"),
            // A read on a standby is not cancelled because the primary vacuumed the rows it still sees.
            ("hot_standby_feedback", "on"),
            ("wal_retrieve_retry_interval", "500ms"),
            // stderr is a file that Slipstream opens and keeps bounded.
            ("logging_collector", "off"),
            ("log_destination", "'stderr'"),
            ("log_line_prefix", "'%m [%p] '"),
        ]
        switch node.role {
        case .primary:
            break
        case .standby:
            lines.append(("primary_conninfo", quoted(primaryConnection)))
            if let slot = node.slot { lines.append(("primary_slot_name", quoted(slot))) }
            lines.append(("restore_command", quoted(command("archive get", "%f", "%p"))))
        }
        let width = lines.map(\.0.count).max() ?? 0
        let header = """
            # Slipstream writes this file at every start: changes here are lost. To override a setting, put it into
            # postgresql.conf below the include of this file, or use ALTER SYSTEM.

            """
        return header
            + lines.map { name, value in
                name + String(repeating: " ", count: width - name.count) + " = " + value + "\n"
            }.joined()
    }

    /// Only this machine, only with a password.
    ///
    /// By `md5` a password is asked for as it is stored: by SCRAM-SHA-256 unless it came as an MD5 hash, from a dump of an
    /// older server for example.
    ///
    /// Source: PostgreSQL manual, "The pg_hba.conf File". `all` does not include replication connections.
    static let hostBasedAuthentication = """
        # Written by Slipstream when the cluster was made.
        # TYPE  DATABASE     USER                    ADDRESS       METHOD
        host    all          all                     127.0.0.1/32  md5
        host    all          all                     ::1/128       md5
        host    replication  slipstream_replication  127.0.0.1/32  scram-sha-256
        host    replication  slipstream_replication  ::1/128       scram-sha-256

        """

    /// For `pg_basebackup` and `primary_conninfo`; the password comes from the passfile.
    var primaryConnection: String {
        let parts = [
            ("host", primary.host), ("port", String(primary.port)), ("user", ServerConfiguration.replicationRole),
            ("passfile", passwordFile), ("application_name", node.name), ("connect_timeout", "5"),
            ("sslmode", "disable"), ("gssencmode", "disable"),
        ]
        return parts.map { name, value in
            // Source: PostgreSQL manual, "Keyword/Value Connection Strings".
            let escaped = value.replacing("\\", with: "\\\\").replacing("'", with: "\\'")
            return "\(name)='\(escaped)'"
        }.joined(separator: " ")
    }

    /// A shell command. In `archive_command` and `restore_command` a `%` of a path is written twice.
    private func command(_ subcommand: String, _ placeholders: String...) -> String {
        func word(_ text: String) -> String {
            "'" + text.replacing("'", with: "'\\''").replacing("%", with: "%%") + "'"
        }
        let arguments = placeholders.map { "\"\($0)\"" }.joined(separator: " ")
        return "\(word(executable)) \(subcommand) \(arguments) --store \(word(archiveDirectory))"
    }

    /// A string in a configuration file.
    private func quoted(_ text: String) -> String {
        "'" + text.replacing("\\", with: "\\\\").replacing("'", with: "''") + "'"
    }
}
