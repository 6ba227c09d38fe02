import Glibc

/// What the operating system offers, with errors that name the path. All writes are durable when they return.
enum FileSystem {
    /// `path` with the current directory before it unless it is absolute, `.` and `..` resolved by name.
    static func absolute(_ path: String) -> String {
        var base = ""
        if !path.hasPrefix("/"), let current = getcwd(nil, 0) {
            base = String(cString: current)
            free(current)
        }
        var parts: [Substring] = []
        for part in (base + "/" + path).split(separator: "/") where part != "." {
            if part == ".." {
                _ = parts.popLast()
            } else {
                parts.append(part)
            }
        }
        return "/" + parts.joined(separator: "/")
    }

    static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return "/" }
        return String(path[..<slash])
    }

    static func failure(_ action: String, _ path: String, _ number: Int32 = errno) -> ReplicationError {
        ReplicationError(.system, "cannot \(action) \"\(path)\": \(String(cString: strerror(number)))")
    }

    // MARK: - Asking

    static func exists(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0
    }

    static func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// The names in a directory, sorted; none when it does not exist.
    static func names(in path: String) throws(ReplicationError) -> [String] {
        guard let stream = opendir(path) else {
            if errno == ENOENT { return [] }
            throw failure("list", path)
        }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { tuple in
                tuple.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// A whole file; `nil` when it does not exist.
    static func read(_ path: String) throws(ReplicationError) -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT || errno == ENOTDIR { return nil }
            throw failure("read", path)
        }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw failure("read", path) }
            guard count > 0 else { return bytes }
            bytes += chunk[..<count]
        }
    }

    static func readText(_ path: String) throws(ReplicationError) -> String? {
        try read(path).map { String(decoding: $0, as: UTF8.self) }
    }

    /// Bytes that an ordinary user may still write to the file system of `path`.
    static func freeBytes(at path: String) -> UInt64 {
        var status = statvfs()
        guard statvfs(path, &status) == 0 else { return 0 }
        return UInt64(status.f_bavail) * UInt64(status.f_frsize)
    }

    // MARK: - Changing

    /// Makes a directory and those above it. One that exists keeps its mode; its owner is set again, because whoever made
    /// it may have been killed before it could.
    static func makeDirectory(_ path: String, mode: mode_t, owner: ServerUser? = nil) throws(ReplicationError) {
        if mkdir(path, mode) != 0 {
            switch errno {
            case EEXIST where isDirectory(path):
                try give(path, to: owner)
                return
            case ENOENT where path != "/":
                try makeDirectory(parent(of: path), mode: 0o755)
                try makeDirectory(path, mode: mode, owner: owner)
                return
            default: throw failure("make the directory", path)
            }
        }
        // Whatever the umask was: the servers' user must get in.
        guard chmod(path, mode) == 0 else { throw failure("set the mode of", path) }
        try give(path, to: owner)
        try syncDirectory(parent(of: path))
    }

    static func give(_ path: String, to owner: ServerUser?) throws(ReplicationError) {
        guard let identity = owner?.identity else { return }
        guard lchown(path, identity.userID, identity.groupID) == 0 else { throw failure("change the owner of", path) }
    }

    /// Replaces a file: a reader sees the old content or the new, before and after a power failure.
    static func replace(
        _ path: String,
        with bytes: [UInt8],
        mode: mode_t,
        owner: ServerUser? = nil,
        onlyIfDifferent: Bool = false
    ) throws(ReplicationError) {
        if onlyIfDifferent, try read(path) == bytes { return }
        let temporary = "\(path).new"
        unlink(temporary)
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
        guard descriptor >= 0 else { throw failure("create", temporary) }
        do throws(ReplicationError) {
            defer { close(descriptor) }
            guard fchmod(descriptor, mode) == 0 else { throw failure("set the mode of", temporary) }
            // By descriptor: the servers' user may write in that directory, and could put a link there meanwhile.
            if let identity = owner?.identity, fchown(descriptor, identity.userID, identity.groupID) != 0 {
                throw failure("change the owner of", temporary)
            }
            var rest = bytes[...]
            while !rest.isEmpty {
                let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
                if count < 0, errno == EINTR { continue }
                guard count >= 0 else { throw failure("write", temporary) }
                rest = rest.dropFirst(count)
            }
            guard fsync(descriptor) == 0 else { throw failure("sync", temporary) }
        } catch {
            unlink(temporary)
            throw error
        }
        try rename(temporary, to: path)
    }

    static func rename(_ old: String, to new: String) throws(ReplicationError) {
        guard Glibc.rename(old, new) == 0 else { throw failure("rename to \"\(new)\" the file", old) }
        try syncDirectory(parent(of: new))
    }

    static func syncDirectory(_ path: String) throws(ReplicationError) {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure("open", path) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 || errno == EINVAL else { throw failure("sync", path) }
    }

    static func remove(_ path: String) throws(ReplicationError) {
        guard unlink(path) == 0 || errno == ENOENT else { throw failure("remove", path) }
    }

    /// Removes a directory that this program was making when it was killed, with all that is in it. Symbolic links are
    /// removed, not followed.
    static func removePartial(_ path: String) throws(ReplicationError) {
        precondition(path.hasSuffix(".partial"), "only half-made directories of ours are ever removed")
        try removeTree(path)
    }

    private static func removeTree(_ path: String) throws(ReplicationError) {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            if errno == ENOENT { return }
            throw failure("read", path)
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            try remove(path)
            return
        }
        for name in try names(in: path) {
            try removeTree(path + "/" + name)
        }
        guard rmdir(path) == 0 else { throw failure("remove", path) }
    }
}
