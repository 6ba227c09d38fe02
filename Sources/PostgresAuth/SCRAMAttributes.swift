/// Why a SCRAM message cannot be accepted, in the words of PostgreSQL's `src/backend/libpq/auth-scram.c`.
struct MalformedSCRAMMessage: Error {
    var text: String
    /// Not the message is wrong, but the channel it came by.
    var concernsChannel = false
    var detail: String?

    init(channel text: String, detail: String? = nil) {
        self.text = text
        self.detail = detail
        concernsChannel = true
    }

    init(_ text: String) {
        self.text = text
    }

    init(detail: String) {
        text = "malformed SCRAM message: \(detail)"
    }
}

extension MalformedSCRAMMessage {
    var refusal: SCRAMServer.OnMessage {
        concernsChannel ? .refusedChannel(text, detail: detail) : .malformed(text)
    }
}

/// The beginnings of the GS2 header (RFC 5802, section 7), and the one channel binding PostgreSQL knows (RFC 5929).
enum SCRAMChannel {
    /// The client knows no channel binding, or wants none.
    static let unknown = UInt8(ascii: "n")
    /// The client knows channel binding and believes that the server does not.
    static let unoffered = UInt8(ascii: "y")
    static let bound = UInt8(ascii: "p")
    static let type = Array("tls-server-end-point".utf8)
    static let header = Array("p=".utf8) + type + Array(",,".utf8)
}

/// Reads `name=value` attributes separated by commas, in order, from a SCRAM message (RFC 5802 section 5.1).
struct SCRAMAttributes {
    private let message: [UInt8]
    /// Where the next attribute starts, or the end of the message.
    private(set) var position = 0

    init(_ message: [UInt8]) {
        self.message = message
    }

    var isAtEnd: Bool { position == message.count }
    /// The byte that comes next.
    var next: UInt8? { isAtEnd ? nil : message[position] }

    /// The value of the attribute `name`, which must come next.
    mutating func value(of name: UInt8) throws(MalformedSCRAMMessage) -> [UInt8] {
        guard next == name else {
            throw MalformedSCRAMMessage(
                detail: "expected attribute \"\(printable(name))\" but found \"\(printable(next))\""
            )
        }
        return try attribute().value
    }

    /// Whatever attribute comes next. A comma at the very end belongs to the last one, as in PostgreSQL.
    mutating func attribute() throws(MalformedSCRAMMessage) -> (name: UInt8, value: [UInt8]) {
        guard let name = next else {
            throw MalformedSCRAMMessage(detail: "attribute expected, but found end of string")
        }
        guard isLetter(name) else {
            throw MalformedSCRAMMessage(
                detail: "attribute expected, but found invalid character \"\(printable(name))\""
            )
        }
        position += 1
        try skip(UInt8(ascii: "="), orFail: "expected character \"=\" for attribute \"\(printable(name))\"")
        let value = message[position...].prefix { $0 != UInt8(ascii: ",") }
        position = min(value.endIndex + 1, message.count)
        return (name, Array(value))
    }

    /// Steps over `byte`, which must come next.
    mutating func skip(_ byte: UInt8, orFail detail: String) throws(MalformedSCRAMMessage) {
        guard next == byte else { throw MalformedSCRAMMessage(detail: detail) }
        position += 1
    }

    private func isLetter(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
    }
}

/// One byte of a message for a person to read, an unprintable one in hexadecimal (PostgreSQL's `sanitize_char`). The
/// end of a message reads as the NUL that PostgreSQL finds there.
func printable(_ byte: UInt8?) -> String {
    let byte = byte ?? 0
    if (0x21...0x7E).contains(byte) {
        return String(UnicodeScalar(byte))
    }
    return "0x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
}
