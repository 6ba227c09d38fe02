import Glibc

/// One installation of PostgreSQL's programs.
struct PostgresBinaries: Sendable, Equatable {
    /// Absolute.
    var directory: String
    /// As `postgres --version` has it: `15.20`.
    var version: String

    /// `15` of `15.20` and of `15beta1`.
    var majorVersion: Int { Int(version.prefix { $0.isNumber }) ?? 0 }

    /// What we run. `pg_waldump` is what `pg_verifybackup` runs.
    static let programs = ["postgres", "initdb", "pg_basebackup", "pg_verifybackup", "pg_waldump"]

    static let oldestMajorVersion = 13

    func program(_ name: String, user: ServerUser, workingDirectory: String = "/") -> Program {
        Program(path: "\(directory)/\(name)", user: user, workingDirectory: workingDirectory)
    }

    /// Finds an installation.
    ///
    /// - Parameters:
    ///   - requested: `--bindir`: this or none.
    ///   - recorded: What the cluster was made with; taken if it is still there.
    ///   - majorVersion: What an existing cluster needs.
    /// - Throws: `noPostgres`, naming what was looked at and why it was not taken.
    static func find(
        requested: String?,
        recorded: String? = nil,
        majorVersion: Int? = nil,
        user: ServerUser
    ) async throws(ReplicationError) -> PostgresBinaries {
        var rejected: [String] = []
        let candidates: [String]
        if let requested {
            candidates = [FileSystem.absolute(requested)]
        } else {
            candidates = [recorded].compactMap { $0 } + (try await search())
        }
        var seen: Set<String> = []
        for directory in candidates where seen.insert(directory).inserted {
            let missing = programs.filter { access("\(directory)/\($0)", X_OK) != 0 }
            guard missing.isEmpty else {
                rejected.append("\(directory): no \(missing.joined(separator: ", "))")
                continue
            }
            guard let version = try await version(in: directory, user: user) else {
                let who = user.identity.map { "user \"\($0.name)\"" } ?? "this user"
                rejected.append("\(directory): \(who) cannot run postgres there")
                continue
            }
            let found = PostgresBinaries(directory: directory, version: version)
            if let majorVersion, found.majorVersion != majorVersion {
                rejected.append("\(directory): PostgreSQL \(version), but the cluster is of \(majorVersion)")
            } else if found.majorVersion < oldestMajorVersion {
                rejected.append("\(directory): PostgreSQL \(version), older than \(oldestMajorVersion)")
            } else {
                return found
            }
        }
        let wanted = majorVersion.map { "PostgreSQL \($0)" } ?? "PostgreSQL \(oldestMajorVersion) or newer"
        let looked = rejected.isEmpty ? "" : ":\n  " + rejected.joined(separator: "\n  ")
        throw ReplicationError(
            .noPostgres,
            """
            no usable installation of \(wanted); looked at PATH, pg_config and /usr/lib/postgresql/*/bin\(looked)
            """,
            remedy: "Install it (Debian: apt-get install postgresql), or name its programs' directory with --bindir."
        )
    }

    /// Where servers usually are, the most deliberate first. Debian keeps them out of PATH.
    private static func search() async throws(ReplicationError) -> [String] {
        let path = getenv("PATH").map { String(cString: $0) } ?? ""
        var directories = path.split(separator: ":").map(String.init).filter {
            $0.hasPrefix("/") && access("\($0)/postgres", X_OK) == 0 && access("\($0)/initdb", X_OK) == 0
        }
        for directory in path.split(separator: ":") where access("\(directory)/pg_config", X_OK) == 0 {
            let program = Program(path: "\(directory)/pg_config", user: ServerUser(identity: nil))
            if let outcome = try? await program.run(["--bindir"]), outcome.succeeded {
                directories.append(String(outcome.output.prefix { !$0.isNewline }))
            }
            break
        }
        for (root, prefix) in [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")] {
            let versions = ((try? FileSystem.names(in: root)) ?? []).compactMap { name -> (Int, String)? in
                guard name.hasPrefix(prefix), let major = Int(name.dropFirst(prefix.count)) else { return nil }
                return (major, "\(root)/\(name)/bin")
            }
            directories += versions.sorted { $0.0 > $1.0 }.map(\.1)
        }
        return directories + ["/usr/local/pgsql/bin"].filter { FileSystem.isDirectory($0) }
    }

    private static func version(in directory: String, user: ServerUser) async throws(ReplicationError) -> String? {
        let program = Program(path: "\(directory)/postgres", user: user)
        guard let outcome = try? await program.run(["--version"]), outcome.succeeded else { return nil }
        // "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)"
        let words = outcome.output.split(whereSeparator: \.isWhitespace)
        return words.count > 2 && words[1] == "(PostgreSQL)" ? String(words[2]) : nil
    }
}
