import Archive
import PostgresClient
import Proxy
import Replication

/// Why a command did not do what it was asked: one sentence, what to do next, and the exit status.
struct CommandFailure: Error {
    var message: String
    var remedy: String?
    var status: Int32

    init(_ message: String, remedy: String? = nil, status: Int32 = 1) {
        self.message = message
        self.remedy = remedy
        self.status = status
    }

    /// Everything was said already.
    static func silent(status: Int32) -> CommandFailure {
        CommandFailure("", status: status)
    }

    /// An error of the layers below in a person's words; `nil` for what the argument parser throws.
    init?(explaining error: any Error) {
        switch error {
        case let failure as CommandFailure:
            self = failure
        case let error as ReplicationError:
            self.init(error.message, remedy: error.remedy)
        case let error as ArchiveError:
            self.init(error.message, remedy: error.remedy)
        case let error as DatabaseError:
            var message = error.message
            if let detail = error.detail { message += " (\(detail))" }
            self.init(message, remedy: error.hint)
        case let error as ListenError:
            self.init(error.description)
        case is CancellationError:
            self.init("interrupted")
        default:
            return nil
        }
    }
}
