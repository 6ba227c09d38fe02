import Glibc

/// Results go to standard output, everything else to standard error.
enum Console {
    /// One line, or several, of a result.
    static func print(_ text: String) {
        write(text + "\n", to: STDOUT_FILENO)
    }

    /// Bytes of a result as they are.
    static func print(verbatim text: String) {
        write(text, to: STDOUT_FILENO)
    }

    /// Progress, or a remark.
    static func note(_ text: String) {
        write(text + "\n", to: STDERR_FILENO)
    }

    static func error(_ failure: CommandFailure) {
        var text = "slipstream: error: \(failure.message)"
        if let remedy = failure.remedy { text += "\nHINT:  \(remedy)" }
        note(text)
    }

    static func warn(_ text: String) {
        note("slipstream: warning: \(text)")
    }

    static var isTerminal: Bool { isatty(STDOUT_FILENO) == 1 }

    /// The whole text, whatever a pipe takes at once. A reader that went away is no error of ours.
    static func write(_ text: String, to descriptor: Int32) {
        var text = text
        text.withUTF8 { bytes in
            var written = 0
            while written < bytes.count {
                let count = Glibc.write(descriptor, bytes.baseAddress?.advanced(by: written), bytes.count - written)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return }
                written += count
            }
        }
    }
}
