import PostgresAuth
import Testing

struct SCRAMClientTests {
    @Test("the exchange of RFC 7677, as the client")
    func testVector() {
        var client = RFC7677.client()
        #expect(text(client.firstMessage()) == RFC7677.clientFirst)
        #expect(client.serverFirst(bytes(RFC7677.serverFirst)) == .reply(bytes(RFC7677.clientFinal)))
        #expect(client.serverFinal(bytes(RFC7677.serverFinal)) == .verified)
    }

    @Test("with a key instead of the password, the messages are the same")
    func withKey() throws {
        let key = try #require(try shownKey())

        var client = RFC7677.client(.key(key, RFC7677.verifier))
        #expect(text(client.firstMessage()) == RFC7677.clientFirst)
        #expect(client.serverFirst(bytes(RFC7677.serverFirst)) == .reply(bytes(RFC7677.clientFinal)))
        #expect(client.serverFinal(bytes(RFC7677.serverFinal)) == .verified)

        var unknowing = RFC7677.client(.key(key, nil))
        #expect(unknowing.serverFirst(bytes(RFC7677.serverFirst)) == .reply(bytes(RFC7677.clientFinal)))
        #expect(unknowing.serverFinal(bytes(RFC7677.serverFinal)) == .unverified)
    }

    @Test("a node with another salt or another count of iterations has another password")
    func otherVerifier() throws {
        let key = try #require(try shownKey())
        for challenge in ["AAAAAAAAAAAAAAAAAAAAAA==,i=4096", "W22ZaJ0SNY7soEsUEjb6gQ==,i=4097"] {
            var client = RFC7677.client(.key(key, RFC7677.verifier))
            #expect(client.serverFirst(bytes("r=\(RFC7677.clientNonce)x,s=\(challenge)")) == .otherVerifier)
        }
    }

    @Test("libpq leaves the user name empty, and so do we; one that is given is escaped")
    func userName() {
        var nameless = SCRAMClient(credential: .password(""), clientNonce: bytes("abc"))
        #expect(text(nameless.firstMessage()) == "n,,n=,r=abc")
        var odd = SCRAMClient(credential: .password(""), clientNonce: bytes("abc"), user: "a=b,c")
        #expect(text(odd.firstMessage()) == "n,,n=a=3Db=2Cc,r=abc")
    }

    @Test("a server that does not know the ServerKey is refused")
    func wrongSignature() {
        var client = RFC7677.client()
        #expect(client.serverFirst(bytes(RFC7677.serverFirst)) == .reply(bytes(RFC7677.clientFinal)))
        #expect(client.serverFinal(bytes("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")) == .refused)
    }

    @Test(
        "malformed server-first-message",
        arguments: [
            ("", "malformed SCRAM message: expected attribute \"r\" but found \"0x00\""),
            ("m=1,r=abcdef", "server requires an unsupported SCRAM extension"),
            ("r=ab,s=AAAA,i=1", "invalid SCRAM response: nonce does not match"),
            ("r=abc,s=AAAA,i=1", "invalid SCRAM response: nonce does not match"),
            ("r=xabcdef,s=AAAA,i=1", "invalid SCRAM response: nonce does not match"),
            ("r=abc\u{7F},s=AAAA,i=1", "invalid SCRAM response: nonce does not match"),
            ("r=abcdef,i=1", "malformed SCRAM message: expected attribute \"s\" but found \"i\""),
            ("r=abcdef,s=,i=1", "malformed SCRAM message: invalid salt"),
            ("r=abcdef,s=AAA,i=1", "malformed SCRAM message: invalid salt"),
            ("r=abcdef,s=AAAA", "malformed SCRAM message: expected attribute \"i\" but found \"0x00\""),
            ("r=abcdef,s=AAAA,i=", "malformed SCRAM message: invalid iteration count"),
            ("r=abcdef,s=AAAA,i=0", "malformed SCRAM message: invalid iteration count"),
            ("r=abcdef,s=AAAA,i=-1", "malformed SCRAM message: invalid iteration count"),
            ("r=abcdef,s=AAAA,i=1x", "malformed SCRAM message: invalid iteration count"),
            ("r=abcdef,s=AAAA,i=2147483648", "malformed SCRAM message: invalid iteration count"),
            ("r=abcdef,s=AAAA,i=99999999999999999999", "malformed SCRAM message: invalid iteration count"),
            ("r=abcdef,s=AAAA,i=1,?", "malformed SCRAM message: attribute expected, but found invalid character \"?\""),
        ]
    )
    func malformedFirst(message: String, why: String) {
        var client = SCRAMClient(credential: .password("secret"), clientNonce: bytes("abc"))
        #expect(client.serverFirst(bytes(message)) == .malformed(why))
        #expect(client.serverFinal(bytes("v=")) == .malformed("invalid SCRAM exchange state"))
    }

    @Test(
        "malformed server-final-message",
        arguments: [
            ("", "malformed SCRAM message: expected attribute \"v\" but found \"0x00\""),
            ("v", "malformed SCRAM message: expected character \"=\" for attribute \"v\""),
            ("v=", "malformed SCRAM message: invalid server signature"),
            ("v=AAAA", "malformed SCRAM message: invalid server signature"),
            ("v=?", "malformed SCRAM message: invalid server signature"),
            ("e=invalid-proof", "error received from server in SCRAM exchange: invalid-proof"),
        ]
    )
    func malformedFinal(message: String, why: String) {
        var client = RFC7677.client()
        _ = client.serverFirst(bytes(RFC7677.serverFirst))
        #expect(client.serverFinal(bytes(message)) == .malformed(why))
    }

    /// The key the client of RFC 7677 shows to a server.
    private func shownKey() throws -> ClientKey? {
        var server = RFC7677.server()
        _ = server.clientFirst(bytes(RFC7677.clientFirst))
        return Ending(server: server.clientFinal(bytes(RFC7677.clientFinal))).key
    }
}
