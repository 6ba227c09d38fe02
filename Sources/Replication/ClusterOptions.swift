/// What a person may choose about a local cluster.
package struct ClusterOptions: Sendable {
    /// Of a new cluster.
    static let usualStandbys = 2

    /// How many standbys; `nil` is two for a new cluster, and what there is for an existing one. An existing cluster grows,
    /// but never loses a standby by this.
    package var standbys: Int?
    /// Shares of the reads, the primary's first. Empty is 1 for the primary and 2 for each standby in a new cluster, and
    /// what was stored for an existing one.
    package var weights: [Int]
    /// Where PostgreSQL's programs are; `nil` searches for them.
    package var binaryDirectory: String?
    /// The `slipstream` program, for `archive_command` and `restore_command`.
    package var executable: String

    package init(
        standbys: Int? = nil,
        weights: [Int] = [],
        binaryDirectory: String? = nil,
        executable: String
    ) {
        self.standbys = standbys
        self.weights = weights
        self.binaryDirectory = binaryDirectory
        self.executable = executable
    }

    /// The names of the nodes that a cluster has when it was opened with these options.
    ///
    /// - Parameter description: of the cluster; `nil` when there is none yet.
    package func nodeNames(of description: ClusterDescription?) -> [String] {
        let present = description?.nodes.map(\.name) ?? []
        let wanted = (standbys ?? (present.isEmpty ? Self.usualStandbys : 0)) + 1
        return present + (present.count..<max(present.count, wanted)).map { NodeDescription.name($0) }
    }
}
