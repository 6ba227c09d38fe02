import Archive
import ArgumentParser
import Glibc

/// `slipstream archive`: what PostgreSQL's `archive_command` and `restore_command` run.
///
/// Exit codes stay below 126: PostgreSQL takes more for a signal and stops the archiver or the recovery
/// (PostgreSQL manual, `archive_command`, `restore_command`).
struct ArchiveCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "archive",
        abstract: "Move WAL files into and out of an archive.",
        subcommands: [Push.self, Get.self]
    )

    struct Store: ParsableArguments {
        @Option(name: .customLong("store"), help: ArgumentHelp("The archive's directory.", valueName: "dir"))
        var directory: String
    }

    struct Push: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Archive one WAL file: archive_command = 'slipstream archive push %p --store DIR'.",
            discussion: """
                Returns 0 only when the file is complete and durable in the archive. Never overwrites: the same content \
                again is success, other content under the same name is an error.
                """
        )

        @Argument(help: "The file, as %p gives it.")
        var path: String

        @OptionGroup var store: Store

        func run() throws {
            do throws(ArchiveError) {
                try ArchiveStore(directory: store.directory).push(path)
            } catch {
                fail("could not archive \"\(path)\"", error)
            }
        }
    }

    struct Get: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Restore one WAL file: restore_command = 'slipstream archive get %f %p --store DIR'.",
            discussion: "Exits with 1, saying nothing, when the archive does not hold the file."
        )

        @Argument(help: "The name, as %f gives it.")
        var name: String

        @Argument(help: "Where to put it, as %p gives it.")
        var path: String

        @OptionGroup var store: Store

        func run() throws {
            let outcome: ArchiveStore.GetOutcome
            do throws(ArchiveError) {
                outcome = try ArchiveStore(directory: store.directory).get(name, to: path)
            } catch {
                fail("could not restore \(name)", error)
            }
            switch outcome {
            case .found: return
            case .missing: throw ExitCode(1)
            }
        }
    }
}

/// Ends the process the way PostgreSQL's tools do: the cause on stderr (the server's log has it then), and 1.
private func fail(_ action: String, _ error: ArchiveError) -> Never {
    let message = Array("slipstream archive: error: \(action): \(error)\n".utf8)
    _ = write(STDERR_FILENO, message, message.count)
    exit(1)
}
