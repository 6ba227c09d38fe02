import Balancing
import Foundation
import Testing

// What stands between "example" and "end" is shown in the documentation, word by word: a test compares them.

// example: OwnRouter
/// Reports read from a database of their own, by night from any replica.
struct ReportRouter: DatabaseRouter {
    let replicas: ReadPool
    let isNight: @Sendable () -> Bool

    func databaseForRead(_ query: RoutedQuery) -> Database? {
        guard query.model == "Report" else { return nil }
        return isNight() ? replicas.next(for: query) : "reports"
    }

    func databaseForWrite(_ query: RoutedQuery) -> Database? { nil }
}
// end

// example: OwnPolicy
/// The first that is in service: the others only stand by.
struct InOrder: BalancingPolicy {
    let count: Int

    mutating func next(at now: ContinuousClock.Instant, where isEligible: (Int) -> Bool) -> Int? {
        (0..<count).first(where: isEligible)
    }
}
// end

struct DocumentationTests {
    @Test("the examples of the documentation do what it says")
    func examples() async throws {
        // example: Routers
        let reads = ReadPool.weightedRoundRobin(["primary": 1, "replica1": 2, "replica2": 2])
        let router = PinningRouter(PrimaryReplicaRouter(primary: "primary", reads: reads), seconds: 5)

        let name = router.databaseForRead()  // one of the three, by weight
        // end
        #expect(["primary", "replica1", "replica2"].contains(name))

        await withPinScope {
            // example: Pins
            _ = router.databaseForWrite()  // "primary"; its reads stay there for 5 seconds
            _ = router.databaseForRead()  // "primary"
            // end
            #expect(router.databaseForRead() == "primary")
        }
        // example: WithPrimary
        let balance = withPrimary {
            router.databaseForRead()  // "primary", in here and in all child tasks
        }
        // end
        #expect(balance == "primary")

        let chain = RouterChain(ReportRouter(replicas: .random("replica1"), isNight: { true }), router)
        #expect(chain.databaseForRead(RoutedQuery(model: "Report")) == "replica1")
        #expect(chain.databaseForWrite(RoutedQuery(model: "Report")) == "primary")
        let standby = ReadPool(["one", "two"], policy: InOrder(count: 2))
        #expect(standby.next() == "one")
        standby.setInService("one", false)
        #expect(standby.next() == "two")
    }

    @Test("the documentation shows what is compiled here")
    func textIsCode() throws {
        let source = try String(contentsOfFile: #filePath, encoding: .utf8)
        let catalog = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "Sources/Balancing/Balancing.docc")
        let pages = try FileManager.default.contentsOfDirectory(at: catalog, includingPropertiesForKeys: nil)
            .map { try String(contentsOf: $0, encoding: .utf8) }.joined()
        var examples = 0
        for part in source.components(separatedBy: "// example: ").dropFirst() where !part.hasPrefix("\"") {
            var lines = part.components(separatedBy: "\n").dropFirst().prefix {
                $0.trimmingCharacters(in: .whitespaces) != "// end"
            }
            let indentation = lines.filter { !$0.isEmpty }.map { $0.prefix { $0 == " " }.count }.min() ?? 0
            lines = lines.map { String($0.dropFirst(indentation)) }[...]
            #expect(pages.contains(lines.joined(separator: "\n")), "\(part.prefix { $0 != "\n" }) is shown otherwise")
            examples += 1
        }
        #expect(examples == 5)
    }
}
