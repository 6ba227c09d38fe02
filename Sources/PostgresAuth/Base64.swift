/// Base64 as SCRAM and `pg_authid` use it: RFC 4648 section 4, padded, without white space or line breaks.
enum Base64 {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    private static let padding = UInt8(ascii: "=")

    static func encode(_ bytes: [UInt8]) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count + 2) / 3 * 4)
        var rest = bytes[...]
        while !rest.isEmpty {
            let group = rest.prefix(3)
            rest = rest.dropFirst(3)
            let bits = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << (8 * UInt32(3 - group.count))
            for position in 0..<4 {
                let sextet = Int(bits >> UInt32(18 - 6 * position) & 63)
                text.append(position <= group.count ? alphabet[sextet] : padding)
            }
        }
        return text
    }

    /// The bytes `text` stands for, or `nil` when it is not padded Base64. Like PostgreSQL's `pg_b64_decode` it does
    /// not insist that the bits left over in the last group are zero.
    static func decode(_ text: some Sequence<UInt8>) -> [UInt8]? {
        var rest = Array(text)[...]
        guard rest.count.isMultiple(of: 4) else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(rest.count / 4 * 3)
        while !rest.isEmpty {
            let group = rest.prefix(4)
            rest = rest.dropFirst(4)
            let letters = group.prefix { $0 != padding }
            let isWhole = letters.count == 4
            let isPadded =
                rest.isEmpty && letters.count >= 2 && group.dropFirst(letters.count).allSatisfy { $0 == padding }
            guard isWhole || isPadded else { return nil }
            var bits: UInt32 = 0
            for letter in letters {
                guard let sextet = value(of: letter) else { return nil }
                bits = bits << 6 | sextet
            }
            bits <<= 6 * UInt32(4 - letters.count)
            for position in 0..<(letters.count - 1) {
                bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(16 - 8 * position)))
            }
        }
        return bytes
    }

    private static func value(of letter: UInt8) -> UInt32? {
        switch letter {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(letter - UInt8(ascii: "A"))
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(letter - UInt8(ascii: "a")) + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(letter - UInt8(ascii: "0")) + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }
}
