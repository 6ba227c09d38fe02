/// A libpq connection URI.
///
/// Source: PostgreSQL manual, "Connection Strings", section "Connection URIs"; RFC 3986.
struct ConnectionURI {
    var host: String
    var port: UInt16
    var user: String
    var database: String
    /// In clear text, so only `slipstream url` has one.
    var password: String?
    /// Where libpq finds the password instead.
    var passwordFile: String?

    var text: String {
        var text = "postgresql://" + Self.encode(user)
        if let password { text += ":" + Self.encode(password) }
        text += "@" + (host.contains(":") ? "[\(host)]" : Self.encode(host)) + ":\(port)/" + Self.encode(database)
        if let passwordFile { text += "?passfile=" + Self.encode(passwordFile, keeping: "/") }
        return text
    }

    /// Everything but RFC 3986's unreserved characters as `%XX`.
    private static func encode(_ text: String, keeping kept: String = "") -> String {
        var encoded = ""
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                encoded.unicodeScalars.append(Unicode.Scalar(byte))
            case _ where kept.utf8.contains(byte):
                encoded.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                encoded += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }
        }
        return encoded
    }
}
