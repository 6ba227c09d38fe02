import Glibc

/// Held while a program makes a data directory, by that program too: it outlives us when we are killed.
///
/// The program gets the locked file as its stdin. A flock(2) lock belongs to the open file, so it ends when the last of
/// us that has it open ends, however that is; only then may what was half-made be removed.
final class MakerLock: Sendable {
    private let descriptor: CInt

    private init(descriptor: CInt) {
        self.descriptor = descriptor
    }

    deinit {
        close(descriptor)
    }

    /// Waits until no program of a killed Slipstream is at work any more.
    static func take(_ path: String) async throws -> MakerLock {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw FileSystem.failure("open", path) }
        let lock = MakerLock(descriptor: descriptor)
        let deadline = ContinuousClock.now + .seconds(120)
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            guard errno == EWOULDBLOCK || errno == EINTR else { throw FileSystem.failure("lock", path) }
            guard ContinuousClock.now < deadline else {
                throw ReplicationError(
                    .environment,
                    "a program that a killed Slipstream started still works in \"\(FileSystem.parent(of: path))\"",
                    remedy: "Find it with \"fuser -v \(path)\", and stop it."
                )
            }
            try await Task.sleep(for: .milliseconds(20))
        }
        return lock
    }

    /// For a program's stdin. The caller closes it.
    func duplicate() -> CInt {
        fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
    }
}
