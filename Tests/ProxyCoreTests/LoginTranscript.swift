import HostBasedAuthentication
import PostgresAuth
import PostgresWire
import ProxyCore
import TestSupport

/// What `ClientLogin` says, as far as a transcript compares it.
enum LoginAnswer: Equatable {
    case needMore
    case reply([UInt8], consumed: Int)
    case encrypt([UInt8], consumed: Int, isDirect: Bool)
    case cancel(CancelKey)
    case lookUpVerifier(role: String, consumed: Int)
    case refuse(SQLState)
    case hangUp
    case authenticated
}

/// What `ClientLogin` says to a password that was looked up.
enum VerifierAnswer: Equatable {
    case ask([UInt8])
    case authenticated
    case refuse(SQLState)
}

/// How a whole login ended.
enum LoginOutcome: Equatable {
    case authenticated(ClientKey, SCRAMClient.OnServerFinal)
    case refused(SQLState)
    case other(String)
}

/// A client that talks to a `ClientLogin`.
struct LoginTranscript: ~Copyable {
    static let sslRequest: [UInt8] = [0, 0, 0, 8, 4, 210, 22, 47]
    static let gssRequest: [UInt8] = [0, 0, 0, 8, 4, 210, 22, 48]
    private static let headSize = 9

    var machine: ClientLogin
    var random = SeededGenerator(seed: 1)
    private(set) var challenges: [[UInt8]] = []
    private let byteByByte: Bool

    init(byteByByte: Bool = false, policy: LoginPolicy = LoginPolicy(), address: String? = nil) {
        self.byteByByte = byteByByte
        machine = ClientLogin(policy: policy, address: address.flatMap { NetworkAddress($0) })
    }

    /// A login under one rule for everybody.
    init(method: HostBasedRule.Method, passwords: [String: String] = [:]) {
        self.init(
            policy: LoginPolicy(
                rules: HostBasedRules([HostBasedRule(line: 1, transport: .local, method: method)]),
                passwords: LoginPolicy.Passwords(passwords)
            )
        )
    }

    /// What is asked of a client whose password is stored so, and the credential when nothing is.
    mutating func found(_ text: String?, isMD5ByDefault: Bool = false) -> (VerifierAnswer, LoginCredential?) {
        let password = RolePassword(text: text, isMD5ByDefault: isMD5ByDefault)
        return switch machine.verifierFound(password, secret: [1, 2, 3], random: random.bytes(18)) {
        case .ask(let bytes): (.ask(bytes), nil)
        case .authenticated(let credential): (.authenticated, credential)
        case .refuse(let message): (.refuse(message.state), nil)
        }
    }

    /// A PasswordMessage, and the credential when it is right.
    mutating func answer(_ text: [UInt8]) -> (LoginAnswer, LoginCredential?) {
        var writer = MessageWriter()
        writer.passwordMessage(text)
        return switch deliver(writer.bytes) {
        case .authenticated(let credential, _, _): (.authenticated, credential)
        case .refuse(let message): (.refuse(message.state), nil)
        case .hangUp: (.hangUp, nil)
        case .needMore: (.needMore, nil)
        case .reply(let reply, let consumed): (.reply(reply, consumed: consumed), nil)
        case .lookUpVerifier(let role, let consumed): (.lookUpVerifier(role: role, consumed: consumed), nil)
        case .cancel(let key): (.cancel(key), nil)
        case .encrypt(let reply, let consumed, let isDirect):
            (.encrypt(reply, consumed: consumed, isDirect: isDirect), nil)
        }
    }

    mutating func send(_ bytes: [UInt8]) -> LoginAnswer {
        switch machine.received(bytes.span.bytes) {
        case .needMore: .needMore
        case .reply(let reply, let consumed): .reply(reply, consumed: consumed)
        case .encrypt(let reply, let consumed, let isDirect): .encrypt(reply, consumed: consumed, isDirect: isDirect)
        case .cancel(let key): .cancel(key)
        case .lookUpVerifier(let role, let consumed): .lookUpVerifier(role: role, consumed: consumed)
        case .refuse(let message): .refuse(message.state)
        case .hangUp: .hangUp
        case .authenticated: .authenticated
        }
    }

    /// The salt of the challenge.
    var salt: String? {
        challenges.first.flatMap { challenge in
            String(decoding: challenge, as: UTF8.self).split(separator: ",").first { $0.hasPrefix("s=") }.map(
                String.init
            )
        }
    }

    /// Nonces of 24 characters each, a salt of 16 bytes and 4096 iterations.
    var expectedChallengeLength: Int { "r=".count + 48 + ",s=".count + 24 + ",i=4096".count }

    mutating func logIn(as user: String, password: String, verifier: String?) -> LoginOutcome {
        var client = SCRAMClient(credential: .password(password), clientNonce: SCRAMNonce.make(from: random.bytes(18)))
        let packet = StartupMessage(user: user, database: "shop").packet
        guard case .lookUpVerifier(user, packet.count) = deliver(packet) else { return .other("no look-up") }
        let (offer, _) = found(verifier)
        var expected = MessageWriter()
        expected.authenticationSASL(["SCRAM-SHA-256"])
        guard offer == .ask(expected.bytes) else { return .other("the offer is \(offer)") }

        var first = MessageWriter()
        first.saslInitialResponse(mechanism: "SCRAM-SHA-256", client.firstMessage())
        guard case .reply(let reply, first.bytes.count) = deliver(first.bytes) else { return .other("no challenge") }
        let challenge = Array(reply.dropFirst(Self.headSize))
        challenges.append(challenge)
        guard case .reply(let proof) = client.serverFirst(challenge) else { return .other("a challenge is malformed") }
        var final = MessageWriter()
        final.saslResponse(proof)
        switch deliver(final.bytes) {
        case .authenticated(let credential, let reply, final.bytes.count):
            guard let key = credential.key else { return .other("no key") }
            return .authenticated(key, client.serverFinal(Array(reply.dropFirst(Self.headSize))))
        case .refuse(let message):
            return .refused(message.state)
        case .needMore, .reply, .encrypt, .cancel, .lookUpVerifier, .hangUp, .authenticated:
            return .other("no verdict")
        }
    }

    private mutating func deliver(_ bytes: [UInt8]) -> ClientLogin.OnBytes {
        guard byteByByte else { return machine.received(bytes.span.bytes) }
        for count in 0..<bytes.count {
            guard case .needMore = machine.received(Array(bytes[..<count]).span.bytes) else { return .needMore }
        }
        return machine.received(bytes.span.bytes)
    }
}
