/// Where a transaction that does not say READ ONLY begins.
package enum TransactionRouting: String, Sendable, CaseIterable {
    /// On the primary.
    case primary
    /// With its first statement: on a standby when that is a read, until something else comes (`DeferredTransaction`).
    case deferred
}
