import PostgresWire

/// libpq's `sslmode`, for connections to nodes and, as PgBouncer has it, for those of clients.
package enum SSLMode: String, Sendable, CaseIterable {
    case disable
    /// Without TLS; with it if the node refuses that.
    case allow
    /// With TLS; without it if the node cannot.
    case prefer
    case require
    /// The certificate must be signed by a known authority.
    case verifyCA = "verify-ca"
    /// … and be for the node's host.
    case verifyFull = "verify-full"

    package var requiresEncryption: Bool {
        switch self {
        case .disable, .allow, .prefer: false
        case .require, .verifyCA, .verifyFull: true
        }
    }
}

/// How the bytes of a connection to a node travel.
package enum ServerTransport: Sendable, Equatable {
    case plain
    /// `tls-server-end-point` (RFC 5929) of the node's certificate, if it has one.
    case encrypted([UInt8]?)
}

/// Whether a connection to a node is encrypted, decided with the node as libpq does.
///
/// ```
/// connected --TLS wanted--> SSLRequest --"S"--> handshake --done--> start up
///           |                          --"N"--> start up, or fail where TLS is required
///           --not wanted--> start up
/// a failure before the node's word on the login: the other way, once, with allow and prefer
/// ```
///
/// Source: PostgreSQL manual, "SSL Support", table "SSL Mode Descriptions"; "Message Flow: SSL Session Encryption".
package struct ServerEncryption {
    package enum Step: Equatable {
        /// Send the SSLRequest and wait for one byte.
        case ask([UInt8])
        case wait
        case shakeHands
        /// Say who we are.
        case startUp
        case fail(String)
    }

    package let mode: SSLMode
    /// Whether TLS is tried on this connection.
    private var tries: Bool
    private var isSecondTry = false

    package init(mode: SSLMode) {
        self.mode = mode
        switch mode {
        case .disable, .allow: tries = false
        case .prefer, .require, .verifyCA, .verifyFull: tries = true
        }
    }

    /// For a connection beside another of the same kind, as a cancel request's.
    package init(like other: ServerTransport, mode: SSLMode) {
        self.init(mode: mode)
        tries = other != .plain
    }

    package func connected() -> Step {
        guard tries else { return .startUp }
        var writer = MessageWriter()
        writer.lengthPrefixed { $0.int32(StartupPacket.sslRequestCode) }
        return .ask(writer.bytes)
    }

    /// The node's answer to the SSLRequest: all that has come.
    package func answered(_ bytes: RawSpan) -> Step {
        guard bytes.byteCount > 0 else { return .wait }
        switch bytes.byte(at: 0) {
        case UInt8(ascii: "S"):
            // Somebody in the middle may have put more behind it (CVE-2021-23222).
            return bytes.byteCount == 1 ? .shakeHands : .fail("it sent unencrypted data after its answer to SSLRequest")
        case UInt8(ascii: "N"):
            guard bytes.byteCount == 1 else { return .fail("it sent data nobody asked for") }
            return mode.requiresEncryption || mode == .allow ? .fail("it does not support TLS") : .startUp
        default:
            return .fail("it does not know SSLRequest")
        }
    }

    /// The connection failed, or was refused, before it was of use. Returns whether to connect again, now the other way.
    package mutating func failed() -> Bool {
        guard !isSecondTry else { return false }
        switch mode {
        case .allow where !tries, .prefer where tries: break
        case .allow, .prefer, .disable, .require, .verifyCA, .verifyFull: return false
        }
        isSecondTry = true
        tries.toggle()
        return true
    }
}
