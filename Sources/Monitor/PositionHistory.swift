import PostgresWire

/// When the primary's log ended where. Tells from how far a standby has replayed how old its data is.
///
/// A standby's own answer, `now() - pg_last_xact_replay_timestamp()`, is the age of the last transaction: it grows while nobody
/// writes, and compares the clocks of two machines. Here the only clock is that of the process that asks. Decision note on
/// `max_lag`.
struct PositionHistory: Sendable {
    typealias Instant = ContinuousClock.Instant

    private struct Sample {
        var position: LSN
        /// When the primary was last seen to end here.
        var time: Instant
    }

    /// In the order of time. So are the positions, but where a crash or a failover cut off the end of the log: what counts of
    /// those is the newest sample that is not beyond.
    private var samples: [Sample] = []

    init() {}

    /// Where the primary's log ended when it was asked last.
    var last: LSN? { samples.last?.position }

    /// The primary's log ended at `position` at `time` or later.
    mutating func append(_ position: LSN, at time: Instant) {
        if last == position {
            samples[samples.count - 1].time = time
        } else {
            samples.append(Sample(position: position, time: time))
        }
        // The older a sample, the wider the gap to its neighbours may be: a day is less than five hundred.
        for index in samples.indices.dropFirst().dropLast().reversed() {
            let gap = samples[index + 1].time - samples[index - 1].time
            if gap < (time - samples[index].time) / 32 { samples.remove(at: index) }
        }
    }

    /// How old, when the primary answered last, the data of a standby was that has replayed up to `position`: the time since
    /// the primary had no more than that. It is too long by no more than the gap between two samples, and 0 when the primary
    /// was not seen to have more.
    ///
    /// It does not grow while the primary is silent: nobody knows then what there is to be behind of.
    ///
    /// - Parameter transactionAge: of the last transaction that the standby has replayed; counts when the history does not
    ///   reach back to its position.
    func age(of position: LSN, transactionAge: Duration?) -> Duration {
        guard let last = samples.last else { return .zero }
        if let sample = samples.last(where: { $0.position <= position }) { return last.time - sample.time }
        return max(last.time - samples[0].time, transactionAge ?? .zero)
    }
}
