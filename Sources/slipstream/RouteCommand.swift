import ArgumentParser
import Logging
import Monitor
import QueryAnalysis
import Replication
import Topology

/// `slipstream route`: where a statement would go, and why.
struct RouteCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "route",
        abstract: "Say where a statement would go, and why, without running it.",
        discussion: """
            As for a session that has nothing open and has not written. With the functions of database "app" while the \
            cluster is served, with the built-in ones otherwise.
            """
    )

    @OptionGroup var location: DirectoryOption

    @Argument(help: ArgumentHelp("The statement.", valueName: "SQL"))
    var statement: String

    func run() async throws {
        let directory = location.directory
        let topology: Topology
        var functions: FunctionCatalog?
        var remark: String?
        if let status = try? StatusFile(directory: directory).current() {
            topology = status.topology
            functions = try await Self.functions(directory, topology)
            if functions == nil { remark = "the functions of the database cannot be read: built-in ones only" }
        } else if let description = try? directory.readDescription() {
            topology = Routing.asIfUp(description.initialTopology)
            remark = "nothing runs here: as if every node were up, and with the built-in functions only"
        } else {
            topology = Routing.typical
            remark =
                "there is no cluster here: as for one primary and two standbys, and with the built-in functions only"
        }
        let classification = Classification.of(statement, functions: functions ?? FunctionCatalog())
        Console.print(Routing(topology: topology).text(classification))
        if let remark { Console.note(remark) }
    }

    private static func functions(_ directory: ClusterDirectory, _ topology: Topology) async throws -> FunctionCatalog?
    {
        let description = try directory.readDescription()
        let secrets = try directory.readSecrets()
        let catalog = DatabaseCatalog(logger: Logger(label: "slipstream") { _ in SwiftLogNoOpLogHandler() }) {
            topology
        } parameters: { node, database in
            description.superuserParameters(
                node: description.nodes[node.rawValue],
                secrets: secrets,
                database: database
            )
        }
        return await catalog.functions(ofDatabase: description.database)
    }
}

/// Puts the routing decision into words.
struct Routing {
    let topology: Topology

    /// Of a cluster nobody has made yet.
    static let typical = Topology(
        nodes: [("primary", Role.primary, 1), ("standby1", .standby, 2), ("standby2", .standby, 2)].enumerated().map {
            Node(id: NodeID($0), name: $1.0, role: $1.1, host: "127.0.0.1", port: 0, weight: $1.2, state: .up)
        }
    )

    static func asIfUp(_ topology: Topology) -> Topology {
        var topology = topology
        for index in topology.nodes.indices { topology.nodes[index].state = .up }
        return topology
    }

    func text(_ classification: Classification) -> String {
        "\(places(of: classification)): \(classification.reason)"
    }

    private func places(of classification: Classification) -> String {
        switch classification.effect {
        case .empty, .read, .beginReadOnly: shares(wantsStandby: classification.traits.contains(.wantsStandby))
        case .transactionControl, .transactionEnd: "wherever the transaction is"
        case .primaryRead, .begin, .write, .sessionState: primary
        }
    }

    private var primary: String {
        guard let primary = topology.primary else { return "nowhere (no primary)" }
        return primary.state == .up ? primary.name : "\(primary.name) (which is \(primary.state))"
    }

    /// By weight over the nodes that serve reads; the primary when none has a weight.
    private func shares(wantsStandby: Bool) -> String {
        var readers = topology.nodes.filter { $0.servesReads && $0.weight > 0 }
        if wantsStandby, readers.contains(where: { $0.role == .standby }) { readers.removeAll { $0.role == .primary } }
        let total = readers.reduce(0) { $0 + $1.weight }
        guard total > 0 else { return primary }
        return readers.sorted { $0.weight > $1.weight || ($0.weight == $1.weight && $0.id < $1.id) }
            .map { "\($0.name) \(Quantity.fixed(100 * Double($0.weight) / Double(total), 0)) %" }
            .joined(separator: ", ")
    }
}
