// The character classes of PostgreSQL's `scan.l`. Bytes above 127 belong to identifiers.

@inline(__always)
func foldCase(_ byte: UInt8) -> UInt8 { byte &- UInt8(ascii: "A") < 26 ? byte | 0x20 : byte }

@inline(__always)
func isDigit(_ byte: UInt8) -> Bool { byte &- UInt8(ascii: "0") < 10 }

@inline(__always)
func isIdentifierStart(_ byte: UInt8) -> Bool {
    (byte | 0x20) &- UInt8(ascii: "a") < 26 || byte == UInt8(ascii: "_") || byte >= 0x80
}

@inline(__always)
func isIdentifierByte(_ byte: UInt8) -> Bool {
    byte >= 0x80 || (byte >= 0x40 ? lettersAndUnderscore : digitsAndDollar) &>> UInt64(byte & 63) & 1 != 0
}

private let digitsAndDollar: UInt64 = 0x03FF_0010_0000_0000
private let lettersAndUnderscore: UInt64 = 0x07FF_FFFE_87FF_FFFE

/// A vertical tab is white space since PostgreSQL 16, and an error before.
@inline(__always)
func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte &- 9 < 5 }

@inline(__always)
func isNewline(_ byte: UInt8) -> Bool { byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") }

@inline(__always)
func isOperator(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "~"), UInt8(ascii: "!"), UInt8(ascii: "@"), UInt8(ascii: "#"), UInt8(ascii: "^"),
        UInt8(ascii: "&"), UInt8(ascii: "|"), UInt8(ascii: "`"), UInt8(ascii: "?"), UInt8(ascii: "+"),
        UInt8(ascii: "-"), UInt8(ascii: "*"), UInt8(ascii: "/"), UInt8(ascii: "%"), UInt8(ascii: "<"),
        UInt8(ascii: ">"), UInt8(ascii: "="):
        true
    default: false
    }
}

/// A number from 0 to 63 that equal names share, whatever their case.
@inline(__always)
func nameShape(length: Int, first: UInt8, last: UInt8) -> UInt64 {
    (UInt64(truncatingIfNeeded: length) &* 7 &+ UInt64(foldCase(first)) &* 3 &+ UInt64(foldCase(last))) & 63
}

/// FNV-1a.
@inline(__always)
func nameHash(_ bytes: some Sequence<UInt8>) -> UInt64 {
    bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
}
