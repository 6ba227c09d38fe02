import Glibc

/// Files whose content survives a power failure once a call returned. Plain system calls: `archive push` runs for every
/// 16 MiB of WAL and should start in milliseconds.
enum DurableFile {
    static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// Writes a small file anew, over whatever lies there, and syncs it (not its directory).
    static func write(_ bytes: [UInt8], to path: String) throws(ArchiveError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw ArchiveError(errno, "create", path) }
        do throws(ArchiveError) {
            try writeAll(bytes[...], to: descriptor, path: path)
            try sync(descriptor, path)
        } catch {
            close(descriptor)
            unlink(path)
            throw error
        }
        try finish(descriptor, path)
    }

    /// The content of a small file (at most 64 KiB of it); `nil` when it does not exist.
    static func readSmall(_ path: String) throws(ArchiveError) -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT || errno == ENOTDIR { return nil }
            throw ArchiveError(errno, "open", path)
        }
        defer { close(descriptor) }
        return try readChunk(descriptor, path, size: 65536)
    }

    /// Up to `size` bytes from the current offset; fewer only at the end of the file.
    static func readChunk(_ descriptor: CInt, _ path: String, size: Int) throws(ArchiveError) -> [UInt8] {
        var failure: Int32?
        let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            count = 0
            while count < size {
                let got = read(descriptor, buffer.baseAddress! + count, size - count)
                if got < 0, errno == EINTR { continue }
                if got < 0 { failure = errno }
                guard got > 0 else { return }
                count += got
            }
        }
        if let failure { throw ArchiveError(failure, "read", path) }
        return bytes
    }

    static func writeAll(_ bytes: ArraySlice<UInt8>, to descriptor: CInt, path: String) throws(ArchiveError) {
        var rest = bytes
        while !rest.isEmpty {
            let written = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if written < 0, errno == EINTR { continue }
            guard written >= 0 else { throw ArchiveError(errno, "write", path) }
            rest = rest.dropFirst(written)
        }
    }

    static func sync(_ descriptor: CInt, _ path: String) throws(ArchiveError) {
        guard fsync(descriptor) == 0 else { throw ArchiveError(errno, "sync", path) }
    }

    /// Closes and checks: network file systems report a failed write here.
    static func finish(_ descriptor: CInt, _ path: String) throws(ArchiveError) {
        guard close(descriptor) == 0 || errno == EINTR else { throw ArchiveError(errno, "close", path) }
    }

    static func syncDirectory(_ path: String) throws(ArchiveError) {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw ArchiveError(errno, "open", path) }
        defer { close(descriptor) }
        // Some network file systems cannot sync a directory and say so; their directory changes are synchronous.
        guard fsync(descriptor) == 0 || errno == EINVAL else { throw ArchiveError(errno, "sync", path) }
    }
}
