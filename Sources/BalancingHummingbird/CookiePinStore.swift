public import Balancing
public import Crypto
public import Hummingbird

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// Keeps pins in a cookie, signed: nobody can make one up and send all reads to the primary, or see another's.
///
/// The cookie is `HttpOnly`, `Secure` and `SameSite=Lax`. It holds the pin and its HMAC-SHA-256 (RFC 2104).
public struct CookiePinStore<Context: RequestContext>: PinStore {
    private let key: SymmetricKey
    private let name: String
    private let path: String
    private let domain: String?
    private let isSecure: Bool

    /// - Parameters:
    ///   - key: the same in all processes that serve the site, and secret; 32 bytes or more.
    ///   - name: of the cookie.
    ///   - path: of the cookie.
    ///   - domain: of the cookie; without it the host alone that set it.
    ///   - isSecure: only HTTPS carries it. Switch it off for a development server without TLS.
    public init(
        key: SymmetricKey,
        name: String = "pinned",
        path: String = "/",
        domain: String? = nil,
        isSecure: Bool = true
    ) {
        self.key = key
        self.name = name
        self.path = path
        self.domain = domain
        self.isSecure = isSecure
    }

    public func pin(of request: Request, context: Context) -> Pin? {
        guard let value = request.cookies[name]?.value, let dot = value.lastIndex(of: ".") else { return nil }
        let text = String(value[..<dot])
        guard let code = Data(base64Encoded: String(value[value.index(after: dot)...])),
            HMAC<SHA256>.isValidAuthenticationCode(code, authenticating: signed(text), using: key)
        else { return nil }
        return Pin(text)
    }

    public func keep(_ pin: Pin, for seconds: Int, of request: Request, context: Context) -> [Cookie] {
        let text = pin.description
        let code = Data(HMAC<SHA256>.authenticationCode(for: signed(text), using: key)).base64EncodedString()
        return [
            Cookie(
                name: name,
                value: "\(text).\(code)",
                maxAge: seconds,
                domain: domain,
                path: path,
                secure: isSecure,
                httpOnly: true,
                sameSite: .lax
            )
        ]
    }

    /// The name is signed, too: a key that signs other cookies signs none that could stand for this one.
    private func signed(_ text: String) -> Data { Data("\(name)=\(text)".utf8) }
}
