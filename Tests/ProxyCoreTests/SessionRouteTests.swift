import PostgresWire
import ProxyCore
import QueryAnalysis
import Testing

struct SessionRouteTests {
    @Test(
        "a read goes to any node; what is not proven to be one goes to the primary",
        arguments: [
            (.empty, .anyReader), (.read, .anyReader), (.beginReadOnly, .anyReader),
            (.primaryRead, .primary(.notProvenRead)), (.begin, .primary(.notProvenRead)),
            (.transactionControl, .primary(.notProvenRead)), (.transactionEnd, .primary(.notProvenRead)),
            (.write, .primary(.notProvenRead)), (.sessionState, .primary(.notProvenRead)),
        ] as [(StatementEffect, SessionRoute.Destination)]
    )
    func effects(effect: StatementEffect, destination: SessionRoute.Destination) {
        let route = SessionRoute(pinTime: .seconds(5))
        #expect(route.destination(of: unit(effect), now: at(1)) == destination)
    }

    @Test("what is not known, or goes on, goes to the primary; names are known everywhere")
    func unknown() {
        let route = SessionRoute(pinTime: .seconds(5))
        var names = unit(.read)
        names.hasNames = true
        #expect(route.destination(of: names, now: at(1)) == .anyReader)
        var opaque = unit(.read)
        opaque.isOpaque = true
        #expect(route.destination(of: opaque, now: at(1)) == .primary(.notProvenRead))
        var flushed = unit(.read)
        flushed.ending = .flush
        #expect(route.destination(of: flushed, now: at(1)) == .primary(.notProvenRead))
    }

    @Test("after a write reads stay on the primary for the pin time, counted from the end of the answer")
    func pin() {
        var route = SessionRoute(pinTime: .seconds(5))
        route.sent(.write)
        #expect(route.destination(of: unit(.read), now: at(1)) == .anyReader)
        _ = route.answered(.idle, now: at(3))
        #expect(route.destination(of: unit(.read), now: at(3)) == .primary(.pinned))
        #expect(route.destination(of: unit(.read), now: at(7)) == .primary(.pinned))
        #expect(route.destination(of: unit(.read), now: at(8)) == .anyReader)
    }

    @Test("another write arms the pin again, a read does not")
    func pinAgain() {
        var route = SessionRoute(pinTime: .seconds(5))
        route.sent(.write)
        _ = route.answered(.idle, now: at(0))
        route.sent(.read)
        _ = route.answered(.idle, now: at(2))
        #expect(route.pinnedUntil == at(5))
        route.sent(.write)
        _ = route.answered(.idle, now: at(4))
        #expect(route.pinnedUntil == at(9))
    }

    @Test("a write inside a transaction counts until the transaction has ended")
    func transaction() {
        var route = SessionRoute(pinTime: .seconds(5))
        route.sent(.begin)
        _ = route.answered(.inTransaction, now: at(1))
        #expect(route.pinnedUntil == .distantPast)
        route.sent(.write)
        _ = route.answered(.inTransaction, now: at(2))
        route.sent(.transactionEnd)
        _ = route.answered(.idle, now: at(60))
        #expect(route.destination(of: unit(.read), now: at(64)) == .primary(.pinned))
        #expect(route.destination(of: unit(.read), now: at(65)) == .anyReader)
        route.sent(.read)
        _ = route.answered(.idle, now: at(70))
        #expect(route.destination(of: unit(.read), now: at(70)) == .anyReader)
    }

    @Test("a write that failed counts, too: it may have written before")
    func failed() {
        var route = SessionRoute(pinTime: .seconds(5))
        route.sent(.write)
        _ = route.answered(.failed, now: at(1))
        #expect(route.destination(of: unit(.read), now: at(1)) == .primary(.pinned))
        route.sent(.transactionEnd)
        _ = route.answered(.idle, now: at(10))
        #expect(route.pinnedUntil == at(15))
    }

    @Test("without a pin time reads go to any node at once")
    func noPin() {
        var route = SessionRoute(pinTime: .zero)
        route.sent(.write)
        _ = route.answered(.idle, now: at(1))
        #expect(route.destination(of: unit(.read), now: at(1)) == .anyReader)
    }

    @Test("what may leave state counts as a write, and nothing more: it can be made again elsewhere")
    func sessionState() {
        var route = SessionRoute(pinTime: .seconds(5))
        route.sent(.sessionState)
        #expect(route.destination(of: unit(.read), now: at(0)) == .anyReader)
        _ = route.answered(.idle, now: at(1))
        #expect(route.destination(of: unit(.read), now: at(5)) == .primary(.pinned))
        #expect(route.destination(of: unit(.read), now: at(6)) == .anyReader)
    }

    @Test("a setting and nothing else writes nothing")
    func onlySet() {
        var route = SessionRoute(pinTime: .seconds(5))
        route.sent(.sessionState)
        route.onlySet()
        _ = route.answered(.idle, now: at(1))
        #expect(route.pinnedUntil == .distantPast)
        route.sent(.write)
        _ = route.answered(.idle, now: at(2))
        route.sent(.sessionState)
        route.onlySet()
        _ = route.answered(.idle, now: at(3))
        #expect(route.pinnedUntil == at(7))
    }

    @Test("in an encoding that the lexer cannot read nothing is proven")
    func encoding() {
        var route = SessionRoute(pinTime: .seconds(5))
        route.hasASCIISafeEncoding = false
        for effect in [.empty, .read, .beginReadOnly, .write] as [StatementEffect] {
            #expect(route.destination(of: unit(effect), now: at(1)) == .primary(.encoding))
        }
        route.hasASCIISafeEncoding = true
        #expect(route.destination(of: unit(.read), now: at(1)) == .anyReader)
    }
}

struct MonotonicTimeTests {
    @Test("a duration that is negative does not lead into the past, one that is too long does not trap")
    func edges() {
        #expect(at(5) + .seconds(-1) == at(5))
        #expect(at(5) + .milliseconds(1) == MonotonicTime(nanoseconds: 5_001_000_000))
        #expect(Duration.seconds(Int64.max).nanoseconds == .max)
        #expect(at(1) < at(1) + .seconds(Int64.max))
        let farthest = MonotonicTime(nanoseconds: .max)
        #expect(farthest + .seconds(1) >= farthest)
        let longest = Duration(secondsComponent: 9_223_372_036, attosecondsComponent: 999_999_999_999_999_999)
        #expect(longest.nanoseconds == .max)
        #expect(Duration.seconds(Int64.min).nanoseconds < 0)
    }
}

private func at(_ seconds: UInt64) -> MonotonicTime { MonotonicTime(nanoseconds: seconds * 1_000_000_000) }

private func unit(_ effect: StatementEffect) -> RequestUnit {
    var unit = RequestUnit(length: 10, ending: .ready)
    unit.effect = effect
    return unit
}
