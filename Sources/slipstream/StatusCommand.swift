import ArgumentParser
import Glibc
import Monitor
import Replication

/// `slipstream status`: how the cluster does.
struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show the nodes, their lag, their replication and the archive.",
        discussion: "Exit status: 0 healthy, 1 degraded, 2 no primary or not running."
    )

    @OptionGroup var location: DirectoryOption

    @Flag(help: "As JSON (see docs/status.md).")
    var json = false

    @Flag(name: .shortAndLong, help: "Again every second, until Ctrl-C.")
    var watch = false

    func run() async throws {
        let file = StatusFile(directory: location.directory)
        guard watch else {
            let status = try read(file)
            try show(status)
            throw ExitCode(status.state.exitStatus)
        }
        while true {
            if Console.isTerminal, !json { Console.print(verbatim: "\u{1B}[H\u{1B}[2J") }
            do {
                try show(read(file))
            } catch let failure as CommandFailure {
                Console.error(failure)
            }
            if !Console.isTerminal, !json { Console.print("") }
            try await Task.sleep(for: .seconds(1))
        }
    }

    /// Without a status there is nothing but "not running".
    private func read(_ file: StatusFile) throws -> ClusterStatus {
        do {
            return try file.current()
        } catch {
            guard var failure = CommandFailure(explaining: error) else { throw error }
            failure.status = 2
            throw failure
        }
    }

    private func show(_ status: ClusterStatus) throws {
        if json {
            Console.print(verbatim: String(decoding: try status.json(), as: UTF8.self))
        } else {
            Console.print(StatusTable.text(status))
        }
    }
}

extension ClusterState {
    fileprivate var exitStatus: Int32 {
        switch self {
        case .healthy: 0
        case .degraded: 1
        case .noPrimary: 2
        }
    }
}
