/// The random text by which each side makes an exchange unique.
package enum SCRAMNonce {
    /// How many random bytes PostgreSQL takes.
    package static let randomByteCount = 18

    /// The nonce made of `random` bytes: their Base64, which holds only characters a nonce may have.
    package static func make(from random: [UInt8]) -> [UInt8] {
        Base64.encode(random)
    }

    /// Whether all characters are printable ASCII and none is a comma (RFC 5802 section 7, printable).
    static func isValid(_ nonce: some Sequence<UInt8>) -> Bool {
        nonce.allSatisfy { (0x21...0x7E).contains($0) && $0 != UInt8(ascii: ",") }
    }
}
