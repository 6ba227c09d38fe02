import PostgresAuth
import Testing

struct StoredPasswordTests {
    @Test("the forms of pg_authid.rolpassword are told apart")
    func forms() {
        let verifier = SCRAMVerifier(password: "pencil", salt: [1], iterations: 1)
        guard case .scram(verifier) = StoredPassword(verifier.text) else {
            Issue.record("a verifier is not known")
            return
        }
        guard case .md5 = StoredPassword("md5" + String(repeating: "a", count: 32)) else {
            Issue.record("a hash is not known")
            return
        }
        for text in [
            nil, "", "md5", "md5" + String(repeating: "a", count: 31), "md5" + String(repeating: "A", count: 32),
            "md5" + String(repeating: "g", count: 32), "MD5" + String(repeating: "a", count: 32), "plain",
        ] {
            #expect(StoredPassword(text) == nil)
        }
    }

    @Test("a hash is that of the password with the role's name behind it")
    func hash() {
        // select 'md5' || md5('secret' || 'ann')
        let stored = StoredPassword("md59d792a3a8853c2411afb9163d088c036")
        #expect(stored?.credential(for: "secret", role: "ann")?.md5 != nil)
        #expect(stored?.credential(for: "secret", role: "bob") == nil)
        #expect(stored?.credential(for: "Secret", role: "ann") == nil)
        #expect(stored?.credential(for: "", role: "ann") == nil)
    }

    @Test("nothing shows a secret")
    func redaction() {
        let stored = StoredPassword("md59d792a3a8853c2411afb9163d088c036")
        let credential = LoginCredential(password: "secret", md5: MD5Password("md59d792a3a8853c2411afb9163d088c036"))
        for value in [stored as Any, credential, RolePassword(text: "md59d792a3a8853c2411afb9163d088c036")] {
            var text = "\(value)" + String(reflecting: value)
            dump(value, to: &text)
            #expect(!text.contains("secret") && !text.contains("9d792a3a8853"))
        }
    }

    private func verifier(_ password: String) -> SCRAMVerifier {
        SCRAMVerifier(password: password, salt: [1], iterations: 1)
    }

    /// RFC 4013's own examples (section 3), and some more. EndpointTests has some that PostgreSQL has hashed.
    @Test(
        "passwords that SASLprep makes the same are the same",
        arguments: [
            ("I\u{AD}X", "IX"), ("\u{AA}", "a"), ("\u{2168}", "IX"), ("a\u{A0}b", "a b"), ("e\u{301}", "\u{E9}"),
            ("\u{1D538}", "A"), ("\u{FB01}", "fi"),
            ("\u{AC00}\u{FFAD}", "\u{AC0C}"),
            // A combining letter has no direction.
            ("\u{5D0}\u{363}\u{34F}\u{5D0}", "\u{5D0}\u{363}\u{5D0}"),
        ]
    )
    func prepared(typed: String, same: String) {
        #expect(verifier(typed) == verifier(same))
    }

    @Test(
        "what SASLprep refuses, and plain ASCII, is left alone",
        arguments: [
            ("USER", "user"), ("\u{627}\u{2168}", "\u{627}IX"), ("\u{AD}", ""), ("\u{AA}\u{E000}", "a\u{E000}"),
            ("\u{AA}\u{7}", "a\u{7}"), ("\u{AA}\u{1F600}", "a\u{1F600}"),
            // A symbol written from left to right, in text from right to left.
            ("\u{5D0}\u{33AE}\u{AD}\u{5D0}", "\u{5D0}\u{33AE}\u{5D0}"),
        ]
    )
    func leftAlone(typed: String, other: String) {
        #expect(verifier(typed) != verifier(other))
        #expect(verifier(typed) == verifier(typed))
    }
}
