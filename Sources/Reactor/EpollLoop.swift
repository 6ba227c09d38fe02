import CReactor
import Glibc

/// The epoll loop under the completion contract: every operation is tried first, and interest is kept as one
/// edge-triggered registration per descriptor, so that nothing is armed or disarmed per message.
///
/// Source: epoll(7), "Edge-triggered and level-triggered".
final class EpollLoop: EventLoop {
    /// What is known of one descriptor, kept small: there is one for each idle connection. All bits 0 is a fresh one.
    private struct Descriptor {
        /// Of what waits to be readable, an accept or a receive, and what waits to be writable, a connect or a send: the
        /// token, for there is one of each at most.
        var incoming: UInt64 = 0
        var outgoing: UInt64 = 0
        var receiveInto: UnsafeMutableRawPointer?
        var receiveCapacity: UInt32 = 0
        var sendCount: UInt32 = 0
        var sendFrom: UnsafeRawPointer?
        var sendRemaining: UInt32 = 0
        var flags: Flags = []
    }

    private struct Flags: OptionSet {
        let rawValue: UInt16
        static let isRegistered = Flags(rawValue: 1 << 0)
        static let isReadable = Flags(rawValue: 1 << 1)
        /// The peer has closed or failed: no further edge will say so.
        static let hungUp = Flags(rawValue: 1 << 2)
        static let isWritable = Flags(rawValue: 1 << 3)
        static let isListening = Flags(rawValue: 1 << 4)
        static let isConnecting = Flags(rawValue: 1 << 5)
        static let hasIncoming = Flags(rawValue: 1 << 6)
        static let hasOutgoing = Flags(rawValue: 1 << 7)
    }

    private static let batch = 256
    private let epoll: Int32
    private let buffers: BufferPool
    private let wakeDescriptor: Int32
    /// By descriptor. Pages that no descriptor has touched take no memory.
    private var descriptors: UnsafeMutablePointer<Descriptor>
    private var capacity = 1 << 16
    private let events: UnsafeMutablePointer<creactor_event>
    private var completions: ContiguousArray<Completion> = []
    private var completionIndex = 0

    init(buffers: BufferPool, wakeDescriptor: Int32) throws(ReactorError) {
        self.buffers = buffers
        self.wakeDescriptor = wakeDescriptor
        descriptors = Self.table(capacity)
        events = .allocate(capacity: Self.batch)
        epoll = creactor_epoll_create()
        guard epoll >= 0 else { throw ReactorError(operation: "epoll_create1", code: errno) }
        register(wakeDescriptor)
    }

    deinit {
        Glibc.close(epoll)
        events.deallocate()
        munmap(descriptors, capacity * MemoryLayout<Descriptor>.stride)
    }

    private static func table(_ capacity: Int) -> UnsafeMutablePointer<Descriptor> {
        let size = capacity * MemoryLayout<Descriptor>.stride
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        guard let memory = mmap(nil, size, PROT_READ | PROT_WRITE, flags, -1, 0), memory != MAP_FAILED else {
            fatalError("cannot reserve \(size) bytes for descriptors: \(String(cString: strerror(errno)))")
        }
        return memory.bindMemory(to: Descriptor.self, capacity: capacity)
    }

    // MARK: - Operations

    func accept(_ descriptor: Int32, token: UInt64) {
        register(descriptor)
        descriptors[Int(descriptor)].flags.formUnion([.isListening, .hasIncoming])
        descriptors[Int(descriptor)].incoming = token
        tryAccept(descriptor)
    }

    func connect(_ descriptor: Int32, _ target: sockaddr_in, token: UInt64) {
        var target = target
        let result = withUnsafePointer(to: &target) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        let code = errno
        // Registered only now: a socket that has not begun to connect counts as hung up.
        register(descriptor)
        if result == 0 {
            complete(token, 0)
        } else if code == EINPROGRESS {
            descriptors[Int(descriptor)].flags.formUnion([.isConnecting, .hasOutgoing])
            descriptors[Int(descriptor)].outgoing = token
        } else {
            complete(token, -code)
        }
    }

    func receive(_ descriptor: Int32, into memory: UnsafeMutableRawBufferPointer?, token: UInt64) {
        register(descriptor)
        let state = descriptors + Int(descriptor)
        state.pointee.incoming = token
        state.pointee.receiveInto = memory?.baseAddress
        state.pointee.receiveCapacity = UInt32(memory?.count ?? 0)
        state.pointee.flags.insert(.hasIncoming)
        if state.pointee.flags.contains(.isReadable) { tryReceive(descriptor) }
    }

    func send(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, token: UInt64) {
        register(descriptor)
        let state = descriptors + Int(descriptor)
        state.pointee.outgoing = token
        state.pointee.sendFrom = bytes.baseAddress
        state.pointee.sendRemaining = UInt32(bytes.count)
        state.pointee.sendCount = UInt32(bytes.count)
        state.pointee.flags.insert(.hasOutgoing)
        trySend(descriptor)
    }

    func cancel(_ descriptor: Int32) {
        guard descriptor < capacity else { return }
        let state = descriptors[Int(descriptor)]
        descriptors[Int(descriptor)].flags.subtract([.hasIncoming, .hasOutgoing, .isConnecting])
        if state.flags.contains(.hasIncoming) { complete(state.incoming, -ECANCELED) }
        if state.flags.contains(.hasOutgoing) { complete(state.outgoing, -ECANCELED) }
    }

    func forget(_ descriptor: Int32) {
        guard descriptor < capacity, descriptors[Int(descriptor)].flags.contains(.isRegistered) else { return }
        _ = creactor_epoll_remove(epoll, descriptor)
        descriptors[Int(descriptor)] = Descriptor()
    }

    // MARK: - Waiting

    func wait(timeout: Int64, gather: Int, gatherMicroseconds: UInt32) {
        let milliseconds: Int32
        if completionIndex < completions.count || timeout == 0 {
            milliseconds = 0
        } else if timeout < 0 {
            milliseconds = -1
        } else {
            milliseconds = Int32(clamping: (timeout + 999_999) / 1_000_000)
        }
        let count = creactor_epoll_wait(epoll, events, Int32(Self.batch), milliseconds)
        guard count > 0 else { return }
        for index in 0..<Int(count) {
            let event = events[index]
            let descriptor = Int32(truncatingIfNeeded: event.data)
            if descriptor == wakeDescriptor {
                var value: UInt64 = 0
                _ = Glibc.read(descriptor, &value, 8)
                continue
            }
            if event.writable != 0 { becameWritable(descriptor) }
            if event.hung_up != 0 { descriptors[Int(descriptor)].flags.insert(.hungUp) }
            if event.readable != 0 { becameReadable(descriptor) }
        }
    }

    func next() -> Completion? {
        guard completionIndex < completions.count else {
            completions.removeAll(keepingCapacity: true)
            completionIndex = 0
            return nil
        }
        defer { completionIndex += 1 }
        return completions[completionIndex]
    }

    // MARK: - Trying

    private func register(_ descriptor: Int32) {
        let index = Int(descriptor)
        if index >= capacity { grow(beyond: index) }
        guard !descriptors[index].flags.contains(.isRegistered) else { return }
        descriptors[index].flags.formUnion([.isRegistered, .isWritable])
        _ = creactor_epoll_add(epoll, descriptor, UInt64(descriptor))
    }

    private func grow(beyond index: Int) {
        let larger = max(index + 1, capacity * 2)
        let grown = Self.table(larger)
        grown.update(from: descriptors, count: capacity)
        munmap(descriptors, capacity * MemoryLayout<Descriptor>.stride)
        (descriptors, capacity) = (grown, larger)
    }

    private func becameWritable(_ descriptor: Int32) {
        let state = descriptors + Int(descriptor)
        state.pointee.flags.insert(.isWritable)
        guard state.pointee.flags.contains(.hasOutgoing) else { return }
        guard state.pointee.flags.contains(.isConnecting) else {
            trySend(descriptor)
            return
        }
        state.pointee.flags.subtract([.isConnecting, .hasOutgoing])
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &length)
        complete(state.pointee.outgoing, -code)
    }

    private func becameReadable(_ descriptor: Int32) {
        let state = descriptors + Int(descriptor)
        state.pointee.flags.insert(.isReadable)
        guard state.pointee.flags.contains(.hasIncoming) else { return }
        if state.pointee.flags.contains(.isListening) {
            tryAccept(descriptor)
        } else {
            tryReceive(descriptor)
        }
    }

    private func tryAccept(_ descriptor: Int32) {
        let state = descriptors + Int(descriptor)
        while state.pointee.flags.contains(.hasIncoming) {
            let result = creactor_accept(descriptor)
            switch result {
            case -EAGAIN: return
            case -EINTR, -ECONNABORTED: continue
            default:
                complete(state.pointee.incoming, result, isLast: result < 0)
                if result < 0 { state.pointee.flags.remove(.hasIncoming) }
            }
        }
    }

    private func tryReceive(_ descriptor: Int32) {
        let state = descriptors + Int(descriptor)
        var lent: BufferID?
        let memory: UnsafeMutableRawBufferPointer
        if let given = state.pointee.receiveInto {
            memory = UnsafeMutableRawBufferPointer(start: given, count: Int(state.pointee.receiveCapacity))
        } else if let buffer = buffers.take() {
            lent = buffer
            memory = buffers.memory(of: buffer)
        } else {
            state.pointee.flags.remove(.hasIncoming)
            complete(state.pointee.incoming, -ENOBUFS)
            return
        }
        var count: Int
        repeat {
            count = recv(descriptor, memory.baseAddress, memory.count, 0)
        } while count < 0 && errno == EINTR
        let code = errno
        if count < memory.count, count != 0, !state.pointee.flags.contains(.hungUp) {
            // A short read emptied the socket; what comes later is a new edge.
            state.pointee.flags.remove(.isReadable)
        }
        if count <= 0, let buffer = lent {
            buffers.release(buffer)
            lent = nil
        }
        if count < 0, code == EAGAIN { return }
        state.pointee.flags.remove(.hasIncoming)
        complete(state.pointee.incoming, count < 0 ? -code : Int32(count), lent)
    }

    private func trySend(_ descriptor: Int32) {
        let state = descriptors + Int(descriptor)
        guard state.pointee.flags.contains(.isWritable) else { return }
        while true {
            let remaining = Int(state.pointee.sendRemaining)
            let count = Glibc.send(descriptor, state.pointee.sendFrom, remaining, Int32(MSG_NOSIGNAL))
            if count < 0 {
                let code = errno
                if code == EINTR { continue }
                if code == EAGAIN {
                    state.pointee.flags.remove(.isWritable)
                    return
                }
                state.pointee.flags.remove(.hasOutgoing)
                complete(state.pointee.outgoing, -code)
                return
            }
            if count == remaining {
                state.pointee.flags.remove(.hasOutgoing)
                complete(state.pointee.outgoing, Int32(clamping: Int(state.pointee.sendCount)))
                return
            }
            state.pointee.sendRemaining -= UInt32(count)
            state.pointee.sendFrom = state.pointee.sendFrom?.advanced(by: count)
        }
    }

    private func complete(_ token: UInt64, _ result: Int32, _ buffer: BufferID? = nil, isLast: Bool = true) {
        completions.append(Completion(token: token, result: result, buffer: buffer, isLast: isLast))
    }
}
