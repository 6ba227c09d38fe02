import Glibc

extension ArchiveStore {
    /// Copies one file out of the archive for `restore_command`.
    ///
    /// PostgreSQL asks for files that may not exist and takes "missing" for an answer, so that answer is quick: one
    /// failed open(2). (PostgreSQL manual, "Recovering Using a Continuous Archive Backup".)
    ///
    /// - Parameters:
    ///   - name: What `%f` gave.
    ///   - target: What `%p` gave. It is replaced only by a complete, verified and durable copy.
    package func get(_ name: String, to target: String) throws(ArchiveError) -> GetOutcome {
        guard let fileName = WALFileName(name) else {
            throw ArchiveError(code: .badName, message: "\"\(name)\" is not a name of a file that PostgreSQL archives")
        }
        let stored = path(fileName.text)
        let source = open(stored, O_RDONLY | O_CLOEXEC)
        guard source >= 0 else {
            guard errno == ENOENT else { throw ArchiveError(errno, "open", stored) }
            // Missing from the archive is an answer; a missing archive is an error.
            _ = try systemIdentifier()
            return .missing
        }
        defer { close(source) }
        let size = try fileSize(source, stored)
        let temporary = "\(target).get.\(getpid())"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw ArchiveError(errno, "create", temporary) }
        do throws(ArchiveError) {
            try copy(source, stored, fileName, size: size, to: descriptor, temporary)
        } catch {
            close(descriptor)
            unlink(temporary)
            throw error
        }
        try DurableFile.finish(descriptor, temporary)
        guard rename(temporary, target) == 0 else {
            let number = errno
            unlink(temporary)
            throw ArchiveError(number, "create", target)
        }
        try DurableFile.syncDirectory(DurableFile.parent(of: target))
        return .found
    }

    private func copy(
        _ source: CInt,
        _ sourcePath: String,
        _ name: WALFileName,
        size: UInt64,
        to target: CInt,
        _ targetPath: String
    ) throws(ArchiveError) {
        var chunk = try DurableFile.readChunk(source, sourcePath, size: 1 << 20)
        try verify(
            header: chunk,
            size: size,
            name: name,
            path: sourcePath,
            systemIdentifier: try systemIdentifier()
        )
        var copied: UInt64 = 0
        while !chunk.isEmpty {
            try DurableFile.writeAll(chunk[...], to: target, path: targetPath)
            copied += UInt64(chunk.count)
            chunk = try DurableFile.readChunk(source, sourcePath, size: 1 << 20)
        }
        guard copied == size else {
            throw ArchiveError(code: .damaged, message: "\"\(sourcePath)\" changed while it was read")
        }
        try DurableFile.sync(target, targetPath)
    }
}
