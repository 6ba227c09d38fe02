import ArgumentParser
import ConfigurationFile
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

    @Option(help: ArgumentHelp("Whether clients must use TLS (client_tls_sslmode; default: prefer).", valueName: "mode"))
    var tlsMode: SSLMode?

    // The nodes of a cluster that `up` makes have no TLS: asking them would cost every login a round trip.
    @Option(help: ArgumentHelp("Whether the nodes are asked for TLS (server_tls_sslmode; default: disable).", valueName: "mode"))
    var serverTlsMode: SSLMode?

    @Option(help: ArgumentHelp("Authorities that sign certificates of nodes.", valueName: "file"), completion: .file())
    var serverTlsCa: String?

    func validate() throws {
        if (tlsCert == nil) != (tlsKey == nil) {
            throw ValidationError("--tls-cert and --tls-key belong together.")
        }
    }

    /// What the file of settings says, and over it what the options say.
    func configuration(over settings: Settings) -> TransportSecurityConfiguration {
        let (client, server) = (settings.clientTLS, settings.serverTLS)
        var configuration = TransportSecurityConfiguration()
        configuration.clientMode = tlsMode ?? Self.mode(client.mode) ?? .prefer
        configuration.clientCertificateFile = (tlsCert ?? client.certificateFile).map(Self.absolute)
        configuration.clientKeyFile = (tlsKey ?? client.keyFile).map(Self.absolute)
        configuration.clientAuthorityFile = (tlsCa ?? client.authorityFile).map(Self.absolute)
        configuration.clientProtocols = client.protocols
        configuration.clientCiphers = client.ciphers
        configuration.serverMode = serverTlsMode ?? Self.mode(server.mode) ?? .disable
        configuration.serverAuthorityFile = (serverTlsCa ?? server.authorityFile).map(Self.absolute)
        configuration.serverCertificateFile = server.certificateFile.map(Self.absolute)
        configuration.serverKeyFile = server.keyFile.map(Self.absolute)
        return configuration
    }

    private static func mode(_ mode: TLSSettings.Mode?) -> SSLMode? {
        mode.flatMap { SSLMode(rawValue: $0.rawValue) }
    }

    /// It is read again later, from wherever the process is then.
    private static func absolute(_ path: String) -> String {
        path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
    }
}

extension SSLMode: ExpressibleByArgument {}
