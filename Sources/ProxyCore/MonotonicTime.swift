/// A moment on a clock that never jumps. Machines take it as an argument and never read a clock.
package struct MonotonicTime: Comparable, Hashable, Sendable {
    /// Since an arbitrary start.
    package var nanoseconds: UInt64

    package init(nanoseconds: UInt64) {
        self.nanoseconds = nanoseconds
    }

    package static let distantPast = MonotonicTime(nanoseconds: 0)

    package static func < (left: MonotonicTime, right: MonotonicTime) -> Bool { left.nanoseconds < right.nanoseconds }

    package static func + (time: MonotonicTime, duration: Duration) -> MonotonicTime {
        let (sum, overflow) = time.nanoseconds.addingReportingOverflow(UInt64(max(0, duration.nanoseconds)))
        return MonotonicTime(nanoseconds: overflow ? .max : sum)
    }

    package static func - (time: MonotonicTime, duration: Duration) -> MonotonicTime {
        let span = UInt64(max(0, duration.nanoseconds))
        return MonotonicTime(nanoseconds: time.nanoseconds - min(span, time.nanoseconds))
    }
}

extension Duration {
    /// Whole nanoseconds, saturating.
    package var nanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, isTooLong) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, overflow) = product.addingReportingOverflow(attoseconds / 1_000_000_000)
        return isTooLong || overflow ? (seconds < 0 ? .min : .max) : sum
    }
}
