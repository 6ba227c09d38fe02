package import PostgresAuth
package import PostgresWire

/// Logging in to a node as the user of a client session, with the key that the client has proven to hold.
package struct ServerLogin: ~Copyable {
    package enum OnMessage {
        case wait
        case reply([UInt8])
        /// The connection is ready for its first unit.
        case ready
        /// The node refused, in its own words.
        case refused(ServerErrorFields, response: [UInt8])
        /// The login cannot go on.
        case failed(String)
    }

    private var scram: SCRAMClient
    /// The TLS of the connection, to be set before the first message: `tls-server-end-point` (RFC 5929), if it has one.
    package var transport: ServerTransport = .plain
    package private(set) var reported = ReportedParameters.none
    package private(set) var cancelKey = CancelKey(processID: 0, secret: 0)

    package init(credential: SCRAMClient.Credential, random: [UInt8]) {
        scram = SCRAMClient(credential: credential, clientNonce: SCRAMNonce.make(from: random))
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
        case 10:
            let offered = Self.mechanisms(body)
            if case .encrypted(let endPoint?) = transport, offered.contains("SCRAM-SHA-256-PLUS") {
                let message = scram.firstMessage(over: .bound(endPoint))
                writer.saslInitialResponse(mechanism: "SCRAM-SHA-256-PLUS", message)
                return .reply(writer.bytes)
            }
            guard offered.contains("SCRAM-SHA-256") else {
                return .failed("it offers no authentication by SCRAM-SHA-256")
            }
            let message = scram.firstMessage(over: channelWithoutBinding)
            writer.saslInitialResponse(mechanism: "SCRAM-SHA-256", message)
            return .reply(writer.bytes)
        case 11:
            switch scram.serverFirst(body.array(4..<body.byteCount)) {
            case .reply(let data):
                writer.saslResponse(data)
                return .reply(writer.bytes)
            case .otherVerifier:
                return .failed("the role's password there is another one; it was changed, or is not replicated yet")
            case .malformed(let detail):
                return .failed("a malformed SCRAM message: \(detail)")
            }
        case 12:
            switch scram.serverFinal(body.array(4..<body.byteCount)) {
            case .verified, .unverified: return .wait
            case .refused: return .failed("it does not know the role's key; this is not a node of ours")
            case .malformed(let detail): return .failed("a malformed SCRAM message: \(detail)")
            }
        case let method:
            return .failed("it asks for authentication method \(method); only scram-sha-256 and trust can be passed on")
        }
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
