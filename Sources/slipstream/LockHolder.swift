import Glibc
import Replication

/// Who serves a directory.
///
/// The lock is the truth, not the number in its file: a process that ended, however it did, holds no lock, and another
/// process may have its number by now.
enum LockHolder {
    /// The process that holds the lock; `nil` when none does. 0 when one does that has not written its number yet.
    static func processIdentifier(of directory: ClusterDirectory) -> Int32? {
        let descriptor = open(directory.lockFile, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        if flock(descriptor, LOCK_SH | LOCK_NB) == 0 { return nil }
        var buffer = [UInt8](repeating: 0, count: 32)
        let count = pread(descriptor, &buffer, buffer.count, 0)
        let digits = buffer.prefix(max(count, 0)).prefix { $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }
        return Int32(String(decoding: digits, as: UTF8.self)) ?? 0
    }
}
