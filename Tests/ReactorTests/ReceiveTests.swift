import Glibc
import Reactor
import TestSupport
import Testing

@Suite(.serialized) struct ReceiveTests {
    @Test("bytes that come are lent in a buffer, which is given back", arguments: kinds)
    func lentBuffer(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (ours, peer) = try loop.pair()
        for round in 0..<200 {
            loop.reactor.receive(ours, token: 1)
            write("hello \(round)", to: peer)
            let received = loop.wait(of: 1)
            #expect(received.count == 1)
            #expect(loop.reactor.buffers.inUse == 1)
            #expect(loop.text(received.first) == "hello \(round)")
            #expect(loop.reactor.buffers.inUse == 0)
        }
    }

    @Test("bytes that came before the receive was started are received", arguments: kinds)
    func earlyBytes(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (ours, peer) = try loop.pair()
        write("early", to: peer)
        loop.idle()
        loop.reactor.receive(ours, token: 1)
        #expect(loop.text(loop.wait(of: 1).first) == "early")
        write("between", to: peer)
        loop.idle()
        loop.reactor.receive(ours, token: 1)
        #expect(loop.text(loop.wait(of: 1).first) == "between")
    }

    @Test("an outstanding receive holds no buffer, and does not complete", arguments: kinds)
    func idleConnection(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (ours, peer) = try loop.pair()
        loop.reactor.receive(ours, token: 1)
        loop.idle()
        #expect(loop.completions.isEmpty)
        #expect(loop.reactor.buffers.inUse == 0)
        write("x", to: peer)
        #expect(loop.text(loop.wait(of: 1).first) == "x")
    }

    @Test("bytes go into memory that is given, and not beyond it", arguments: kinds)
    func givenMemory(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (ours, peer) = try loop.pair()
        let memory = Memory("------")
        let part = UnsafeMutableRawBufferPointer(rebasing: memory.bytes[1..<5])
        loop.reactor.receive(ours, into: part, token: 1)
        write("abcdefg", to: peer)
        let first = loop.wait(of: 1)
        #expect(first.map(\.result) == [4])
        #expect(first.first?.buffer == nil)
        #expect(String(decoding: memory.bytes, as: UTF8.self) == "-abcd-")
        loop.reactor.receive(ours, into: part, token: 1)
        #expect(loop.wait(of: 1).map(\.result) == [3])
        #expect(String(decoding: memory.bytes, as: UTF8.self) == "-efgd-")
        #expect(loop.reactor.buffers.inUse == 0)
    }

    @Test("more than a buffer comes in parts, and nothing is lost", arguments: kinds)
    func manyBuffers(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (listening, port) = try loop.listener()
        loop.reactor.accept(listening, token: 1)
        let peer = try loop.connected(to: port)
        let ours = loop.keep(try #require(loop.wait(of: 1).first).result)
        var random = SeededGenerator()
        let sent = random.bytes(700_001)
        let writer = Writer(sent, to: peer)
        defer { writer.join() }
        var received: [UInt8] = []
        while received.count < sent.count {
            loop.reactor.receive(ours, token: 2)
            guard let completion = loop.wait(of: 2).first, let buffer = completion.buffer, completion.result > 0 else {
                Issue.record("nothing came after \(received.count) bytes")
                return
            }
            received += loop.reactor.buffers.memory(of: buffer).prefix(Int(completion.result))
            loop.reactor.buffers.release(buffer)
        }
        #expect(received == sent, "seed \(random.seed)")
        #expect(loop.reactor.buffers.inUse == 0)
    }

    @Test("a peer that closes while a receive is outstanding ends it with 0", arguments: kinds)
    func peerCloses(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (ours, peer) = try loop.pair()
        loop.reactor.receive(ours, token: 1)
        loop.idle()
        loop.close(peer)
        let ended = loop.wait(of: 1)
        #expect(ended.map(\.result) == [0])
        #expect(ended.first?.buffer == nil)
        loop.reactor.receive(ours, token: 1)
        #expect(loop.wait(of: 1).map(\.result) == [0])
        #expect(loop.reactor.buffers.inUse == 0)
    }

    @Test("data and an end that come together are received one after the other", arguments: kinds)
    func dataAndEnd(kind: Reactor.Kind) throws {
        for startsFirst in [true, false] {
            let loop = try Loop(kind)
            let (ours, peer) = try loop.pair()
            if startsFirst {
                loop.reactor.receive(ours, token: 1)
                loop.idle()
            }
            write("last words", to: peer)
            loop.close(peer)
            if !startsFirst {
                loop.idle()
                loop.reactor.receive(ours, token: 1)
            }
            #expect(loop.text(loop.wait(of: 1).first) == "last words")
            loop.reactor.receive(ours, token: 1)
            #expect(loop.wait(of: 1).map(\.result) == [0])
        }
    }

    @Test("an end that comes between two receives is seen by the second", arguments: kinds)
    func endBetween(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (listening, port) = try loop.listener()
        loop.reactor.accept(listening, token: 1)
        let peer = try loop.connected(to: port)
        let ours = loop.keep(try #require(loop.wait(of: 1).first).result)
        loop.reactor.receive(ours, token: 2)
        write("x", to: peer)
        #expect(loop.text(loop.wait(of: 2).first) == "x")
        loop.close(peer)
        loop.idle()
        loop.reactor.receive(ours, token: 2)
        #expect(loop.wait(of: 2).map(\.result) == [0])
    }

    @Test("a connection that is reset ends the receive with an error", arguments: kinds)
    func reset(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (listening, port) = try loop.listener()
        loop.reactor.accept(listening, token: 1)
        let peer = try loop.connected(to: port)
        let ours = loop.keep(try #require(loop.wait(of: 1).first).result)
        loop.reactor.receive(ours, token: 2)
        loop.idle()
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(peer, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
        loop.close(peer)
        #expect(loop.wait(of: 2).map(\.result) == [-ECONNRESET])
    }

    @Test("without a buffer to lend a receive fails, and can be started again when one has come back", arguments: kinds)
    func noBuffers(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (ours, peer) = try loop.pair()
        var taken: [BufferID] = []
        while let buffer = loop.reactor.buffers.take() { taken.append(buffer) }
        // What io_uring has lent to the kernel beforehand is used up first.
        var lent = 0
        write("x", to: peer)
        let one = Memory(1)
        while lent < 200 {
            loop.reactor.receive(ours, token: 1)
            guard let completion = loop.wait(of: 1).first else {
                Issue.record("a receive does not complete")
                return
            }
            if completion.result == -ENOBUFS { break }
            if let buffer = completion.buffer { taken.append(buffer) }
            lent += 1
            write("x", to: peer)
        }
        #expect(kind == .uring || lent == 0)
        #expect(lent < 200)
        loop.reactor.receive(ours, into: one.bytes, token: 2)
        #expect(loop.wait(of: 2).map(\.result) == [1])
        for buffer in taken { loop.reactor.buffers.release(buffer) }
        #expect(loop.reactor.buffers.inUse == 0)
        // The kernel is supplied again by the next wait.
        loop.idle()
        loop.reactor.receive(ours, token: 3)
        write("x", to: peer)
        #expect(loop.text(loop.wait(of: 3).first)?.isEmpty == false)
    }
}

struct BufferPoolTests {
    @Test("a buffer is free again when its last holder lets go", arguments: kinds)
    func holders(kind: Reactor.Kind) throws {
        let pool = try Reactor(kind: kind).buffers
        let buffer = try #require(pool.take())
        #expect(pool.holders(of: buffer) == 1)
        pool.retain(buffer)
        #expect(pool.holders(of: buffer) == 2)
        pool.release(buffer)
        #expect(pool.inUse == 1)
        pool.release(buffer)
        #expect(pool.inUse == 0)
        #expect(pool.take() == buffer)
    }

    @Test("buffers do not overlap", arguments: kinds)
    func distinct(kind: Reactor.Kind) throws {
        let pool = try Reactor(kind: kind).buffers
        let buffers = (0..<100).compactMap { _ in pool.take() }
        let starts = buffers.compactMap { pool.memory(of: $0).baseAddress }.sorted()
        #expect(starts.count == 100)
        #expect(zip(starts, starts.dropFirst()).allSatisfy { $1 - $0 >= BufferPool.bufferSize })
        #expect(buffers.allSatisfy { pool.memory(of: $0).count == BufferPool.bufferSize })
    }
}

/// Writes from a thread of its own, because the socket takes less than all at once.
final class Writer {
    private var thread = pthread_t()

    init(_ bytes: [UInt8], to descriptor: Int32) {
        let argument = Unmanaged.passRetained(Job(bytes: bytes, descriptor: descriptor)).toOpaque()
        pthread_create(
            &thread,
            nil,
            { pointer in
                guard let pointer else { return nil }
                let job = Unmanaged<Job>.fromOpaque(pointer).takeRetainedValue()
                job.bytes.withUnsafeBytes { bytes in
                    var start = 0
                    while start < bytes.count {
                        let count = write(job.descriptor, bytes.baseAddress?.advanced(by: start), bytes.count - start)
                        guard count > 0 else { return }
                        start += count
                    }
                }
                return nil
            },
            argument
        )
    }

    func join() { pthread_join(thread, nil) }

    private final class Job {
        let bytes: [UInt8]
        let descriptor: Int32

        init(bytes: [UInt8], descriptor: Int32) {
            self.bytes = bytes
            self.descriptor = descriptor
        }
    }
}
