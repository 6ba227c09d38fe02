/// Which nodes may serve a read, as sets by bit.
package struct ReaderSets: Sendable, Equatable {
    /// Those that serve reads at all.
    package let readable: UInt64
    package let standbys: UInt64

    package init(_ topology: Topology) {
        func bits(_ matches: (Node) -> Bool) -> UInt64 {
            topology.nodes.reduce(0) { matches($1) ? $0 | 1 << UInt64($1.id.rawValue) : $0 }
        }
        readable = bits(\.servesReads)
        standbys = bits { $0.role == .standby }
    }

    /// The nodes among which weights decide.
    ///
    /// - Parameters:
    ///   - excluded: those that have failed.
    ///   - fresh: those that have replayed enough; the primary always has.
    ///   - wantsStandby: the primary only if there is no standby.
    package func candidates(except excluded: UInt64, among fresh: UInt64, wantsStandby: Bool) -> UInt64 {
        let candidates = readable & ~excluded & (fresh | ~standbys)
        return wantsStandby && candidates & standbys != 0 ? candidates & standbys : candidates
    }
}
