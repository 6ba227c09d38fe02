import Glibc

/// A server's log: one file that the server appends to, and one older.
struct ServerLog: Sendable {
    static let limit = 16 << 20

    var path: String

    /// Moves the content to `….1` when the file has grown past the limit.
    ///
    /// The server keeps its descriptor, so the content is copied and the file cut. Because it was opened for appending, the
    /// server goes on at the new end; lines written between the copy and the cut are lost.
    func bound(limit: Int = ServerLog.limit) throws(ReplicationError) {
        var status = stat()
        guard stat(path, &status) == 0, status.st_size > limit else { return }
        if let content = try FileSystem.read(path) {
            try FileSystem.replace(path + ".1", with: content, mode: 0o640)
        }
        guard truncate(path, 0) == 0 else { throw FileSystem.failure("cut", path) }
    }

    /// The last lines, for an error message.
    func tail(lines: Int = 10) -> String {
        let text = ((try? FileSystem.readText(path)) ?? nil) ?? ""
        return text.split(separator: "\n").suffix(lines).joined(separator: "\n")
    }
}
