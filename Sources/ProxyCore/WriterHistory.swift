/// Which transactions write in the end, by the shape of their first statement: those begin on the primary at once.
///
/// Of a fixed size: a shape that comes to the place of another takes it.
package struct WriterHistory: Sendable {
    private struct Entry {
        var shape: UInt64 = 0
        /// How many moved to the primary since the last that ended on a standby, up to `threshold`.
        var moves: UInt8 = 0
        /// How many were begun on the primary since the last that was tried on a standby.
        var skipped: UInt8 = 0
    }

    /// After so many moves in succession the next ones begin on the primary.
    private static let threshold: UInt8 = 3
    /// Of so many one is tried on a standby again.
    private static let retryPeriod: UInt8 = 64
    private static let count = 1_024

    private var entries: ContiguousArray<Entry> = []

    package init() {}

    /// Whether a transaction that starts with such a statement is to begin on the primary. 0 is no shape.
    package mutating func writes(_ shape: UInt64) -> Bool {
        guard shape != 0, !entries.isEmpty else { return false }
        let index = Self.index(shape)
        guard entries[index].shape == shape, entries[index].moves >= Self.threshold else { return false }
        entries[index].skipped += 1
        guard entries[index].skipped >= Self.retryPeriod else { return true }
        entries[index].skipped = 0
        return false
    }

    /// A transaction that had started on a standby has ended there, or moved to the primary because of what it said.
    package mutating func ended(_ shape: UInt64, moved: Bool) {
        guard shape != 0 else { return }
        if entries.isEmpty { entries = ContiguousArray(repeating: Entry(), count: Self.count) }
        let index = Self.index(shape)
        if entries[index].shape != shape {
            guard moved else { return }
            entries[index] = Entry(shape: shape)
        }
        entries[index].moves = moved ? min(Self.threshold, entries[index].moves + 1) : 0
    }

    private static func index(_ shape: UInt64) -> Int { Int(truncatingIfNeeded: shape % UInt64(count)) }
}
