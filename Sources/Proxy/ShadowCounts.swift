import ProxyCore
import Synchronization

/// What a worker counts in shadow mode. Other workers only take the lock when somebody asks.
final class ShadowCounts: Sendable {
    private let report = Mutex(ShadowReport())

    func count(_ body: (inout ShadowReport) -> Void) { report.withLock { body(&$0) } }

    /// Of several workers together.
    static func total(_ counts: [ShadowCounts]) -> ShadowReport {
        var total = ShadowReport()
        for part in counts { total.add(part.report.withLock { $0 }) }
        return total
    }

    func forget() { report.withLock { $0 = ShadowReport() } }
}
