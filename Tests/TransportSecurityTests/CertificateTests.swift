import Testing
import TransportSecurity

struct CertificateTests {
    private let certificates = Certificates.made

    private func shaken(
        server: TLSContext? = nil,
        client: TLSContext? = nil,
        host: String = "localhost",
        verification: TLSEngine.Verification = .none,
        requiresApplicationProtocol: Bool = false
    ) throws -> Conversation {
        var talk = try Conversation(
            server: server ?? .server(identity: certificates.identity("server")),
            client: client ?? .client(),
            host: host,
            verification: verification,
            requiresApplicationProtocol: requiresApplicationProtocol
        )
        talk.settle()
        return talk
    }

    // MARK: - Servers' certificates

    @Test(
        "the certificate must be for the host",
        arguments: ["localhost", "LocalHost", "db.shop.example", "127.0.0.1", "::1"]
    )
    func rightHost(host: String) throws {
        let talk = try shaken(
            client: .client(authority: certificates.authority()),
            host: host,
            verification: .host(host)
        )
        #expect(talk.phases == [.established, .established])
    }

    @Test(
        "a certificate for another host is refused",
        arguments: ["example.com", "shop.example", "a.b.shop.example", "127.0.0.2", "::2", "endpoint", ""]
    )
    func wrongHost(host: String) throws {
        let talk = try shaken(
            client: .client(authority: certificates.authority()),
            host: host,
            verification: .host(host)
        )
        #expect(
            talk.client.engine.phase
                == .failed(
                    TLSError("the server's certificate is for \"localhost\" (and 3 more), not for host \"\(host)\"")
                )
        )
        #expect(!talk.client.engine.isEstablished && talk.client.received.isEmpty)
        #expect(talk.client.encrypted([1, 2, 3]).isEmpty)
    }

    @Test("the common name counts only when there is no alternative name of the host's kind")
    func commonName() throws {
        let client = try TLSContext.client(authority: certificates.authority())
        let nameless = try TLSContext.server(identity: certificates.identity("nameless"))
        #expect(
            try shaken(server: nameless, client: client, verification: .host("localhost")).client.engine.isEstablished
        )
        let elsewhere = try TLSContext.server(identity: certificates.identity("elsewhere"))
        #expect(
            !(try shaken(server: elsewhere, client: client, verification: .host("localhost")).client.engine
                .isEstablished)
        )
    }

    @Test(
        "wildcards stand for one whole label",
        arguments: [
            ("*.example.com", "a.example.com", true), ("*.Example.com", "A.example.COM", true),
            ("*.example.com", "example.com", false), ("*.example.com", ".example.com", false),
            ("*.example.com", "a.b.example.com", false), ("a*.example.com", "ab.example.com", false),
            ("*", "localhost", false), ("*.", "a.", false), ("*.0.0.1", "127.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true), ("", "", false), ("a", "ab", false),
        ]
    )
    func wildcards(pattern: String, host: String, matches: Bool) {
        #expect(HostName.matches(pattern, host) == matches)
    }

    @Test("an authority that is not known is refused, by name")
    func unknownAuthority() throws {
        let talk = try shaken(client: .client(authority: certificates.authority("otherca")))
        guard case .failed(let problem) = talk.client.engine.phase else {
            Issue.record("\(talk.client.engine.phase)")
            return
        }
        #expect(problem.description == "certificate verify failed: unable to get local issuer certificate")
        // The server has been told why.
        #expect(talk.server.engine.phase == .failed(TLSError("tlsv1 alert unknown ca (SSL alert number 48)")))
    }

    // MARK: - Clients' certificates

    @Test("a client's certificate is verified when there is one, and says who it is")
    func clientCertificate() throws {
        let server = try TLSContext.server(
            identity: certificates.identity("server"),
            clients: .accepted(certificates.authority())
        )
        let talk = try shaken(server: server, client: .client(identity: certificates.identity("client")))
        #expect(talk.phases == [.established, .established])
        #expect(talk.server.engine.peerCertificate?.commonName == "app")
        #expect(talk.server.engine.peerCertificate?.distinguishedName == "CN=app,O=Shop\\, Inc.")

        let without = try shaken(server: server)
        #expect(without.phases == [.established, .established])
        #expect(without.server.engine.peerCertificate?.commonName == nil)

        let stranger = try shaken(server: server, client: .client(identity: certificates.identity("stranger")))
        #expect(!stranger.server.engine.isEstablished)
    }

    @Test("a certificate that nobody asked for is not sent")
    func ignoredCertificate() throws {
        let talk = try shaken(client: .client(identity: certificates.identity("client")))
        #expect(talk.server.engine.isEstablished && talk.server.engine.peerCertificate == nil)
    }

    @Test("where a certificate is required, none is not enough")
    func requiredCertificate() throws {
        let server = try TLSContext.server(
            identity: certificates.identity("server"),
            clients: .required(certificates.authority())
        )
        let without = try shaken(server: server)
        #expect(without.server.engine.phase == .failed(TLSError("peer did not return a certificate")))
        #expect(
            try shaken(server: server, client: .client(identity: certificates.identity("client"))).server.engine
                .isEstablished
        )
    }

    @Test("a revoked certificate is refused")
    func revokedCertificate() throws {
        let server = try TLSContext.server(
            identity: certificates.identity("server"),
            clients: .accepted(certificates.authority(revocations: "ca.crl"))
        )
        let revoked = try shaken(server: server, client: .client(identity: certificates.identity("revoked")))
        #expect(revoked.server.engine.phase == .failed(TLSError("certificate verify failed: certificate revoked")))
        #expect(
            try shaken(server: server, client: .client(identity: certificates.identity("client"))).server.engine
                .isEstablished
        )
    }

    // MARK: - What is agreed upon

    @Test(
        "the channel binding is the server's certificate's hash by its signature's algorithm",
        arguments: [("server", "sha256"), ("sha384", "sha384"), ("ed25519", nil)]
    )
    func endPoint(name: String, algorithm: String?) throws {
        let talk = try shaken(server: .server(identity: certificates.identity(name)))
        #expect(talk.phases == [.established, .established])
        #expect(talk.server.engine.serverEndPoint == talk.client.engine.serverEndPoint)
        let hash = talk.server.engine.serverEndPoint.map {
            $0.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        }
        #expect(hash == (try algorithm.map { try certificates.hash(name, $0) }))
    }

    @Test("our own clients name the application protocol")
    func applicationProtocol() throws {
        #expect(try shaken(requiresApplicationProtocol: true).phases == [.established, .established])
    }

    @Test("versions that have nothing in common do not talk")
    func versions() throws {
        var old = TLSParameters()
        old.versions = .v1_2 ... .v1_2
        var new = TLSParameters()
        new.versions = .v1_3 ... .v1_3
        let talk = try shaken(
            server: .server(identity: certificates.identity("server"), parameters: new),
            client: .client(parameters: old)
        )
        #expect(talk.server.engine.phase == .failed(TLSError("unsupported protocol")))
    }

    // MARK: - Files

    @Test("what is wrong with a file is said with its name")
    func badFiles() throws {
        func problem(_ make: () throws -> TLSContext) -> String {
            do {
                _ = try make()
                return "none"
            } catch {
                return "\(error)".replacing(certificates.directory + "/", with: "")
            }
        }
        let server = certificates.identity("server")
        #expect(
            problem { try .server(identity: certificates.identity("missing")) }
                .hasPrefix("cannot read the certificate \"missing.crt\": No such file or directory")
        )
        let swapped = TLSIdentity(certificateFile: server.certificateFile, keyFile: certificates.path("client.key"))
        #expect(
            problem { try .server(identity: swapped) }
                == "cannot read the private key \"client.key\": key values mismatch"
        )
        let locked = TLSIdentity(certificateFile: server.certificateFile, keyFile: certificates.path("locked.key"))
        #expect(problem { try .server(identity: locked) }.hasPrefix("cannot read the private key \"locked.key\": "))
        let noPEM = TLSIdentity(certificateFile: certificates.path("log"), keyFile: server.keyFile)
        #expect(
            problem { try .server(identity: noPEM) }
                == "cannot read the certificate \"log\": no start line (Expecting: TRUSTED CERTIFICATE)"
        )
        #expect(
            problem { try .client(authority: certificates.authority("missing")) }
                .hasPrefix("cannot read the authorities in \"missing.crt\": ")
        )
        #expect(
            problem { try .client(authority: certificates.authority(revocations: "missing.crl")) }
                .hasPrefix("cannot read the revocation list \"missing.crl\": ")
        )
        var parameters = TLSParameters()
        parameters.ciphers = "ROT13"
        #expect(problem { try .client(parameters: parameters) } == "cannot use the ciphers \"ROT13\": no cipher match")
        #expect(problem { try .server(identity: server) } == "none")
    }
}
