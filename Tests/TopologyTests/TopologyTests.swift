import Testing
import Topology

struct TopologyTests {
    @Test("the primary is the node of that role, up or not")
    func primary() {
        #expect(Topology(nodes: [node(0, .primary), node(1, .standby)]).primary?.id == NodeID(0))
        #expect(Topology(nodes: [node(0, .standby), node(1, .primary, .down)]).primary?.id == NodeID(1))
        #expect(Topology(nodes: [node(0, .standby)]).primary == nil)
        #expect(Topology(nodes: []).primary == nil)
    }

    @Test(
        "only a node that is up serves reads",
        arguments: [(.starting, false), (.up, true), (.detached, false), (.down, false)] as [(NodeState, Bool)]
    )
    func servesReads(state: NodeState, serves: Bool) {
        #expect(node(0, .standby, state).servesReads == serves)
        #expect(node(0, .primary, state).servesReads == serves)
    }

    @Test("a standby that is too far behind serves no reads, although it is up")
    func lagging() {
        var standby = node(1, .standby)
        standby.exceedsMaxLag = true
        #expect(standby.state == .up && !standby.servesReads)
    }

    @Test("a node is found by its id")
    func nodeByID() {
        let topology = Topology(version: 3, nodes: [node(0, .primary), node(1, .standby)])
        #expect(topology[NodeID(1)].name == "node1")
    }

    @Test("a node that nothing is known of yet is starting")
    func unknown() {
        let node = Node(id: NodeID(0), name: "a", role: .primary, host: "127.0.0.1", port: 5432, weight: 1)
        #expect(node.state == .starting)
        #expect(!node.servesReads)
    }

    @Test("ids are ordered as the nodes are")
    func order() {
        #expect([NodeID(2), NodeID(0), NodeID(1)].sorted() == [NodeID(0), NodeID(1), NodeID(2)])
    }
}

private func node(_ id: Int, _ role: Role, _ state: NodeState = .up) -> Node {
    Node(id: NodeID(id), name: "node\(id)", role: role, host: "127.0.0.1", port: 5432, weight: 1, state: state)
}
