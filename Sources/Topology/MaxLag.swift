/// How far a standby is behind its primary.
package struct Lag: Sendable, Equatable {
    /// From its replay position to where the primary's log ends.
    package var bytes: UInt64
    /// How old what it shows is: the time since the primary had no more than this. 0 when it has replayed everything.
    package var time: Duration

    package init(bytes: UInt64, time: Duration) {
        self.bytes = bytes
        self.time = time
    }
}

/// How far a standby may be behind and serve reads: in bytes, in time, or both.
///
/// A standby that is over either limit serves no reads until it is below half of both. Were there one threshold, a standby
/// near it would come and go with every probe, and each time move everybody's shares.
package struct MaxLag: Sendable, Equatable {
    /// `nil`: no limit.
    package var bytes: UInt64?
    /// `nil`: no limit.
    package var time: Duration?

    package init(bytes: UInt64? = nil, time: Duration? = nil) {
        self.bytes = bytes
        self.time = time
    }

    /// Whether a standby that is so far behind serves no reads.
    ///
    /// - Parameter exceeded: whether it served none until now.
    package func isExceeded(by lag: Lag, before exceeded: Bool) -> Bool {
        exceedsBytes(lag, before: exceeded) || exceedsTime(lag, before: exceeded)
    }

    private func exceedsBytes(_ lag: Lag, before exceeded: Bool) -> Bool {
        guard let bytes else { return false }
        // A limit of one byte has no half, and is met by who has everything.
        return exceeded ? lag.bytes > 0 && lag.bytes >= bytes / 2 : lag.bytes > bytes
    }

    private func exceedsTime(_ lag: Lag, before exceeded: Bool) -> Bool {
        guard let time else { return false }
        return exceeded ? lag.time > .zero && lag.time >= time / 2 : lag.time > time
    }
}
