import Crypto

/// The functions of RFC 5802 section 2.2 with SHA-256 as the hash (RFC 7677). Comparisons are those of swift-crypto
/// that take the same time whatever the answer.
enum SHA256Arithmetic {
    /// Bytes of a hash, and so of every key, signature and proof.
    static let keyLength = SHA256.byteCount

    static func hash(_ bytes: [UInt8]) -> [UInt8] {
        Array(SHA256.hash(data: bytes))
    }

    /// Whether `expected` is the hash of `bytes`.
    static func isHash(_ expected: [UInt8], of bytes: [UInt8]) -> Bool {
        SHA256.hash(data: bytes) == expected
    }

    static func hmac(_ message: some Sequence<UInt8>, key: [UInt8]) -> [UInt8] {
        Array(HMAC<SHA256>.authenticationCode(for: Array(message), using: SymmetricKey(data: key)))
    }

    /// Whether `expected` is the HMAC of `message` under `key`.
    static func isHMAC(_ expected: [UInt8], of message: [UInt8], key: [UInt8]) -> Bool {
        HMAC<SHA256>.isValidAuthenticationCode(expected, authenticating: message, using: SymmetricKey(data: key))
    }

    /// - Precondition: both have the same length.
    static func exclusiveOr(_ left: [UInt8], _ right: [UInt8]) -> [UInt8] {
        precondition(left.count == right.count, "keys, signatures and proofs are all of one length")
        return zip(left, right).map { $0 ^ $1 }
    }

    /// Hi(password, salt, iterations): PBKDF2 with HMAC-SHA-256 and one block of output. The time it takes grows with
    /// the iterations; that is what it is for.
    static func saltedPassword(_ password: String, salt: [UInt8], iterations: Int) -> [UInt8] {
        let key = SymmetricKey(data: Array(password.utf8))
        var code = HMAC<SHA256>.authenticationCode(for: salt + [0, 0, 0, 1], using: key)
        var result = Array(code)
        for _ in 1..<max(iterations, 1) {
            code = code.withUnsafeBytes { HMAC<SHA256>.authenticationCode(for: $0, using: key) }
            code.withUnsafeBytes { block in
                for index in result.indices {
                    result[index] ^= block[index]
                }
            }
        }
        return result
    }
}
