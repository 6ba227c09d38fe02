import CReactor
import Glibc

/// The io_uring loop: operations are prepared in the submission queue, and one system call per tick submits them all and
/// waits for completions.
///
/// Source: io_uring(7), io_uring_enter(2); `IORING_SETUP_DEFER_TASKRUN` needs Linux 6.1, the minimum wait 6.12.
final class UringLoop: EventLoop {
    private static let entries: UInt32 = 4096
    private static let batch = 256
    private static let internalToken = UInt64.max
    private static let wakeToken = UInt64.max - 1
    private static let initiallyProvided = 64

    private let ring: OpaquePointer
    private let buffers: BufferPool
    /// Buffers the kernel holds now, and how many it should.
    private var providedCount = 0
    private var providedTarget = UringLoop.initiallyProvided
    private let completions: UnsafeMutablePointer<creactor_cqe>
    private var completionCount = 0
    private var completionIndex = 0
    private let wakeDescriptor: Int32
    private let wakeBytes: UnsafeMutableRawPointer
    private let address: UnsafeMutablePointer<sockaddr_in>
    /// Cleared when the kernel refuses a minimum wait.
    private var gathers = true

    init(buffers: BufferPool, wakeDescriptor: Int32) throws(ReactorError) {
        self.buffers = buffers
        self.wakeDescriptor = wakeDescriptor
        var code: Int32 = 0
        guard let ring = creactor_ring_create(Self.entries, UInt32(BufferPool.capacity), &code) else {
            throw ReactorError(operation: "io_uring_setup", code: code)
        }
        self.ring = ring
        completions = .allocate(capacity: Self.batch)
        wakeBytes = .allocate(byteCount: 8, alignment: 8)
        address = .allocate(capacity: 1)
        provideBuffers()
        creactor_ring_read(ring, wakeDescriptor, wakeBytes, 8, Self.wakeToken)
    }

    deinit {
        creactor_ring_destroy(ring)
        completions.deallocate()
        wakeBytes.deallocate()
        address.deallocate()
    }

    func accept(_ descriptor: Int32, token: UInt64) {
        creactor_ring_accept(ring, descriptor, token)
    }

    func connect(_ descriptor: Int32, _ target: sockaddr_in, token: UInt64) {
        address.initialize(to: target)
        address.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
            creactor_ring_connect(ring, descriptor, pointer, socklen_t(MemoryLayout<sockaddr_in>.size), token)
        }
        // The kernel copies the address when the request is submitted; submit before the memory is used again.
        creactor_ring_submit(ring)
    }

    func receive(_ descriptor: Int32, into memory: UnsafeMutableRawBufferPointer?, token: UInt64) {
        if let memory {
            creactor_ring_receive(ring, descriptor, memory.baseAddress, memory.count, token)
        } else {
            creactor_ring_receive_lent(ring, descriptor, token)
        }
    }

    func send(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, token: UInt64) {
        creactor_ring_send(ring, descriptor, bytes.baseAddress, bytes.count, token)
    }

    func cancel(_ descriptor: Int32) {
        creactor_ring_cancel(ring, descriptor, Self.internalToken)
    }

    func forget(_ descriptor: Int32) {}

    func wait(timeout: Int64, gather: Int, gatherMicroseconds: UInt32) {
        provideBuffers()
        let gathering = gathers && gather > 1 && gatherMicroseconds > 0
        let result = creactor_ring_wait(
            ring,
            gathering ? UInt32(gather) : (timeout == 0 ? 0 : 1),
            gathering ? gatherMicroseconds : 0,
            timeout
        )
        if gathering, result == -EINVAL {
            gathers = false
        }
    }

    func next() -> Completion? {
        while true {
            if completionIndex == completionCount {
                completionCount = Int(creactor_ring_peek(ring, completions, UInt32(Self.batch)))
                completionIndex = 0
                if completionCount == 0 { return nil }
            }
            let entry = completions[completionIndex]
            completionIndex += 1
            switch entry.user_data {
            case Self.internalToken:
                continue
            case Self.wakeToken:
                creactor_ring_read(ring, wakeDescriptor, wakeBytes, 8, Self.wakeToken)
                continue
            default:
                return completion(of: entry)
            }
        }
    }

    private func completion(of entry: creactor_cqe) -> Completion {
        var buffer: BufferID?
        if entry.buffer >= 0 {
            let lent = BufferID(rawValue: UInt16(entry.buffer))
            buffers.didLend(lent)
            providedCount -= 1
            if entry.result > 0 {
                buffer = lent
            } else {
                buffers.release(lent)
            }
        }
        if entry.result == -ENOBUFS {
            providedTarget = min(providedTarget * 2, BufferPool.capacity / 2)
            provideBuffers()
        }
        return Completion(token: entry.user_data, result: entry.result, buffer: buffer, isLast: !entry.more)
    }

    /// Keeps the kernel supplied: half the target is the sign to fill up.
    private func provideBuffers() {
        guard providedCount < providedTarget / 2 + 1 else { return }
        while providedCount < providedTarget, let buffer = buffers.takeUnheld() {
            let memory = buffers.memory(of: buffer)
            creactor_ring_provide(ring, memory.baseAddress, UInt32(memory.count), buffer.rawValue)
            providedCount += 1
        }
    }
}
