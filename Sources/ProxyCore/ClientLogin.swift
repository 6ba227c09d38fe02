package import PostgresAuth
package import PostgresWire

/// The client's side of logging in: from the first byte to the proof of the password.
///
/// ```
/// awaiting startup --SSLRequest, GSSENCRequest--> "N", awaiting startup
///                  --SSLRequest, or TLS at once--> encrypt, awaiting startup
///                  --CancelRequest--> cancel, end
///                  --StartupMessage--> look the verifier up
/// looking up       --verifier or none--> AuthenticationSASL, awaiting initial response
/// awaiting initial response --SASLInitialResponse--> AuthenticationSASLContinue, awaiting response
/// awaiting response         --SASLResponse--> authenticated, or refused as PostgreSQL refuses
/// ```
///
/// Source: PostgreSQL manual, "Message Flow: Start-up" and "SASL Authentication".
package struct ClientLogin: ~Copyable {
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
        /// Send AuthenticationSASLFinal, then log in to a node with the key.
        case authenticated(ClientKey, SCRAMVerifier, reply: [UInt8], consumed: Int)
    }

    private enum State {
        case awaitingStartup
        case lookingUp
        case awaitingInitialResponse
        case awaitingResponse
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

    package init() {}

    /// The TLS handshake is done.
    package mutating func secured(_ transport: ClientTransport) {
        self.transport = transport
    }

    package var role: String { startup?["user"] ?? "" }
    package var database: String { startup?["database"].flatMap { $0.isEmpty ? nil : $0 } ?? role }

    /// The client's unread bytes.
    package mutating func received(_ bytes: RawSpan) -> OnBytes {
        switch state {
        case .awaitingStartup:
            receivedStartup(bytes)
        case .awaitingInitialResponse, .awaitingResponse:
            receivedResponse(bytes)
        case .lookingUp, .ended:
            // Nothing is due from the client; what it sends too early waits.
            .needMore
        }
    }

    private mutating func receivedResponse(_ bytes: RawSpan) -> OnBytes {
        guard let header = MessageHeader(bytes, at: 0) else { return .needMore }
        if let problem = Self.problem(with: header) {
            return refuse(problem)
        }
        guard header.totalSize <= bytes.byteCount else { return .needMore }
        let body = bytes.extracting(MessageHeader.size..<header.totalSize)
        guard state == .awaitingInitialResponse else {
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

    private mutating func refuse(_ problem: ErrorMessage) -> OnBytes {
        state = .ended
        return .refuse(problem)
    }

    /// The role's verifier was read; `nil` for a role that has none.
    ///
    /// A role without one gets a mock exchange of the same length and work, so that nobody learns which roles exist.
    ///
    /// - Parameters:
    ///   - text: `pg_authid.rolpassword`.
    ///   - secret: of this process; makes the mock's salt the same on every try.
    ///   - random: `SCRAMNonce.randomByteCount` fresh random bytes.
    /// - Returns: AuthenticationSASL, to send.
    package mutating func verifierFound(_ text: String?, secret: [UInt8], random: [UInt8]) -> [UInt8] {
        let known = text.flatMap { SCRAMVerifier($0) }
        let verifier = known ?? .mock(role: role, secret: secret)
        self.verifier = verifier
        scram = SCRAMServer(
            verifier: verifier,
            isMock: known == nil,
            serverNonce: SCRAMNonce.make(from: random),
            channel: transport.channelBinding
        )
        state = .awaitingInitialResponse
        var writer = MessageWriter()
        writer.authenticationSASL((transport.channelBinding == nil ? [] : [Self.bindingMechanism]) + [Self.mechanism])
        return writer.bytes
    }

    // MARK: - Parts

    private mutating func receivedStartup(_ bytes: RawSpan) -> OnBytes {
        if encryption != .none, answered.isEmpty, bytes.byteCount > 0, bytes.byte(at: 0) == Self.handshakeRecord {
            answered = [StartupPacket.sslRequestCode, StartupPacket.gssEncryptionRequestCode]
            return .encrypt(reply: [], consumed: 0, isDirect: true)
        }
        guard let length = StartupPacket.announcedLength(bytes) else { return .needMore }
        guard (8...StartupPacket.maximumLength).contains(length) else {
            state = .ended
            return .refuse(ErrorMessage(.fatal, .protocolViolation, "invalid length of startup packet"))
        }
        guard length <= bytes.byteCount else { return .needMore }
        let action = started(StartupPacket(bytes.extracting(0..<length)), length, isLast: bytes.byteCount == length)
        if case .refuse = action {
            state = .ended
        }
        return action
    }

    private mutating func started(_ packet: StartupPacket, _ length: Int, isLast: Bool) -> OnBytes {
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
        case .malformed(let message):
            return .refuse(ErrorMessage(.fatal, .protocolViolation, message))
        case .startup(let message):
            return started(message, length)
        }
    }

    private mutating func started(_ message: StartupMessage, _ length: Int) -> OnBytes {
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
        state = .lookingUp
        return .lookUpVerifier(role: user, consumed: length)
    }

    /// NegotiateProtocolVersion, when the client asked for more than version 3.0.
    package var negotiation: [UInt8] {
        guard let startup, startup.minorVersion > 0 || !startup.extensions.isEmpty else { return [] }
        var writer = MessageWriter()
        writer.negotiateProtocolVersion(unrecognised: startup.extensions)
        return writer.bytes
    }

    private static func problem(with header: MessageHeader) -> ErrorMessage? {
        guard header.type == FrontendMessage.password.rawValue else {
            return ErrorMessage(
                .fatal,
                .protocolViolation,
                "expected SASL response, got message type \(header.type)"
            )
        }
        guard header.length >= 4, header.length <= 65_535 - 1 else {
            return ErrorMessage(.fatal, .protocolViolation, "invalid message length")
        }
        return nil
    }

    private mutating func finish(_ action: SCRAMServer.OnMessage?, consumed: Int) -> OnBytes {
        guard let action, let verifier else { preconditionFailure("a response is awaited before there is a verifier") }
        var writer = MessageWriter()
        switch action {
        case .reply(let data):
            state = .awaitingResponse
            writer.authenticationSASLContinue(data)
            return .reply(writer.bytes, consumed: consumed)
        case .accepted(let serverFinal, let key):
            state = .ended
            writer.authenticationSASLFinal(serverFinal)
            return .authenticated(key, verifier, reply: writer.bytes, consumed: consumed)
        case .refused:
            return refuse(
                ErrorMessage(.fatal, .invalidPassword, "password authentication failed for user \"\(role)\"")
            )
        case .malformed(let detail):
            return refuse(ErrorMessage(.fatal, .protocolViolation, "malformed SCRAM message", detail: detail))
        case .refusedChannel(let text, let detail):
            return refuse(ErrorMessage(.fatal, .invalidAuthorization, text, detail: detail))
        }
    }
}
