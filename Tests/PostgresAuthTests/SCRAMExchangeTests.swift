import PostgresAuth
import TestSupport
import Testing

/// Both machines against each other.
struct SCRAMExchangeTests {
    @Test("who knows the password gets in, and knows the server", arguments: 0..<40)
    func roundTrip(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let password = random.password()
        let verifier = SCRAMVerifier(
            password: password,
            salt: random.bytes(Int.random(in: 1...33, using: &random)),
            iterations: Int.random(in: 1...20, using: &random)
        )
        let ending = try #require(exchange(verifier: verifier, credential: .password(password), random: &random))
        #expect(ending.client == .verified)

        // And the key that was shown gets into every node that holds the same verifier.
        let key = try #require(ending.key)
        let next = try #require(exchange(verifier: verifier, credential: .key(key, verifier), random: &random))
        #expect(next.client == .verified)
        #expect(next.key == key)
        let unknowing = try #require(exchange(verifier: verifier, credential: .key(key, nil), random: &random))
        #expect(unknowing.client == .unverified)
        #expect(unknowing.key == key)
    }

    @Test("who does not know the password is refused", arguments: 0..<10)
    func wrongPassword(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let password = random.password()
        let verifier = SCRAMVerifier(password: password, salt: random.bytes(16), iterations: 3)
        let guess = SCRAMClient.Credential.password(password + "x")
        #expect(exchange(verifier: verifier, credential: guess, random: &random) == Ending(server: .refused))
    }

    @Test("a key of one salt does not open the verifier of another, though the password is the same")
    func otherSalt() throws {
        var random = SeededGenerator(seed: 1)
        let old = SCRAMVerifier(password: "secret", salt: random.bytes(16), iterations: 3)
        let new = SCRAMVerifier(password: "secret", salt: random.bytes(16), iterations: 3)
        let ending = try #require(exchange(verifier: old, credential: .password("secret"), random: &random))
        let key = try #require(ending.key)
        #expect(key.opens(old))
        #expect(!key.opens(new))
        #expect(exchange(verifier: new, credential: .key(key, nil), random: &random) == Ending(server: .refused))
    }

    @Test("what the server keeps does not get anybody in")
    func verifierIsNoKey() throws {
        var random = SeededGenerator(seed: 2)
        let verifier = SCRAMVerifier(password: "secret", salt: random.bytes(16), iterations: 3)
        for stolen in [verifier.storedKey, verifier.serverKey] {
            let key = try #require(ClientKey(stolen))
            #expect(
                exchange(verifier: verifier, credential: .key(key, verifier), random: &random)
                    == Ending(server: .refused)
            )
        }
    }

    @Test("a role that does not exist is challenged like any other, and refused")
    func unknownRole() {
        var random = SeededGenerator(seed: 4)
        let mock = SCRAMVerifier.mock(role: "nobody", secret: random.bytes(32))
        #expect(
            exchange(verifier: mock, isMock: true, credential: .password("secret"), random: &random)
                == Ending(server: .refused)
        )
    }
}
