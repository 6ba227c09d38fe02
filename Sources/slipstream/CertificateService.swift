import Logging
import Proxy
import ServiceLifecycle
import UnixSignals

/// Reads the certificates again at every SIGHUP, as PostgreSQL and PgBouncer do.
struct CertificateService: Service, CustomStringConvertible {
    let endpoint: Endpoint
    let configuration: TransportSecurityConfiguration
    let logger: Logger
    var description: String { "certificates" }

    func run() async throws {
        let signals = await UnixSignalsSequence(trapping: .sighup)
        await cancelWhenGracefulShutdown {
            for await _ in signals {
                do {
                    try endpoint.reload(configuration)
                    logger.info("the certificates were read again")
                } catch {
                    logger.error("the certificates stay as they are: \(error)")
                }
            }
        }
    }
}
