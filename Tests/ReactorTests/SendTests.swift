import Glibc
import Reactor
import TestSupport
import Testing

@Suite(.serialized) struct SendTests {
    @Test("bytes are sent, and the completion says how many", arguments: kinds)
    func send(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (ours, peer) = try loop.pair()
        let memory = Memory("hello")
        for _ in 0..<100 {
            loop.reactor.send(ours, memory.readOnly, token: 1)
            #expect(loop.wait(of: 1).map(\.result) == [5])
            #expect(read(peer, 5) == Array("hello".utf8))
        }
    }

    @Test("a big send to a slow reader completes once, when all bytes were taken", arguments: kinds)
    func slowReader(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (ours, peer) = try loop.pair()
        var random = SeededGenerator()
        let sent = random.bytes(3_000_000)
        let memory = Memory(sent.count)
        memory.bytes.copyBytes(from: sent)
        loop.reactor.send(ours, memory.readOnly, token: 1)
        loop.idle()
        #expect(loop.completions.isEmpty)
        var received: [UInt8] = []
        _ = fcntl(peer, F_SETFL, O_NONBLOCK)
        loop.poll {
            received += read(peer, 50_000)
            return received.count == sent.count
        }
        #expect(received == sent, "seed \(random.seed)")
        loop.idle()
        #expect(loop.completions.map(\.token) == [1])
        #expect(loop.completions.map(\.result) == [3_000_000])
    }

    @Test("sending to a peer that is gone fails, and raises no signal", arguments: kinds)
    func peerGone(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (ours, peer) = try loop.pair()
        loop.close(peer)
        let memory = Memory("hello")
        loop.reactor.send(ours, memory.readOnly, token: 1)
        #expect(loop.wait(of: 1).map(\.result) == [-EPIPE])
    }

    @Test("a peer that goes away in the middle of a send ends it", arguments: kinds)
    func peerGoes(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (ours, peer) = try loop.pair()
        let memory = Memory(3_000_000)
        loop.reactor.send(ours, memory.readOnly, token: 1)
        loop.idle()
        loop.close(peer)
        let ended = loop.wait(of: 1)
        #expect(ended.count == 1)
        // An error, or what was taken before it: less than all in either case.
        #expect(ended.allSatisfy { $0.result < 3_000_000 })
    }

    @Test("a receive and a send are outstanding at the same time", arguments: kinds)
    func bothDirections(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (ours, peer) = try loop.pair()
        let memory = Memory(3_000_000)
        loop.reactor.receive(ours, token: 1)
        loop.reactor.send(ours, memory.readOnly, token: 2)
        loop.idle()
        write("hello", to: peer)
        #expect(loop.text(loop.wait(of: 1).first) == "hello")
        #expect(loop.completions.isEmpty)
        var count = 0
        _ = fcntl(peer, F_SETFL, O_NONBLOCK)
        loop.poll {
            count += read(peer, 50_000).count
            return count == 3_000_000
        }
        #expect(loop.wait(of: 2).map(\.result) == [3_000_000])
    }
}

/// What the test's side has to read, up to a number of bytes.
func read(_ descriptor: Int32, _ capacity: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: capacity) { memory, count in
        count = max(0, Glibc.read(descriptor, memory.baseAddress, capacity))
    }
}
