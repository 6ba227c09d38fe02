import Glibc

/// A pair of sockets that wakes a poll(2) in another thread, once and for good.
///
/// A pipe would do as well, but `pipe2` is not in Swift's view of glibc, and without it a server started at the wrong
/// moment would inherit both ends.
final class Interruption: Sendable {
    /// Becomes readable when `raise()` was called.
    let readEnd: CInt
    private let writeEnd: CInt

    init() throws(DatabaseError) {
        var ends: [CInt] = [-1, -1]
        let type = SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue
        guard socketpair(AF_UNIX, CInt(type), 0, &ends) == 0 else {
            throw DatabaseError(
                kind: .connect,
                message: "cannot make a pair of sockets: \(String(cString: strerror(errno)))",
                hint: "Raise the limit on open files (ulimit -n)."
            )
        }
        readEnd = ends[0]
        writeEnd = ends[1]
    }

    deinit {
        _ = Glibc.close(readEnd)
        _ = Glibc.close(writeEnd)
    }

    func raise() {
        var byte: UInt8 = 1
        _ = write(writeEnd, &byte, 1)
    }
}
