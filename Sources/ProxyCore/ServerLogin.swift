package import PostgresAuth
package import PostgresWire

/// Logging in to a node as the user of a client session, by whatever the node asks for and the client has shown.
package struct ServerLogin: ~Copyable {
    package enum OnMessage {
        case wait
        case reply([UInt8])
        /// The connection is ready for its first unit.
        case ready
        /// The node refused, in its own words; or it asks for what nobody has shown, and these are ours.
        case refused(ServerErrorFields, response: [UInt8])
        /// The login cannot go on.
        case failed(String)
    }

    private let credential: LoginCredential
    private let role: String
    private let clientNonce: [UInt8]
    /// Runs once the node has asked for it.
    private var scram: SCRAMClient?
    /// The TLS of the connection, to be set before the first message: `tls-server-end-point` (RFC 5929), if it has one.
    package var transport: ServerTransport = .plain
    package private(set) var reported = ReportedParameters.none
    package private(set) var cancelKey = CancelKey(processID: 0, secret: 0)

    /// - Parameter random: `SCRAMNonce.randomByteCount` fresh random bytes.
    package init(credential: LoginCredential, role: String, random: [UInt8]) {
        self.credential = credential
        self.role = role
        clientNonce = SCRAMNonce.make(from: random)
    }

    /// One whole message of the node.
    package mutating func received(_ type: BackendMessage, message: RawSpan) -> OnMessage {
        let body = message.extracting(MessageHeader.size..<message.byteCount)
        switch type {
        case .authentication:
            return body.byteCount >= 4 ? authentication(body) : .failed("a malformed authentication request")
        case .parameterStatus:
            reported = reported.reporting(message)
            return .wait
        case .backendKeyData:
            guard body.byteCount >= 8 else { return .failed("malformed BackendKeyData") }
            cancelKey = CancelKey(processID: body.int32(at: 0), secret: body.int32(at: 4))
            return .wait
        case .readyForQuery:
            return .ready
        case .errorResponse:
            return .refused(ServerErrorFields(body: body), response: message.array(0..<message.byteCount))
        case .noticeResponse, .negotiateProtocolVersion:
            return .wait
        case .bindComplete, .closeComplete, .commandComplete, .copyBothResponse, .copyData, .copyDone, .copyInResponse,
            .copyOutResponse, .dataRow, .emptyQueryResponse, .functionCallResponse, .noData, .notificationResponse,
            .parameterDescription, .parseComplete, .portalSuspended, .rowDescription:
            return .failed("an unexpected message (\(type)) during login")
        }
    }

    private mutating func authentication(_ body: RawSpan) -> OnMessage {
        var writer = MessageWriter()
        switch body.int32(at: 0) {
        case 0:
            return .wait
        case 3:
            guard let password = credential.password else { return lacking("the password itself") }
            writer.passwordMessage(password.utf8)
            return .reply(writer.bytes)
        case 5:
            guard body.byteCount == 4 + MD5Password.saltLength else {
                return .failed("a malformed authentication request")
            }
            guard let hash = credential.md5(role: role) else {
                // The client has shown a key: when it logged in, the password was stored in the other way.
                return credential.key == nil ? lacking("a password") : .failed(Self.otherPassword)
            }
            writer.passwordMessage(hash.answer(salt: body.array(4..<body.byteCount)))
            return .reply(writer.bytes)
        case 10:
            let offered = Self.mechanisms(body)
            guard offered.contains("SCRAM-SHA-256") else {
                return .failed("it offers no authentication by SCRAM-SHA-256")
            }
            guard let credential = credential.scram else {
                return credential.md5 == nil ? lacking("a password") : .failed(Self.isStoredAsMD5)
            }
            var client = SCRAMClient(credential: credential, clientNonce: clientNonce)
            if case .encrypted(let endPoint?) = transport, offered.contains("SCRAM-SHA-256-PLUS") {
                let message = client.firstMessage(over: .bound(endPoint))
                writer.saslInitialResponse(mechanism: "SCRAM-SHA-256-PLUS", message)
            } else {
                writer.saslInitialResponse(
                    mechanism: "SCRAM-SHA-256",
                    client.firstMessage(over: channelWithoutBinding)
                )
            }
            scram = consume client
            return .reply(writer.bytes)
        case 11:
            switch scram?.serverFirst(body.array(4..<body.byteCount)) {
            case .reply(let data):
                writer.saslResponse(data)
                return .reply(writer.bytes)
            case .otherVerifier:
                return .failed(Self.otherPassword)
            case .malformed(let detail):
                return .failed("a malformed SCRAM message: \(detail)")
            case nil:
                return .failed("a SCRAM message that is out of order")
            }
        case 12:
            switch scram?.serverFinal(body.array(4..<body.byteCount)) {
            case .verified, .unverified: return .wait
            case .refused: return .failed("it does not know the role's key; this is not a node of ours")
            case .malformed(let detail): return .failed("a malformed SCRAM message: \(detail)")
            case nil: return .failed("a SCRAM message that is out of order")
            }
        case let method:
            return .failed(
                "it asks for authentication method \(method); only scram-sha-256, md5, password and trust can be passed on"
            )
        }
    }

    private static let isStoredAsMD5 =
        "it asks for SCRAM-SHA-256, and the role's password is stored as MD5; its pg_hba.conf has to say md5"
    private static let otherPassword =
        "the role's password there is another one; it was changed, or is not replicated yet"

    /// The client was let in without a secret that would let us in to the node. That is for whoever configured it.
    private func lacking(_ what: String) -> OnMessage {
        let message = ErrorMessage(
            .fatal,
            .invalidAuthorization,
            "there is no password to log in to a node with as user \"\(role)\"",
            detail: "The endpoint let the client in without asking for one, and the node asks for \(what).",
            hint: "Configure it under \"users\", or have the endpoint ask the client for its password."
        ).bytes
        let fields = message.span.bytes.extracting(MessageHeader.size..<message.count)
        return .refused(ServerErrorFields(body: fields), response: message)
    }

    private var channelWithoutBinding: SCRAMClient.Channel {
        switch transport {
        case .encrypted(.some): .unoffered
        // A certificate that cannot be bound to: like a client that knows no channel binding.
        case .encrypted(nil), .plain: .none
        }
    }

    private static func mechanisms(_ body: RawSpan) -> [String] {
        var names: [String] = []
        var offset = 4
        while let end = body.terminator(from: offset, before: body.byteCount), end > offset {
            names.append(body.string(offset..<end))
            offset = end + 1
        }
        return names
    }

    /// The endpoint is the logical primary: `in_hot_standby` is off, whichever node answered.
}
