import Hummingbird
package import Logging
package import Monitor
import Topology

/// The cluster over HTTP, on the loopback address only: a page for a person, JSON for a script, metrics for a scraper,
/// health for a load balancer.
///
/// | path | answer |
/// | --- | --- |
/// | `/` | a page that refreshes itself |
/// | `/status` | `ClusterStatus` as JSON |
/// | `/health` | 200 while a primary is up, 503 otherwise |
/// | `/ready` | 200 while any node serves reads, 503 otherwise |
/// | `/metrics` | Prometheus text format |
///
/// It only reads, so it asks for no credentials, and shows none.
package struct Dashboard: Sendable {
    private let port: UInt16
    private let status: @Sendable () async -> ClusterStatus
    private let logger: Logger

    /// - Parameters:
    ///   - port: on 127.0.0.1; must be free.
    ///   - status: the newest picture; called once per request.
    package init(port: UInt16, logger: Logger, status: @escaping @Sendable () async -> ClusterStatus) {
        self.port = port
        self.logger = logger
        self.status = status
    }

    /// Serves until the task is cancelled or its service group shuts down gracefully.
    ///
    /// - Parameter whenListening: called once the port is open.
    package func run(whenListening: @escaping @Sendable () async -> Void = {}) async throws {
        let application = Application(
            router: router(),
            configuration: ApplicationConfiguration(
                address: .hostname("127.0.0.1", port: Int(port)),
                serverName: "slipstream"
            ),
            onServerRunning: { _ in await whenListening() },
            logger: logger
        )
        try await application.run()
    }

    private func router() -> Router<BasicRequestContext> {
        let router = Router()
        router.get("/") { _, _ in
            Response(body: Page.html, type: "text/html; charset=utf-8")
        }
        router.get("/status") { [status] _, _ in
            Response(body: try String(decoding: await status().json(), as: UTF8.self), type: "application/json")
        }
        router.get("/health") { [status] _, _ in
            let hasPrimary = await status().state != .noPrimary
            return Response(isGood: hasPrimary, yes: "a primary is up\n", no: "no primary is up\n")
        }
        router.get("/ready") { [status] _, _ in
            let servesReads = await status().topology.nodes.contains(where: \.servesReads)
            return Response(isGood: servesReads, yes: "reads are served\n", no: "no node serves reads\n")
        }
        router.get("/metrics") { [status] _, _ in
            Response(body: Metrics.text(for: await status()), type: "text/plain; version=0.0.4; charset=utf-8")
        }
        return router
    }
}

extension Response {
    fileprivate init(status: HTTPResponse.Status = .ok, body: String, type: String) {
        self.init(
            status: status,
            headers: [.contentType: type, .cacheControl: "no-store"],
            body: ResponseBody(byteBuffer: ByteBuffer(string: body))
        )
    }

    fileprivate init(isGood: Bool, yes: String, no: String) {
        self.init(
            status: isGood ? .ok : .serviceUnavailable,
            body: isGood ? yes : no,
            type: "text/plain; charset=utf-8"
        )
    }
}
