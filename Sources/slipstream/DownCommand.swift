import ArgumentParser
import Glibc
import Replication

/// `slipstream down`: stops the Slipstream that serves a directory.
struct DownCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "down",
        abstract: "Stop the endpoint and its servers. Data stays.",
        discussion: """
            Also stops servers that a killed slipstream has left behind. Exit status: 0 when it has stopped, 1 when it \
            did not run or does not stop in time.
            """
    )

    @OptionGroup var location: DirectoryOption

    @Option(name: .shortAndLong, help: ArgumentHelp("How long to wait.", valueName: "seconds"))
    var timeout = 60

    @Flag(name: .shortAndLong, help: "Say nothing but errors.")
    var quiet = false

    func run() async throws {
        let directory = location.directory
        guard let server = LockHolder.processIdentifier(of: directory) else {
            return try await stopOrphans(in: directory)
        }
        guard server > 0, kill(server, SIGTERM) == 0 else {
            throw CommandFailure(
                "cannot stop slipstream (pid \(server)): \(String(cString: strerror(errno)))",
                remedy: "Run this as the user that started it."
            )
        }
        let clock = ContinuousClock()
        let started = clock.now
        var nextRemark: Duration = .seconds(2)
        if !quiet { Console.note("stopping slipstream (pid \(server))") }
        while LockHolder.processIdentifier(of: directory) == server || kill(server, 0) == 0 {
            let waited = clock.now - started
            guard waited < .seconds(timeout) else {
                throw CommandFailure(
                    "slipstream (pid \(server)) has not stopped within \(timeout) s",
                    remedy: "See \"\(directory.logFile)\"; \"slipstream down\" once more stops it at once."
                )
            }
            if waited > nextRemark {
                if !quiet { Console.note("waiting for it to stop (\(waited.components.seconds) s)") }
                nextRemark += .seconds(5)
            }
            try await Task.sleep(for: .milliseconds(20))
        }
        if !quiet { Console.note("stopped") }
    }

    /// Nobody serves the directory; a Slipstream that was killed may have left its servers running.
    private func stopOrphans(in directory: ClusterDirectory) async throws {
        let stopped = try await LocalCluster.stopOrphans(in: directory)
        guard !stopped.isEmpty else {
            throw CommandFailure("no slipstream serves \"\(directory.path)\"", remedy: "Is it running?")
        }
        if !quiet { Console.note("stopped what a killed slipstream had left: \(stopped.joined(separator: ", "))") }
    }
}
