import Glibc

/// Names one buffer of a `BufferPool`.
package struct BufferID: Hashable, Sendable {
    let rawValue: UInt16
}

/// A worker's buffers: fixed size, lent by number, counted.
///
/// The memory is reserved once and touched only when used. A buffer is held by whoever received into it and by every
/// send that reads from it; the last one to let go returns it. Not thread-safe: one pool belongs to one worker.
package final class BufferPool {
    /// Bytes of one buffer. The largest request unit that is analysed as a whole.
    package static let bufferSize = 65_536
    static let capacity = 16_384
    /// From one buffer to the next. With a power of two the beginnings of all buffers, where small messages lie, would
    /// compete for the same few lines of the processor's caches.
    private static let stride = bufferSize + 3 * 64

    private let base: UnsafeMutableRawPointer
    private let holders: UnsafeMutablePointer<UInt16>
    private var free: ContiguousArray<UInt16> = []
    private var untouched: UInt16 = 0

    init() {
        let size = Self.stride * Self.capacity
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        guard let memory = mmap(nil, size, PROT_READ | PROT_WRITE, flags, -1, 0), memory != MAP_FAILED else {
            fatalError("cannot reserve \(size) bytes of address space for buffers: \(String(cString: strerror(errno)))")
        }
        base = memory
        holders = .allocate(capacity: Self.capacity)
        holders.initialize(repeating: 0, count: Self.capacity)
    }

    deinit {
        munmap(base, Self.stride * Self.capacity)
        holders.deallocate()
    }

    /// The memory of a buffer.
    package func memory(of buffer: BufferID) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(
            start: base + Int(buffer.rawValue) * Self.stride,
            count: Self.bufferSize
        )
    }

    /// How many hold the buffer.
    package func holders(of buffer: BufferID) -> Int {
        Int(holders[Int(buffer.rawValue)])
    }

    /// Buffers held by someone, for tests and statistics.
    package var inUse: Int {
        UnsafeBufferPointer(start: holders, count: Self.capacity).lazy.filter { $0 > 0 }.count
    }

    /// A buffer with one holder; `nil` when all are taken.
    package func take() -> BufferID? {
        guard let buffer = takeUnheld() else { return nil }
        holders[Int(buffer.rawValue)] = 1
        return buffer
    }

    /// One more holder.
    package func retain(_ buffer: BufferID) {
        holders[Int(buffer.rawValue)] += 1
    }

    /// One holder fewer; the last one returns the buffer.
    package func release(_ buffer: BufferID) {
        let index = Int(buffer.rawValue)
        precondition(holders[index] > 0, "a buffer was released more often than held")
        holders[index] -= 1
        if holders[index] == 0 {
            free.append(buffer.rawValue)
        }
    }

    /// A buffer for the kernel to lend; it counts as held only once it comes back with `didLend`.
    func takeUnheld() -> BufferID? {
        if let id = free.popLast() {
            return BufferID(rawValue: id)
        }
        guard Int(untouched) < Self.capacity else { return nil }
        defer { untouched += 1 }
        return BufferID(rawValue: untouched)
    }

    /// The kernel received into a buffer that was given to it.
    func didLend(_ buffer: BufferID) {
        holders[Int(buffer.rawValue)] = 1
    }
}
