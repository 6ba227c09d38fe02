import ArgumentParser

/// The program: parses, runs one subcommand, and ends as PostgreSQL's programs do.
@main
struct Slipstream: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "slipstream",
        abstract: "One endpoint over a PostgreSQL primary and its streaming standbys.",
        discussion: """
            Sends writes to the primary and spreads reads over all nodes by weight.

            Start with "slipstream up", then "slipstream psql".
            """,
        version: Version.text,
        groupedSubcommands: [
            CommandGroup(name: "Cluster", subcommands: [UpCommand.self, DownCommand.self, StatusCommand.self]),
            CommandGroup(name: "Configuration", subcommands: [ConfigCommand.self]),
            CommandGroup(name: "Connecting", subcommands: [URLCommand.self, PsqlCommand.self]),
            CommandGroup(name: "Finding out", subcommands: [CheckCommand.self, RouteCommand.self]),
            CommandGroup(name: "For PostgreSQL", subcommands: [ArchiveCommand.self]),
        ]
    )

    /// As `ParsableCommand.main()`, but errors look like those of psql and pg_ctl, and a wrong usage ends with 1 like
    /// theirs.
    static func main() async {
        do {
            var command = try parseAsRoot()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch {
            end(with: error)
        }
    }

    private static func end(with error: any Error) -> Never {
        if let failure = CommandFailure(explaining: error) {
            if !failure.message.isEmpty { Console.error(failure) }
            exit(withError: ExitCode(failure.status))
        }
        if error is ExitCode || exitCode(for: error) == .success {
            // An exit status that was chosen, help that was asked for, a completion script.
            exit(withError: error)
        }
        Console.note(
            """
            slipstream: error: \(message(for: error))
            Try "slipstream --help" for more information.
            """
        )
        exit(withError: ExitCode(1))
    }
}

/// What `--version` says.
enum Version {
    static let text = "slipstream 0.1.0"
}
