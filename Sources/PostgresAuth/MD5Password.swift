import Crypto

/// What a server keeps of a password that is authenticated by MD5: `pg_authid.rolpassword` of the form `md5` and 32
/// hexadecimal digits, the MD5 hash of the password with the role's name behind it.
///
/// Whoever has it can log in as the role, for the exchange proves knowledge of the hash: it is as secret as the password.
///
/// Source: PostgreSQL manual, "Password Authentication" and "Message Flow: Start-up", AuthenticationMD5Password.
package struct MD5Password: Sendable, Redacted {
    /// Random bytes of a challenge.
    package static let saltLength = 4
    private static let prefix = Array("md5".utf8)

    /// The 32 hexadecimal digits.
    private let digits: [UInt8]

    /// Reads the text of `pg_authid.rolpassword`; `nil` for anything else.
    package init?(_ text: String) {
        let text = Array(text.utf8)
        let digits = Array(text.dropFirst(Self.prefix.count))
        guard text.starts(with: Self.prefix), digits.count == 32, digits.allSatisfy(Self.isDigit) else { return nil }
        self.digits = digits
    }

    package init(password: String, role: String) {
        digits = Self.hash(Array(password.utf8) + Array(role.utf8))
    }

    /// A hash nobody has the password of, for a role that is unknown or has no such password.
    ///
    /// - Parameter secret: random, and the same for the life of the process.
    package static func mock(role: String, secret: [UInt8]) -> MD5Password {
        MD5Password(digits: hash(SHA256Arithmetic.hmac("MD5\0\(role)".utf8, key: secret)))
    }

    private init(digits: [UInt8]) {
        self.digits = digits
    }

    /// The text of a PasswordMessage that answers a challenge.
    package func answer(salt: [UInt8]) -> [UInt8] {
        Self.prefix + Self.hash(digits + salt)
    }

    /// Whether a client's answer proves that it knows the hash. Takes the same time whatever the answer.
    package func isAnswered(by answer: [UInt8], salt: [UInt8]) -> Bool {
        isEqualInConstantTime(answer, self.answer(salt: salt))
    }

    /// Whether this is the hash of a role's password. Takes the same time whatever the answer.
    package func isHash(of password: String, role: String) -> Bool {
        isEqualInConstantTime(MD5Password(password: password, role: role).digits, digits)
    }

    private static func isDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
    }

    private static func hash(_ bytes: [UInt8]) -> [UInt8] {
        let digits = Array("0123456789abcdef".utf8)
        return Insecure.MD5.hash(data: bytes).flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
    }
}

/// Whether both are the same. Only different lengths are told sooner.
func isEqualInConstantTime(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    left.count == right.count && zip(left, right).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
}
