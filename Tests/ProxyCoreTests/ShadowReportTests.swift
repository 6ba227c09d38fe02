import ProxyCore
import QueryAnalysis
import Testing

@Suite("What shadow mode counts")
struct ShadowReportTests {
    private func report(_ counts: [(StatementEffect, ShadowReport.Outcome, Int)]) -> ShadowReport {
        var report = ShadowReport()
        for (effect, outcome, count) in counts {
            for _ in 0..<count { report.count(effect, outcome) }
        }
        return report
    }

    @Test("units are told by where they would have gone, those for standbys first, with their shares")
    func kinds() {
        var first = report([(.read, .standby, 2), (.read, .behind, 1), (.write, .primary(.notProvenRead), 3)])
        first.add(report([(.read, .standby, 1), (.read, .primary(.refused), 1)]))
        let rows = first.rows()
        #expect(rows[0] == ["standby", "read", "a standby may serve it", "3", "37.5 %"])
        #expect(rows[1] == ["primary", "write", "it is not proven to be a read", "3", "37.5 %"])
        #expect(
            Set(rows[2...].map { $0[2] }) == ["no standby has replayed what it must see", "a standby has refused it"]
        )
        #expect(rows.allSatisfy { $0.count == ShadowReport.columns.count } && rows.count == 4)
        #expect(ShadowReport().rows().isEmpty)
    }

    @Test("statements are told by how often they were met, on all workers")
    func statements() {
        var (first, second) = (ShadowReport(), ShadowReport())
        for (number, count) in [1: 5, 2: 7, 3: 1] {
            for turn in 0..<count {
                first.count(Fingerprint(rawValue: UInt64(number)), in: "app", text: "statement \(number)")
                if turn % 2 == 0 {
                    second.count(Fingerprint(rawValue: UInt64(number)), in: "app", text: "another text")
                }
            }
        }
        first.add(second)
        #expect(
            first.rows(top: 2).map { $0[1...3] } == [
                ["statement in app", "statement 2", "11"], ["statement in app", "statement 1", "8"],
            ]
        )
    }

    @Test("of too many statements the frequent ones stay")
    func bounded() {
        var report = ShadowReport()
        for number in 0..<5_000 {
            report.count(Fingerprint(rawValue: UInt64(number)), in: "app", text: "\(number)")
            for _ in 0..<2 { report.count(Fingerprint(rawValue: 7), in: "app", text: "7") }
        }
        let rows = report.rows(top: .max)
        #expect(rows.count <= ShadowReport.statementLimit + 1)
        #expect(rows[0][2] == "7" && rows[0][3] == "10001")
        #expect(rows.contains { $0[2] == "4999" })
    }
}
