import Glibc

/// The right to serve a directory. Held until the last reference is gone or the process ends, however it ends.
package final class DirectoryLock: Sendable {
    private let descriptor: CInt

    fileprivate init(descriptor: CInt) {
        self.descriptor = descriptor
    }

    deinit {
        // The file stays: removing it would let two processes lock two files of the same name.
        ftruncate(descriptor, 0)
        close(descriptor)
    }
}

extension ClusterDirectory {
    /// Locks the directory for this process, making it first if need be.
    ///
    /// - Throws: `foreignDirectory` when it holds something that is not ours, and nothing is touched then;
    ///   `directoryInUse` with the process id of who serves it.
    package func lock() throws(ReplicationError) -> DirectoryLock {
        try refuseForeign()
        try FileSystem.makeDirectory(path, mode: 0o755)
        let descriptor = open(lockFile, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw FileSystem.failure("open", lockFile) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let number = errno
            close(descriptor)
            guard number == EWOULDBLOCK else { throw FileSystem.failure("lock", lockFile, number) }
            let holder = lockedBy().map { " by process \($0)" } ?? ""
            throw ReplicationError(
                .directoryInUse,
                "\"\(path)\" is being served\(holder)",
                remedy: "Stop that with \"slipstream down\", or choose another directory with --dir."
            )
        }
        ftruncate(descriptor, 0)
        let text = Array("\(getpid())\n".utf8)
        _ = pwrite(descriptor, text, text.count, 0)
        return DirectoryLock(descriptor: descriptor)
    }

    /// The process that serves the directory; `nil` when none does.
    package func servingProcess() -> Int32? {
        let descriptor = open(lockFile, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        guard flock(descriptor, LOCK_SH | LOCK_NB) != 0, errno == EWOULDBLOCK else { return nil }
        return lockedBy()
    }

    private func lockedBy() -> Int32? {
        guard let text = (try? FileSystem.readText(lockFile)) ?? nil else { return nil }
        return Int32(text.filter { !$0.isNewline })
    }

    /// A directory is ours when `cluster.json` is there, and may become ours when it is empty but for what a first start
    /// leaves behind when it is killed before it could write that.
    private func refuseForeign() throws(ReplicationError) {
        guard !FileSystem.exists(descriptionFile) else { return }
        if FileSystem.exists(path), !FileSystem.isDirectory(path) {
            throw ReplicationError(.foreignDirectory, "\"\(path)\" is not a directory")
        }
        let strangers = try FileSystem.names(in: path).filter {
            !$0.hasPrefix("slipstream.") && $0 != "cluster.json.new" && $0 != "lost+found"
        }
        guard strangers.isEmpty else {
            throw ReplicationError(
                .foreignDirectory,
                "\"\(path)\" is not empty and holds no cluster of Slipstream's (it has \"\(strangers[0])\")",
                remedy: "Name an empty or a new directory with --dir. Nothing was changed."
            )
        }
    }
}
