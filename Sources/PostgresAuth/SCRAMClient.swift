/// The client's side of one SCRAM-SHA-256 exchange (RFC 5802, RFC 7677; the picture is at `SCRAMServer`): we talk to a
/// node, and prove who we are with the key a client of ours has shown.
package struct SCRAMClient: ~Copyable {
    /// By what the client proves who it is.
    package enum Credential: Sendable, Redacted {
        /// A key a client has shown, and the verifier it was checked against. The verifier's ServerKey is what the
        /// server is checked by; without a verifier the server proves nothing.
        case key(ClientKey, SCRAMVerifier?)
        /// A password. Its key takes as many iterations as the server asks for, so this is only for a server that is
        /// trusted not to ask for billions.
        case password(String)
    }

    /// What to do after the server's challenge.
    package enum OnServerFirst: Sendable, Equatable {
        /// Send the client-final message in a SASLResponse.
        case reply([UInt8])
        /// The salt or the iterations are not those of our verifier: the role has another password on this node. It was
        /// changed, and either the node has not replayed that yet or we have not read it yet. The key would be refused.
        case otherVerifier
        /// The server breaks the protocol, and this is how.
        case malformed(String)
    }

    /// What the server's last message proves.
    package enum OnServerFinal: Sendable, Equatable {
        /// The server knows the role's ServerKey.
        case verified
        /// There is nothing to check the signature by: the credential is a key without a verifier.
        case unverified
        /// The signature is wrong: this is not a server of ours, and the connection must be closed.
        case refused
        /// The server breaks the protocol, and this is how.
        case malformed(String)
    }

    /// The connection a login may be bound to.
    package enum Channel: Sendable, Equatable {
        /// It is not encrypted.
        case none
        /// It is encrypted, and the server has offered no SCRAM-SHA-256-PLUS. If it can do that, somebody in the middle has
        /// taken the offer away, and the server will refuse.
        case unoffered
        /// `tls-server-end-point` of the connection (RFC 5929): the mechanism is SCRAM-SHA-256-PLUS.
        case bound([UInt8])
    }

    private enum State {
        case awaitingFirst
        case awaitingFinal(authMessage: [UInt8], serverKey: [UInt8]?)
        case ended
    }

    private let credential: Credential
    private let clientNonce: [UInt8]
    private let bare: [UInt8]
    /// The GS2 header, and behind it the channel.
    private var header: [UInt8] = [SCRAMChannel.unknown] + Array(",,".utf8)
    private var channel: [UInt8] = []
    private var state: State = .awaitingFirst

    /// - Parameters:
    ///   - clientNonce: fresh and random, see `SCRAMNonce`.
    ///   - user: PostgreSQL ignores it, and like libpq we leave it empty.
    package init(credential: Credential, clientNonce: [UInt8], user: String = "") {
        assert(!clientNonce.isEmpty && SCRAMNonce.isValid(clientNonce), "a nonce is printable")
        self.credential = credential
        self.clientNonce = clientNonce
        // In a saslname "=" is written "=3D" and "," is written "=2C" (RFC 5802 section 5.1).
        let name = user.utf8.flatMap { byte in
            switch byte {
            case UInt8(ascii: "="): Array("=3D".utf8)
            case UInt8(ascii: ","): Array("=2C".utf8)
            default: [byte]
            }
        }
        bare = Array("n=".utf8) + name + Array(",r=".utf8) + clientNonce
    }

    /// The data of SASLInitialResponse.
    package mutating func firstMessage(over channel: Channel = .none) -> [UInt8] {
        switch channel {
        case .none:
            break
        case .unoffered:
            header[0] = SCRAMChannel.unoffered
        case .bound(let endPoint):
            header = SCRAMChannel.header
            self.channel = endPoint
        }
        return header + bare
    }

    /// The data of AuthenticationSASLContinue.
    package mutating func serverFirst(_ message: [UInt8]) -> OnServerFirst {
        switch state {
        case .awaitingFirst:
            state = .ended
            do throws(MalformedSCRAMMessage) {
                return try answer(to: message)
            } catch {
                return .malformed(error.text)
            }
        case .awaitingFinal, .ended:
            state = .ended
            return .malformed("invalid SCRAM exchange state")
        }
    }

    /// The data of AuthenticationSASLFinal.
    package mutating func serverFinal(_ message: [UInt8]) -> OnServerFinal {
        switch state {
        case .awaitingFinal(let authMessage, let serverKey):
            state = .ended
            do throws(MalformedSCRAMMessage) {
                let signature = try readSignature(message)
                guard let serverKey else { return .unverified }
                return SHA256Arithmetic.isHMAC(signature, of: authMessage, key: serverKey) ? .verified : .refused
            } catch {
                return .malformed(error.text)
            }
        case .awaitingFirst, .ended:
            state = .ended
            return .malformed("invalid SCRAM exchange state")
        }
    }

    // MARK: - server-first-message

    private mutating func answer(to message: [UInt8]) throws(MalformedSCRAMMessage) -> OnServerFirst {
        let (nonce, salt, iterations) = try readChallenge(message)
        let key: ClientKey
        let storedKey: [UInt8]
        let serverKey: [UInt8]?
        switch credential {
        case .key(let clientKey, let verifier):
            if let verifier, verifier.salt != salt || verifier.iterations != iterations {
                return .otherVerifier
            }
            key = clientKey
            storedKey = SHA256Arithmetic.hash(clientKey.bytes)
            serverKey = verifier?.serverKey
        case .password(let password):
            let salted = SHA256Arithmetic.saltedPassword(
                SASLprep.prepared(password),
                salt: salt,
                iterations: iterations
            )
            key = ClientKey(saltedPassword: salted)
            storedKey = SHA256Arithmetic.hash(key.bytes)
            serverKey = SCRAMVerifier.serverKey(saltedPassword: salted)
        }

        let comma = UInt8(ascii: ",")
        let withoutProof = Array("c=".utf8) + Base64.encode(header + channel) + Array(",r=".utf8) + nonce
        let authMessage = bare + [comma] + message + [comma] + withoutProof
        let signature = SHA256Arithmetic.hmac(authMessage, key: storedKey)
        let proof = SHA256Arithmetic.exclusiveOr(key.bytes, signature)
        state = .awaitingFinal(authMessage: authMessage, serverKey: serverKey)
        return .reply(withoutProof + Array(",p=".utf8) + Base64.encode(proof))
    }

    private func readChallenge(
        _ message: [UInt8]
    ) throws(MalformedSCRAMMessage) -> (nonce: [UInt8], salt: [UInt8], iterations: Int) {
        var attributes = SCRAMAttributes(message)
        if attributes.next == UInt8(ascii: "m") {
            throw MalformedSCRAMMessage("server requires an unsupported SCRAM extension")
        }
        let nonce = try attributes.value(of: UInt8(ascii: "r"))
        guard nonce.count > clientNonce.count, nonce.starts(with: clientNonce), SCRAMNonce.isValid(nonce) else {
            throw MalformedSCRAMMessage("invalid SCRAM response: nonce does not match")
        }
        guard let salt = Base64.decode(try attributes.value(of: UInt8(ascii: "s"))), !salt.isEmpty else {
            throw MalformedSCRAMMessage(detail: "invalid salt")
        }
        guard let iterations = Int(positiveDecimal: try attributes.value(of: UInt8(ascii: "i"))) else {
            throw MalformedSCRAMMessage(detail: "invalid iteration count")
        }
        while !attributes.isAtEnd {
            _ = try attributes.attribute()  // optional extensions, none of which we know
        }
        return (nonce, salt, iterations)
    }

    // MARK: - server-final-message

    private func readSignature(_ message: [UInt8]) throws(MalformedSCRAMMessage) -> [UInt8] {
        var attributes = SCRAMAttributes(message)
        // What the RFC has for a failure; PostgreSQL sends an ErrorResponse instead.
        if attributes.next == UInt8(ascii: "e") {
            let reason = try attributes.value(of: UInt8(ascii: "e"))
            throw MalformedSCRAMMessage(
                "error received from server in SCRAM exchange: \(String(decoding: reason, as: UTF8.self))"
            )
        }
        let signature = Base64.decode(try attributes.value(of: UInt8(ascii: "v")))
        guard let signature, signature.count == SHA256Arithmetic.keyLength else {
            throw MalformedSCRAMMessage(detail: "invalid server signature")
        }
        return signature
    }
}
