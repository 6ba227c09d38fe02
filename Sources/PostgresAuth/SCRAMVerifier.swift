/// What a server keeps instead of a password: `pg_authid.rolpassword` of the form
/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, the last three in Base64 (RFC 5803, and PostgreSQL's
/// manual on `pg_authid`).
///
/// With it guesses of the password can be checked, and with its ServerKey one can pose as the server, so it redacts
/// itself.
package struct SCRAMVerifier: Sendable, Equatable, Redacted {
    package let iterations: Int
    package let salt: [UInt8]
    /// SHA-256 of the ClientKey, 32 bytes.
    package let storedKey: [UInt8]
    /// The key of the server's signature, 32 bytes.
    package let serverKey: [UInt8]

    /// PostgreSQL's default of `scram_iterations`, and the only value before version 16.
    package static let defaultIterations = 4096

    private static let prefix = "SCRAM-SHA-256$"

    private init(iterations: Int, salt: [UInt8], storedKey: [UInt8], serverKey: [UInt8]) {
        self.iterations = iterations
        self.salt = salt
        self.storedKey = storedKey
        self.serverKey = serverKey
    }

    /// Reads the text of `pg_authid.rolpassword`; `nil` for anything else, an MD5 password for example.
    package init?(_ text: String) {
        guard text.hasPrefix(Self.prefix) else { return nil }
        let halves = text.utf8.dropFirst(Self.prefix.utf8.count).split(
            separator: UInt8(ascii: "$"),
            omittingEmptySubsequences: false
        )
        guard halves.count == 2 else { return nil }
        let costAndSalt = halves[0].split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        let keys = halves[1].split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        guard costAndSalt.count == 2, keys.count == 2,
            let iterations = Int(positiveDecimal: costAndSalt[0]),
            let salt = Base64.decode(costAndSalt[1]), !salt.isEmpty,
            let storedKey = Base64.decode(keys[0]), storedKey.count == SHA256Arithmetic.keyLength,
            let serverKey = Base64.decode(keys[1]), serverKey.count == SHA256Arithmetic.keyLength
        else { return nil }
        self.init(iterations: iterations, salt: salt, storedKey: storedKey, serverKey: serverKey)
    }

    /// The verifier PostgreSQL would store for a password. With its `text` a role is given a password that no log of the
    /// server can show.
    ///
    /// - Parameters:
    ///   - salt: random; PostgreSQL takes 16 bytes.
    ///   - iterations: 1 or more.
    package init(password: String, salt: [UInt8], iterations: Int = defaultIterations) {
        let saltedPassword = SHA256Arithmetic.saltedPassword(
            SASLprep.prepared(password),
            salt: salt,
            iterations: iterations
        )
        self.init(
            iterations: iterations,
            salt: salt,
            storedKey: SHA256Arithmetic.hash(ClientKey(saltedPassword: saltedPassword).bytes),
            serverKey: Self.serverKey(saltedPassword: saltedPassword)
        )
    }

    /// A verifier nobody can satisfy, for a role that is unknown or has no SCRAM password: a client is challenged as if
    /// it had one, so that it cannot learn which roles exist (as by PostgreSQL's `mock_scram_secret`).
    ///
    /// - Parameters:
    ///   - role: the name the client gave. It gets the same salt on every try, as a role that exists does.
    ///   - secret: random, and the same for the life of the process.
    ///   - iterations: what the server's `scram_iterations` gives to roles that exist.
    package static func mock(
        role: String,
        secret: [UInt8],
        iterations: Int = defaultIterations
    ) -> SCRAMVerifier {
        // The name of a role holds no NUL, so that no two purposes share an input.
        func derived(_ purpose: String) -> [UInt8] {
            SHA256Arithmetic.hmac("\(purpose)\0\(role)".utf8, key: secret)
        }
        return SCRAMVerifier(
            iterations: iterations,
            salt: Array(derived("salt").prefix(16)),
            storedKey: derived("StoredKey"),
            serverKey: derived("ServerKey")
        )
    }

    /// As `pg_authid.rolpassword` holds it. A secret.
    package var text: String {
        func encoded(_ bytes: [UInt8]) -> String { String(decoding: Base64.encode(bytes), as: UTF8.self) }
        return "\(Self.prefix)\(iterations):\(encoded(salt))$\(encoded(storedKey)):\(encoded(serverKey))"
    }

    static func serverKey(saltedPassword: [UInt8]) -> [UInt8] {
        SHA256Arithmetic.hmac("Server Key".utf8, key: saltedPassword)
    }
}

extension Int {
    /// A number of 1 to 2³¹−1 written in decimal digits only: RFC 5802's posit-number, as far as PostgreSQL can hold
    /// it.
    init?(positiveDecimal digits: some Collection<UInt8>) {
        guard (1...10).contains(digits.count), digits.first != UInt8(ascii: "0") else { return nil }
        var value = 0
        for digit in digits {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
            value = value * 10 + Int(digit - UInt8(ascii: "0"))
        }
        guard value <= Int(Int32.max) else { return nil }
        self = value
    }
}
