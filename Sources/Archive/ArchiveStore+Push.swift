import Glibc

extension ArchiveStore {
    private static let chunkSize = 1 << 20

    /// Archives one file. See `ArchiveStore` for what a return means.
    ///
    /// - Parameters:
    ///   - walFile: What `%p` gave: a path, relative to the data directory that is the current directory.
    ///   - name: The name to store it under; the last component of `walFile` unless given.
    @discardableResult
    package func push(_ walFile: String, name: String? = nil) throws(ArchiveError) -> PushOutcome {
        let text = name ?? String(walFile.split(separator: "/").last ?? "")
        guard let name = WALFileName(text) else {
            throw ArchiveError(
                code: .badName,
                message: "\"\(text)\" is not a name of a WAL segment, timeline history or backup history file"
            )
        }
        let system = try systemIdentifier()
        let source = open(walFile, O_RDONLY | O_CLOEXEC)
        guard source >= 0 else { throw ArchiveError(errno, "open", walFile) }
        defer { close(source) }
        let size = try fileSize(source, walFile)
        let head = try DurableFile.readChunk(source, walFile, size: WALSegmentHeader.size)
        try verify(header: head, size: size, name: name, path: walFile, systemIdentifier: system)

        if try confirmStored(name, equals: source, walFile) {
            // A push that was killed between its link and its return may have left its temporary file behind.
            removeLeftovers(of: name)
            return .alreadyStored
        }
        removeLeftovers(of: name)
        return try store(source, walFile, as: name)
    }

    /// Copies to a temporary name, makes that durable, and gives it its final name if nobody else has it by now.
    private func store(_ source: CInt, _ sourcePath: String, as name: WALFileName) throws(ArchiveError) -> PushOutcome {
        let (descriptor, temporary) = try createTemporary(for: name)
        // Closing ends the lock that keeps others from taking the file for a leftover: unlink first.
        defer {
            unlink(temporary)
            close(descriptor)
        }
        try rewind(source, sourcePath)
        while true {
            let chunk = try DurableFile.readChunk(source, sourcePath, size: ArchiveStore.chunkSize)
            guard !chunk.isEmpty else { break }
            try DurableFile.writeAll(chunk[...], to: descriptor, path: temporary)
        }
        try DurableFile.sync(descriptor, temporary)

        let final = path(name.text)
        // Unlike rename(2), link(2) never replaces a file.
        if link(temporary, final) != 0 {
            guard errno == EEXIST else { throw ArchiveError(errno, "create", final) }
            guard try confirmStored(name, equals: source, sourcePath) else {
                throw ArchiveError(ENOENT, "read", final)
            }
            return .alreadyStored
        }
        unlink(temporary)
        try DurableFile.syncDirectory(directory)
        return .stored
    }

    /// Whether the same content is in the archive already, and durably. Throws `conflict` for other content.
    private func confirmStored(
        _ name: WALFileName,
        equals source: CInt,
        _ sourcePath: String
    ) throws(ArchiveError) -> Bool {
        let final = path(name.text)
        let stored = open(final, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard stored >= 0 else {
            if errno == ENOENT { return false }
            throw ArchiveError(errno, "open", final)
        }
        defer { close(stored) }
        try rewind(source, sourcePath)
        while true {
            let left = try DurableFile.readChunk(stored, final, size: ArchiveStore.chunkSize)
            let right = try DurableFile.readChunk(source, sourcePath, size: ArchiveStore.chunkSize)
            guard left == right else {
                throw ArchiveError(
                    code: .conflict,
                    message: "the archive \"\(directory)\" already holds other content under the name \(name.text)",
                    remedy: """
                        Two servers have written the same part of one timeline, or the archived file is damaged. \
                        Compare "\(final)" with "\(sourcePath)" (pg_waldump), and take the wrong server out of service.
                        """
                )
            }
            if left.isEmpty { break }
        }
        // Whoever stored it may have been killed before its sync of the directory.
        try DurableFile.sync(stored, final)
        try DurableFile.syncDirectory(directory)
        return true
    }

    private func rewind(_ descriptor: CInt, _ path: String) throws(ArchiveError) {
        guard lseek(descriptor, 0, SEEK_SET) == 0 else { throw ArchiveError(errno, "read", path) }
    }

    func fileSize(_ descriptor: CInt, _ path: String) throws(ArchiveError) -> UInt64 {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw ArchiveError(errno, "read", path) }
        return UInt64(status.st_size)
    }

    // MARK: - Temporary files

    private func temporaryPrefix(of name: WALFileName) -> String { ".\(name.text).push." }

    /// Makes a temporary file and locks it for as long as its descriptor is open: an unlocked one is a leftover.
    private func createTemporary(for name: WALFileName) throws(ArchiveError) -> (descriptor: CInt, path: String) {
        while true {
            // Not only the process id: on a shared file system other hosts have the same ones.
            let unique = "\(getpid()).\(UInt64.random(in: .min ... .max))"
            let temporary = path(temporaryPrefix(of: name) + unique)
            let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
            guard descriptor >= 0 else { throw ArchiveError(errno, "create", temporary) }
            var status = stat()
            if flock(descriptor, LOCK_EX | LOCK_NB) == 0, fstat(descriptor, &status) == 0, status.st_nlink > 0 {
                return (descriptor, temporary)
            }
            // A concurrent push took it for a leftover in the moment before the lock.
            unlink(temporary)
            close(descriptor)
        }
    }

    /// Removes what killed pushes of the same name left behind. Best effort: a leftover harms nobody.
    private func removeLeftovers(of name: WALFileName) {
        guard let names = try? names() else { return }
        for leftover in names where leftover.hasPrefix(temporaryPrefix(of: name)) {
            let descriptor = open(path(leftover), O_WRONLY | O_CLOEXEC)
            guard descriptor >= 0 else { continue }
            if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { unlink(path(leftover)) }
            close(descriptor)
        }
    }
}
