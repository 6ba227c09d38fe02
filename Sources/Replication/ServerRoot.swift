import Glibc

/// Where the servers' files really are.
///
/// The servers must reach their data, the archive and the program for `archive_command`. Run by root on a directory
/// below `/root`, say, they could not: then all three are in a directory of their own, and DIR has symbolic links to it.
struct ServerRoot: Sendable {
    var path: String
    var user: ServerUser

    var executable: String { path + "/bin/slipstream" }

    /// Chooses for a new cluster. Changes nothing.
    static func choose(
        for directory: ClusterDirectory,
        user: ServerUser
    ) async throws(ReplicationError) -> ServerRoot {
        guard user.identity != nil else { return ServerRoot(path: directory.path, user: user) }
        let shell = Program(path: "/bin/sh", user: user)
        let outcome = try await shell.run(["-c", "cd -- \"$1\"", "sh", directory.path])
        if outcome.succeeded { return ServerRoot(path: directory.path, user: user) }
        let name = directory.path.split(separator: "/").last.map(String.init) ?? "cluster"
        let suffix = String((0..<8).map { _ in "0123456789abcdefghijklmnopqrstuvwxyz".randomElement() ?? "0" })
        return ServerRoot(path: "/var/lib/slipstream/\(name)-\(suffix)", user: user)
    }

    /// Makes what is missing: the directories, the links to them, and the copy of the program.
    func prepare(for directory: ClusterDirectory, executable source: String) async throws(ReplicationError) {
        guard !path.contains(where: \.isNewline) else {
            throw ReplicationError(.environment, "a cluster's path must not contain a line break")
        }
        try FileSystem.makeDirectory(path, mode: 0o755)
        try FileSystem.makeDirectory(path + "/nodes", mode: 0o755, owner: user)
        try FileSystem.makeDirectory(path + "/bin", mode: 0o755)
        if path != directory.path {
            for name in ["nodes", "archive", "bin"] {
                let link = "\(directory.path)/\(name)"
                if !FileSystem.exists(link), symlink("\(path)/\(name)", link) != 0 {
                    throw FileSystem.failure("make the symbolic link", link)
                }
            }
        }
        try copyExecutable(from: source)
        try await probeExecutable()
    }

    /// A copy, because a server may not be able to reach the original, and because that may be rebuilt or removed while
    /// servers archive through it.
    private func copyExecutable(from source: String) throws(ReplicationError) {
        guard let original = try FileSystem.read(source) else {
            throw ReplicationError(.environment, "the program \"\(source)\" is missing")
        }
        try FileSystem.replace(executable, with: original, mode: 0o755, onlyIfDifferent: true)
    }

    /// Runs the copy as the servers will: a program that cannot start would stop the archiving silently.
    private func probeExecutable() async throws(ReplicationError) {
        let program = Program(path: executable, user: user)
        let outcome = try await program.run(["archive", "--help"])
        guard outcome.succeeded else {
            let who = user.identity.map { "user \"\($0.name)\"" } ?? "this user"
            throw ReplicationError(
                .environment,
                "\(who) cannot run \"\(executable)\": \(outcome.status)\n\(outcome.output)",
                remedy: "Build Slipstream with --static-swift-stdlib, or install Swift where that user can read it."
            )
        }
    }
}
