import PostgresAuth
import PostgresWire
import ProxyCore
import TestSupport
import Testing

struct ClientLoginTests {
    @Test("encryption is declined, and the client goes on unencrypted")
    func encryptionDeclined() {
        var login = LoginTranscript()
        #expect(login.send(LoginTranscript.gssRequest) == .reply([0x4E], consumed: 8))
        #expect(login.send(LoginTranscript.sslRequest) == .reply([0x4E], consumed: 8))
        let packet = startup("user\0ann\0database\0shop\0\0")
        #expect(login.send(packet) == .lookUpVerifier(role: "ann", consumed: packet.count))
        #expect(login.machine.role == "ann")
        #expect(login.machine.database == "shop")
    }

    @Test(
        "bytes smuggled in behind a request for encryption are refused",
        arguments: [LoginTranscript.sslRequest, LoginTranscript.gssRequest]
    )
    func smuggledBytes(request: [UInt8]) {
        var one = LoginTranscript()
        #expect(one.send(request + [0]) == .refuse(.protocolViolation))
        #expect(one.send([]) == .needMore)
        var packet = LoginTranscript()
        #expect(packet.send(request + startup("user\0ann\0\0")) == .refuse(.protocolViolation))
        #expect(packet.machine.startup == nil)
    }

    @Test("encryption is asked for once, and not again and again: every answer would take memory")
    func encryptionAskedTwice() {
        for request in [LoginTranscript.sslRequest, LoginTranscript.gssRequest] {
            var login = LoginTranscript()
            #expect(login.send(request) == .reply([0x4E], consumed: 8))
            #expect(login.send(request) == .refuse(.featureNotSupported))
        }
    }

    @Test("a cancel request says whom it is about")
    func cancel() {
        var login = LoginTranscript()
        var writer = MessageWriter()
        writer.cancelRequest(CancelKey(processID: 7, secret: -9))
        #expect(login.send(writer.bytes) == .cancel(CancelKey(processID: 7, secret: -9)))
        #expect(login.send(startup("user\0ann\0\0")) == .needMore)
    }

    @Test("the database is the user's where none is named")
    func defaultDatabase() {
        for table in ["user\0ann\0\0", "user\0ann\0database\0\0\0"] {
            var login = LoginTranscript()
            _ = login.send(startup(table))
            #expect(login.machine.database == "ann")
        }
    }

    @Test(
        "a StartupMessage that cannot be served is refused as PostgreSQL does",
        arguments: [
            ("database\0shop\0\0", "28000"), ("user\0\0\0", "28000"), ("\0", "28000"),
            ("user\0ann\0replication\0true\0\0", "0A000"), ("user\0ann\0replication\0database\0\0", "0A000"),
            ("user\0ann", "08P01"),
        ]
    )
    func refusedStartup(table: String, state: String) {
        var login = LoginTranscript()
        #expect(login.send(startup(table)) == .refuse(SQLState(state)))
        #expect(login.send(startup("user\0ann\0\0")) == .needMore)
    }

    @Test("a client that says it wants no replication is served", arguments: ["false", "off", "no", "0", "FALSE"])
    func noReplication(value: String) {
        var login = LoginTranscript()
        let packet = startup("user\0ann\0replication\0\(value)\0\0")
        #expect(login.send(packet) == .lookUpVerifier(role: "ann", consumed: packet.count))
    }

    @Test("protocol 2 and versions of the future are refused")
    func otherVersions() {
        for version in [0x0002_0000, 0x0004_0000, 0, -1] as [Int32] {
            var login = LoginTranscript()
            #expect(login.send(startup("user\0ann\0\0", version: version)) == .refuse(.featureNotSupported))
        }
    }

    @Test("a packet of 10,004 bytes is read; a length that cannot be ends the connection without a word")
    func lengthLimits() {
        var longest = LoginTranscript()
        let name = String(repeating: "x", count: 10_004 - 8 - 7)
        let packet = startup("user\0\(name)\0\0")
        #expect(packet.count == 10_004)
        #expect(longest.send(packet) == .lookUpVerifier(role: name, consumed: 10_004))
        for length in [
            [0, 0, 0x27, 0x15], [0, 0, 0, 7], [0, 0, 0, 0], [0xFF, 0xFF, 0xFF, 0xFF], [0x47, 0x45, 0x54, 0x20],
        ] {
            var login = LoginTranscript()
            #expect(login.send(length.map { UInt8($0) }) == .hangUp)
        }
    }

    @Test("a higher minor version and protocol extensions are negotiated down to 3.0")
    func negotiation() {
        var plain = LoginTranscript()
        _ = plain.send(startup("user\0ann\0\0"))
        #expect(plain.machine.negotiation.isEmpty)

        var newer = LoginTranscript()
        _ = newer.send(startup("user\0ann\0\0", version: 0x0003_0002))
        #expect(newer.machine.negotiation == [0x76, 0, 0, 0, 12, 0, 3, 0, 0, 0, 0, 0, 0])

        var extended = LoginTranscript()
        _ = extended.send(startup("user\0ann\0_pq_.a\0on\0\0"))
        #expect(extended.machine.negotiation == [0x76, 0, 0, 0, 19, 0, 3, 0, 0, 0, 0, 0, 1] + string("_pq_.a"))
    }

    // MARK: - SCRAM

    @Test("the right password is accepted, and yields the key and the verifier")
    func rightPassword() throws {
        var login = LoginTranscript()
        let outcome = login.logIn(as: "ann", password: "pencil", verifier: verifier.text)
        guard case .authenticated(let key, let client) = outcome else {
            Issue.record("\(outcome)")
            return
        }
        #expect(key.opens(verifier))
        #expect(client == .verified)
        #expect(login.send(Frontend.query("SELECT 1")) == .needMore)
    }

    @Test("a wrong password is refused with 28P01")
    func wrongPassword() {
        var login = LoginTranscript()
        #expect(login.logIn(as: "ann", password: "pencils", verifier: verifier.text) == .refused(.invalidPassword))
    }

    @Test(
        "a role without a SCRAM password is challenged like any other, and never let in",
        arguments: [nil, "", "md5a3556571e93b0d20722ba62be61e8c2", "SCRAM-SHA-256$"]
    )
    func mock(text: String?) {
        var login = LoginTranscript()
        #expect(login.logIn(as: "nobody", password: "", verifier: text) == .refused(.invalidPassword))
        #expect(login.challenges.first?.count == login.expectedChallengeLength)
        var again = LoginTranscript()
        #expect(again.logIn(as: "nobody", password: "", verifier: text) == .refused(.invalidPassword))
        #expect(again.salt == login.salt)
        var other = LoginTranscript()
        #expect(other.logIn(as: "somebody", password: "", verifier: text) == .refused(.invalidPassword))
        #expect(other.salt != login.salt)
    }

    @Test("whatever else is sent instead of a SASL response is refused")
    func wrongResponses() {
        var password = MessageWriter()
        password.saslInitialResponse(mechanism: "SCRAM-SHA-256-PLUS", Array("n,,n=,r=abc".utf8))
        let cases: [[UInt8]] = [
            Frontend.query("SELECT 1"), password.bytes, Frontend.message(.password), Frontend.message(.password, [0]),
            Frontend.message(.password, string("SCRAM-SHA-256")),
            Frontend.message(.password, string("SCRAM-SHA-256") + [0, 0, 0, 5, 1]),
            Frontend.message(.password, string("SCRAM-SHA-256") + [0xFF, 0xFF, 0xFF, 0xFF]),
            Frontend.message(.password, string("SCRAM-SHA-256") + [0, 0, 0, 1, 0x78]),
            [0x70, 0, 0, 0, 3], [0x70, 0xFF, 0xFF, 0xFF, 0xFF], [0x70, 0, 1, 0, 0], [0, 0, 0, 0, 0],
        ]
        for bytes in cases {
            var login = LoginTranscript()
            _ = login.send(startup("user\0ann\0\0"))
            _ = login.found(verifier.text)
            #expect(login.send(bytes) == .refuse(.protocolViolation), "\(bytes)")
            #expect(login.send(bytes) == .needMore, "\(bytes)")
        }
    }

    @Test("what a client sends before its verifier is found waits, and is read then")
    func earlyBytes() {
        var login = LoginTranscript()
        _ = login.send(startup("user\0ann\0\0"))
        var early = MessageWriter()
        early.saslInitialResponse(mechanism: "SCRAM-SHA-256", Array("n,,n=,r=abc".utf8))
        #expect(login.send(early.bytes) == .needMore)
        _ = login.found(verifier.text)
        guard case .reply(_, consumed: early.bytes.count) = login.send(early.bytes) else {
            Issue.record("no challenge")
            return
        }
    }

    @Test("a login whose bytes come one by one ends as one whose messages come whole")
    func oneByteAtATime() {
        for password in ["pencil", "wrong"] {
            var login = LoginTranscript(byteByByte: true)
            let outcome = login.logIn(as: "ann", password: password, verifier: verifier.text)
            switch outcome {
            case .authenticated(let key, _): #expect(password == "pencil" && key.opens(verifier))
            case .refused(let state): #expect(password == "wrong" && state == .invalidPassword)
            case .other(let text): Issue.record("\(text)")
            }
        }
    }

    @Test("random bytes never trap, and never let anybody in")
    func randomBytes() {
        var random = SeededGenerator()
        for _ in 0..<30_000 {
            let login = ClientLogin()
            if Bool.random(using: &random) {
                _ = login.received(startup("user\0ann\0\0").span.bytes)
                _ = login.verifierFound(RolePassword(text: nil), secret: [1], random: random.bytes(18))
            }
            for _ in 0..<4 {
                var bytes = random.bytes(Int.random(in: 0..<48, using: &random))
                if bytes.count > 8, Bool.random(using: &random) {
                    let head: [UInt8] = [0, 0, 0, UInt8.random(in: 0..<50, using: &random), 0, 3, 0, 0]
                    bytes.replaceSubrange(0..<8, with: head)
                } else if bytes.count > 5, Bool.random(using: &random) {
                    bytes.replaceSubrange(0..<5, with: [0x70, 0, 0, 0, UInt8.random(in: 0..<50, using: &random)])
                }
                switch login.received(bytes.span.bytes) {
                case .authenticated: Issue.record("seed \(random.seed)")
                case .reply(_, let consumed), .lookUpVerifier(_, let consumed):
                    #expect((1...bytes.count).contains(consumed), "seed \(random.seed)")
                case .needMore, .encrypt, .cancel, .refuse, .hangUp: break
                }
            }
        }
    }
}

private let verifier = SCRAMVerifier(password: "pencil", salt: Array(1...16))

private func startup(_ table: String, version: Int32 = 0x0003_0000) -> [UInt8] {
    var writer = MessageWriter()
    writer.lengthPrefixed {
        $0.int32(version)
        $0.raw(table.utf8)
    }
    return writer.bytes
}
