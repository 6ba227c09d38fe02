import HostBasedAuthentication
import PostgresAuth
import PostgresWire
import ProxyCore

extension FuzzTarget {
    /// A client that logs in: with bytes of any kind, or as it should but for some that are changed.
    static let clientLogin = FuzzTarget(
        name: "client-login",
        seeds: (0..<6 as Range<UInt8>).map { [$0 << 1] + startup + passwordMessage }
            + [
                [8] + sslRequest + startup, [0x48] + startup + saslResponse, [9], [9, 0, 40, 1], [9, 1, 60, 2], [0x59],
            ]
    ) { (input) throws(Violation) in
        let (options, bytes) = input.optionsAndRest
        try checkStartupPacket(bytes)
        if options & 1 == 1 { return try checkExchange(ChangedBytes(bytes), bindsChannel: options & 0x10 != 0) }
        let whole = try ClientTrace(bytes, cut: bytes.count, options)
        for cut in bytes.cuts {
            let parts = try ClientTrace(bytes, cut: cut, options)
            // What comes behind a request for encryption may not be there yet.
            if whole.asksForEncryption || parts.asksForEncryption { continue }
            try require(whole == parts, "cut at \(cut) it is \(parts), not \(whole)")
        }
    }

    /// A node that is logged in to.
    static let serverLogin = FuzzTarget(
        name: "server-login",
        seeds: (0..<4 as Range<UInt8>).map { [$0 << 1] + nodeMessages } + [[1], [1, 0, 20, 1], [1, 1, 8, 4]]
    ) { (input) throws(Violation) in
        let (options, bytes) = input.optionsAndRest
        if options & 1 == 1 { return try checkNodesExchange(ChangedBytes(bytes)) }
        let credentials = [
            LoginCredential(), LoginCredential(password: "pencil"), LoginCredential(md5: MD5Password(md5)),
            LoginCredential(key: ClientKey([UInt8](repeating: 7, count: 32)), verifier: verifier),
        ]
        let credential = credentials[Int(options >> 1) % credentials.count]
        var login = ServerLogin(credential: credential, role: "ann", random: random)
        login.transport = options & 0x10 == 0 ? .plain : .encrypted(options & 0x20 == 0 ? nil : channel)
        var (reader, offset) = (AnswerReader(), 0)
        while case .message(let type, let range) = reader.next(bytes.span.bytes, offset: &offset, limit: .max) {
            guard reader.bodyRemaining == 0 else { return }
            let message = Array(bytes[range])
            // The cost of a password's key is what the node says.
            if credential.password != nil, hasHighCost(message) { return }
            switch login.received(type, message: message.span.bytes) {
            case .wait: continue
            case .reply(let reply):
                let header = MessageHeader(reply.span.bytes, at: 0)
                try require(header?.type == FrontendMessage.password.rawValue, "a password is another message")
                try require(header?.totalSize == reply.count, "a reply is not one message")
                try require(!credential.isEmpty, "a reply is made of nothing")
            case .ready, .refused, .failed: return
            }
        }
    }

    // MARK: - Parts

    static let random = [UInt8](1...18)
    static let channel = [UInt8](repeating: 0xC4, count: 32)
    static let verifier = SCRAMVerifier(password: "pencil", salt: [UInt8](1...16), iterations: 1)
    fileprivate static let md5 = "md53175bce1d3201d16594cebf9d7eb3f9d"

    private static let sslRequest: [UInt8] = [0, 0, 0, 8, 4, 210, 22, 47]
    private static let startup = StartupMessage(user: "ann", database: "shop").packet
    private static let passwordMessage: [UInt8] = {
        var writer = MessageWriter()
        writer.passwordMessage("guess".utf8)
        return writer.bytes
    }()
    private static let saslResponse: [UInt8] = {
        var writer = MessageWriter()
        writer.saslInitialResponse(mechanism: "SCRAM-SHA-256", Array("n,,n=,r=abc".utf8))
        writer.saslResponse(Array("c=biws,r=abc,p=AAAA".utf8))
        return writer.bytes
    }()
    private static let nodeMessages: [UInt8] = {
        var writer = MessageWriter()
        writer.authenticationCleartextPassword()
        writer.authenticationMD5Password(salt: [1, 2, 3, 4])
        writer.authenticationSASL(["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])
        writer.authenticationSASLContinue(Array("r=x,s=AAAA,i=1".utf8))
        writer.authenticationSASLFinal(Array("v=AAAA".utf8))
        writer.authenticationOk()
        writer.parameterStatus("TimeZone", "UTC")
        writer.backendKeyData(CancelKey(processID: 1, secret: 2))
        writer.readyForQuery(.idle)
        return writer.bytes
    }()

    private static func hasHighCost(_ message: [UInt8]) -> Bool {
        guard let start = message.indices.dropLast().first(where: { message[$0...].starts(with: Array(",i=".utf8)) })
        else { return false }
        return message[(start + 3)...].prefix { (0x30...0x39).contains($0) }.count > 2
    }

    /// A packet that is understood can be written, and is then understood the same.
    private static func checkStartupPacket(_ bytes: [UInt8]) throws(Violation) {
        guard bytes.count <= StartupPacket.maximumLength, case .startup(let message) = StartupPacket(bytes.span.bytes)
        else { return }
        let profile = StartupProfile(message, database: "shop")
        guard case .startup = StartupPacket(profile.packet.span.bytes) else {
            throw Violation(description: "a profile's packet is not understood")
        }
        guard message.minorVersion == 0, message.extensions.isEmpty else { return }
        let again = StartupPacket(message.packet.span.bytes)
        try require(again == .startup(message), "written again it is \(again), not \(message)")
    }

    /// A client that knows the password, some of whose bytes are changed: then it may not come in.
    private static func checkExchange(_ changes: ChangedBytes, bindsChannel: Bool) throws(Violation) {
        var changes = changes
        let login = ClientLogin(policy: LoginPolicy(rules: rules(.scramSHA256)))
        if bindsChannel { login.secured(ClientTransport(isEncrypted: true, channelBinding: channel)) }
        guard case .lookUpVerifier = login.received(startup.span.bytes),
            case .ask = login.verifierFound(RolePassword(text: verifier.text), secret: [1], random: random)
        else { throw Violation(description: "the password is not asked for") }
        var client = SCRAMClient(credential: .password("pencil"), clientNonce: Array("client".utf8))
        var writer = MessageWriter()
        let mechanism = bindsChannel ? "SCRAM-SHA-256-PLUS" : "SCRAM-SHA-256"
        let first = client.firstMessage(over: bindsChannel ? .bound(channel) : .none)
        writer.saslInitialResponse(mechanism: mechanism, first)
        guard case .reply(let reply, _) = login.received(changes.next(writer.bytes).span.bytes) else {
            return try require(changes.areAny, "the first message is refused")
        }
        guard case .reply(let final) = client.serverFirst(Array(reply.dropFirst(9))) else {
            return try require(changes.areAny, "our own challenge is not understood")
        }
        writer.clear()
        writer.saslResponse(final)
        guard case .authenticated(let credential, _, _) = login.received(changes.next(writer.bytes).span.bytes) else {
            return try require(changes.areAny, "who knows the password is refused")
        }
        try require(credential.key?.opens(verifier) == true, "the key does not open what it was checked against")
        try require(!changes.areAny, "a message that was changed is accepted")
    }

    /// A node that knows the verifier, some of whose bytes are changed: then it is none of ours.
    private static func checkNodesExchange(_ changes: ChangedBytes) throws(Violation) {
        var changes = changes
        guard case .scram(let verifier)? = StoredPassword(verifier.text),
            let credential = StoredPassword.scram(verifier).credential(for: "pencil", role: "ann")
        else { throw Violation(description: "a verifier cannot be read again") }
        var login = ServerLogin(
            credential: LoginCredential(key: credential.key, verifier: verifier),
            role: "ann",
            random: random
        )
        var node = SCRAMServer(verifier: verifier, isMock: false, serverNonce: Array("node".utf8))
        var writer = MessageWriter()
        writer.authenticationSASL(["SCRAM-SHA-256"])
        guard case .reply(let first) = login.received(.authentication, message: writer.bytes.span.bytes),
            case .reply(let challenge) = node.clientFirst(Array(first.dropFirst(5 + 14 + 4)))
        else { throw Violation(description: "SCRAM-SHA-256 is not begun") }
        writer.clear()
        writer.authenticationSASLContinue(challenge)
        let changed = changes.next(writer.bytes, from: 9)
        guard case .reply(let proof) = login.received(.authentication, message: changed.span.bytes) else {
            return try require(changes.areAny, "the challenge is refused")
        }
        guard case .accepted(let signature, _) = node.clientFinal(Array(proof.dropFirst(5))) else {
            return try require(changes.areAny, "the proof is wrong")
        }
        writer.clear()
        writer.authenticationSASLFinal(signature)
        let final = changes.next(writer.bytes, from: 9)
        guard case .wait = login.received(.authentication, message: final.span.bytes) else {
            return try require(changes.areAny, "the node's signature is refused")
        }
        try require(!changes.areAny, "a message that was changed is accepted")
    }

    fileprivate static func rules(_ method: HostBasedRule.Method) -> HostBasedRules {
        HostBasedRules([
            HostBasedRule(line: 1, transport: .local, method: method == .certificate ? .trust : method)
        ])
    }
}

/// Changes single bytes of some messages, each as three bytes say: which message, where, and what.
///
/// Not the last letter and its padding: bits of it mean nothing in Base64, and nobody looks at them, as in PostgreSQL.
private struct ChangedBytes {
    private let changes: [UInt8]
    private var index: UInt8 = 0
    private(set) var areAny = false

    init(_ changes: [UInt8]) { self.changes = changes }

    mutating func next(_ message: [UInt8], from start: Int = 0) -> [UInt8] {
        var changed = message
        for change in stride(from: 0, to: changes.count - changes.count % 3, by: 3) where changes[change] & 1 == index {
            changed[start + Int(changes[change + 1]) % (message.count - start - 2)] ^= changes[change + 2]
        }
        index += 1
        if changed != message { areAny = true }
        return changed
    }
}

/// How a client is let in, or not, of which the bytes behind a cut come later.
private struct ClientTrace: Equatable {
    private var replies: [UInt8] = []
    private var consumed = 0
    private var outcome = "waits"
    private(set) var asksForEncryption = false

    init(_ bytes: [UInt8], cut: Int, _ options: UInt8) throws(Violation) {
        let methods = HostBasedRule.Method.allCases
        let method = methods[Int(options >> 1 & 7) % methods.count]
        let login = ClientLogin(policy: LoginPolicy(rules: FuzzTarget.rules(method)))
        login.encryption = [.none, .offered, .required, .none][Int(options >> 4 & 3)]
        // Nobody can have the password: that of an unknown role, or a verifier whose password is not in the input.
        let stored = options & 0x40 != 0 && method == .scramSHA256 ? FuzzTarget.verifier.text : nil
        let password = RolePassword(text: stored, isMD5ByDefault: options & 0x80 != 0 || method == .password)
        var visible = cut
        while true {
            let window = Array(bytes[consumed..<visible])
            var count = 0
            switch login.received(window.span.bytes) {
            case .needMore:
                guard visible < bytes.count else { return }
                visible = bytes.count
            case .reply(let reply, let consumed):
                replies += reply
                count = consumed
                if reply == [UInt8(ascii: "N")] { asksForEncryption = true }
            case .encrypt(let reply, let consumed, _):
                replies += reply
                count = consumed
                asksForEncryption = true
                login.secured(ClientTransport(isEncrypted: true, channelBinding: FuzzTarget.channel))
            case .cancel(let key):
                outcome = "cancels \(key)"
                return
            case .lookUpVerifier(let role, let consumed):
                try require(!role.isEmpty, "nobody is looked up")
                count = consumed
                switch login.verifierFound(password, secret: [1, 2, 3], random: FuzzTarget.random) {
                case .ask(let request): replies += request
                case .authenticated:
                    try finish("is let in", if: method == .trust || method == .certificate)
                    return
                case .refuse(let error):
                    try finish("\(error)", if: error.severity == .fatal)
                    return
                }
            case .refuse(let error):
                // What is behind a request for encryption depends on the cut.
                if error.message.contains("unencrypted data") { asksForEncryption = true }
                try finish("\(error)", if: error.severity == .fatal)
                return
            case .hangUp:
                outcome = "hangs up"
                return
            case .authenticated:
                try finish("is let in", if: false)
                return
            }
            try require(count <= window.count, "more is consumed than there is")
            consumed += count
        }
    }

    private mutating func finish(_ outcome: String, if isRight: Bool) throws(Violation) {
        try require(isRight, "a client \(outcome)")
        self.outcome = outcome
    }
}
