/// The clock that those read who drive the machines: it does not jump, and stands still while the host sleeps.
package enum MonotonicClock {
    private static let start = SuspendingClock.now

    /// The time since the process asked first, and a second: the start is not the distant past.
    package static var now: MonotonicTime {
        MonotonicTime(nanoseconds: 1_000_000_000 + UInt64(start.duration(to: .now).nanoseconds))
    }
}
