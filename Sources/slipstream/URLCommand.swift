import ArgumentParser
import Monitor
import PostgresClient
import Replication

/// `slipstream url`: the one command that shows a password.
struct URLCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "url",
        abstract: "Print a connection URI with its password.",
        discussion: """
            Of the endpoint, or of one node directly; database "app". It goes to standard output and nowhere else, for \
            use as psql "$(slipstream url)".
            """
    )

    @OptionGroup var location: DirectoryOption

    @Option(help: ArgumentHelp("A node, past the endpoint.", valueName: "name"))
    var node: String?

    @Flag(help: "As the superuser.")
    var superuser = false

    func run() throws {
        let directory = location.directory
        let description = try directory.readDescription()
        let secrets = try directory.readSecrets()
        let (host, port) = try address(directory, description)
        let uri = ConnectionURI(
            host: host,
            port: port,
            user: superuser ? description.superuser : description.user,
            database: description.database,
            password: (superuser ? secrets.superuser : secrets.app).revealed
        )
        Console.print(uri.text)
    }

    private func address(_ directory: ClusterDirectory, _ description: ClusterDescription) throws -> (String, UInt16) {
        guard let node else {
            let endpoint = try StatusFile(directory: directory).current().endpoint
            return (endpoint.host, endpoint.port)
        }
        guard let described = description[node: node] else {
            throw CommandFailure(
                "there is no node \"\(node)\"",
                remedy: "The nodes are \(description.nodes.map(\.name).joined(separator: ", "))."
            )
        }
        return (described.host, described.port)
    }
}
