import Glibc

/// A directory of archived WAL that belongs to one PostgreSQL system.
///
/// It is flat: files lie under the names that PostgreSQL gave them, so that `cp` can restore from it as well. Besides
/// them there is a marker, which says whose archive it is, and at times a temporary file of a push under way.
///
/// What `push` promises (PostgreSQL manual, "Setting Up WAL Archiving"):
/// 1. It returns only when the file is complete in the archive and survives a power failure.
/// 2. It never overwrites. The same content again is success; other content is an error that names both.
/// 3. It refuses a store of another system and a path where no store is: a mount point without its file system
///    must not fill with WAL.
/// 4. Any number of pushes of the same file may run at once, and each may be killed at any point.
package struct ArchiveStore: Sendable {
    /// The directory, without a trailing slash.
    package let directory: String

    package init(directory: String) {
        self.directory = directory.count > 1 && directory.hasSuffix("/") ? String(directory.dropLast()) : directory
    }

    /// The file that says whose archive this is. It begins with a letter PostgreSQL's names never begin with.
    package static let markerName = "slipstream-archive"

    /// What `push` did.
    package enum PushOutcome: Sendable, Equatable {
        case stored
        case alreadyStored
    }

    /// What `get` found.
    package enum GetOutcome: Sendable, Equatable {
        case found
        case missing
    }

    /// What `slipstream status` tells about an archive.
    package struct Summary: Sendable, Equatable {
        package var segmentCount: Int
        package var firstSegment: WALFileName?
        /// The newest segment of the newest timeline.
        package var lastSegment: WALFileName?
    }

    func path(_ name: String) -> String { directory + "/" + name }

    // MARK: - Marker

    /// Makes a store, or completes one that was being made, for a system.
    ///
    /// - Throws: `wrongSystem` when the directory is another system's store; `conflict` when it is not empty and no store.
    package static func create(at directory: String, systemIdentifier: UInt64) throws(ArchiveError) -> ArchiveStore {
        let store = ArchiveStore(directory: directory)
        if mkdir(store.directory, 0o700) != 0, errno != EEXIST {
            throw ArchiveError(errno, "make the archive directory", store.directory)
        }
        if let existing = try store.readMarker() {
            try store.require(existing, toBe: systemIdentifier)
            return store
        }
        let strangers = try store.names().filter { !$0.hasPrefix(".") && $0 != "lost+found" }
        guard strangers.isEmpty else {
            throw ArchiveError(
                code: .conflict,
                message: "\"\(directory)\" is not empty and is not a Slipstream archive",
                remedy: "Name an empty directory, or move what is there away."
            )
        }
        let text = "slipstream archive 1\nsystem_identifier \(systemIdentifier)\n"
        let temporary = store.path(".\(markerName).\(getpid())")
        try DurableFile.write(Array(text.utf8), to: temporary)
        defer { unlink(temporary) }
        if link(temporary, store.path(markerName)) != 0, errno != EEXIST {
            throw ArchiveError(errno, "make the archive's marker in", store.directory)
        }
        try DurableFile.syncDirectory(store.directory)
        try DurableFile.syncDirectory(DurableFile.parent(of: store.directory))
        try store.require(try store.systemIdentifier(), toBe: systemIdentifier)
        return store
    }

    /// The system whose archive this is.
    ///
    /// - Throws: `storeMissing` when there is no store at the path.
    package func systemIdentifier() throws(ArchiveError) -> UInt64 {
        guard let identifier = try readMarker() else {
            throw ArchiveError(
                code: .storeMissing,
                message: "there is no Slipstream archive at \"\(directory)\"",
                remedy: "Mount its file system, or correct the path. Nothing was written there."
            )
        }
        return identifier
    }

    private func readMarker() throws(ArchiveError) -> UInt64? {
        let marker = path(ArchiveStore.markerName)
        guard let bytes = try DurableFile.readSmall(marker) else { return nil }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        guard lines.count >= 2, lines[0] == "slipstream archive 1", lines[1].hasPrefix("system_identifier "),
            let identifier = UInt64(lines[1].dropFirst("system_identifier ".count))
        else {
            throw ArchiveError(
                code: .storeMissing,
                message: "the marker \"\(marker)\" is damaged or of a newer Slipstream",
                remedy: "Restore it, or use the Slipstream that wrote it."
            )
        }
        return identifier
    }

    func require(_ found: UInt64, toBe expected: UInt64) throws(ArchiveError) {
        guard found == expected else {
            throw ArchiveError(
                code: .wrongSystem,
                message: "the archive \"\(directory)\" belongs to system \(found), not to system \(expected)",
                remedy: "Two clusters must not share an archive: give this one a directory of its own."
            )
        }
    }

    // MARK: - Listing

    func names() throws(ArchiveError) -> [String] {
        guard let stream = opendir(directory) else {
            throw ArchiveError(errno, "list", directory)
        }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { tuple in
                tuple.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    /// Everything archived, in the order of timelines and positions.
    package func files() throws(ArchiveError) -> [WALFileName] {
        try names().compactMap { WALFileName($0) }.sorted()
    }

    /// The complete segments, in the order of timelines and positions.
    package func segments() throws(ArchiveError) -> [WALFileName] {
        try files().filter { $0.kind == .segment }
    }

    package func summary() throws(ArchiveError) -> Summary {
        let segments = try segments()
        return Summary(segmentCount: segments.count, firstSegment: segments.first, lastSegment: segments.last)
    }
}
