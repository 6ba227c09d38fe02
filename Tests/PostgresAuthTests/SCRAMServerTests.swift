import PostgresAuth
import TestSupport
import Testing

struct SCRAMServerTests {
    @Test("the exchange of RFC 7677, as the server")
    func testVector() throws {
        var server = RFC7677.server()
        #expect(server.clientFirst(bytes(RFC7677.clientFirst)) == .reply(bytes(RFC7677.serverFirst)))
        let verdict = server.clientFinal(bytes(RFC7677.clientFinal))
        guard case .accepted(let serverFinal, let key) = verdict else {
            Issue.record("\(verdict)")
            return
        }
        #expect(text(serverFinal) == RFC7677.serverFinal)
        #expect(key.opens(RFC7677.verifier))
    }

    @Test("a client that believes we know no channel binding is welcome, and must say so twice")
    func bindingFlagY() {
        let challenge = "r=abc%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        let nonce = "abc" + RFC7677.serverNonce

        var faithful = RFC7677.server()
        #expect(faithful.clientFirst(bytes("y,,n=,r=abc")) == .reply(bytes(challenge)))
        #expect(faithful.clientFinal(final(binding: "eSws", nonce: nonce)) == .refused)

        var changedUnderway = RFC7677.server()
        #expect(changedUnderway.clientFirst(bytes("y,,n=,r=abc")) == .reply(bytes(challenge)))
        #expect(
            changedUnderway.clientFinal(final(binding: "biws", nonce: nonce))
                == .malformed("unexpected SCRAM channel-binding attribute in client-final-message")
        )
    }

    @Test("optional extensions are ignored, and are part of what is signed")
    func optionalExtensions() {
        var server = RFC7677.server()
        let challenge = server.clientFirst(bytes("n,,n=,r=abc,x=1,Y=,z=three"))
        #expect(challenge == .reply(bytes("r=abc%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")))

        var strict = RFC7677.server()
        _ = strict.clientFirst(bytes(RFC7677.clientFirst))
        #expect(strict.clientFinal(bytes(RFC7677.withoutProof + ",x=1" + RFC7677.proof)) == .refused)
    }

    @Test("a proof that differs in one letter is refused", arguments: 1...43)
    func wrongProof(fromTheEnd: Int) {
        var message = bytes(RFC7677.clientFinal)
        let index = message.count - 1 - fromTheEnd
        message[index] = message[index] == UInt8(ascii: "A") ? UInt8(ascii: "g") : UInt8(ascii: "A")
        var server = RFC7677.server()
        #expect(server.clientFirst(bytes(RFC7677.clientFirst)) == .reply(bytes(RFC7677.serverFirst)))
        #expect(server.clientFinal(message) == .refused)
    }

    @Test(
        "a nonce that is not exactly ours after the client's is a broken protocol",
        arguments: [
            "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k1",
            "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k",
            "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k00",
            "rOprNGfwEbeRWgbNEkqO",
            "",
        ]
    )
    func tamperedNonce(nonce: String) {
        var server = RFC7677.server()
        _ = server.clientFirst(bytes(RFC7677.clientFirst))
        #expect(
            server.clientFinal(final(nonce: nonce)) == .malformed("invalid SCRAM response: nonce does not match")
        )
    }

    @Test("a mock refuses even the right proof, after the same challenge")
    func mockRefuses() {
        var server = RFC7677.server(isMock: true)
        #expect(server.clientFirst(bytes(RFC7677.clientFirst)) == .reply(bytes(RFC7677.serverFirst)))
        #expect(server.clientFinal(bytes(RFC7677.clientFinal)) == .refused)
    }

    @Test("a message out of order ends the exchange")
    func outOfOrder() {
        let outOfOrder = SCRAMServer.OnMessage.malformed("invalid SCRAM exchange state")

        var hasty = RFC7677.server()
        #expect(hasty.clientFinal(bytes(RFC7677.clientFinal)) == outOfOrder)
        #expect(hasty.clientFirst(bytes(RFC7677.clientFirst)) == outOfOrder)

        var stuck = RFC7677.server()
        #expect(stuck.clientFirst(bytes(RFC7677.clientFirst)) == .reply(bytes(RFC7677.serverFirst)))
        #expect(stuck.clientFirst(bytes(RFC7677.clientFirst)) == outOfOrder)
        #expect(stuck.clientFinal(bytes(RFC7677.clientFinal)) == outOfOrder)
    }

    @Test("one exchange is one guess")
    func oneGuess() {
        var server = RFC7677.server()
        _ = server.clientFirst(bytes(RFC7677.clientFirst))
        #expect(server.clientFinal(final(nonce: RFC7677.clientNonce + RFC7677.serverNonce)) == .refused)
        #expect(server.clientFinal(bytes(RFC7677.clientFinal)) == .malformed("invalid SCRAM exchange state"))
    }

    // MARK: - Malformed messages

    @Test(
        "malformed client-first-message",
        arguments: [
            ("", "malformed SCRAM message: the message is empty"),
            ("n,,n=,r=a\0", "malformed SCRAM message: message length does not match input length"),
            ("x,,n=,r=a", "malformed SCRAM message: unexpected channel-binding flag \"x\""),
            ("\u{1},,n=,r=a", "malformed SCRAM message: unexpected channel-binding flag \"0x01\""),
            (
                "p=tls-server-end-point,,n=,r=a",
                "malformed SCRAM message: the client selected SCRAM-SHA-256 without channel binding, "
                    + "but the SCRAM message includes channel binding data"
            ),
            ("n", "malformed SCRAM message: comma expected, but found character \"0x00\""),
            ("nn,n=,r=a", "malformed SCRAM message: comma expected, but found character \"n\""),
            ("n,", "malformed SCRAM message: unexpected attribute \"0x00\" in client-first-message"),
            ("n,a=admin,n=,r=a", "client uses authorization identity, but it is not supported"),
            ("n,n=,r=a", "malformed SCRAM message: unexpected attribute \"n\" in client-first-message"),
            ("n,,m=1,n=,r=a", "client requires an unsupported SCRAM extension"),
            ("n,,", "malformed SCRAM message: expected attribute \"n\" but found \"0x00\""),
            ("n,,r=a", "malformed SCRAM message: expected attribute \"n\" but found \"r\""),
            ("n,,n,r=a", "malformed SCRAM message: expected character \"=\" for attribute \"n\""),
            ("n,,n=", "malformed SCRAM message: expected attribute \"r\" but found \"0x00\""),
            ("n,,n=,x=a", "malformed SCRAM message: expected attribute \"r\" but found \"x\""),
            ("n,,n=,r=a b", "non-printable characters in SCRAM nonce"),
            ("n,,n=,r=é", "non-printable characters in SCRAM nonce"),
            ("n,,n=,r=a,,", "malformed SCRAM message: attribute expected, but found invalid character \",\""),
            ("n,,n=,r=a,1=2", "malformed SCRAM message: attribute expected, but found invalid character \"1\""),
            ("n,,n=,r=a,x", "malformed SCRAM message: expected character \"=\" for attribute \"x\""),
        ]
    )
    func malformedFirst(message: String, why: String) {
        var server = RFC7677.server()
        #expect(server.clientFirst(bytes(message)) == .malformed(why))
        #expect(server.clientFinal(bytes(RFC7677.clientFinal)) == .malformed("invalid SCRAM exchange state"))
    }

    @Test(
        "malformed client-final-message",
        arguments: [
            ("", "malformed SCRAM message: the message is empty"),
            ("\0", "malformed SCRAM message: message length does not match input length"),
            ("r=a,p=b", "malformed SCRAM message: expected attribute \"c\" but found \"r\""),
            ("c=eSws,r=a", "unexpected SCRAM channel-binding attribute in client-final-message"),
            ("c=,r=a", "unexpected SCRAM channel-binding attribute in client-final-message"),
            ("c=biws", "malformed SCRAM message: expected attribute \"r\" but found \"0x00\""),
            (RFC7677.withoutProof, "malformed SCRAM message: attribute expected, but found end of string"),
            (RFC7677.withoutProof + ",x=1", "malformed SCRAM message: attribute expected, but found end of string"),
            (RFC7677.withoutProof + ",p=", "malformed SCRAM message: malformed proof in client-final-message"),
            (RFC7677.withoutProof + ",p=AAAA", "malformed SCRAM message: malformed proof in client-final-message"),
            (RFC7677.clientFinal + "=", "malformed SCRAM message: malformed proof in client-final-message"),
            (RFC7677.clientFinal + ",x=1", "malformed SCRAM message: garbage found at the end of client-final-message"),
        ]
    )
    func malformedFinal(message: String, why: String) {
        var server = RFC7677.server()
        _ = server.clientFirst(bytes(RFC7677.clientFirst))
        #expect(server.clientFinal(bytes(message)) == .malformed(why))
    }

    @Test("no message traps, whatever bytes it holds")
    func randomMessages() {
        var random = SeededGenerator(seed: 3)
        for _ in 0..<2_000 {
            var first = bytes(RFC7677.clientFirst)
            var final = bytes(RFC7677.clientFinal)
            first[Int.random(in: first.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
            final.replaceSubrange(
                Int.random(in: final.indices, using: &random)...,
                with: random.bytes(Int.random(in: 0...9, using: &random))
            )
            var server = RFC7677.server()
            _ = server.clientFirst(first)
            if case .accepted = server.clientFinal(final) {
                Issue.record("accepted \(first) \(final)")
            }
        }
    }

    /// A client-final-message whose proof is well-formed and wrong.
    private func final(binding: String = "biws", nonce: String) -> [UInt8] {
        bytes("c=\(binding),r=\(nonce),p=" + String(repeating: "A", count: 43) + "=")
    }
}
