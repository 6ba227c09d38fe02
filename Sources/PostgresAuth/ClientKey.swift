/// The key that proves knowledge of a password to any server that holds the same verifier (RFC 5802 section 3).
///
/// Whoever has it can log in as the role until the role's password changes, so it is as secret as the password and
/// describes itself without its bytes.
package struct ClientKey: Sendable, Equatable, Redacted {
    /// 32 bytes.
    package let bytes: [UInt8]

    /// `nil` unless there are 32 bytes.
    package init?(_ bytes: [UInt8]) {
        guard bytes.count == SHA256Arithmetic.keyLength else { return nil }
        self.bytes = bytes
    }

    /// The key of a password that went through `SHA256Arithmetic.saltedPassword`.
    init(saltedPassword: [UInt8]) {
        bytes = SHA256Arithmetic.hmac("Client Key".utf8, key: saltedPassword)
    }

    /// The key a password has for a verifier's salt and iterations; whether it is the right one, `opens(_:)` tells.
    init(password: String, verifier: SCRAMVerifier) {
        self.init(
            saltedPassword: SHA256Arithmetic.saltedPassword(
                SASLprep.prepared(password),
                salt: verifier.salt,
                iterations: verifier.iterations
            )
        )
    }

    /// The key a client has shown by its proof; whether it is the right one, `opens(_:)` tells.
    init(proof: [UInt8], signature: [UInt8]) {
        bytes = SHA256Arithmetic.exclusiveOr(proof, signature)
    }

    /// Whether this is the key of the password `verifier` was made from: whether its hash is the StoredKey. Takes the
    /// same time whatever the answer.
    package func opens(_ verifier: SCRAMVerifier) -> Bool {
        SHA256Arithmetic.isHash(verifier.storedKey, of: bytes)
    }

    /// Takes the same time whatever the answer.
    package static func == (left: ClientKey, right: ClientKey) -> Bool {
        SHA256Arithmetic.exclusiveOr(left.bytes, right.bytes).reduce(0, |) == 0
    }
}
