import Balancing
import Testing

/// The routers, and what their models in other languages got wrong.
struct RouterTests {
    private let reads = ReadPool.weightedRoundRobin(["one": 1, "two": 2])

    // MARK: - Pools

    @Test("a pool is read from and written to; its databases are one family")
    func pools() {
        let routers: [any DatabaseRouter] = [
            RandomRouter("one", "two"), WeightedRandomRouter(["one": 1, "two": 3]), RoundRobinRouter("one", "two"),
        ]
        for router in routers {
            #expect(Set((0..<100).map { _ in router.databaseForRead() }) == ["one", "two"])
            #expect(Set((0..<100).map { _ in router.databaseForWrite() }) == ["one", "two"])
            #expect(router.allowRelation(between: "one", and: "two") == true)
            #expect(router.allowRelation(between: "one", and: "elsewhere") == nil)
            #expect(router.allowMigrate("two") == true)
        }
    }

    @Test("weights are shares")
    func weights() {
        let router = WeightedRandomRouter(["one": 1, "two": 3, "never": 0])
        var counts: [Database: Int] = [:]
        for _ in 0..<8_000 { counts[router.databaseForRead()!, default: 0] += 1 }
        #expect(counts["never"] == nil && abs(counts["one"]! - 2_000) < 250, "\(counts)")
    }

    @Test("weights that are all 0 mean no opinion, not a crash (django-balancer 0.5: IndexError)")
    func allZero() {
        #expect(WeightedRandomRouter(["one": 0, "two": 0]).databaseForRead() == nil)
        let router = PrimaryReplicaRouter(primary: "primary", reads: .weightedRandom(["one": 0]))
        #expect(router.databaseForRead() == "primary")
    }

    @Test("the order is shuffled at the start (django-balancer 0.5 shuffles a copy)")
    func shuffledStart() {
        let firsts = (0..<200).map { _ in RoundRobinRouter("one", "two", "three").databaseForRead() }
        #expect(Set(firsts) == ["one", "two", "three"])
        let router = RoundRobinRouter("one", "two", "three")
        let cycle = (0..<3).map { _ in router.databaseForRead() }
        #expect(Set(cycle).count == 3 && (0..<3).map { _ in router.databaseForRead() } == cycle)
    }

    @Test("a write does not cost a database its turn to be read (django-balancer 0.5 shares one cycle)")
    func writesHaveTurnsOfTheirOwn() {
        let router = RoundRobinRouter("one", "two")
        let reads = (0..<10).map { _ in
            _ = router.databaseForWrite()
            return router.databaseForRead()
        }
        #expect(Set(reads) == ["one", "two"])
    }

    // MARK: - A primary and its replicas

    @Test("writes, migrations and relations of a primary with replicas (django-balancer 0.5: TypeError)")
    func primaryAndReplicas() {
        let router = PrimaryReplicaRouter(primary: "primary", reads: reads)
        #expect(Set((0..<30).map { _ in router.databaseForWrite() }) == ["primary"])
        #expect(Set((0..<30).map { _ in router.databaseForRead() }) == ["one", "two"])
        #expect(router.allowRelation(between: "primary", and: "two") == true)
        #expect(router.allowRelation(between: "one", and: "two") == true)
        #expect(router.allowRelation(between: "primary", and: "elsewhere") == nil)
        #expect(router.allowMigrate("primary") == true && router.allowMigrate("one") == false)
    }

    @Test("the primary takes reads by its weight when it is in the pool, and when nobody else can")
    func primaryReads() {
        let pool = ReadPool.weightedRoundRobin(["primary": 1, "one": 2, "two": 2])
        let router = PrimaryReplicaRouter(primary: "primary", reads: pool)
        let counts = Dictionary(grouping: (0..<500).map { _ in router.databaseForRead()! }) { $0 }.mapValues(\.count)
        #expect(counts == ["primary": 100, "one": 200, "two": 200])
        reads.setInService("one", false)
        reads.setInService("two", false)
        #expect(PrimaryReplicaRouter(primary: "primary", reads: reads).databaseForRead() == "primary")
    }

    @Test("who is out of service passes its turns to all others, by weight (PgDog 0.1: to its neighbour)")
    func sharesOfTheEligible() {
        let pool = ReadPool.weightedRoundRobin(["down": 5, "one": 1, "two": 2])
        pool.setInService("down", false)
        let counts = Dictionary(grouping: (0..<300).map { _ in pool.next()! }) { $0 }.mapValues(\.count)
        #expect(abs(counts["one"]! - 100) <= 1 && abs(counts["two"]! - 200) <= 1 && counts["down"] == nil, "\(counts)")
    }

    // MARK: - Composing

    @Test("the first router of a chain with an opinion decides")
    func chains() {
        struct AuditRouter: DatabaseRouter {
            func databaseForRead(_ query: RoutedQuery) -> Database? { query.model == "Audit" ? "audit" : nil }
            func databaseForWrite(_ query: RoutedQuery) -> Database? { databaseForRead(query) }
        }
        let router = RouterChain(AuditRouter(), PrimaryReplicaRouter(primary: "primary", reads: reads))
        #expect(router.databaseForWrite(RoutedQuery(model: "Audit")) == "audit")
        #expect(router.databaseForWrite(RoutedQuery(model: "Order")) == "primary")
        #expect(router.allowMigrate("one") == false)
        #expect(RouterChain().databaseForRead() == nil)
    }

    @Test("the reads of one scope stay on one database while it serves")
    func steadiness() async {
        let pool = ReadPool.roundRobin("one", "two")
        let router = SteadyRouter(PrimaryReplicaRouter(primary: "primary", reads: pool))
        await withPinScope {
            let first = router.databaseForRead()!
            #expect(Set((0..<20).map { _ in router.databaseForRead() }) == [first])
            pool.setInService(first, false)
            let second = router.databaseForRead()!
            #expect(second != first)
            pool.setInService(first, true)
            #expect(Set((0..<20).map { _ in router.databaseForRead() }) == [second], "it does not go back")
        }
        #expect(Set((0..<20).map { _ in router.databaseForRead() }) == ["one", "two"])
    }
}
