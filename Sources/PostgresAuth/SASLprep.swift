import Foundation

/// The form in which passwords are hashed for SCRAM, so that the same characters typed on different systems are the same
/// bytes.
///
/// Like PostgreSQL it leaves a password as it is that is plain ASCII, or that the profile would refuse.
///
/// Foundation composes an archaic Hangul vowel (U+1176 to U+11A7) with the consonant before it, which Unicode does not:
/// such a password, sent in clear text, is taken for a wrong one.
///
/// Source: RFC 4013, RFC 3454; PostgreSQL's `pg_saslprep`.
enum SASLprep {
    static func prepared(_ password: String) -> String {
        if password.utf8.allSatisfy({ $0 < 0x80 }) { return password }
        var mapped = String.UnicodeScalarView()
        for scalar in password.unicodeScalars {
            if isOtherSpace(scalar) {
                mapped.append(" ")
            } else if !isMappedToNothing(scalar) {
                mapped.append(scalar)
            }
        }
        // PostgreSQL checks the characters before they are normalized, against the order of the RFC.
        guard !mapped.isEmpty, !mapped.contains(where: { isProhibited($0) || isUnassigned($0) }),
            hasOneDirection(mapped)
        else { return password }
        // NFKC in two steps: Foundation's own leaves a Hangul syllable and a compatible final consonant uncomposed.
        return String(mapped).decomposedStringWithCompatibilityMapping.precomposedStringWithCanonicalMapping
    }

    /// RFC 3454 table C.1.2.
    private static func isOtherSpace(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0xA0, 0x1680, 0x2000...0x200B, 0x202F, 0x205F, 0x3000: true
        default: false
        }
    }

    /// RFC 3454 table B.1.
    private static func isMappedToNothing(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0xAD, 0x34F, 0x1806, 0x180B...0x180D, 0x200B...0x200D, 0x2060, 0xFE00...0xFE0F, 0xFEFF: true
        default: false
        }
    }

    /// RFC 3454 tables C.2.1, C.2.2 and C.3 to C.9; the spaces of C.1.2 were mapped.
    private static func isProhibited(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.value & 0xFFFE == 0xFFFE { return true }
        switch scalar.value {
        case 0...0x1F, 0x7F...0x9F, 0x340, 0x341, 0x6DD, 0x70F, 0x180E, 0x200C...0x200F, 0x2028...0x202E,
            0x2060...0x2063, 0x206A...0x206F, 0x2FF0...0x2FFB, 0xE000...0xF8FF, 0xFDD0...0xFDEF, 0xFEFF,
            0xFFF9...0xFFFD, 0x1D173...0x1D17A, 0xE0001, 0xE0020...0xE007F, 0xF0000...0x10FFFF:
            return true
        default:
            return false
        }
    }

    /// RFC 3454 table A.1: what Unicode 3.2 had not assigned.
    private static func isUnassigned(_ scalar: Unicode.Scalar) -> Bool {
        guard let age = scalar.properties.age else { return true }
        return (age.major, age.minor) > (3, 2)
    }

    /// RFC 3454 section 6: text written from right to left begins and ends so, and holds no letters of the other kind.
    private static func hasOneDirection(_ scalars: String.UnicodeScalarView) -> Bool {
        guard scalars.contains(where: isRightToLeft) else { return true }
        guard let first = scalars.first, let last = scalars.last else { return true }
        return isRightToLeft(first) && isRightToLeft(last)
            && scalars.allSatisfy { isRightToLeft($0) || !$0.properties.isAlphabetic }
    }

    /// RFC 3454 table D.1.
    private static func isRightToLeft(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x5BE, 0x5C0, 0x5C3, 0x5D0...0x5EA, 0x5F0...0x5F4, 0x61B, 0x61F, 0x621...0x63A, 0x640...0x64A,
            0x66D...0x66F, 0x671...0x6D5, 0x6DD, 0x6E5...0x6E6, 0x6FA...0x6FE, 0x700...0x70D, 0x710, 0x712...0x72C,
            0x780...0x7A5, 0x7B1, 0x200F, 0xFB1D, 0xFB1F...0xFB28, 0xFB2A...0xFB36, 0xFB38...0xFB3C, 0xFB3E,
            0xFB40...0xFB41, 0xFB43...0xFB44, 0xFB46...0xFBB1, 0xFBD3...0xFD3D, 0xFD50...0xFD8F, 0xFD92...0xFDC7,
            0xFDF0...0xFDFC, 0xFE70...0xFE74, 0xFE76...0xFEFC:
            true
        default:
            false
        }
    }
}
