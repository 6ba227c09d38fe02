import PostgresAuth
import TestSupport
import Testing

struct SCRAMVerifierTests {
    /// What PostgreSQL stores for the password of RFC 7677 with its salt.
    private static let stored =
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
        + ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

    @Test("pg_authid.rolpassword is read, and written the same")
    func readAndWritten() throws {
        let verifier = try #require(SCRAMVerifier(Self.stored))
        #expect(verifier == RFC7677.verifier)
        #expect(verifier.iterations == 4096)
        #expect(verifier.salt == RFC7677.salt)
        #expect(verifier.storedKey.count == 32)
        #expect(verifier.serverKey.count == 32)
        #expect(verifier.text == Self.stored)
    }

    @Test("salts of every length are read back", arguments: 1...20)
    func saltLengths(length: Int) {
        var random = SeededGenerator(seed: UInt64(length))
        let verifier = SCRAMVerifier(password: "secret", salt: random.bytes(length), iterations: 1)
        #expect(SCRAMVerifier(verifier.text) == verifier)
    }

    @Test(
        "anything else is no verifier",
        arguments: [
            "",
            "secret",
            "md53175bce1d3201d16594cebf9d7eb3f9d",
            "SCRAM-SHA-256",
            "SCRAM-SHA-256$",
            "SCRAM-SHA-1" + stored.dropFirst("SCRAM-SHA-256".count),
            stored.replacing("$4096:", with: "$:"),
            stored.replacing("$4096:", with: "$0:"),
            stored.replacing("$4096:", with: "$+1:"),
            stored.replacing("$4096:", with: "$2147483648:"),
            stored.replacing("W22ZaJ0SNY7soEsUEjb6gQ==", with: ""),
            stored.replacing("gQ==", with: "gQ="),
            stored.replacing("gQ==", with: "g==="),
            stored.replacing("gQ==", with: "gQ==AAAA"),
            stored.replacing("gQ==", with: "gQ=a"),
            stored.replacing("gQ==", with: "g*=="),
            stored.replacing("WG5d", with: ""),
            stored.replacing("wfPL", with: ""),
            stored.replacing("wfPL", with: "wfPLwfPL"),
            stored + ":",
            stored + "$",
            String(stored.dropLast(45)),
        ]
    )
    func noVerifier(text: String) {
        #expect(SCRAMVerifier(text) == nil)
    }

    // MARK: - Mock verifiers

    @Test("a role without a password gets the same challenge on every try")
    func mockIsStable() {
        let secret = [UInt8](repeating: 7, count: 32)
        let mock = SCRAMVerifier.mock(role: "nobody", secret: secret)
        #expect(mock == SCRAMVerifier.mock(role: "nobody", secret: secret))
        #expect(mock.salt.count == 16)
        #expect(mock.iterations == 4096)
        #expect(SCRAMVerifier(mock.text) == mock, "it looks like any other")
        #expect(SCRAMVerifier.mock(role: "nobody", secret: secret, iterations: 10_000).iterations == 10_000)
    }

    @Test("another role, or the same in another process, gets another challenge")
    func mocksDiffer() {
        let secret = [UInt8](repeating: 7, count: 32)
        let other = [UInt8](repeating: 8, count: 32)
        let mocks = [
            SCRAMVerifier.mock(role: "nobody", secret: secret),
            SCRAMVerifier.mock(role: "somebody", secret: secret),
            SCRAMVerifier.mock(role: "", secret: secret),
            SCRAMVerifier.mock(role: "nobody", secret: other),
        ]
        #expect(Set(mocks.map(\.salt)).count == mocks.count)
        #expect(Set(mocks.flatMap { [$0.storedKey, $0.serverKey] }).count == 2 * mocks.count)
    }

    // MARK: - Redaction

    @Test("keys, verifiers and credentials never show what they hold")
    func redaction() throws {
        let key = try #require(ClientKey([UInt8](repeating: 201, count: 32)))
        let verdict = SCRAMServer.OnMessage.accepted(serverFinal: [], key)
        let secrets: [Any] = [
            key, RFC7677.verifier, SCRAMClient.Credential.password("hush"),
            SCRAMClient.Credential.key(key, RFC7677.verifier), verdict, [key], Optional(key) as Any,
        ]
        for secret in secrets {
            var dumped = ""
            dump(secret, to: &dumped)
            for shown in ["\(secret)", String(reflecting: secret), dumped] {
                #expect(!shown.contains("201") && !shown.contains("hush") && !shown.contains("91"), "\(shown)")
            }
        }
        #expect("\(key)" == "ClientKey(redacted)")
        #expect("\(RFC7677.verifier)" == "SCRAMVerifier(redacted)")
        #expect("\(SCRAMClient.Credential.password("hush"))" == "Credential(redacted)")
    }

    @Test("a key has 32 bytes")
    func keyLength() {
        #expect(ClientKey([]) == nil)
        #expect(ClientKey([UInt8](repeating: 0, count: 31)) == nil)
        #expect(ClientKey([UInt8](repeating: 0, count: 33)) == nil)
        #expect(ClientKey([UInt8](repeating: 0, count: 32)) != nil)
    }

    @Test("a nonce made of random bytes holds only what a nonce may hold")
    func nonce() {
        #expect(text(SCRAMNonce.make(from: [UInt8](repeating: 0xFB, count: 18))) == "+/v7+/v7+/v7+/v7+/v7+/v7")
    }
}
