import HostBasedAuthentication
import PostgresAuth
import PostgresWire
import ProxyCore
import Testing

/// What is asked of whom, and what lets them in.
struct LoginMethodTests {
    private static let scram = SCRAMVerifier(password: "pencil", salt: Array(1...16), iterations: 16).text

    private func started(
        _ method: HostBasedRule.Method,
        passwords: [String: String] = [:]
    ) -> LoginTranscript {
        var login = LoginTranscript(method: method, passwords: passwords)
        _ = login.send(StartupMessage(user: "ann", database: "shop").packet)
        return login
    }

    private func hash(_ password: String = "pencil") -> MD5Password { MD5Password(password: password, role: "ann") }
    /// `select 'md5' || md5('pencil' || 'ann')`
    private let hashText = "md528754acffc5400623f44a44d30b50393"

    // MARK: - MD5

    @Test("a role whose password is stored as MD5 proves it by MD5, and logs in to nodes with the hash")
    func md5() {
        var login = started(.md5)
        guard case (.ask(let request), nil) = login.found(hashText) else {
            Issue.record("nothing is asked")
            return
        }
        #expect(Array(request.prefix(9)) == [0x52, 0, 0, 0, 12, 0, 0, 0, 5])
        let salt = Array(request.dropFirst(9))
        #expect(salt.count == 4)
        let (answer, credential) = login.answer(hash().answer(salt: salt))
        #expect(answer == .authenticated)
        #expect(credential?.md5?.answer(salt: [9, 9, 9, 9]) == hash().answer(salt: [9, 9, 9, 9]))
        #expect(credential?.password == nil && credential?.key == nil)
    }

    @Test("a wrong answer to MD5, and the right one to another salt, are refused")
    func wrongMD5() {
        for make in [
            { (salt: [UInt8]) in hash("pencils").answer(salt: salt) }, { hash().answer(salt: $0.map { $0 &+ 1 }) },
            { _ in Array("pencil".utf8) }, { Array(hash().answer(salt: $0).dropLast()) },
        ] {
            var login = started(.md5)
            guard case (.ask(let request), _) = login.found(hashText) else { continue }
            #expect(login.answer(make(Array(request.dropFirst(9)))).0 == .refuse(.invalidPassword))
        }
    }

    @Test("md5 asks a role whose password is stored as SCRAM by SCRAM")
    func md5AsksBySCRAM() {
        var login = LoginTranscript(method: .md5)
        guard case .authenticated = login.logIn(as: "ann", password: "pencil", verifier: Self.scram) else {
            Issue.record("not let in")
            return
        }
    }

    @Test("scram-sha-256 never lets in by MD5")
    func scramOnly() {
        var login = LoginTranscript(method: .scramSHA256)
        #expect(login.logIn(as: "ann", password: "pencil", verifier: hashText) == .refused(.invalidPassword))
    }

    @Test("an unknown role is asked as a new one would be, and never let in")
    func unknownRole() {
        var login = started(.md5)
        guard case (.ask(let request), nil) = login.found(nil, isMD5ByDefault: true) else {
            Issue.record("nothing is asked")
            return
        }
        #expect(Array(request.prefix(9)) == [0x52, 0, 0, 0, 12, 0, 0, 0, 5])
        let mock = MD5Password.mock(role: "ann", secret: [1, 2, 3])
        #expect(login.answer(mock.answer(salt: Array(request.dropFirst(9)))).0 == .refuse(.invalidPassword))

        var modern = started(.md5)
        var offer = MessageWriter()
        offer.authenticationSASL(["SCRAM-SHA-256"])
        #expect(modern.found(nil).0 == .ask(offer.bytes))
    }

    // MARK: - The password itself

    @Test("a password in clear text is checked against whatever is stored, and is the credential")
    func cleartext() {
        for stored in [Self.scram, hashText] {
            var login = started(.password)
            #expect(login.found(stored).0 == .ask([0x52, 0, 0, 0, 8, 0, 0, 0, 3]))
            let (answer, credential) = login.answer(Array("pencil".utf8))
            #expect(answer == .authenticated)
            #expect(credential?.password == "pencil")
            #expect((credential?.key != nil) == (stored == Self.scram))

            var wrong = started(.password)
            _ = wrong.found(stored)
            #expect(wrong.answer(Array("pencils".utf8)).0 == .refuse(.invalidPassword))
        }
        for isMD5 in [false, true] {
            var unknown = started(.password)
            #expect(unknown.found(nil, isMD5ByDefault: isMD5).0 == .ask([0x52, 0, 0, 0, 8, 0, 0, 0, 3]))
            #expect(unknown.answer(Array("pencil".utf8)).0 == .refuse(.invalidPassword))
        }
    }

    @Test("a PasswordMessage that is none is refused as by PostgreSQL")
    func malformed() {
        var empty = started(.password)
        _ = empty.found(Self.scram)
        #expect(empty.answer([]).0 == .refuse(.invalidPassword))
        for bytes in [
            Frontend.message(.password), Frontend.message(.password, [0x61]), Frontend.message(.password, [0, 0]),
            Frontend.message(.password, string("a") + string("b")), Frontend.query("SELECT 1"), [0x70, 0, 0, 0, 3],
        ] {
            var login = started(.password)
            _ = login.found(Self.scram)
            #expect(login.send(bytes) == .refuse(.protocolViolation), "\(bytes)")
        }
    }

    // MARK: - Trust, reject, none

    @Test("trust asks nothing, and takes what is configured or stored to log in to nodes")
    func trust() {
        var bare = started(.trust)
        let (answer, credential) = bare.found(Self.scram)
        #expect(answer == .authenticated)
        #expect(credential?.scram == nil && credential?.md5(role: "ann") == nil)

        var stored = started(.trust)
        #expect(stored.found(hashText).1?.md5 != nil)

        var configured = started(.trust, passwords: ["ann": "pencil"])
        let known = configured.found(Self.scram).1
        #expect(known?.key != nil && known?.password == "pencil")

        var outdated = started(.trust, passwords: ["ann": "other"])
        let other = outdated.found(Self.scram).1
        #expect(other?.key == nil && other?.password == "other")
    }

    @Test("who is rejected, and whom no rule is about, is told so as by PostgreSQL before anything is looked up")
    func refused() {
        let rules = HostBasedRules.parse(
            """
            host all bob 127.0.0.1/32 reject
            hostssl all all all trust
            local shop all trust
            """
        ).rules
        func words(_ user: String, _ database: String, _ address: String?) -> String? {
            let login = ClientLogin(
                policy: LoginPolicy(rules: rules),
                address: address.flatMap { NetworkAddress($0) }
            )
            guard case .refuse(let message) = login.received(packet(user, database).span.bytes) else { return nil }
            #expect(message.state == .invalidAuthorization && message.severity == .fatal)
            return message.message
        }
        #expect(
            words("bob", "shop", "127.0.0.1")
                == #"pg_hba.conf rejects connection for host "127.0.0.1", user "bob", database "shop", no encryption"#
        )
        #expect(
            words("ann", "shop", "2001:db8::7")
                == #"no pg_hba.conf entry for host "2001:db8::7", user "ann", database "shop", no encryption"#
        )
        #expect(
            words("ann", "other", nil)
                == #"no pg_hba.conf entry for host "[local]", user "ann", database "other", no encryption"#
        )
        #expect(words("ann", "shop", nil) == nil)
    }

    // MARK: - Certificates

    @Test("a certificate lets in the user it names, and nobody else", arguments: [nil, "", "bob", "ann"])
    func certificate(name: String?) {
        for rule in ["hostssl all all all cert", "hostssl all all all trust clientcert=verify-full"] {
            let login = ClientLogin(
                policy: LoginPolicy(rules: HostBasedRules.parse(rule).rules),
                address: NetworkAddress("192.0.2.1")
            )
            login.secured(ClientTransport(isEncrypted: true, clientCertificateCommonName: name))
            switch login.received(packet("ann", "shop").span.bytes) {
            case .refuse(let message):
                #expect(name == nil && message.message == "connection requires a valid client certificate")
                continue
            case .lookUpVerifier: #expect(name != nil)
            default: Issue.record("something else")
            }
            switch login.verifierFound(RolePassword(text: Self.scram), secret: [1], random: Array(1...18)) {
            case .authenticated: #expect(name == "ann")
            case .refuse(let message):
                #expect(name != "ann" && message.state == .invalidAuthorization)
                #expect(message.message == #"certificate authentication failed for user "ann""#)
            case .ask: Issue.record("something is asked")
            }
        }
    }

    @Test("a client that is one too many is told so when it has said what it wants")
    func surplus() {
        var login = LoginTranscript()
        login.machine.refusal = ErrorMessage(.fatal, .tooManyConnections, "sorry")
        #expect(login.send(LoginTranscript.sslRequest) == .reply([0x4E], consumed: 8))
        #expect(login.send(packet("ann", "shop")) == .refuse(.tooManyConnections))
    }

    private func packet(_ user: String, _ database: String) -> [UInt8] {
        StartupMessage(user: user, database: database).packet
    }
}
