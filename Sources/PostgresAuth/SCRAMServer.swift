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
/// A proof that is right yields the ClientKey, which opens every other server that holds the same verifier. There is no
/// channel binding: the mechanism to offer is `SCRAM-SHA-256` alone. The user name inside the client's message is
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
    }

    private enum State {
        case awaitingFirst
        case awaitingFinal(Challenge)
        case ended
    }

    /// What the client's last message is checked against.
    private struct Challenge {
        /// How the client opened: `n` when it knows no channel binding, `y` when it believes that we know none.
        var bindingFlag: UInt8
        /// The client's and then ours.
        var nonce: [UInt8]
        /// The head of AuthMessage: client-first-message-bare and server-first-message, a comma after each.
        var transcript: [UInt8]
    }

    private let verifier: SCRAMVerifier
    private let isMock: Bool
    private let serverNonce: [UInt8]
    private var state: State = .awaitingFirst

    /// - Parameters:
    ///   - verifier: of the role the StartupMessage names.
    ///   - isMock: `verifier` is a mock: the exchange ends in `refused` whatever the client proves, after the same
    ///     work.
    ///   - serverNonce: fresh and random, see `SCRAMNonce`.
    package init(verifier: SCRAMVerifier, isMock: Bool, serverNonce: [UInt8]) {
        assert(!serverNonce.isEmpty && SCRAMNonce.isValid(serverNonce), "a nonce is printable")
        self.verifier = verifier
        self.isMock = isMock
        self.serverNonce = serverNonce
    }

    /// The data of SASLInitialResponse.
    package mutating func clientFirst(_ message: [UInt8]) -> OnMessage {
        switch state {
        case .awaitingFirst:
            do throws(MalformedSCRAMMessage) {
                let (challenge, reply) = try challenge(answering: message)
                state = .awaitingFinal(challenge)
                return .reply(reply)
            } catch {
                state = .ended
                return .malformed(error.text)
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
                return .malformed(error.text)
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

    private func challenge(answering message: [UInt8]) throws(MalformedSCRAMMessage) -> (Challenge, reply: [UInt8]) {
        try checkText(message)
        var attributes = SCRAMAttributes(message)
        let bindingFlag = try readBindingFlag(&attributes)
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
        return (Challenge(bindingFlag: bindingFlag, nonce: nonce, transcript: transcript), reply)
    }

    private func readBindingFlag(_ attributes: inout SCRAMAttributes) throws(MalformedSCRAMMessage) -> UInt8 {
        guard let flag = attributes.next, [UInt8(ascii: "n"), UInt8(ascii: "y")].contains(flag) else {
            if attributes.next == UInt8(ascii: "p") {
                throw MalformedSCRAMMessage(
                    detail: "the client selected SCRAM-SHA-256 without channel binding, "
                        + "but the SCRAM message includes channel binding data"
                )
            }
            throw MalformedSCRAMMessage(detail: "unexpected channel-binding flag \"\(printable(attributes.next))\"")
        }
        try attributes.skip(flag, orFail: "unexpected channel-binding flag")
        try attributes.skip(
            UInt8(ascii: ","),
            orFail: "comma expected, but found character \"\(printable(attributes.next))\""
        )
        return flag
    }

    // MARK: - client-final-message

    private func verdict(on message: [UInt8], after challenge: Challenge) throws(MalformedSCRAMMessage) -> OnMessage {
        try checkText(message)
        var attributes = SCRAMAttributes(message)
        // The client's GS2 header in Base64, "biws" or "eSws"; if it is another, someone in the middle changed the
        // first.
        let binding = Base64.encode([challenge.bindingFlag] + Array(",,".utf8))
        guard try attributes.value(of: UInt8(ascii: "c")) == binding else {
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
