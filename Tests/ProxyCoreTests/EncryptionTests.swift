import PostgresAuth
import PostgresWire
import ProxyCore
import Testing

/// Encryption as the logins see it: clients that ask for it, and nodes that are asked.
struct EncryptionTests {
    // MARK: - Clients

    private func login(_ encryption: EncryptionOffer) -> LoginTranscript {
        let login = LoginTranscript()
        login.machine.encryption = encryption
        return login
    }

    @Test(
        "an SSLRequest is answered S, and what follows is encrypted",
        arguments: [EncryptionOffer.offered, .required]
    )
    func asked(encryption: EncryptionOffer) {
        var login = login(encryption)
        #expect(login.send(LoginTranscript.gssRequest) == .reply([0x4E], consumed: 8))
        #expect(login.send(LoginTranscript.sslRequest) == .encrypt([0x53], consumed: 8, isDirect: false))
        login.machine.secured(ClientTransport(isEncrypted: true))
        let packet = StartupMessage(user: "ann", database: "shop").packet
        #expect(login.send(packet) == .lookUpVerifier(role: "ann", consumed: packet.count))
    }

    @Test("bytes smuggled in behind an SSLRequest are refused")
    func smuggled() {
        var login = login(.offered)
        #expect(login.send(LoginTranscript.sslRequest + [0x16]) == .refuse(.protocolViolation))
        #expect(login.send(LoginTranscript.sslRequest) == .needMore)
    }

    @Test("an encrypted connection is not encrypted again")
    func twice() {
        for request in [LoginTranscript.sslRequest, LoginTranscript.gssRequest] {
            var login = login(.offered)
            #expect(login.send(LoginTranscript.sslRequest) == .encrypt([0x53], consumed: 8, isDirect: false))
            login.machine.secured(ClientTransport(isEncrypted: true))
            #expect(login.send(request) == .refuse(.featureNotSupported))
        }
    }

    @Test("a client may begin with TLS at once, and only at once")
    func direct() {
        var direct = login(.offered)
        #expect(direct.send([0x16]) == .encrypt([], consumed: 0, isDirect: true))
        direct.machine.secured(ClientTransport(isEncrypted: true))
        #expect(direct.send(LoginTranscript.sslRequest) == .refuse(.featureNotSupported))

        var unoffered = LoginTranscript()
        #expect(unoffered.send([0x16, 3, 1, 0, 100]) == .hangUp)
        var late = login(.offered)
        _ = late.send(LoginTranscript.gssRequest)
        #expect(late.send([0x16, 3, 1, 0, 100]) == .hangUp)
    }

    @Test("where encryption is required, a client without it is refused; its cancel request is not")
    func required() {
        var plain = login(.required)
        #expect(plain.send(StartupMessage(user: "ann", database: "shop").packet) == .refuse(.invalidAuthorization))
        var cancelling = login(.required)
        var writer = MessageWriter()
        writer.cancelRequest(CancelKey(processID: 7, secret: 9))
        #expect(cancelling.send(writer.bytes) == .cancel(CancelKey(processID: 7, secret: 9)))
    }

    @Test("channel binding is offered over TLS, ahead of the rest, and checked")
    func channelBinding() {
        let verifier = SCRAMVerifier(password: "pencil", salt: Array(1...16), iterations: 1)
        for (endPoint, isAccepted) in [([1, 2, 3] as [UInt8], true), ([1, 2, 4], false)] {
            var login = login(.offered)
            _ = login.send(LoginTranscript.sslRequest)
            login.machine.secured(ClientTransport(isEncrypted: true, channelBinding: [1, 2, 3]))
            _ = login.send(StartupMessage(user: "ann", database: "shop").packet)
            let (offer, _) = login.found(verifier.text)
            var expected = MessageWriter()
            expected.authenticationSASL(["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])
            #expect(offer == .ask(expected.bytes))

            var client = SCRAMClient(credential: .password("pencil"), clientNonce: Array("abc".utf8))
            var first = MessageWriter()
            first.saslInitialResponse(mechanism: "SCRAM-SHA-256-PLUS", client.firstMessage(over: .bound(endPoint)))
            guard case .reply(let reply, _) = login.send(first.bytes),
                case .reply(let proof) = client.serverFirst(Array(reply.dropFirst(9)))
            else {
                Issue.record("no challenge")
                return
            }
            var final = MessageWriter()
            final.saslResponse(proof)
            #expect(login.send(final.bytes) == (isAccepted ? .authenticated : .refuse(.invalidAuthorization)))
        }
    }

    @Test("a client that says it was offered no channel binding, and was, is refused")
    func downgrade() {
        var login = login(.offered)
        _ = login.send(LoginTranscript.sslRequest)
        login.machine.secured(ClientTransport(isEncrypted: true, channelBinding: [1, 2, 3]))
        _ = login.send(StartupMessage(user: "ann", database: "shop").packet)
        _ = login.found(nil)
        var first = MessageWriter()
        first.saslInitialResponse(mechanism: "SCRAM-SHA-256", Array("y,,n=,r=abc".utf8))
        #expect(login.send(first.bytes) == .refuse(.invalidAuthorization))
    }

    @Test("without TLS there is no channel to bind to")
    func noChannel() {
        var login = LoginTranscript()
        _ = login.send(StartupMessage(user: "ann", database: "shop").packet)
        _ = login.found(nil)
        var first = MessageWriter()
        first.saslInitialResponse(mechanism: "SCRAM-SHA-256-PLUS", Array("p=tls-server-end-point,,n=,r=abc".utf8))
        #expect(login.send(first.bytes) == .refuse(.protocolViolation))
    }

    // MARK: - Nodes

    private let request: [UInt8] = [0, 0, 0, 8, 4, 210, 22, 47]

    private func answer(_ bytes: [UInt8], to encryption: ServerEncryption) -> ServerEncryption.Step {
        encryption.answered(bytes.span.bytes)
    }

    @Test("without TLS nothing is asked", arguments: [SSLMode.disable, .allow])
    func unasked(mode: SSLMode) {
        #expect(ServerEncryption(mode: mode).connected() == .startUp)
    }

    @Test("the node is asked, and its answer counts", arguments: [SSLMode.prefer, .require, .verifyCA, .verifyFull])
    func node(mode: SSLMode) {
        let encryption = ServerEncryption(mode: mode)
        #expect(encryption.connected() == .ask(request))
        #expect(answer([], to: encryption) == .wait)
        #expect(answer([0x53], to: encryption) == .shakeHands)
        let refusal = answer([0x4E], to: encryption)
        #expect(refusal == (mode == .prefer ? .startUp : .fail("it does not support TLS")))
    }

    @Test("what comes behind the node's answer may be somebody else's")
    func smuggledAnswer() {
        let encryption = ServerEncryption(mode: .require)
        for bytes in [[0x53, 0x52], [0x4E, 0x52], [0x45]] as [[UInt8]] {
            guard case .fail = answer(bytes, to: encryption) else {
                Issue.record("\(bytes) were accepted")
                return
            }
        }
    }

    @Test("allow and prefer try the other way, once; the others never")
    func otherWay() {
        for mode in SSLMode.allCases {
            var encryption = ServerEncryption(mode: mode)
            let first = encryption.connected()
            let isTried = encryption.failed()
            #expect(isTried == (mode == .allow || mode == .prefer))
            #expect((encryption.connected() == first) == !isTried)
            let isTriedAgain = encryption.failed()
            #expect(!isTriedAgain)
        }
    }

    @Test("a cancel request goes the way of the connection it is about")
    func cancelRequest() {
        for mode in [SSLMode.allow, .prefer] {
            #expect(ServerEncryption(like: .plain, mode: mode).connected() == .startUp)
            #expect(ServerEncryption(like: .encrypted(nil), mode: mode).connected() == .ask(request))
        }
    }

    @Test(
        "the login to a node is bound to the channel when the node can do that",
        arguments: [
            (ServerTransport.encrypted([1]), true, "SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,"),
            (.encrypted([1]), false, "SCRAM-SHA-256", "y,,"),
            (.encrypted(nil), true, "SCRAM-SHA-256", "n,,"),
            (.plain, true, "SCRAM-SHA-256", "n,,"),
        ]
    )
    func nodeLogin(transport: ServerTransport, offersBinding: Bool, mechanism: String, header: String) {
        var login = ServerLogin(credential: LoginCredential(password: "pencil"), role: "ann", random: Array(1...18))
        login.transport = transport
        var offer = MessageWriter()
        offer.authenticationSASL((offersBinding ? ["SCRAM-SHA-256-PLUS"] : []) + ["SCRAM-SHA-256"])
        guard case .reply(let reply) = login.received(.authentication, message: offer.bytes.span.bytes) else {
            Issue.record("no answer")
            return
        }
        let text = String(decoding: reply.dropFirst(5), as: UTF8.self)
        #expect(text.hasPrefix(mechanism + "\0"))
        #expect(text.dropFirst(mechanism.count + 1 + 4).hasPrefix(header))
    }
}
