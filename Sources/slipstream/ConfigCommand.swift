import ArgumentParser
import ConfigurationFile

/// `slipstream config`: what a configuration file may say, and whether one says it rightly.
struct ConfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config",
        abstract: "Print an example of a configuration file, or check one.",
        subcommands: [Example.self, Check.self]
    )

    struct Example: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print a file with every key, its meaning and its default."
        )

        func run() {
            Console.print(verbatim: Settings.example)
        }
    }

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say what is wrong with a file; ends with 1 when something is."
        )

        @Argument(help: "The configuration file.", completion: .file())
        var file: String

        func run() throws {
            do throws(ConfigurationProblems) {
                _ = try SettingsFile.parse(file)
            } catch {
                for problem in error.problems { Console.print("\(problem)") }
                throw CommandFailure.silent(status: 1)
            }
            Console.print("\(file): nothing is wrong")
        }
    }
}
