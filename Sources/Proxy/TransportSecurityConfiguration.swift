package import ProxyCore
import TransportSecurity

/// TLS with clients and with nodes. The comments give the names PgBouncer has for the same.
package struct TransportSecurityConfiguration: Sendable, Equatable {
    /// `client_tls_sslmode`. `allow` and `prefer` offer TLS, the others insist on it; `verify-ca` and `verify-full` want a
    /// certificate of the client, too. Without a certificate of our own there is no TLS.
    package var clientMode: SSLMode = .prefer
    /// `client_tls_cert_file`: what clients are shown, and behind it what leads to its authority. PEM, like all files here.
    package var clientCertificateFile: String?
    /// `client_tls_key_file`
    package var clientKeyFile: String?
    /// `client_tls_ca_file`: who signs the certificates of clients. One that is presented is verified.
    package var clientAuthorityFile: String?
    /// Revoked certificates of clients; PostgreSQL's `ssl_crl_file`.
    package var clientRevocationFile: String?
    /// `client_tls_protocols`: `tlsv1.2`, `tlsv1.3`, both with a comma between, or `secure` for both.
    package var clientProtocols: String?
    /// `client_tls_ciphers`: a list of OpenSSL's for TLS 1.2.
    package var clientCiphers: String?

    /// `server_tls_sslmode`, as libpq's `sslmode`.
    package var serverMode: SSLMode = .prefer
    /// `server_tls_ca_file`: who signs the certificates of nodes. As with libpq, `require` then verifies like `verify-ca`.
    package var serverAuthorityFile: String?
    /// Revoked certificates of nodes; libpq's `sslcrl`.
    package var serverRevocationFile: String?
    /// `server_tls_cert_file`: what nodes are shown.
    package var serverCertificateFile: String?
    /// `server_tls_key_file`
    package var serverKeyFile: String?

    package init() {}

    /// Reads every file, to find out early what is wrong with one.
    package func check() throws(ListenError) {
        do throws(TLSError) {
            _ = try TransportContexts(self)
        } catch {
            throw ListenError(description: error.description)
        }
    }
}

/// The configuration with its files read. A value that workers are sent as a whole.
struct TransportContexts: Sendable {
    let clientMode: SSLMode
    /// For clients' connections; `nil` when TLS is not offered.
    let clients: TLSContext?
    let serverMode: SSLMode
    /// For connections to nodes; `nil` when TLS is never asked for.
    let servers: TLSContext?

    init(_ configuration: TransportSecurityConfiguration) throws(TLSError) {
        clientMode = configuration.clientMode
        clients = try Self.clients(configuration)
        serverMode = configuration.serverMode
        servers = try Self.servers(configuration)
    }

    private static func clients(_ configuration: TransportSecurityConfiguration) throws(TLSError) -> TLSContext? {
        guard configuration.clientMode != .disable else { return nil }
        guard
            let identity = try identity(
                "client_tls",
                configuration.clientCertificateFile,
                configuration.clientKeyFile
            )
        else {
            guard !configuration.clientMode.requiresEncryption else {
                throw TLSError(
                    "client_tls_sslmode is \(configuration.clientMode.rawValue), and there is no client_tls_cert_file"
                )
            }
            return nil
        }
        let authority = configuration.clientAuthorityFile.map {
            TLSAuthority(certificatesFile: $0, revocationsFile: configuration.clientRevocationFile)
        }
        let clients: ClientCertificates
        switch (configuration.clientMode, authority) {
        case (.verifyCA, nil), (.verifyFull, nil):
            throw TLSError(
                "client_tls_sslmode is \(configuration.clientMode.rawValue), and there is no client_tls_ca_file"
            )
        case (.verifyCA, let authority?), (.verifyFull, let authority?): clients = .required(authority)
        case (_, let authority?): clients = .accepted(authority)
        case (_, nil): clients = .ignored
        }
        var parameters = TLSParameters()
        parameters.ciphers = configuration.clientCiphers
        if let protocols = configuration.clientProtocols { parameters.versions = try versions(protocols) }
        return try .server(identity: identity, clients: clients, parameters: parameters)
    }

    private static func servers(_ configuration: TransportSecurityConfiguration) throws(TLSError) -> TLSContext? {
        let authority = configuration.serverAuthorityFile.map {
            TLSAuthority(certificatesFile: $0, revocationsFile: configuration.serverRevocationFile)
        }
        switch configuration.serverMode {
        case .disable:
            return nil
        case .verifyCA, .verifyFull:
            guard authority != nil else {
                throw TLSError(
                    "server_tls_sslmode is \(configuration.serverMode.rawValue), and there is no server_tls_ca_file"
                )
            }
        case .allow, .prefer, .require:
            break
        }
        let identity = try identity("server_tls", configuration.serverCertificateFile, configuration.serverKeyFile)
        return try .client(authority: authority, identity: identity)
    }

    private static func identity(
        _ prefix: String,
        _ certificate: String?,
        _ key: String?
    ) throws(TLSError) -> TLSIdentity? {
        switch (certificate, key) {
        case (let certificate?, let key?): TLSIdentity(certificateFile: certificate, keyFile: key)
        case (nil, nil): nil
        case (_?, nil): throw TLSError("\(prefix)_cert_file is given, and \(prefix)_key_file is not")
        case (nil, _?): throw TLSError("\(prefix)_key_file is given, and \(prefix)_cert_file is not")
        }
    }

    private static func versions(_ text: String) throws(TLSError) -> ClosedRange<TLSVersion> {
        var versions: Set<TLSVersion> = []
        for name in text.split(whereSeparator: { $0 == "," || $0 == " " }) {
            switch name.lowercased() {
            case "tlsv1.2": versions.insert(.v1_2)
            case "tlsv1.3": versions.insert(.v1_3)
            case "secure", "default": versions.formUnion([.v1_2, .v1_3])
            case let other:
                throw TLSError("client_tls_protocols: \"\(other)\" is none of tlsv1.2, tlsv1.3 and secure")
            }
        }
        guard let lowest = versions.min(), let highest = versions.max() else {
            throw TLSError("client_tls_protocols names no version")
        }
        return lowest...highest
    }
}
