import Glibc
import Reactor
import Testing

/// The loops to test: both, or epoll alone with the reason in the log.
let kinds: [Reactor.Kind] = {
    guard let problem = Reactor.uringProblem() else { return [.epoll, .uring] }
    print("io_uring is not tested: \(problem)")
    return [.epoll]
}()

/// A reactor, its completions so far, and the descriptors to close when the test is over.
final class Loop {
    let reactor: Reactor
    private(set) var completions: [Completion] = []
    private var descriptors: [Int32] = []

    init(_ kind: Reactor.Kind) throws {
        reactor = try Reactor(kind: kind)
    }

    deinit {
        for descriptor in descriptors { Glibc.close(descriptor) }
    }

    /// Runs until as many completions of a token have come, for two seconds at most. They are taken out.
    func wait(_ count: Int = 1, of token: UInt64) -> [Completion] {
        poll { self.completions.count { $0.token == token } >= count }
        defer { completions.removeAll { $0.token == token } }
        return completions.filter { $0.token == token }
    }

    /// Runs until a condition holds, for two seconds at most.
    func poll(until isDone: () -> Bool) {
        let deadline = now() + 2_000_000_000
        while !isDone(), now() < deadline {
            reactor.wait(timeout: 10_000_000)
            drain()
        }
    }

    /// Runs for a time in which nothing should happen.
    func idle() {
        for _ in 0..<3 {
            reactor.wait(timeout: 5_000_000)
            drain()
        }
    }

    func drain() {
        while let completion = reactor.next() { completions.append(completion) }
    }

    /// The bytes of a completion, whose buffer is given back.
    func text(_ completion: Completion?) -> String? {
        guard let completion, let buffer = completion.buffer, completion.result >= 0 else { return nil }
        defer { reactor.buffers.release(buffer) }
        return String(decoding: reactor.buffers.memory(of: buffer).prefix(Int(completion.result)), as: UTF8.self)
    }

    /// All completions that have come, which are taken out.
    @discardableResult
    func takeAll() -> [Completion] {
        defer { completions = [] }
        return completions
    }

    // MARK: - Sockets

    func keep(_ descriptor: Int32) -> Int32 {
        descriptors.append(descriptor)
        return descriptor
    }

    /// The reactor closes it, so it is not the test's any more.
    func close(byReactor descriptor: Int32) {
        descriptors.removeAll { $0 == descriptor }
        reactor.close(descriptor)
    }

    func close(_ descriptor: Int32) {
        descriptors.removeAll { $0 == descriptor }
        Glibc.close(descriptor)
    }

    /// Two connected sockets: the reactor's, which does not block, and the test's, which does.
    func pair() throws -> (ours: Int32, peer: Int32) {
        var descriptors: [Int32] = [0, 0]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | O_CLOEXEC, 0, &descriptors) == 0)
        _ = fcntl(descriptors[0], F_SETFL, O_NONBLOCK)
        return (keep(descriptors[0]), keep(descriptors[1]))
    }

    /// A listening socket on a free port of the loopback interface.
    func listener() throws -> (descriptor: Int32, port: UInt16) {
        let descriptor = keep(socket(AF_INET, Int32(SOCK_STREAM.rawValue) | O_NONBLOCK | O_CLOEXEC, 0))
        var address = loopback(port: 0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) == 0 && listen(descriptor, 1_024) == 0
                    && getsockname(descriptor, $0, &length) == 0
            }
        }
        try #require(result)
        return (descriptor, UInt16(bigEndian: address.sin_port))
    }

    /// A socket to connect with the reactor.
    func unconnected() -> Int32 {
        keep(socket(AF_INET, Int32(SOCK_STREAM.rawValue) | O_NONBLOCK | O_CLOEXEC, 0))
    }

    /// The test's own connection to a listener.
    func connected(to port: UInt16) throws -> Int32 {
        let descriptor = keep(socket(AF_INET, Int32(SOCK_STREAM.rawValue) | O_CLOEXEC, 0))
        var address = loopback(port: port)
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(result == 0)
        return descriptor
    }
}

let loopbackAddress: UInt32 = 0x7F00_0001

private func loopback(port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = loopbackAddress.bigEndian
    return address
}

func now() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Writes all of a text from the test's side.
func write(_ text: String, to descriptor: Int32) {
    _ = Array(text.utf8).withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
}

/// Memory that stays where it is until the test is over.
final class Memory {
    let bytes: UnsafeMutableRawBufferPointer

    init(_ count: Int) {
        bytes = .allocate(byteCount: count, alignment: 16)
        bytes.initializeMemory(as: UInt8.self, repeating: 0)
    }

    convenience init(_ text: String) {
        self.init(text.utf8.count)
        bytes.copyBytes(from: text.utf8)
    }

    deinit { bytes.deallocate() }

    var readOnly: UnsafeRawBufferPointer { UnsafeRawBufferPointer(bytes) }
}
