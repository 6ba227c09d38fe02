import Glibc

/// Whether a certificate is for a host, as libpq sees it: alternative names first; the common name only when there is no
/// alternative name of the host's kind.
///
/// Source: PostgreSQL manual, "SSL Support", `sslmode=verify-full`; RFC 6125, section 6.4.3 on wildcards.
package enum HostName {
    /// Why the certificate is not for `host`; `nil` when it is.
    static func problem(with certificate: Certificate?, host: String) -> TLSError? {
        guard let certificate else { return TLSError("the server has no certificate") }
        let address = address(host)
        var fallsBack = true
        var examined: [String] = []
        for alternative in certificate.alternativeNames {
            switch alternative {
            case .name(let name):
                if address == nil { fallsBack = false }
                if matches(name, host) { return nil }
                examined.append(name)
            case .address(let bytes):
                if address != nil { fallsBack = false }
                if bytes == address { return nil }
                examined.append(text(ofAddress: bytes))
            }
        }
        if fallsBack, let name = certificate.commonName {
            if matches(name, host) { return nil }
            examined.append(name)
        }
        guard let first = examined.first else {
            return TLSError("the server's certificate names no host, and is to be for \"\(host)\"")
        }
        let others = examined.count > 1 ? " (and \(examined.count - 1) more)" : ""
        return TLSError("the server's certificate is for \"\(first)\"\(others), not for host \"\(host)\"")
    }

    /// A wildcard stands for the whole first label, and for nothing else.
    package static func matches(_ pattern: String, _ host: String) -> Bool {
        let pattern = pattern.lowercased()
        let host = host.lowercased()
        if pattern == host { return !host.isEmpty }
        guard pattern.utf8.starts(with: "*.".utf8), pattern.utf8.count > 2, address(host) == nil else { return false }
        guard let dot = host.firstIndex(of: "."), dot != host.startIndex else { return false }
        return host[dot...] == pattern.dropFirst()
    }

    /// The bytes of an IPv4 or IPv6 address; `nil` for a name.
    package static func address(_ host: String) -> [UInt8]? {
        var v4 = in_addr()
        if inet_pton(AF_INET, host, &v4) == 1 { return withUnsafeBytes(of: v4) { Array($0) } }
        var v6 = in6_addr()
        if inet_pton(AF_INET6, host, &v6) == 1 { return withUnsafeBytes(of: v6) { Array($0) } }
        return nil
    }

    private static func text(ofAddress bytes: [UInt8]) -> String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        let family = bytes.count == 4 ? AF_INET : AF_INET6
        guard bytes.count == 4 || bytes.count == 16,
            inet_ntop(family, bytes, &text, socklen_t(text.count)) != nil
        else { return "an address" }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
