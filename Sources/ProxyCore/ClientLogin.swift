package import HostBasedAuthentication
package import PostgresAuth
package import PostgresWire

/// The client's side of logging in: from the first byte to the proof of the password.
///
/// ```
/// awaiting startup --SSLRequest, GSSENCRequest--> "N", awaiting startup
///                  --SSLRequest, or TLS at once--> encrypt, awaiting startup
///                  --CancelRequest--> cancel, end
///                  --StartupMessage--> refused by the rules, or look the verifier up
/// looking up       --trust, cert--> authenticated
///                  --scram-sha-256--> AuthenticationSASL, awaiting initial response
///                  --md5--> AuthenticationMD5Password, awaiting password
///                  --password--> AuthenticationCleartextPassword, awaiting password
/// awaiting initial response --SASLInitialResponse--> AuthenticationSASLContinue, awaiting response
/// awaiting response         --SASLResponse--> authenticated, or refused as PostgreSQL refuses
/// awaiting password         --PasswordMessage--> authenticated, or refused as PostgreSQL refuses
/// ```
///
/// Source: PostgreSQL manual, "Message Flow: Start-up", "SASL Authentication" and "Client Authentication".
package final class ClientLogin {
    package enum OnBytes {
        /// The packet is not complete.
        case needMore
        case reply([UInt8], consumed: Int)
        /// Send the reply, go on in TLS, and say `secured` when that is done. A client that begins TLS without having asked
        /// (`isDirect`) must name the protocol by ALPN, lest it was sent here with another in mind (PostgreSQL 17).
        case encrypt(reply: [UInt8], consumed: Int, isDirect: Bool)
        case cancel(CancelKey)
        /// Ask for the role's verifier, and go on with `verifierFound`.
        case lookUpVerifier(role: String, consumed: Int)
        /// Send the error and close.
        case refuse(ErrorMessage)
        /// Close without a word, as PostgreSQL does where it can't be sure that a PostgreSQL client is there.
        case hangUp
        /// Send the reply, then log in to a node with the credential.
        case authenticated(LoginCredential, reply: [UInt8], consumed: Int)
    }

    package enum OnVerifier {
        /// Send the request, and go on with `received`.
        case ask([UInt8])
        /// Nothing is asked: log in to a node with the credential.
        case authenticated(LoginCredential)
        /// Send the error and close.
        case refuse(ErrorMessage)
    }

    private enum State {
        case awaitingStartup
        case lookingUp
        case awaitingInitialResponse
        case awaitingResponse
        case awaitingPassword(StoredPassword, isMock: Bool)
        case awaitingMD5(MD5Password, salt: [UInt8], isMock: Bool)
        case ended
    }

    private static let mechanism = "SCRAM-SHA-256"
    private static let bindingMechanism = "SCRAM-SHA-256-PLUS"
    /// How a TLS connection begins: with a handshake record.
    private static let handshakeRecord: UInt8 = 0x16

    /// What is said to a client that asks for encryption; to be set before its first byte.
    package var encryption: EncryptionOffer = .none
    package private(set) var transport = ClientTransport()

    /// What the client asked for; `nil` before its StartupMessage came.
    package private(set) var startup: StartupMessage?
    private var verifier: SCRAMVerifier?
    /// Runs from `awaitingInitialResponse` on.
    private var scram: SCRAMServer?
    private var state: State = .awaitingStartup
    /// Requests for encryption that were answered. None may come twice: a client that repeats them and never reads the
    /// answers would have them pile up before it has shown who it is.
    private var answered: Set<Int32> = []

    private let policy: LoginPolicy
    private let address: NetworkAddress?
    /// The rule that matches; known from `lookingUp` on.
    private var rule: HostBasedRule?
    /// What a client is told instead of being asked who it is: it is one too many.
    package var refusal: ErrorMessage?

    /// - Parameter address: where the client is; `nil` behind a Unix-domain socket.
    package init(policy: LoginPolicy = LoginPolicy(), address: NetworkAddress? = nil) {
        self.policy = policy
        self.address = address
    }

    /// The TLS handshake is done.
    package func secured(_ transport: ClientTransport) {
        self.transport = transport
    }

    package var role: String { startup?["user"] ?? "" }
    package var database: String { startup?["database"].flatMap { $0.isEmpty ? nil : $0 } ?? role }

    /// The client's unread bytes.
    package func received(_ bytes: RawSpan) -> OnBytes {
        switch state {
        case .awaitingStartup:
            receivedStartup(bytes)
        case .awaitingInitialResponse:
            receivedResponse(bytes, isInitial: true)
        case .awaitingResponse:
            receivedResponse(bytes, isInitial: false)
        case .awaitingPassword(let stored, let isMock):
            receivedPassword(bytes) { role, text in
                let credential = stored.credential(for: String(decoding: text, as: UTF8.self), role: role)
                return isMock ? nil : credential
            }
        case .awaitingMD5(let hash, let salt, let isMock):
            receivedPassword(bytes) { _, answer in
                let isRight = hash.isAnswered(by: answer, salt: salt)
                return isRight && !isMock ? LoginCredential(md5: hash) : nil
            }
        case .lookingUp, .ended:
            // Nothing is due from the client; what it sends too early waits.
            .needMore
        }
    }

    private func receivedResponse(_ bytes: RawSpan, isInitial: Bool) -> OnBytes {
        guard let header = MessageHeader(bytes, at: 0) else { return .needMore }
        if let problem = Self.problem(with: header, expected: "SASL response") {
            return refuse(problem)
        }
        guard header.totalSize <= bytes.byteCount else { return .needMore }
        let body = bytes.extracting(MessageHeader.size..<header.totalSize)
        guard isInitial else {
            return finish(scram?.clientFinal(body.array(0..<body.byteCount)), consumed: header.totalSize)
        }
        guard let nameEnd = body.terminator(from: 0, before: body.byteCount), nameEnd + 5 <= body.byteCount,
            Int(body.int32(at: nameEnd + 1)) == body.byteCount - nameEnd - 5
        else {
            return refuse(ErrorMessage(.fatal, .protocolViolation, "malformed SCRAM message"))
        }
        let bindsChannel = body.string(0..<nameEnd) == Self.bindingMechanism && transport.channelBinding != nil
        guard bindsChannel || body.string(0..<nameEnd) == Self.mechanism else {
            return refuse(
                ErrorMessage(.fatal, .protocolViolation, "client selected an invalid SASL authentication mechanism")
            )
        }
        return finish(
            scram?.clientFirst(body.array(nameEnd + 5..<body.byteCount), bindsChannel: bindsChannel),
            consumed: header.totalSize
        )
    }

    private func refuse(_ problem: ErrorMessage) -> OnBytes {
        state = .ended
        return .refuse(problem)
    }

    /// The role's password was looked up.
    ///
    /// A role without one gets a mock exchange of the same length and work, so that nobody learns which roles exist.
    ///
    /// - Parameters:
    ///   - secret: of this process; makes the mock's salt the same on every try.
    ///   - random: `SCRAMNonce.randomByteCount` fresh random bytes.
    package func verifierFound(_ password: RolePassword, secret: [UInt8], random: [UInt8]) -> OnVerifier {
        guard let rule else { preconditionFailure("a verifier is looked up when a rule has been found") }
        let stored = StoredPassword(password.text)
        var writer = MessageWriter()
        switch rule.method {
        case .reject:
            preconditionFailure("who is rejected is not looked up")
        case .trust, .certificate:
            if let problem = certificateProblem { return .refuse(problem) }
            state = .ended
            return .authenticated(policy.credential(of: role, stored))
        case .password:
            let mock = StoredPassword.mock(role: role, secret: secret, isMD5: password.isMD5ByDefault)
            state = .awaitingPassword(stored ?? mock, isMock: stored == nil)
            writer.authenticationCleartextPassword()
        case .md5:
            switch stored {
            case .md5(let hash):
                challengeByMD5(hash, isMock: false, random, &writer)
            case nil where password.isMD5ByDefault:
                challengeByMD5(.mock(role: role, secret: secret), isMock: true, random, &writer)
            case .scram, nil:
                offerSCRAM(stored, secret: secret, random, &writer)
            }
        case .scramSHA256:
            offerSCRAM(stored, secret: secret, random, &writer)
        }
        return .ask(writer.bytes)
    }

    private func challengeByMD5(
        _ hash: MD5Password,
        isMock: Bool,
        _ random: [UInt8],
        _ writer: inout MessageWriter
    ) {
        let salt = Array(random.prefix(MD5Password.saltLength))
        state = .awaitingMD5(hash, salt: salt, isMock: isMock)
        writer.authenticationMD5Password(salt: salt)
    }

    private func offerSCRAM(
        _ stored: StoredPassword?,
        secret: [UInt8],
        _ random: [UInt8],
        _ writer: inout MessageWriter
    ) {
        let known = stored?.verifier
        let verifier = known ?? .mock(role: role, secret: secret)
        self.verifier = verifier
        scram = SCRAMServer(
            verifier: verifier,
            isMock: known == nil,
            serverNonce: SCRAMNonce.make(from: random),
            channel: transport.channelBinding
        )
        state = .awaitingInitialResponse
        writer.authenticationSASL((transport.channelBinding == nil ? [] : [Self.bindingMechanism]) + [Self.mechanism])
    }

    // MARK: - Passwords

    /// A PasswordMessage; `check` yields the credential when what it holds is right.
    private func receivedPassword(
        _ bytes: RawSpan,
        check: (_ role: String, _ text: [UInt8]) -> LoginCredential?
    ) -> OnBytes {
        guard let header = MessageHeader(bytes, at: 0) else { return .needMore }
        if let problem = Self.problem(with: header, expected: "password response") {
            return refuse(problem)
        }
        guard header.totalSize <= bytes.byteCount else { return .needMore }
        let text = bytes.extracting(MessageHeader.size..<header.totalSize).array(
            0..<header.totalSize - MessageHeader.size
        )
        guard text.firstIndex(of: 0) == text.count - 1 else {
            return refuse(ErrorMessage(.fatal, .protocolViolation, "invalid password packet size"))
        }
        guard text.count > 1 else {
            return refuse(ErrorMessage(.fatal, .invalidPassword, "empty password returned by client"))
        }
        guard let credential = check(role, text.dropLast()) else { return refuse(wrongPassword) }
        return passed(credential, reply: [], consumed: header.totalSize)
    }

    /// The password is right. Whether the certificate is, too, is asked last, as by PostgreSQL.
    private func passed(_ credential: LoginCredential, reply: [UInt8], consumed: Int) -> OnBytes {
        if let problem = certificateProblem { return refuse(problem) }
        state = .ended
        var credential = credential
        credential.password = credential.password ?? policy.passwords[role]
        return .authenticated(credential, reply: reply, consumed: consumed)
    }

    private var wrongPassword: ErrorMessage {
        ErrorMessage(.fatal, .invalidPassword, "password authentication failed for user \"\(role)\"")
    }

    // MARK: - Parts

    private func receivedStartup(_ bytes: RawSpan) -> OnBytes {
        if encryption != .none, answered.isEmpty, bytes.byteCount > 0, bytes.byte(at: 0) == Self.handshakeRecord {
            answered = [StartupPacket.sslRequestCode, StartupPacket.gssEncryptionRequestCode]
            return .encrypt(reply: [], consumed: 0, isDirect: true)
        }
        guard let length = StartupPacket.announcedLength(bytes) else { return .needMore }
        guard (8...StartupPacket.maximumLength).contains(length) else {
            state = .ended
            return .hangUp
        }
        guard length <= bytes.byteCount else { return .needMore }
        let action = started(StartupPacket(bytes.extracting(0..<length)), length, isLast: bytes.byteCount == length)
        if case .refuse = action {
            state = .ended
        }
        return action
    }

    private func started(_ packet: StartupPacket, _ length: Int, isLast: Bool) -> OnBytes {
        switch packet {
        case .sslRequest, .gssEncryptionRequest:
            let code =
                packet == .sslRequest ? StartupPacket.sslRequestCode : StartupPacket.gssEncryptionRequestCode
            guard answered.insert(code).inserted else {
                return started(
                    .unsupportedVersion(major: Int(code >> 16), minor: Int(code & 0xFFFF)),
                    length,
                    isLast: isLast
                )
            }
            // Bytes sent before our answer could be taken for encrypted ones (CVE-2021-23222).
            guard isLast else {
                let kind = packet == .sslRequest ? "SSL" : "GSSAPI encryption"
                return .refuse(
                    ErrorMessage(
                        .fatal,
                        .protocolViolation,
                        "received unencrypted data after \(kind) request",
                        detail: "This could be either a client-software bug or evidence of an attempted "
                            + "man-in-the-middle attack."
                    )
                )
            }
            if packet == .sslRequest, encryption != .none {
                answered.insert(StartupPacket.gssEncryptionRequestCode)
                return .encrypt(reply: [UInt8(ascii: "S")], consumed: length, isDirect: false)
            }
            return .reply([UInt8(ascii: "N")], consumed: length)
        case .cancel(let key):
            state = .ended
            return .cancel(key)
        case .unsupportedVersion(let major, let minor):
            return .refuse(
                ErrorMessage(
                    .fatal,
                    .featureNotSupported,
                    "unsupported frontend protocol \(major).\(minor): server supports 3.0 to 3.0"
                )
            )
        case .wrongLength:
            state = .ended
            return .hangUp
        case .malformed(let message):
            return .refuse(ErrorMessage(.fatal, .protocolViolation, message))
        case .startup(let message):
            return started(message, length)
        }
    }

    private func started(_ message: StartupMessage, _ length: Int) -> OnBytes {
        guard let user = message["user"], !user.isEmpty else {
            return .refuse(
                ErrorMessage(.fatal, .invalidAuthorization, "no PostgreSQL user name specified in startup packet")
            )
        }
        if encryption == .required, !transport.isEncrypted {
            return .refuse(
                ErrorMessage(
                    .fatal,
                    .invalidAuthorization,
                    "this endpoint accepts only encrypted connections",
                    hint: "Connect with sslmode=require or stricter."
                )
            )
        }
        if let replication = message["replication"], !["false", "off", "no", "0"].contains(replication.lowercased()) {
            return .refuse(
                ErrorMessage(
                    .fatal,
                    .featureNotSupported,
                    "replication connections are not served by this endpoint",
                    hint: "Connect to a node directly; \"slipstream url --node NAME\" prints its address."
                )
            )
        }
        startup = message
        if let refusal { return .refuse(refusal) }
        if let problem = problemByRules() { return .refuse(problem) }
        state = .lookingUp
        return .lookUpVerifier(role: user, consumed: length)
    }

    // MARK: - Rules

    /// Finds the rule for this client, and says why it may not come in.
    private func problemByRules() -> ErrorMessage? {
        let attempt = HostBasedRules.Attempt(
            address: address,
            isEncrypted: transport.isEncrypted,
            database: database,
            user: role
        )
        rule = policy.rules.first(matching: attempt, networks: policy.networks)
        guard let rule else { return LoginPolicy.noEntry(for: attempt) }
        if rule.method == .reject { return LoginPolicy.rejection(of: attempt) }
        if rule.clientCertificate != nil, transport.clientCertificateCommonName == nil {
            return ErrorMessage(.fatal, .invalidAuthorization, "connection requires a valid client certificate")
        }
        return nil
    }

    /// Why the client's certificate does not let it in as this user.
    private var certificateProblem: ErrorMessage? {
        guard rule?.clientCertificate == .verifyFull,
            !(transport.clientCertificateCommonName ?? "").utf8.elementsEqual(role.utf8)
        else { return nil }
        return ErrorMessage(
            .fatal,
            .invalidAuthorization,
            "certificate authentication failed for user \"\(role)\""
        )
    }

    /// NegotiateProtocolVersion, when the client asked for more than version 3.0.
    package var negotiation: [UInt8] {
        guard let startup, startup.minorVersion > 0 || !startup.extensions.isEmpty else { return [] }
        var writer = MessageWriter()
        writer.negotiateProtocolVersion(unrecognised: startup.extensions)
        return writer.bytes
    }

    private static func problem(with header: MessageHeader, expected: String) -> ErrorMessage? {
        guard header.type == FrontendMessage.password.rawValue else {
            return ErrorMessage(
                .fatal,
                .protocolViolation,
                "expected \(expected), got message type \(header.type)"
            )
        }
        guard header.length >= 4, header.length <= 65_535 - 1 else {
            return ErrorMessage(.fatal, .protocolViolation, "invalid message length")
        }
        return nil
    }

    private func finish(_ action: SCRAMServer.OnMessage?, consumed: Int) -> OnBytes {
        guard let action, let verifier else { preconditionFailure("a response is awaited before there is a verifier") }
        var writer = MessageWriter()
        switch action {
        case .reply(let data):
            state = .awaitingResponse
            writer.authenticationSASLContinue(data)
            return .reply(writer.bytes, consumed: consumed)
        case .accepted(let serverFinal, let key):
            writer.authenticationSASLFinal(serverFinal)
            return passed(LoginCredential(key: key, verifier: verifier), reply: writer.bytes, consumed: consumed)
        case .refused:
            return refuse(wrongPassword)
        case .malformed(let detail):
            return refuse(ErrorMessage(.fatal, .protocolViolation, "malformed SCRAM message", detail: detail))
        case .refusedChannel(let text, let detail):
            return refuse(ErrorMessage(.fatal, .invalidAuthorization, text, detail: detail))
        }
    }
}
