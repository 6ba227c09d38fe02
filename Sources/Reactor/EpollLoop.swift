import CReactor
import Glibc

/// The epoll loop under the completion contract: every operation is tried first, and interest is kept as one
/// edge-triggered registration per descriptor, so that nothing is armed or disarmed per message.
///
/// Source: epoll(7), "Edge-triggered and level-triggered".
final class EpollLoop: EventLoop {
    private struct Descriptor {
        var isRegistered = false
        var readable = false
        /// The peer has closed or failed: no further edge will say so.
        var hungUp = false
        var writable = false
        var isListening = false
        var acceptToken: UInt64?
        var connectToken: UInt64?
        var receiveToken: UInt64?
        var receiveInto: UnsafeMutableRawBufferPointer?
        var sendToken: UInt64?
        var sendRemaining = UnsafeRawBufferPointer(start: nil, count: 0)
        var sendCount = 0
    }

    private static let batch = 256
    private let epoll: Int32
    private let buffers: BufferPool
    private let wakeDescriptor: Int32
    /// By descriptor.
    private var descriptors: UnsafeMutablePointer<Descriptor>
    private var capacity = 64
    private let events: UnsafeMutablePointer<creactor_event>
    private var completions: ContiguousArray<Completion> = []
    private var completionIndex = 0

    init(buffers: BufferPool, wakeDescriptor: Int32) throws(ReactorError) {
        self.buffers = buffers
        self.wakeDescriptor = wakeDescriptor
        descriptors = .allocate(capacity: capacity)
        descriptors.initialize(repeating: Descriptor(), count: capacity)
        events = .allocate(capacity: Self.batch)
        epoll = creactor_epoll_create()
        guard epoll >= 0 else { throw ReactorError(operation: "epoll_create1", code: errno) }
        register(wakeDescriptor)
    }

    deinit {
        Glibc.close(epoll)
        events.deallocate()
        descriptors.deallocate()
    }

    // MARK: - Operations

    func accept(_ descriptor: Int32, token: UInt64) {
        register(descriptor)
        descriptors[Int(descriptor)].isListening = true
        descriptors[Int(descriptor)].acceptToken = token
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
            descriptors[Int(descriptor)].connectToken = token
        } else {
            complete(token, -code)
        }
    }

    func receive(_ descriptor: Int32, into memory: UnsafeMutableRawBufferPointer?, token: UInt64) {
        register(descriptor)
        descriptors[Int(descriptor)].receiveToken = token
        descriptors[Int(descriptor)].receiveInto = memory
        if descriptors[Int(descriptor)].readable {
            tryReceive(descriptor)
        }
    }

    func send(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, token: UInt64) {
        register(descriptor)
        descriptors[Int(descriptor)].sendToken = token
        descriptors[Int(descriptor)].sendRemaining = bytes
        descriptors[Int(descriptor)].sendCount = bytes.count
        trySend(descriptor)
    }

    func cancel(_ descriptor: Int32) {
        guard descriptor < capacity else { return }
        let state = descriptors[Int(descriptor)]
        descriptors[Int(descriptor)].acceptToken = nil
        descriptors[Int(descriptor)].connectToken = nil
        descriptors[Int(descriptor)].receiveToken = nil
        descriptors[Int(descriptor)].sendToken = nil
        for token in [state.acceptToken, state.connectToken, state.receiveToken, state.sendToken] {
            if let token { complete(token, -ECANCELED) }
        }
    }

    func forget(_ descriptor: Int32) {
        guard descriptor < capacity, descriptors[Int(descriptor)].isRegistered else { return }
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
            if event.hung_up != 0 { descriptors[Int(descriptor)].hungUp = true }
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
        guard !descriptors[index].isRegistered else { return }
        descriptors[index].isRegistered = true
        descriptors[index].writable = true
        _ = creactor_epoll_add(epoll, descriptor, UInt64(descriptor))
    }

    private func grow(beyond index: Int) {
        let larger = max(index + 1, capacity * 2)
        let grown = UnsafeMutablePointer<Descriptor>.allocate(capacity: larger)
        grown.moveInitialize(from: descriptors, count: capacity)
        (grown + capacity).initialize(repeating: Descriptor(), count: larger - capacity)
        descriptors.deallocate()
        (descriptors, capacity) = (grown, larger)
    }

    private func becameWritable(_ descriptor: Int32) {
        let index = Int(descriptor)
        descriptors[index].writable = true
        if let token = descriptors[index].connectToken {
            descriptors[index].connectToken = nil
            var code: Int32 = 0
            var length = socklen_t(MemoryLayout<Int32>.size)
            getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &length)
            complete(token, -code)
        } else if descriptors[index].sendToken != nil {
            trySend(descriptor)
        }
    }

    private func becameReadable(_ descriptor: Int32) {
        let index = Int(descriptor)
        descriptors[index].readable = true
        if descriptors[index].isListening {
            tryAccept(descriptor)
        } else if descriptors[index].receiveToken != nil {
            tryReceive(descriptor)
        }
    }

    private func tryAccept(_ descriptor: Int32) {
        while let token = descriptors[Int(descriptor)].acceptToken {
            let result = creactor_accept(descriptor)
            switch result {
            case -EAGAIN: return
            case -EINTR, -ECONNABORTED: continue
            default:
                complete(token, result, isLast: result < 0)
                if result < 0 {
                    descriptors[Int(descriptor)].acceptToken = nil
                }
            }
        }
    }

    private func tryReceive(_ descriptor: Int32) {
        let index = Int(descriptor)
        guard let token = descriptors[index].receiveToken else { return }
        var lent: BufferID?
        let memory: UnsafeMutableRawBufferPointer
        if let given = descriptors[index].receiveInto {
            memory = given
        } else if let buffer = buffers.take() {
            lent = buffer
            memory = buffers.memory(of: buffer)
        } else {
            descriptors[index].receiveToken = nil
            complete(token, -ENOBUFS)
            return
        }
        var count: Int
        repeat {
            count = recv(descriptor, memory.baseAddress, memory.count, 0)
        } while count < 0 && errno == EINTR
        let code = errno
        if count < memory.count {
            // A short read emptied the socket; what comes later is a new edge.
            descriptors[index].readable = count == 0 || descriptors[index].hungUp
        }
        if count <= 0, let buffer = lent {
            buffers.release(buffer)
            lent = nil
        }
        if count < 0, code == EAGAIN { return }
        descriptors[index].receiveToken = nil
        complete(token, count < 0 ? -code : Int32(count), lent)
    }

    private func trySend(_ descriptor: Int32) {
        let index = Int(descriptor)
        guard let token = descriptors[index].sendToken, descriptors[index].writable else { return }
        while true {
            let remaining = descriptors[index].sendRemaining
            let count = Glibc.send(descriptor, remaining.baseAddress, remaining.count, Int32(MSG_NOSIGNAL))
            if count < 0 {
                let code = errno
                if code == EINTR { continue }
                if code == EAGAIN {
                    descriptors[index].writable = false
                    return
                }
                descriptors[index].sendToken = nil
                complete(token, -code)
                return
            }
            if count == remaining.count {
                descriptors[index].sendToken = nil
                complete(token, Int32(clamping: descriptors[index].sendCount))
                return
            }
            descriptors[index].sendRemaining = UnsafeRawBufferPointer(rebasing: remaining.dropFirst(count))
        }
    }

    private func complete(_ token: UInt64, _ result: Int32, _ buffer: BufferID? = nil, isLast: Bool = true) {
        completions.append(Completion(token: token, result: result, buffer: buffer, isLast: isLast))
    }
}
