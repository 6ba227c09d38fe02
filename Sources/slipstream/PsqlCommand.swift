import ArgumentParser
import Glibc
import Monitor
import Replication

/// `slipstream psql`: becomes psql, connected to the endpoint.
struct PsqlCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "psql",
        abstract: "Run psql through the endpoint.",
        usage: "slipstream psql [--dir <dir>] [<psql arguments> ...]",
        discussion: """
            As role "app" in database "app", unless the arguments say otherwise. Everything after --dir is psql's own. \
            The password stays in a file.
            """
    )

    @OptionGroup var location: DirectoryOption

    @Argument(parsing: .captureForPassthrough, help: "As for psql.")
    var arguments: [String] = []

    func run() throws {
        if ["--help", "-h"].contains(arguments.first) { throw CleanExit.helpRequest(self) }
        let directory = location.directory
        let status = try StatusFile(directory: directory).current()
        let description = try directory.readDescription()
        // Defaults from the environment: arguments win, and none of them shows a secret.
        let settings = [
            "PGHOST": status.endpoint.host,
            "PGPORT": String(status.endpoint.port),
            "PGUSER": description.user,
            "PGDATABASE": description.database,
            "PGPASSFILE": directory.passwordFile,
        ]
        for (name, value) in settings { setenv(name, value, 1) }
        for name in ["PGPASSWORD", "PGSERVICE", "PGHOSTADDR"] { unsetenv(name) }

        let program = Self.program(description)
        let pointers = ([program] + arguments.dropFirst(arguments.first == "--" ? 1 : 0)).map { strdup($0) } + [nil]
        execvp(program, pointers)
        throw CommandFailure(
            "cannot run \"\(program)\": \(String(cString: strerror(errno)))",
            remedy: "Install PostgreSQL's client programs, or use \"slipstream url\" with another client."
        )
    }

    /// The one that came with the servers; else whichever the PATH has.
    private static func program(_ description: ClusterDescription) -> String {
        let own = description.binaryDirectory + "/psql"
        return access(own, X_OK) == 0 ? own : "psql"
    }
}
