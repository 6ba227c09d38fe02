import ProxyCore
import QueryAnalysis
import Testing
import Topology

@Suite("Where a statement goes, in words")
struct RoutePlanTests {
    private static let topology = Topology(
        nodes: [("primary", Role.primary, 1), ("one", .standby, 2), ("two", .standby, 2)].enumerated().map {
            Node(id: NodeID($0), name: $1.0, role: $1.1, host: "", port: 0, weight: $1.2, state: .up)
        }
    )

    private func plan(
        _ sql: String,
        _ destination: SessionRoute.Destination,
        fresh: UInt64 = .max,
        avoided: UInt64 = 0,
        wantsStandby: Bool = false,
        _ change: (inout Topology) -> Void = { _ in }
    ) -> RoutePlan {
        var topology = Self.topology
        change(&topology)
        return RoutePlan(
            Classification.of(sql),
            destination,
            topology,
            RoutePlan.Readers(
                sets: ReaderSets(topology),
                avoided: avoided,
                fresh: fresh,
                mustSee: "1:0/1",
                wantsStandby: wantsStandby
            )
        )
    }

    @Test("a read goes by weight to those that may serve it")
    func read() {
        #expect(
            plan("select 1", .anyReader).lines == [
                "Class: read", "Reason: only reads", "Must see: 1:0/1", "primary: yes, weight 1", "one: yes, weight 2",
                "two: yes, weight 2", "Goes to: one 40 %, two 40 %, primary 20 %",
            ]
        )
        #expect(plan("select 1", .anyReader).summary == "one 40 %, two 40 %, primary 20 %: only reads")
    }

    @Test("of the others it says why they may not")
    func obstacles() {
        let behind = plan("select 1", .anyReader, fresh: 2)
        #expect(behind.conditions.last == "two: no, it has not replayed that")
        #expect(behind.goesTo == "one 67 %, primary 33 %")
        #expect(plan("select 1", .anyReader, fresh: 0).goesTo == "primary 100 %")
        let avoided = plan("select 1", .anyReader, avoided: 4)
        #expect(avoided.conditions.last == "two: no, it could not be reached a moment ago")
        let down = plan("select 1", .anyReader) { $0.nodes[1].state = .down }
        #expect(down.conditions[2] == "one: no, it is down" && down.goesTo == "two 67 %, primary 33 %")
        let idle = plan("select 1", .anyReader) { $0.nodes[0].weight = 0 }
        #expect(idle.conditions[1] == "primary: no, its weight is 0" && idle.goesTo == "one 50 %, two 50 %")
        let wanted = plan("select 1", .anyReader, wantsStandby: true)
        #expect(wanted.conditions[1] == "primary: no, a standby is wanted" && wanted.goesTo == "one 50 %, two 50 %")
        // Where no node with a weight is left, the primary serves.
        #expect(plan("select 1", .anyReader, fresh: 0) { $0.nodes[0].weight = 0 }.goesTo == "primary")
    }

    @Test("what stays on the primary needs no conditions", arguments: SessionRoute.Reason.allCases)
    func primary(_ reason: SessionRoute.Reason) {
        let plan = plan("select 1", .primary(reason))
        #expect(plan.goesTo == "primary" && plan.conditions.isEmpty)
        #expect(plan.reason == (reason == .notProvenRead ? "only reads" : "only reads, but \(reason.words)"))
    }

    @Test("a primary that is not there is told")
    func none() {
        #expect(
            plan("delete from t", .primary(.notProvenRead)) { $0.nodes[0].state = .down }.goesTo
                == "primary (which is down)"
        )
        #expect(
            plan("delete from t", .primary(.notProvenRead)) { $0.nodes.removeFirst() }.goesTo == "nowhere (no primary)"
        )
        #expect(plan("commit", .primary(.notProvenRead)).goesTo == "wherever the transaction is")
        let tied = RoutePlan(Classification.of("select 1"), inTransactionOn: "two")
        #expect(tied.lines == ["Class: read", "Reason: only reads; the transaction is there", "Goes to: two"])
    }
}
