import ProxyCore

/// Moments at which a worker has to look at something again: a binary heap, earliest first.
///
/// A timer is never taken back: who is looked at in vain shrugs.
struct Timers {
    enum Event {
        case primaryWait(SessionID)
        case closingTooLong(stream: Int, serial: UInt64)
        case acceptAgain(listener: Int)
        case stop
        case lookAtTime
        case tookTooLong(stream: Int, serial: UInt64)
        case breakNow(stream: Int, serial: UInt64)
        case receiveAgain(stream: Int, serial: UInt64)
        case decrypt(stream: Int, serial: UInt64)
    }

    private var heap: [(at: MonotonicTime, event: Event)] = []

    var next: MonotonicTime? { heap.first?.at }

    mutating func add(_ event: Event, at time: MonotonicTime) {
        heap.append((time, event))
        var child = heap.count - 1
        while child > 0, heap[child].at < heap[(child - 1) / 2].at {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    /// The earliest event that is due.
    mutating func popDue(_ now: MonotonicTime) -> Event? {
        guard let first = heap.first, first.at <= now else { return nil }
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        var parent = 0
        while true {
            var smallest = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count {
                if heap[child].at < heap[smallest].at { smallest = child }
            }
            if smallest == parent { break }
            heap.swapAt(parent, smallest)
            parent = smallest
        }
        return first.event
    }
}
