import FoundationEssentials
import Glibc
import Monitor
import Replication
import Synchronization

/// What `status.json` is worth.
enum StatusReading {
    /// Written within the last seconds by the process that serves.
    case fresh(ClusterStatus)
    /// A process holds the directory, but has written nothing yet: it starts.
    case starting(pid: Int32)
    /// The process that serves has stopped writing.
    case stale(ClusterStatus, age: Double)
    case notRunning
}

/// `status.json`: written by `up` at least every second, believed only while its writer lives.
struct StatusFile {
    /// Three missed writes.
    private static let freshness = 3.5

    let directory: ClusterDirectory

    /// One writer at a time: they share the name of the temporary file.
    private static let writing = Mutex(())

    /// Replaces the file in one step: a reader sees the old one or the new one.
    func write(_ status: ClusterStatus) throws {
        let temporary = directory.statusFile + ".new"
        let json = try status.json()
        try Self.writing.withLock { _ in
            try json.write(to: URL(filePath: temporary))
            guard rename(temporary, directory.statusFile) == 0 else {
                throw CommandFailure("cannot replace \(directory.statusFile): \(String(cString: strerror(errno)))")
            }
        }
    }

    func remove() {
        unlink(directory.statusFile)
    }

    func read() -> StatusReading {
        guard let holder = LockHolder.processIdentifier(of: directory) else { return .notRunning }
        guard let data = try? Data(contentsOf: URL(filePath: directory.statusFile)),
            let status = try? ClusterStatus(json: data),
            status.pid == holder
        else { return .starting(pid: holder) }
        let age = Date.now.timeIntervalSince(status.updatedAt)
        return age > Self.freshness ? .stale(status, age: age) : .fresh(status)
    }

    /// The status of a cluster that is being served, or the reason why there is none.
    func current() throws -> ClusterStatus {
        switch read() {
        case .fresh(let status):
            return status
        case .starting(let pid):
            throw CommandFailure("the cluster in \"\(directory.path)\" is starting or stopping (pid \(pid))")
        case .stale(let status, let age):
            throw CommandFailure(
                "slipstream (pid \(status.pid)) has said nothing for \(Int(age)) s",
                remedy: "See \"\(directory.logFile)\", and whether the process is stopped."
            )
        case .notRunning:
            // Tells apart a directory without a cluster.
            _ = try directory.readDescription()
            throw CommandFailure(
                "no slipstream serves \"\(directory.path)\"",
                remedy: "Start it with \"slipstream up --dir \(directory.path)\"."
            )
        }
    }
}
