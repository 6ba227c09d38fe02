import Balancing
import Synchronization
import Testing

/// Who has written reads what he has written.
struct PinTests {
    /// A clock that the test moves.
    private final class Clock: Sendable {
        private let time = Mutex(1_000.0)
        var now: Double { time.withLock { $0 } }
        func advance(_ seconds: Double) { time.withLock { $0 += seconds } }
    }

    private let clock = Clock()
    private var router: PinningRouter<PrimaryReplicaRouter> {
        let base = PrimaryReplicaRouter(primary: "primary", reads: .roundRobin("one", "two"))
        return PinningRouter(base, seconds: 5, now: { [clock] in clock.now })
    }

    private func reads(_ router: some DatabaseRouter) -> Set<Database?> {
        Set((0..<10).map { _ in router.databaseForRead() })
    }

    // MARK: - By time

    @Test("a write pins for some seconds, and each write begins them anew")
    func time() async {
        let router = router
        await withPinScope {
            #expect(reads(router) == ["one", "two"])
            #expect(router.databaseForWrite() == "primary")
            clock.advance(4)
            #expect(reads(router) == ["primary"])
            _ = router.databaseForWrite()
            clock.advance(4)
            #expect(reads(router) == ["primary"], "pinned again by the second write")
            clock.advance(1)
            #expect(reads(router) == ["one", "two"])
        }
    }

    @Test("scopes know nothing of each other, however they end (thread-locals of django-balancer leak)")
    func scopes() async {
        struct Failure: Error {}
        let router = router
        await #expect(throws: Failure.self) {
            try await withPinScope {
                _ = router.databaseForWrite()
                throw Failure()
            }
        }
        await withPinScope {
            #expect(reads(router) == ["one", "two"])
            #expect(!PinScope.current.hasWritten)
        }
        await withTaskGroup { group in
            for number in 0..<100 {
                group.addTask {
                    await withPinScope {
                        if number.isMultiple(of: 2) { _ = router.databaseForWrite() }
                        await Task.yield()
                        let expected: Set<Database?> = number.isMultiple(of: 2) ? ["primary"] : ["one", "two"]
                        #expect(reads(router) == expected)
                    }
                }
            }
        }
    }

    @Test("child tasks belong to the scope: what one writes, the others read from the primary")
    func children() async {
        let router = router
        await withPinScope {
            async let write = router.databaseForWrite()
            #expect(await write == "primary")
            #expect(reads(router) == ["primary"])
            await withTaskGroup { group in
                for _ in 0..<10 { group.addTask { #expect(reads(router) == ["primary"]) } }
            }
            await Task { #expect(reads(router) == ["primary"]) }.value
            let scope = PinScope.current
            await Task.detached {
                await withPinScope(scope) { #expect(reads(router) == ["primary"]) }
            }.value
        }
    }

    @Test("withPrimary may be nested, and leaves nothing behind (multidb-router 0.11 stays pinned for ever)")
    func nesting() async throws {
        struct Failure: Error {}
        let router = router
        await withPinScope {
            await withPrimary {
                withPrimary { #expect(reads(router) == ["primary"]) }
                #expect(reads(router) == ["primary"], "still in the outer one")
                do { try withPrimary { throw Failure() } } catch {}
                async let child = reads(router)
                #expect(await child == ["primary"])
            }
            #expect(reads(router) == ["one", "two"])
            #expect(withPrimary { reads(router) } == ["primary"])
        }
    }

    // MARK: - By token

    @Test("a token pins until a replica has replayed it; a write without one, to the primary")
    func tokens() async {
        let replayed = Mutex<[Database: UInt64]>(["one": 0, "two": 0])
        let base = PrimaryReplicaRouter(primary: "primary", reads: .roundRobin("one", "two"))
        let router = PinningRouter(base) { database, token in
            FreshnessToken(timeline: 1, position: replayed.withLock { $0[database] ?? 0 }).covers(token)
        }
        await withPinScope {
            #expect(reads(router) == ["one", "two"])
            _ = router.databaseForWrite()
            replayed.withLock { $0 = ["one": 1_000, "two": 1_000] }
            #expect(reads(router) == ["primary"], "nobody knows yet how far the write is")
            await PinScope.current.resolveWrites { FreshnessToken(timeline: 1, position: 2_000) }
            #expect(reads(router) == ["primary"])
            replayed.withLock { $0["two"] = 2_000 }
            #expect(reads(router) == ["two"], "the token is compared with each replica")
            replayed.withLock { $0["one"] = 3_000 }
            #expect(reads(router) == ["one", "two"])
            // A write while the token of an earlier one is asked for is not covered by it.
            _ = router.databaseForWrite()
            await PinScope.current.resolveWrites {
                _ = router.databaseForWrite()
                return FreshnessToken(timeline: 1, position: 2_500)
            }
            #expect(PinScope.current.isUnresolved && reads(router) == ["primary"])
            await PinScope.current.resolveWrites { FreshnessToken(timeline: 2, position: 100) }
            #expect(reads(router) == ["primary"], "of another timeline nobody knows")
        }
    }

    @Test("without knowledge of the replicas a token means the primary")
    func tokensWithoutKnowledge() async {
        let router = router
        await withPinScope(PinScope(Pin(token: FreshnessToken(timeline: 1, position: 1)))) {
            #expect(reads(router) == ["primary"])
        }
    }

    // MARK: - Texts

    @Test("pins and tokens are read as they are written, and nothing else is")
    func texts() {
        for text in ["1/0/16B3748", "A/FF/0", "FFFFFFFF/FFFFFFFF/FFFFFFFF"] {
            #expect(FreshnessToken(text)?.description == text)
        }
        #expect(FreshnessToken("1/1/2")?.position == 1 << 32 | 2)
        for text in ["", "1", "1/2", "1/2/3/4", "1/2/", "x/0/0", "1/0/100000000", "-1/0/0", "1/+0/0", "1/0/ 1"] {
            #expect(FreshnessToken(text) == nil, "\(text)")
        }
        for pin in [Pin(until: 12.5), Pin(until: 0, token: FreshnessToken(timeline: 1, position: 77))] {
            #expect(Pin(pin.description) == pin)
        }
        for text in ["", "nan", "inf", "-1", "1:", "1:x", ":1/0/0"] { #expect(Pin(text) == nil, "\(text)") }
    }

    @Test("pins are joined: the later time, and the token that says more")
    func joined() {
        func token(_ timeline: UInt32, _ position: UInt64) -> FreshnessToken {
            FreshnessToken(timeline: timeline, position: position)
        }
        var pin = Pin(until: 10, token: token(1, 5))
        pin.extend(by: Pin(until: 8))
        #expect(pin == Pin(until: 10, token: token(1, 5)))
        pin.extend(by: Pin(until: 11, token: token(1, 4)))
        #expect(pin == Pin(until: 11, token: token(1, 5)))
        pin.extend(by: Pin(token: token(1, 6)))
        #expect(pin.token == token(1, 6))
        pin.extend(by: Pin(token: token(2, 1)))
        #expect(pin.token == token(2, 1), "the new timeline's")
    }
}
