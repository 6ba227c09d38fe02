/// The first packet of a connection: it has a length but no type.
///
/// Source: PostgreSQL manual, "Message Formats": StartupMessage, CancelRequest, SSLRequest, GSSENCRequest.
package enum StartupPacket: Sendable, Equatable {
    package static let cancelRequestCode: Int32 = 80_877_102
    package static let sslRequestCode: Int32 = 80_877_103
    package static let gssEncryptionRequestCode: Int32 = 80_877_104
    /// `MAX_STARTUP_PACKET_LENGTH` of PostgreSQL, which does not count the length itself.
    package static let maximumLength = 10_004

    case startup(StartupMessage)
    case cancel(CancelKey)
    case sslRequest
    case gssEncryptionRequest
    case unsupportedVersion(major: Int, minor: Int)
    /// The length is not one that such a packet can have.
    case wrongLength
    case malformed(String)

    /// The length the packet at the start of `bytes` announces; `nil` before four bytes are there.
    package static func announcedLength(_ bytes: RawSpan) -> Int? {
        bytes.byteCount < 4 ? nil : Int(bytes.int32(at: 0))
    }

    /// Parses one whole packet.
    package init(_ bytes: RawSpan) {
        guard bytes.byteCount >= 8 else {
            self = .wrongLength
            return
        }
        let code = bytes.int32(at: 4)
        switch code {
        case Self.cancelRequestCode:
            guard bytes.byteCount == 16 else {
                self = .wrongLength
                return
            }
            self = .cancel(CancelKey(processID: bytes.int32(at: 8), secret: bytes.int32(at: 12)))
        case Self.sslRequestCode:
            self = .sslRequest
        case Self.gssEncryptionRequestCode:
            self = .gssEncryptionRequest
        default:
            let major = Int(code >> 16)
            let minor = Int(code & 0xFFFF)
            guard major == 3 else {
                self = .unsupportedVersion(major: major, minor: minor)
                return
            }
            self = Self.parameters(bytes, minorVersion: minor)
        }
    }

    private static func parameters(_ bytes: RawSpan, minorVersion: Int) -> StartupPacket {
        let malformed = StartupPacket.malformed("invalid startup packet layout: expected terminator as last byte")
        var parameters: [StartupMessage.Parameter] = []
        var offset = 8
        while offset < bytes.byteCount, bytes.byte(at: offset) != 0 {
            guard let nameEnd = bytes.terminator(from: offset, before: bytes.byteCount),
                let valueEnd = bytes.terminator(from: nameEnd + 1, before: bytes.byteCount)
            else { return malformed }
            parameters.append(
                StartupMessage.Parameter(
                    name: bytes.string(offset..<nameEnd),
                    value: bytes.array(nameEnd + 1..<valueEnd)
                )
            )
            offset = valueEnd + 1
        }
        guard offset == bytes.byteCount - 1 else { return malformed }
        return .startup(StartupMessage(minorVersion: minorVersion, parameters: parameters))
    }
}

/// StartupMessage of protocol 3: who wants to talk to which database, and with which settings.
package struct StartupMessage: Sendable, Equatable {
    package struct Parameter: Sendable, Equatable {
        package var name: String
        /// Bytes, because nothing says yet which encoding they are in.
        package var value: [UInt8]

        package init(name: String, value: [UInt8]) {
            self.name = name
            self.value = value
        }
    }

    package var minorVersion: Int
    package var parameters: [Parameter]

    package init(minorVersion: Int = 0, parameters: [Parameter]) {
        self.minorVersion = minorVersion
        self.parameters = parameters
    }

    package init(user: String, database: String) {
        self.init(parameters: [
            Parameter(name: "user", value: Array(user.utf8)),
            Parameter(name: "database", value: Array(database.utf8)),
        ])
    }

    /// The last value given for a name, as text.
    package subscript(name: String) -> String? {
        parameters.last { $0.name == name }.map { String(decoding: $0.value, as: UTF8.self) }
    }

    /// Protocol extensions that were asked for (`_pq_.*`); none is known here.
    package var extensions: [String] {
        parameters.map(\.name).filter(Self.isExtension)
    }

    /// Compared byte by byte, as PostgreSQL does: for `hasPrefix` a letter with an accent behind is another letter.
    private static func isExtension(_ name: String) -> Bool {
        name.utf8.starts(with: "_pq_.".utf8)
    }

    /// The packet to send to a server: version 3.0, without protocol extensions.
    package var packet: [UInt8] {
        var writer = MessageWriter()
        writer.lengthPrefixed { writer in
            writer.int32(0x0003_0000)
            for parameter in parameters where !Self.isExtension(parameter.name) {
                writer.string(parameter.name)
                writer.raw(parameter.value)
                writer.byte(0)
            }
            writer.byte(0)
        }
        return writer.bytes
    }
}
