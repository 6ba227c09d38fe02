import FoundationEssentials
import Glibc
import Logging
import Synchronization

/// Where log lines go.
enum LogSink: Sendable {
    case standardError
    case file(LogFile)

    func write(_ line: String) {
        switch self {
        case .standardError: Console.write(line, to: STDERR_FILENO)
        case .file(let file): file.write(line)
        }
    }
}

/// A log file in a directory that may not exist yet: lines wait in memory until it does.
final class LogFile: Sendable {
    private struct State {
        var descriptor: Int32 = -1
        var waiting = ""
    }

    private let path: String
    /// Exists once the directory is ours to write to.
    private let sign: String
    private let state = Mutex(State())

    init(path: String, once sign: String) {
        self.path = path
        self.sign = sign
    }

    /// Opens the file if it can be opened now, and returns its descriptor; -1 if not.
    @discardableResult
    func open() -> Int32 {
        state.withLock { state in
            if state.descriptor < 0, access(sign, F_OK) == 0 {
                state.descriptor = Glibc.open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o600)
            }
            return state.descriptor
        }
    }

    func write(_ line: String) {
        let descriptor = open()
        state.withLock { state in
            state.waiting += line
            guard descriptor >= 0 else { return }
            Console.write(state.waiting, to: descriptor)
            state.waiting = ""
        }
    }
}

/// One line a person can read: when, how bad, what, and the metadata as `key=value`.
struct HumanLogHandler: LogHandler {
    var logLevel: Logger.Level = .info
    var metadata: Logger.Metadata = [:]
    var metadataProvider: Logger.MetadataProvider?
    private let sink: LogSink

    init(sink: LogSink) {
        self.sink = sink
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = metadata.merging(event.metadata ?? [:]) { _, newer in newer }
        let pairs = all.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
        let time = Date.now.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
        sink.write("\(time) \(event.level): \(event.message)\(pairs)\n")
    }
}
