import PostgresAuth
import PostgresWire
import ProxyCore
import TestSupport
import Testing

struct ServerLoginTests {
    @Test("a node that trusts is ready without a password, and its key and parameters are kept")
    func trust() {
        var login = login()
        #expect(login.say(.authentication, [0, 0, 0, 0]) == .wait)
        #expect(login.say(.parameterStatus, string("server_version") + string("15.4")) == .wait)
        #expect(login.say(.parameterStatus, string("TimeZone") + string("UTC")) == .wait)
        #expect(login.say(.backendKeyData, [0, 0, 1, 0, 0xFF, 0xFF, 0xFF, 0xFF]) == .wait)
        #expect(login.say(.readyForQuery, [0x49]) == .ready)
        #expect(login.cancelKey == CancelKey(processID: 256, secret: -1))
        #expect(
            login.reported.messages(for: .none)
                == Backend.message(.parameterStatus, string("server_version") + string("15.4"))
                + Backend.message(.parameterStatus, string("TimeZone") + string("UTC"))
        )
    }

    @Test("in_hot_standby is told as off, whatever the node says", arguments: ["on", "off", ""])
    func inHotStandby(value: String) {
        var login = login()
        _ = login.say(.parameterStatus, string("in_hot_standby") + string(value))
        let off = Backend.message(.parameterStatus, string("in_hot_standby") + string("off"))
        #expect(login.reported.messages(for: .none) == off)
    }

    @Test("a node that asks for SCRAM is shown the client's key, and has to prove that it knows the verifier")
    func scram() {
        var login = login()
        var node = SCRAMServer(verifier: verifier, isMock: false, serverNonce: Array("servernonce".utf8))
        let offer = string("SCRAM-SHA-256-PLUS") + string("SCRAM-SHA-256") + [0]
        guard case .reply(let first) = login.say(.authentication, [0, 0, 0, 10] + offer),
            case .reply(let challenge) = node.clientFirst(Array(first.dropFirst(5 + 14 + 4))),
            case .reply(let proof) = login.say(.authentication, [0, 0, 0, 11] + challenge),
            case .accepted(let serverFinal, _) = node.clientFinal(Array(proof.dropFirst(5)))
        else {
            Issue.record("the exchange was broken off")
            return
        }
        #expect(login.say(.authentication, [0, 0, 0, 12] + serverFinal) == .wait)
        #expect(login.say(.authentication, [0, 0, 0, 0]) == .wait)
        #expect(login.say(.readyForQuery, [0x49]) == .ready)
    }

    @Test("a node with another password for the role, or that does not know the key, is not one to use")
    func otherNode() {
        let other = SCRAMVerifier(password: "pencil", salt: Array(2...17), iterations: 1)
        var first = login()
        var node = SCRAMServer(verifier: other, isMock: false, serverNonce: Array("servernonce".utf8))
        guard case .reply(let message) = first.say(.authentication, [0, 0, 0, 10] + string("SCRAM-SHA-256") + [0]),
            case .reply(let challenge) = node.clientFirst(Array(message.dropFirst(5 + 14 + 4)))
        else {
            Issue.record("the exchange was broken off")
            return
        }
        #expect(first.say(.authentication, [0, 0, 0, 11] + challenge) == .failed)

        var second = login()
        var impostor = SCRAMServer(verifier: verifier, isMock: true, serverNonce: Array("servernonce".utf8))
        guard case .reply(let again) = second.say(.authentication, [0, 0, 0, 10] + string("SCRAM-SHA-256") + [0]),
            case .reply(let same) = impostor.clientFirst(Array(again.dropFirst(5 + 14 + 4)))
        else {
            Issue.record("the exchange was broken off")
            return
        }
        guard case .reply = second.say(.authentication, [0, 0, 0, 11] + same) else {
            Issue.record("no proof")
            return
        }
        let forged = "v=" + String(repeating: "A", count: 43) + "="
        #expect(second.say(.authentication, [0, 0, 0, 12] + Array(forged.utf8)) == .failed)
    }

    @Test("a node's refusal is kept in its own words")
    func refused() {
        var login = login()
        let message = ErrorMessage(.fatal, .cannotConnectNow, "the database system is starting up").bytes
        #expect(login.say(.errorResponse, Array(message.dropFirst(5))) == .refused("57P03", response: message))
    }

    @Test(
        "a method that cannot be passed on, or a malformed message, ends the login",
        arguments: [
            (.authentication, [0, 0, 0, 5, 1, 2, 3, 4]), (.authentication, [0, 0, 0, 5, 1, 2, 3]),
            (.authentication, []),
            (.authentication, [0, 0, 0]), (.authentication, [0, 0, 0, 10]), (.authentication, [0, 0, 0, 10, 0]),
            (.authentication, [0, 0, 0, 10] + Array("SCRAM-SHA-256".utf8)), (.authentication, [0, 0, 0, 11]),
            (.authentication, [0, 0, 0, 12]), (.authentication, [0xFF, 0xFF, 0xFF, 0xFF]),
            (.backendKeyData, [0, 0, 0, 1]), (.dataRow, []), (.copyInResponse, []), (.parseComplete, []),
        ] as [(BackendMessage, [UInt8])]
    )
    func failed(type: BackendMessage, body: [UInt8]) {
        var login = login()
        #expect(login.say(type, body) == .failed)
    }

    @Test("a node that asks for the password is sent it, where it is known")
    func cleartext() {
        var login = login(LoginCredential(password: "pencil"))
        #expect(login.say(.authentication, [0, 0, 0, 3]) == .reply(Frontend.message(.password, string("pencil"))))
        #expect(login.say(.authentication, [0, 0, 0, 0]) == .wait)
    }

    @Test("a challenge by MD5 is answered with the stored hash, and with a password's")
    func md5() {
        // select 'md5' || md5(md5('pencil' || 'ann') || e'\\x01\\x02\\x03\\x04')
        let hash = MD5Password(password: "pencil", role: "ann")
        let answer = Frontend.message(.password, string("md57a54f810f22603a6e57c5628653701a4"))
        for credential in [LoginCredential(md5: hash), LoginCredential(password: "pencil")] {
            var login = login(credential)
            #expect(login.say(.authentication, [0, 0, 0, 5, 1, 2, 3, 4]) == .reply(answer))
            #expect(login.say(.authentication, [0, 0, 0, 0]) == .wait)
        }
    }

    @Test("a password answers a node that asks for SCRAM")
    func scramByPassword() {
        var login = login(LoginCredential(password: "pencil"))
        var node = SCRAMServer(verifier: verifier, isMock: false, serverNonce: Array("servernonce".utf8))
        guard case .reply(let first) = login.say(.authentication, [0, 0, 0, 10] + string("SCRAM-SHA-256") + [0]),
            case .reply(let challenge) = node.clientFirst(Array(first.dropFirst(5 + 14 + 4))),
            case .reply(let proof) = login.say(.authentication, [0, 0, 0, 11] + challenge),
            case .accepted = node.clientFinal(Array(proof.dropFirst(5)))
        else {
            Issue.record("the exchange was broken off")
            return
        }
    }

    @Test(
        "without anything to log in with the client is told what is missing, and a node that trusts is used",
        arguments: [[0, 0, 0, 3], [0, 0, 0, 5, 1, 2, 3, 4], [0, 0, 0, 10] + string("SCRAM-SHA-256") + [0]] as [[UInt8]]
    )
    func nothing(request: [UInt8]) {
        var trusted = login(LoginCredential())
        #expect(trusted.say(.authentication, [0, 0, 0, 0]) == .wait)
        var login = login(LoginCredential())
        guard case .refused("28000", let response) = login.say(.authentication, request) else {
            Issue.record("it is not refused")
            return
        }
        let text = String(decoding: response, as: UTF8.self)
        #expect(text.contains("there is no password to log in to a node with as user \"ann\""))
    }

    @Test("a hash by MD5 is no use to a node that asks for SCRAM")
    func md5ForSCRAM() {
        var login = login(LoginCredential(md5: MD5Password(password: "pencil", role: "ann")))
        #expect(login.say(.authentication, [0, 0, 0, 10] + string("SCRAM-SHA-256") + [0]) == .failed)
    }

    @Test("notices and a negotiated version are passed over")
    func passedOver() {
        var login = login()
        #expect(login.say(.noticeResponse, [0]) == .wait)
        #expect(login.say(.negotiateProtocolVersion, [0, 3, 0, 0, 0, 0, 0, 0]) == .wait)
        #expect(login.reported === ReportedParameters.none)
    }

    @Test("random messages never trap")
    func randomMessages() {
        var random = SeededGenerator()
        let types = (0...UInt8.max).compactMap { BackendMessage(rawValue: $0) }
        for _ in 0..<20_000 {
            var login = login()
            for _ in 0..<4 {
                var body = random.bytes(Int.random(in: 0..<32, using: &random))
                if body.count >= 4, Bool.random(using: &random) {
                    body.replaceSubrange(0..<4, with: [0, 0, 0, UInt8.random(in: 0...13, using: &random)])
                }
                _ = login.say(types.randomElement(using: &random) ?? .authentication, body)
            }
        }
    }
}

private let verifier = SCRAMVerifier(password: "pencil", salt: Array(1...16), iterations: 1)
private let key = {
    var client = SCRAMClient(credential: .password("pencil"), clientNonce: Array("abc".utf8))
    var server = SCRAMServer(verifier: verifier, isMock: false, serverNonce: Array("def".utf8))
    guard case .reply(let challenge) = server.clientFirst(client.firstMessage()),
        case .reply(let proof) = client.serverFirst(challenge),
        case .accepted(_, let key) = server.clientFinal(proof)
    else { preconditionFailure("the exchange with oneself fails") }
    return key
}()

private func login(
    _ credential: LoginCredential = LoginCredential(key: key, verifier: verifier)
) -> ServerLogin {
    ServerLogin(credential: credential, role: "ann", random: Array(1...18))
}

/// What `ServerLogin` says, as far as a transcript compares it.
private enum Answer: Equatable {
    case wait
    case reply([UInt8])
    case ready
    case refused(SQLState, response: [UInt8])
    case failed
}

extension ServerLogin {
    fileprivate mutating func say(_ type: BackendMessage, _ body: [UInt8]) -> Answer {
        switch received(type, message: Backend.message(type, body).span.bytes) {
        case .wait: .wait
        case .reply(let bytes): .reply(bytes)
        case .ready: .ready
        case .refused(let fields, let response): .refused(fields.state, response: response)
        case .failed: .failed
        }
    }
}
