import PostgresWire
import ProxyCore
import TestSupport
import Testing

struct PassThroughTests {
    @Test("the present message ends it, at any cut")
    func message() {
        let message = Frontend.query("SELECT 1")
        check(message, .message)
    }

    @Test("Sync ends it")
    func sync() {
        check(Frontend.parse("", "SELECT 1") + Frontend.bind("") + Frontend.execute + Frontend.sync, .sync)
        check(Frontend.sync, .sync)
    }

    @Test("CopyDone or CopyFail ends a copy")
    func simpleCopy() {
        check(Frontend.copyData("a\n") + Frontend.copyData("b\n") + Frontend.copyDone, .copy(isExtended: false))
        check(Frontend.copyData("a\n") + Frontend.copyFail, .copy(isExtended: false))
        check(Frontend.flush + Frontend.sync + Frontend.copyDone, .copy(isExtended: false))
    }

    @Test("the end of an extended copy ends it, for its unit goes on; a Sync inside the copy does not count")
    func extendedCopy() {
        check(Frontend.copyData("a") + Frontend.sync + Frontend.copyDone, .copy(isExtended: true))
        check(Frontend.copyFail, .copy(isExtended: true))
    }

    @Test("one message of a unit ends with itself")
    func oversized() {
        check(Frontend.bind("s"), .oversized)
    }

    @Test("when its unit has failed what is left of it, up to Sync, belongs to an oversized message; else nothing does")
    func unitFailed() {
        let message = Frontend.bind("s")
        let rest = Frontend.execute + Frontend.sync
        for cut in 0..<message.count {
            var pass = PassThrough(ending: .oversized)
            let first = pass.scan(message[..<cut])
            #expect(!first.isOver)
            pass.unitFailed()
            #expect(pass.ending == .sync)
            let scan = pass.scan(message[first.count...] + rest + Frontend.query("SELECT 2"))
            #expect(scan.isOver && first.count + scan.count == message.count + rest.count, "cut at \(cut)")
        }
        for ending in [.message, .sync, .copy(isExtended: false), .copy(isExtended: true)] as [PassThrough.Ending] {
            var pass = PassThrough(ending: ending)
            pass.unitFailed()
            #expect(pass.ending == ending)
        }
    }

    @Test("an answer that is complete leaves the rest of the present message, and nothing between messages")
    func answerEnded() {
        let data = Frontend.copyData("abc")
        for cut in 0...data.count {
            var pass = PassThrough(ending: .copy(isExtended: false))
            let first = pass.scan(data[..<cut])
            let isBetween = first.count == 0 || first.count == data.count
            #expect(pass.answerEnded() == isBetween, "cut at \(cut)")
            guard !isBetween else { continue }
            let scan = pass.scan(data[first.count...] + Frontend.query("SELECT 1"))
            #expect(scan.isOver && first.count + scan.count == data.count, "cut at \(cut)")
        }
    }

    @Test("a copy that begins while a unit passes ends with CopyDone; one whose end has passed already ends nothing")
    func copyBegan() {
        var pass = PassThrough(ending: .sync)
        #expect(!pass.scan(Frontend.execute + Frontend.copyData("a")).isOver)
        pass.copyBegan(isExtended: true)
        #expect(pass.ending == .copy(isExtended: true))
        let scan = pass.scan(Frontend.sync + Frontend.copyDone + Frontend.sync)
        #expect(scan.isOver && scan.count == Frontend.sync.count + Frontend.copyDone.count)

        var late = PassThrough(ending: .sync)
        #expect(!late.scan(Frontend.execute + Frontend.copyDone).isOver)
        late.copyBegan(isExtended: true)
        #expect(late.ending == .sync)
        #expect(late.scan(Frontend.sync).isOver)
    }

    @Test("after a failed copy what is left of the message is dropped, or of the extended unit")
    func copyFailed() {
        var between = PassThrough(ending: .copy(isExtended: false))
        #expect(between.scan(Frontend.copyData("a")).isOver == false)
        #expect(between.copyFailed() == true)

        var within = PassThrough(ending: .copy(isExtended: false))
        let data = Frontend.copyData("abc")
        #expect(within.scan(data[..<6]).count == 6)
        #expect(within.copyFailed() == false)
        let scan = within.scan((data[6...] + Frontend.query("SELECT 1")))
        #expect(scan.count == data.count - 6)
        #expect(scan.isOver)

        var extended = PassThrough(ending: .copy(isExtended: true))
        #expect(extended.scan(data[..<6]).count == 6)
        #expect(extended.copyFailed() == false)
        let rest = Array(data[6...]) + Frontend.copyDone + Frontend.sync
        #expect(extended.scan((rest + Frontend.query("SELECT 1"))).count == rest.count)

        var unit = PassThrough(ending: .sync)
        #expect(unit.copyFailed() == false)
        #expect(unit.ending == .sync)
    }

    @Test("Terminate and what is no message end it, and what stands before them is still passed on")
    func endings() {
        let head = Frontend.copyData("a")
        var terminated = PassThrough(ending: .copy(isExtended: false))
        let scan = terminated.scan((head + Frontend.terminate))
        #expect(scan.terminates && scan.count == head.count && !scan.isOver)
        for bytes in [[0, 0, 0, 0, 4], [0x64, 0, 0, 0, 3], [0x53, 0, 0, 0x27, 0x11]] as [[UInt8]] {
            var violated = PassThrough(ending: .copy(isExtended: false))
            let scan = violated.scan((head + bytes))
            #expect(scan.violation?.state == .protocolViolation)
            #expect(scan.count == head.count && !scan.isOver)
        }
    }

    @Test("random bytes never trap, and no more is taken than is there")
    func randomBytes() {
        var random = SeededGenerator()
        let types: [UInt8] = Array("BCDEFHPQSXcdfpz".utf8)
        let endings: [PassThrough.Ending] = [
            .message, .oversized, .sync, .copy(isExtended: false), .copy(isExtended: true),
        ]
        for _ in 0..<100_000 {
            var pass = PassThrough(ending: endings.randomElement(using: &random) ?? .message)
            for _ in 0..<3 {
                let body = random.bytes(Int.random(in: 0..<8, using: &random))
                let length = UInt8.random(in: 0..<20, using: &random)
                let bytes = [types.randomElement(using: &random) ?? 0, 0, 0, 0, length] + body
                let scan = pass.scan(bytes)
                #expect((0...bytes.count).contains(scan.count) && pass.remaining >= 0, "seed \(random.seed)")
                switch Int.random(in: 0..<16, using: &random) {
                case 0: _ = pass.copyFailed()
                case 1: pass.unitFailed()
                case 2: pass.copyBegan(isExtended: Bool.random(using: &random))
                case 3: _ = pass.answerEnded()
                default: break
                }
            }
        }
    }

    /// All of `bytes` belongs to it and nothing behind, whole and at every cut, and cut at random.
    private func check(
        _ bytes: [UInt8],
        _ ending: PassThrough.Ending,
        _ location: SourceLocation = #_sourceLocation
    ) {
        var random = SeededGenerator()
        let behind = Frontend.query("SELECT 2")
        for cut in 0..<bytes.count {
            var pass = PassThrough(ending: ending)
            let first = pass.scan(bytes[..<cut])
            #expect(!first.isOver && first.count <= cut && first.violation == nil, sourceLocation: location)
            let second = pass.scan((bytes[first.count...] + behind))
            #expect(
                second.isOver && first.count + second.count == bytes.count,
                "cut at \(cut)",
                sourceLocation: location
            )
        }
        for _ in 0..<200 {
            var pass = PassThrough(ending: ending)
            var start = 0
            for end in random.cuts(bytes.count, largest: 9) {
                let scan = pass.scan(bytes[start..<end])
                start += scan.count
                #expect(scan.isOver == (start == bytes.count), "seed \(random.seed)", sourceLocation: location)
            }
            #expect(start == bytes.count, "seed \(random.seed)", sourceLocation: location)
        }
    }
}
