import ArgumentParser
import Logging
import Monitor
import ProxyCore
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
        Console.print(Routing(topology: topology).plan(classification).summary)
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

/// The routing decision on a statement, for some nodes.
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

    /// As of a session that has nothing open and has not written.
    func plan(_ classification: Classification) -> RoutePlan {
        var unit = RequestUnit(length: 0, ending: .ready)
        unit.execute(classification.effect)
        return RoutePlan(
            classification,
            SessionRoute(pinTime: .zero).destination(of: unit, now: .distantPast),
            topology,
            RoutePlan.Readers(
                sets: ReaderSets(topology),
                wantsStandby: classification.traits.contains(.wantsStandby)
            )
        )
    }
}
