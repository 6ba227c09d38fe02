import ArgumentParser
import FoundationEssentials
import Proxy
import ProxyCore

/// TLS of the endpoint's clients, and of its connections to the nodes.
struct TLSOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp("The endpoint's certificate; clients may then use TLS.", valueName: "file"),
        completion: .file()
    )
    var tlsCert: String?

    @Option(help: ArgumentHelp("The certificate's key.", valueName: "file"), completion: .file())
    var tlsKey: String?

    @Option(
        help: ArgumentHelp("Authorities that sign certificates of clients.", valueName: "file"),
        completion: .file()
    )
    var tlsCa: String?

    @Option(help: ArgumentHelp("Whether clients must use TLS (client_tls_sslmode).", valueName: "mode"))
    var tlsMode = SSLMode.prefer

    // The nodes of a cluster that `up` makes have no TLS: asking them would cost every login a round trip.
    @Option(help: ArgumentHelp("Whether the nodes are asked for TLS (server_tls_sslmode).", valueName: "mode"))
    var serverTlsMode = SSLMode.disable

    @Option(help: ArgumentHelp("Authorities that sign certificates of nodes.", valueName: "file"), completion: .file())
    var serverTlsCa: String?

    func validate() throws {
        if (tlsCert == nil) != (tlsKey == nil) {
            throw ValidationError("--tls-cert and --tls-key belong together.")
        }
    }

    var configuration: TransportSecurityConfiguration {
        var configuration = TransportSecurityConfiguration()
        configuration.clientMode = tlsMode
        configuration.clientCertificateFile = tlsCert.map(Self.absolute)
        configuration.clientKeyFile = tlsKey.map(Self.absolute)
        configuration.clientAuthorityFile = tlsCa.map(Self.absolute)
        configuration.serverMode = serverTlsMode
        configuration.serverAuthorityFile = serverTlsCa.map(Self.absolute)
        return configuration
    }

    /// It is read again later, from wherever the process is then.
    private static func absolute(_ path: String) -> String {
        path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
    }
}

extension SSLMode: ExpressibleByArgument {}
