import Glibc
import Reactor
import TestSupport
import Testing

@Suite(.serialized) struct ConnectionTests {
    @Test("every connection is accepted under one token", arguments: kinds)
    func accept(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (listening, port) = try loop.listener()
        _ = try loop.connected(to: port)
        loop.reactor.accept(listening, token: 9)
        _ = try loop.connected(to: port)
        let first = loop.wait(2, of: 9).map { loop.keep($0.result) }
        _ = try loop.connected(to: port)
        let all = first + loop.wait(of: 9).map { loop.keep($0.result) }
        #expect(all.count == 3)
        #expect(all.allSatisfy { $0 > 2 })
        #expect(all.allSatisfy { fcntl($0, F_GETFL) & O_NONBLOCK != 0 })
    }

    @Test("connecting, sending and receiving over loopback", arguments: kinds)
    func connect(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (listening, port) = try loop.listener()
        loop.reactor.accept(listening, token: 1)
        let client = loop.unconnected()
        loop.reactor.connect(client, address: loopbackAddress, port: port, token: 2)
        #expect(loop.wait(of: 2).map(\.result) == [0])
        let server = loop.keep(try #require(loop.wait(of: 1).first).result)
        let memory = Memory("ping")
        loop.reactor.receive(server, token: 3)
        loop.reactor.send(client, memory.readOnly, token: 4)
        #expect(loop.text(loop.wait(of: 3).first) == "ping")
        #expect(loop.wait(of: 4).map(\.result) == [4])
        loop.reactor.receive(client, token: 5)
        loop.reactor.send(server, memory.readOnly, token: 6)
        #expect(loop.text(loop.wait(of: 5).first) == "ping")
    }

    @Test("connecting to a port where nobody listens is refused", arguments: kinds)
    func refused(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (listening, port) = try loop.listener()
        loop.close(listening)
        let client = loop.unconnected()
        loop.reactor.connect(client, address: loopbackAddress, port: port, token: 1)
        #expect(loop.wait(of: 1).map(\.result) == [-ECONNREFUSED])
        loop.close(byReactor: client)
    }

    @Test("cancel completes everything that is outstanding, each once", arguments: kinds)
    func cancel(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (ours, _) = try loop.pair()
        let memory = Memory(3_000_000)
        loop.reactor.receive(ours, token: 1)
        loop.reactor.send(ours, memory.readOnly, token: 2)
        loop.idle()
        loop.reactor.cancel(ours)
        loop.poll { loop.completions.count >= 2 }
        loop.idle()
        #expect(loop.completions.map(\.token).sorted() == [1, 2])
        let results = Dictionary(uniqueKeysWithValues: loop.completions.map { ($0.token, $0.result) })
        #expect(results[1] == -ECANCELED)
        // A send may say how much was taken before.
        #expect(results[2].map { $0 == -ECANCELED || $0 < 3_000_000 } == true)
        #expect(loop.reactor.buffers.inUse == 0)
    }

    @Test("cancel ends accepting and connecting", arguments: kinds)
    func cancelAccept(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (listening, port) = try loop.listener()
        loop.reactor.accept(listening, token: 1)
        loop.idle()
        loop.reactor.cancel(listening)
        #expect(loop.wait(of: 1).map(\.result) == [-ECANCELED])
        _ = try loop.connected(to: port)
        loop.idle()
        #expect(loop.completions.isEmpty)
    }

    @Test("cancel of a descriptor nothing is outstanding on does nothing", arguments: kinds)
    func cancelNothing(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (ours, peer) = try loop.pair()
        loop.reactor.cancel(ours)
        loop.idle()
        #expect(loop.completions.isEmpty)
        loop.reactor.receive(ours, token: 1)
        write("x", to: peer)
        #expect(loop.text(loop.wait(of: 1).first) == "x")
    }

    @Test("a descriptor's number is used again without a trace of the old connection", arguments: kinds)
    func reuse(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        for _ in 0..<50 {
            let (ours, peer) = try loop.pair()
            loop.reactor.receive(ours, token: 1)
            write("x", to: peer)
            #expect(loop.text(loop.wait(of: 1).first) == "x")
            loop.reactor.receive(ours, token: 1)
            loop.close(peer)
            #expect(loop.wait(of: 1).map(\.result) == [0])
            loop.close(byReactor: ours)

            let (again, other) = try loop.pair()
            loop.reactor.receive(again, token: 2)
            loop.idle()
            #expect(loop.completions.isEmpty)
            loop.reactor.cancel(again)
            #expect(loop.wait(of: 2).map(\.result) == [-ECANCELED])
            loop.close(byReactor: again)
            loop.close(other)
        }
    }

    @Test("500 connections echo at the same time, and all buffers come back", arguments: kinds)
    func manyConnections(kind: Reactor.Kind) throws {
        raiseDescriptorLimit()
        let loop = try Loop(kind)
        let (listening, port) = try loop.listener()
        loop.reactor.accept(listening, token: 1)
        var random = SeededGenerator()
        var clients: [Int32] = []
        var servers: [Int32] = []
        for index in 0..<500 {
            let client = loop.unconnected()
            clients.append(client)
            loop.reactor.connect(client, address: loopbackAddress, port: port, token: 1_000 + UInt64(index))
        }
        servers = loop.wait(500, of: 1).map { loop.keep($0.result) }
        #expect(servers.count == 500)
        loop.poll { loop.completions.count >= 500 }
        #expect(loop.completions.allSatisfy { $0.result == 0 })
        loop.takeAll()

        for (index, server) in servers.enumerated() { loop.reactor.receive(server, token: 2_000 + UInt64(index)) }
        let memory = Memory("ping")
        for (index, client) in clients.enumerated().shuffled(using: &random) {
            loop.reactor.send(client, memory.readOnly, token: 3_000 + UInt64(index))
        }
        loop.poll { loop.completions.count >= 1_000 }
        var answered: Set<UInt64> = []
        for completion in loop.takeAll() {
            #expect(completion.result == 4, "seed \(random.seed)")
            #expect(answered.insert(completion.token).inserted, "seed \(random.seed)")
            if completion.token < 3_000 { #expect(loop.text(completion) == "ping") }
        }
        #expect(answered.count == 1_000)
        #expect(loop.reactor.buffers.inUse == 0)
    }

    private func raiseDescriptorLimit() {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
}

@Suite(.serialized) struct WaitTests {
    @Test("another thread ends the wait", arguments: kinds)
    func wake(kind: Reactor.Kind) throws {
        let reactor = try Reactor(kind: kind)
        for _ in 0..<20 {
            let waker = reactor.waker
            let thread = Background { waker.wake() }
            let start = now()
            reactor.wait(timeout: 5_000_000_000)
            #expect(now() - start < 4_000_000_000)
            while reactor.next() != nil {}
            thread.join()
        }
    }

    @Test("a wake before the wait is not lost", arguments: kinds)
    func earlyWake(kind: Reactor.Kind) throws {
        let reactor = try Reactor(kind: kind)
        reactor.wait(timeout: 0)
        while reactor.next() != nil {}
        reactor.waker.wake()
        let start = now()
        reactor.wait(timeout: 5_000_000_000)
        #expect(now() - start < 4_000_000_000)
    }

    @Test(
        "a wait ends when its time is over; what interrupts it may end it early, but completes nothing",
        arguments: kinds
    )
    func timeout(kind: Reactor.Kind) throws {
        let reactor = try Reactor(kind: kind)
        for milliseconds in [1, 20] as [UInt64] {
            var longest: UInt64 = 0
            for _ in 0..<5 {
                let start = now()
                reactor.wait(timeout: Int64(milliseconds) * 1_000_000)
                longest = max(longest, now() - start)
                #expect(reactor.next() == nil)
            }
            #expect(longest >= milliseconds * 900_000)
            #expect(longest < 2_000_000_000)
        }
        let start = now()
        reactor.wait(timeout: 0)
        #expect(now() - start < 1_000_000_000)
    }

    @Test("gathering completions does not hold one back for longer than it may", arguments: kinds)
    func gather(kind: Reactor.Kind) throws {
        let loop = try Loop(kind)
        let (ours, peer) = try loop.pair()
        for round in 0..<20 {
            loop.reactor.receive(ours, token: 1)
            write("\(round)", to: peer)
            let start = now()
            while loop.completions.isEmpty, now() - start < 2_000_000_000 {
                loop.reactor.wait(timeout: 1_000_000_000, gather: 16, gatherMicroseconds: 100)
                loop.drain()
            }
            #expect(now() - start < 900_000_000)
            #expect(loop.text(loop.takeAll().first) == "\(round)")
        }
    }
}

/// A thread that does one thing.
private final class Background {
    private var thread = pthread_t()

    init(_ body: @escaping @Sendable () -> Void) {
        let argument = Unmanaged.passRetained(Job(body)).toOpaque()
        pthread_create(
            &thread,
            nil,
            { pointer in
                if let pointer { Unmanaged<Job>.fromOpaque(pointer).takeRetainedValue().body() }
                return nil
            },
            argument
        )
    }

    func join() { pthread_join(thread, nil) }

    private final class Job {
        let body: @Sendable () -> Void

        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
}
