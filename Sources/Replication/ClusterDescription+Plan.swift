import Topology

extension ClusterDescription {
    /// A cluster of which nothing exists yet.
    init(version: Int, root: ServerRoot) {
        self.init(
            version: version,
            systemIdentifierText: nil,
            postgresVersion: "",
            binaryDirectory: "",
            superuser: "postgres",
            database: "app",
            user: "app",
            serverRoot: root.path,
            serverUser: root.user.identity?.name,
            nodes: []
        )
    }

    /// Adds the nodes that are wanted and not there, and takes the weights over.
    mutating func apply(
        _ options: ClusterOptions,
        progress: @Sendable (String) -> Void
    ) throws(ReplicationError) {
        let present = nodes.count - 1
        let wanted = options.standbys ?? (nodes.isEmpty ? ClusterOptions.usualStandbys : present)
        guard (0...16).contains(wanted) else {
            throw ReplicationError(.environment, "\(wanted) standbys: there may be 0 to 16")
        }
        if !nodes.isEmpty, wanted < present {
            progress("the cluster has \(present) standbys and keeps them (\(wanted) asked for)")
        }
        let count = max(nodes.count, wanted + 1)
        guard options.weights.isEmpty || options.weights.count == count else {
            throw ReplicationError(
                .environment,
                "\(options.weights.count) weights for \(count) nodes",
                remedy: "Give one weight for each node, the primary's first: --weights 1,2,2."
            )
        }
        guard options.weights.allSatisfy({ (0...1000).contains($0) }) else {
            throw ReplicationError(.environment, "a weight must be between 0 and 1000")
        }
        for index in nodes.count..<count {
            let role: Role = index == 0 ? .primary : .standby
            let name = NodeDescription.name(index)
            nodes.append(
                NodeDescription(
                    name: name,
                    role: role,
                    host: "127.0.0.1",
                    port: 0,
                    weight: index == 0 ? 1 : 2,
                    dataDirectory: "\(serverRoot)/nodes/\(name)/data",
                    slot: index == 0 ? nil : name,
                    isComplete: false
                )
            )
        }
        for (index, weight) in options.weights.enumerated() {
            nodes[index].weight = weight
        }
    }
}
