import Glibc

/// Why a file did not get into the archive or out of it: one sentence, and what to do next.
package struct ArchiveError: Error, Sendable, Equatable {
    package enum Code: Sendable, Equatable {
        /// The store's directory or its marker is not there: never made, not mounted, or unmounted.
        case storeMissing
        /// The store belongs to another PostgreSQL system.
        case wrongSystem
        /// The archive holds other content under the same name.
        case conflict
        /// Not a name PostgreSQL gives to a file it archives.
        case badName
        /// The file to archive or to restore is damaged or is not what its name says.
        case damaged
        /// The operating system refused.
        case system(errno: Int32)
    }

    package var code: Code
    package var message: String
    package var remedy: String?

    package init(code: Code, message: String, remedy: String? = nil) {
        self.code = code
        self.message = message
        self.remedy = remedy
    }

    /// An error of the operating system, with the remedy for the usual ones.
    init(_ number: Int32 = errno, _ action: String, _ path: String) {
        self.init(
            code: .system(errno: number),
            message: "cannot \(action) \"\(path)\": \(String(cString: strerror(number)))",
            remedy: ArchiveError.remedies[number]
        )
    }

    private static let remedies: [Int32: String] = [
        ENOSPC: "Free space on the archive's file system. PostgreSQL keeps the WAL and tries again.",
        EDQUOT: "Raise the disk quota of the server's user. PostgreSQL keeps the WAL and tries again.",
        EROFS: "Remount the archive's file system read-write. PostgreSQL keeps the WAL and tries again.",
        EACCES: "The user that runs the server must own the archive, or be able to write to it.",
        EPERM: "The user that runs the server must own the archive, or be able to write to it.",
        ENOENT: "Check that the path is right and its file system mounted.",
        ESTALE: "The network file system lost the directory: remount it.",
    ]
}

extension ArchiveError: CustomStringConvertible {
    package var description: String {
        remedy.map { "\(message)\nHINT: \($0)" } ?? message
    }
}
