import COpenSSL
import Glibc

/// Why something about TLS went wrong, in OpenSSL's words.
package struct TLSError: Error, Sendable, Equatable, CustomStringConvertible {
    package var description: String

    package init(_ description: String) {
        self.description = description
    }

    /// What the calling thread's error queue tells, which is empty afterwards.
    ///
    /// The first error is the cause; the others say what could not be done because of it.
    static func fromQueue(_ what: String? = nil) -> TLSError {
        var data: UnsafePointer<CChar>?
        var flags: Int32 = 0
        let code = ERR_get_error_all(nil, nil, nil, &data, &flags)
        var reason = code == 0 ? "no error was reported" : text(of: code)
        if let data, flags & ERR_TXT_STRING != 0, data.pointee != 0 {
            reason += " (\(String(cString: data)))"
        }
        ERR_clear_error()
        return TLSError(what.map { "\($0): \(reason)" } ?? reason)
    }

    private static func text(of code: UInt) -> String {
        if let reason = ERR_reason_error_string(code) { return String(cString: reason) }
        // An errno has no text of OpenSSL's: its number is what is left of the code (ERR_SYSTEM_FLAG).
        let systemFlag = UInt(Int32.max) + 1
        if code & systemFlag != 0 {
            return String(cString: strerror(Int32(truncatingIfNeeded: code & (systemFlag - 1))))
        }
        return "OpenSSL error \(String(code, radix: 16))"
    }
}
