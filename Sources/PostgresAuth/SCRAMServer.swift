/// The server's side of one SCRAM-SHA-256 exchange (RFC 5802, RFC 7677, PostgreSQL's manual on SASL authentication): we
/// talk to a client.
///
/// ```
/// client                          server
///    | client-first: name, nonce    |     SASLInitialResponse
///    |----------------------------->|     clientFirst(_:)
///    | server-first: nonce, salt, i |     AuthenticationSASLContinue
///    |<-----------------------------|
///    | client-final: nonce, proof   |     SASLResponse
///    |----------------------------->|     clientFinal(_:)
///    | server-final: signature      |     AuthenticationSASLFinal
///    |<-----------------------------|
/// ```
///
/// A proof that is right yields the ClientKey, which opens every other server that holds the same verifier. With a
/// channel to bind to (TLS), `SCRAM-SHA-256-PLUS` is offered, too. The user name inside the client's message is
/// ignored; the one of the StartupMessage counts, as in PostgreSQL.
package struct SCRAMServer: ~Copyable {
    /// What to do after a message of the client.
    package enum OnMessage: Sendable, Equatable {
        /// Send the server-first message in an AuthenticationSASLContinue.
        case reply([UInt8])
        /// The proof is right: send the server-final message in an AuthenticationSASLFinal, then AuthenticationOk.
        case accepted(serverFinal: [UInt8], ClientKey)
        /// The proof is wrong, or there is no such role: SQLSTATE 28P01.
        case refused
        /// The client breaks the protocol, and this is how: SQLSTATE 08P01.
        case malformed(String)
        /// Somebody may stand between the client and us: SQLSTATE 28000.
        case refusedChannel(String, detail: String? = nil)
    }

    private enum State {
        case awaitingFirst
        case awaitingFinal(Challenge)
        case ended
    }

    /// What the client's last message is checked against.
    private struct Challenge {
        /// What the client's last message must repeat: how it opened and, where that binds the channel, the channel.
        var binding: [UInt8]
        /// The client's and then ours.
        var nonce: [UInt8]
        /// The head of AuthMessage: client-first-message-bare and server-first-message, a comma after each.
        var transcript: [UInt8]
    }

    private let verifier: SCRAMVerifier
    private let isMock: Bool
    private let serverNonce: [UInt8]
    private let channel: [UInt8]?
    private var state: State = .awaitingFirst

    /// - Parameters:
    ///   - verifier: of the role the StartupMessage names.
    ///   - isMock: `verifier` is a mock: the exchange ends in `refused` whatever the client proves, after the same
    ///     work.
    ///   - serverNonce: fresh and random, see `SCRAMNonce`.
    ///   - channel: `tls-server-end-point` of the connection (RFC 5929), when it may be bound to: then the client was
    ///     offered SCRAM-SHA-256-PLUS.
    package init(verifier: SCRAMVerifier, isMock: Bool, serverNonce: [UInt8], channel: [UInt8]? = nil) {
        assert(!serverNonce.isEmpty && SCRAMNonce.isValid(serverNonce), "a nonce is printable")
        self.verifier = verifier
        self.isMock = isMock
        self.serverNonce = serverNonce
        self.channel = channel
    }

    /// The data of SASLInitialResponse.
    ///
    /// - Parameter bindsChannel: the client has chosen SCRAM-SHA-256-PLUS.
    package mutating func clientFirst(_ message: [UInt8], bindsChannel: Bool = false) -> OnMessage {
        switch state {
        case .awaitingFirst:
            do throws(MalformedSCRAMMessage) {
                let (challenge, reply) = try challenge(answering: message, bindsChannel: bindsChannel)
                state = .awaitingFinal(challenge)
                return .reply(reply)
            } catch {
                state = .ended
                return error.refusal
            }
        case .awaitingFinal, .ended:
            return outOfOrder()
        }
    }

    /// The data of SASLResponse.
    package mutating func clientFinal(_ message: [UInt8]) -> OnMessage {
        switch state {
        case .awaitingFinal(let challenge):
            state = .ended
            do throws(MalformedSCRAMMessage) {
                return try verdict(on: message, after: challenge)
            } catch {
                return error.refusal
            }
        case .awaitingFirst, .ended:
            return outOfOrder()
        }
    }

    private mutating func outOfOrder() -> OnMessage {
        state = .ended
        return .malformed("invalid SCRAM exchange state")
    }

    // MARK: - client-first-message

    private func challenge(
        answering message: [UInt8],
        bindsChannel: Bool
    ) throws(MalformedSCRAMMessage) -> (Challenge, reply: [UInt8]) {
        try checkText(message)
        var attributes = SCRAMAttributes(message)
        let binding = try readBinding(&attributes, bindsChannel: bindsChannel)
        if attributes.next == UInt8(ascii: "a") {
            throw MalformedSCRAMMessage("client uses authorization identity, but it is not supported")
        }
        try attributes.skip(
            UInt8(ascii: ","),
            orFail: "unexpected attribute \"\(printable(attributes.next))\" in client-first-message"
        )
        let bare = Array(message[attributes.position...])
        if attributes.next == UInt8(ascii: "m") {
            throw MalformedSCRAMMessage("client requires an unsupported SCRAM extension")
        }
        _ = try attributes.value(of: UInt8(ascii: "n"))
        let clientNonce = try attributes.value(of: UInt8(ascii: "r"))
        guard SCRAMNonce.isValid(clientNonce) else {
            throw MalformedSCRAMMessage("non-printable characters in SCRAM nonce")
        }
        while !attributes.isAtEnd {
            _ = try attributes.attribute()  // optional extensions, none of which we know
        }

        let comma = UInt8(ascii: ",")
        let nonce = clientNonce + serverNonce
        var reply = Array("r=".utf8) + nonce
        reply += Array(",s=".utf8) + Base64.encode(verifier.salt)
        reply += Array(",i=\(verifier.iterations)".utf8)
        let transcript = bare + [comma] + reply + [comma]
        return (Challenge(binding: binding, nonce: nonce, transcript: transcript), reply)
    }

    /// The GS2 header's beginning, and what the client's last message must say of it.
    private func readBinding(
        _ attributes: inout SCRAMAttributes,
        bindsChannel: Bool
    ) throws(MalformedSCRAMMessage) -> [UInt8] {
        let comma = UInt8(ascii: ",")
        switch attributes.next {
        case SCRAMChannel.unknown, SCRAMChannel.unoffered:
            guard !bindsChannel else {
                throw MalformedSCRAMMessage(
                    detail: "the client selected SCRAM-SHA-256-PLUS, "
                        + "but the SCRAM message does not include channel binding data"
                )
            }
            let flag = attributes.next ?? 0
            if flag == SCRAMChannel.unoffered, channel != nil {
                throw MalformedSCRAMMessage(
                    channel: "SCRAM channel binding negotiation error",
                    detail: "The client supports SCRAM channel binding but thinks the server does not.  "
                        + "However, this server does support channel binding."
                )
            }
            try attributes.skip(flag, orFail: "unexpected channel-binding flag")
            try skipComma(&attributes)
            return [flag, comma, comma]
        case SCRAMChannel.bound:
            guard bindsChannel, let channel else {
                throw MalformedSCRAMMessage(
                    detail: "the client selected SCRAM-SHA-256 without channel binding, "
                        + "but the SCRAM message includes channel binding data"
                )
            }
            let type = try attributes.attribute().value
            guard type == SCRAMChannel.type else {
                throw MalformedSCRAMMessage(
                    "unsupported SCRAM channel-binding type \"\(type.map { printable($0) }.joined())\""
                )
            }
            return SCRAMChannel.header + channel
        case let flag:
            throw MalformedSCRAMMessage(detail: "unexpected channel-binding flag \"\(printable(flag))\"")
        }
    }

    private func skipComma(_ attributes: inout SCRAMAttributes) throws(MalformedSCRAMMessage) {
        try attributes.skip(
            UInt8(ascii: ","),
            orFail: "comma expected, but found character \"\(printable(attributes.next))\""
        )
    }

    // MARK: - client-final-message

    private func verdict(on message: [UInt8], after challenge: Challenge) throws(MalformedSCRAMMessage) -> OnMessage {
        try checkText(message)
        var attributes = SCRAMAttributes(message)
        // The client's GS2 header in Base64, "biws" or "eSws" without a channel; if it is another, someone in the middle
        // changed the first.
        guard try attributes.value(of: UInt8(ascii: "c")) == Base64.encode(challenge.binding) else {
            if challenge.binding.first == SCRAMChannel.bound {
                throw MalformedSCRAMMessage(channel: "SCRAM channel binding check failed")
            }
            throw MalformedSCRAMMessage("unexpected SCRAM channel-binding attribute in client-final-message")
        }
        let nonce = try attributes.value(of: UInt8(ascii: "r"))
        let (proof, proofStart) = try readProof(&attributes)
        guard nonce == challenge.nonce else {
            throw MalformedSCRAMMessage("invalid SCRAM response: nonce does not match")
        }

        // Everything is computed before anything is decided: a mock, a wrong proof and a right one cost the same.
        let withoutProof = message[..<(proofStart - 1)]  // nor the comma before it
        let authMessage = challenge.transcript + withoutProof
        let signature = SHA256Arithmetic.hmac(authMessage, key: verifier.storedKey)
        let serverSignature = SHA256Arithmetic.hmac(authMessage, key: verifier.serverKey)
        let key = ClientKey(proof: proof, signature: signature)
        let isRight = key.opens(verifier)
        guard isRight, !isMock else { return .refused }
        return .accepted(serverFinal: Array("v=".utf8) + Base64.encode(serverSignature), key)
    }

    /// The proof, which ends the message, and where its attribute starts.
    private func readProof(
        _ attributes: inout SCRAMAttributes
    ) throws(MalformedSCRAMMessage) -> (proof: [UInt8], start: Int) {
        while true {
            let start = attributes.position
            let (name, value) = try attributes.attribute()
            guard name == UInt8(ascii: "p") else { continue }  // an optional extension
            guard let proof = Base64.decode(value), proof.count == SHA256Arithmetic.keyLength else {
                throw MalformedSCRAMMessage(detail: "malformed proof in client-final-message")
            }
            guard attributes.isAtEnd else {
                throw MalformedSCRAMMessage(detail: "garbage found at the end of client-final-message")
            }
            return (proof, start)
        }
    }

    private func checkText(_ message: [UInt8]) throws(MalformedSCRAMMessage) {
        guard !message.isEmpty else { throw MalformedSCRAMMessage(detail: "the message is empty") }
        // PostgreSQL reads the message as a C string, and puts it like this.
        guard !message.contains(0) else {
            throw MalformedSCRAMMessage(detail: "message length does not match input length")
        }
    }
}
