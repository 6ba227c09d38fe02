import Glibc

/// A server that runs although no Slipstream is its parent: the one before this was killed.
struct OrphanedServer: Sendable, Equatable {
    var processIdentifier: Int32

    /// Finds the live postmaster of a data directory.
    ///
    /// `postmaster.pid` may be left over and its process id in use by another program, so the process must also work in
    /// that directory, as a postmaster does. Source: PostgreSQL manual, "Database File Layout".
    init?(dataDirectory: String) {
        guard let text = (try? FileSystem.readText(dataDirectory + "/postmaster.pid")) ?? nil,
            let line = text.split(separator: "\n").first,
            let identifier = Int32(line), identifier > 1, identifier != getpid()
        else { return nil }
        guard let actual = OrphanedServer.realPath("/proc/\(identifier)/cwd"),
            actual == OrphanedServer.realPath(dataDirectory)
        else { return nil }
        processIdentifier = identifier
    }

    private static func realPath(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    /// A zombie is dead: in a container nobody may reap it.
    var isAlive: Bool {
        guard kill(processIdentifier, 0) == 0 || errno == EPERM else { return false }
        let status = (try? FileSystem.readText("/proc/\(processIdentifier)/stat")) ?? nil
        // "4711 (postgres) S 1 …": proc(5). The name may hold a parenthesis itself.
        return status?.split(separator: ")").last?.hasPrefix(" Z") == false
    }

    /// Stops it as `pg_ctl stop -m fast` does, and less politely when it does not comply.
    func stop() async throws(ReplicationError) {
        for (signal, patience) in StopStep.all {
            kill(processIdentifier, signal)
            let deadline = ContinuousClock.now + patience
            while ContinuousClock.now < deadline {
                guard isAlive else { return }
                try? await Task.sleep(for: .milliseconds(20))
            }
        }
        throw ReplicationError(.serverFailed, "the server with process id \(processIdentifier) does not stop")
    }
}

/// How a server is made to stop. Source: PostgreSQL manual, "Shutting Down the Server".
enum StopStep {
    /// Fast: sessions end, a checkpoint is written, the standbys get it. Immediate: recovery at the next start. Kill.
    static let all: [(signal: Int32, patience: Duration)] = [
        (SIGINT, .seconds(60)), (SIGQUIT, .seconds(10)), (SIGKILL, .seconds(10)),
    ]
}
