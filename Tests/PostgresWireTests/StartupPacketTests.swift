import PostgresWire
import TestSupport
import Testing

struct StartupPacketTests {
    @Test("a StartupMessage has its parameters in their order")
    func startup() {
        let parsed = StartupPacket(packet(0x0003_0000, "user\0ann\0database\0shop\0application_name\0\0\0").span.bytes)
        let expected = StartupMessage(parameters: [
            parameter("user", "ann"), parameter("database", "shop"), parameter("application_name", ""),
        ])
        #expect(parsed == .startup(expected))
        #expect(expected["user"] == "ann")
        #expect(expected["application_name"] == "")
        #expect(expected["replication"] == nil)
    }

    @Test("a StartupMessage may hold nothing but its terminator")
    func emptyStartup() {
        #expect(StartupPacket(packet(0x0003_0000, "\0").span.bytes) == .startup(StartupMessage(parameters: [])))
    }

    @Test("of a parameter given twice the last value counts, as for PostgreSQL")
    func lastValue() {
        let message = StartupMessage(parameters: [parameter("user", "ann"), parameter("user", "bob")])
        #expect(message["user"] == "bob")
    }

    @Test("values are bytes in any encoding")
    func otherEncoding() {
        let bytes = packet(0x0003_0000, Array("user\0".utf8) + [0xE9, 0xFF, 0] + Array("\0".utf8))
        guard case .startup(let message) = StartupPacket(bytes.span.bytes) else {
            Issue.record("not a StartupMessage")
            return
        }
        #expect(message.parameters.map(\.value) == [[0xE9, 0xFF]])
        #expect(message.packet == bytes)
    }

    @Test("the requests that are no StartupMessage are told apart by their codes")
    func requests() {
        let cancel: [UInt8] = [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 1, 2, 0xFF, 0xFF, 0xFF, 0xFE]
        #expect(StartupPacket(cancel.span.bytes) == .cancel(CancelKey(processID: 258, secret: -2)))
        #expect(StartupPacket(([0, 0, 0, 8, 4, 210, 22, 47] as [UInt8]).span.bytes) == .sslRequest)
        #expect(StartupPacket(([0, 0, 0, 8, 4, 210, 22, 48] as [UInt8]).span.bytes) == .gssEncryptionRequest)
    }

    @Test(
        "versions of another major number are not supported, of another minor number they are",
        arguments: [
            (0x0002_0000, .unsupportedVersion(major: 2, minor: 0)),
            (0x0004_0001, .unsupportedVersion(major: 4, minor: 1)),
            (0, .unsupportedVersion(major: 0, minor: 0)),
            (-1, .unsupportedVersion(major: -1, minor: 0xFFFF)),
            (0x0003_0002, .startup(StartupMessage(minorVersion: 2, parameters: []))),
        ] as [(Int32, StartupPacket)]
    )
    func versions(code: Int32, expected: StartupPacket) {
        #expect(StartupPacket(packet(code, "\0").span.bytes) == expected)
    }

    @Test(
        "a table of parameters that does not end as it must is malformed",
        arguments: [
            "", "user", "user\0", "user\0ann", "user\0ann\0", "user\0ann\0\0\0", "user\0ann\0\0x", "\0\0",
            "user\0ann\0database\0",
        ]
    )
    func malformedTable(table: String) {
        #expect(
            StartupPacket(packet(0x0003_0000, table).span.bytes)
                == .malformed("invalid startup packet layout: expected terminator as last byte")
        )
    }

    @Test("packets that are too short are malformed")
    func tooShort() {
        for count in 0..<8 {
            let bytes = [UInt8](repeating: 0, count: count)
            #expect(StartupPacket(bytes.span.bytes) == .wrongLength)
        }
        let cancel: [UInt8] = [0, 0, 0, 12, 4, 210, 22, 46, 0, 0, 1, 2]
        #expect(StartupPacket(cancel.span.bytes) == .wrongLength)
    }

    @Test("the announced length is known from four bytes on")
    func announcedLength() {
        let bytes: [UInt8] = [0, 0, 0x27, 0x14, 0]
        for count in 0..<4 {
            #expect(StartupPacket.announcedLength(Array(bytes[..<count]).span.bytes) == nil)
        }
        #expect(StartupPacket.announcedLength(bytes.span.bytes) == StartupPacket.maximumLength)
        #expect(StartupPacket.announcedLength(([0xFF, 0xFF, 0xFF, 0xFF] as [UInt8]).span.bytes) == -1)
    }

    @Test("a node is asked for version 3.0, without the protocol extensions the client asked for")
    func packetForNode() {
        let message = StartupMessage(
            minorVersion: 2,
            parameters: [
                parameter("_pq_.compression", "zstd"), parameter("user", "ann"), parameter("_pq_.\u{301}", "on"),
                parameter("_pq_", "kept"), parameter("search_path", "a,b"),
            ]
        )
        #expect(message.extensions == ["_pq_.compression", "_pq_.\u{301}"])
        #expect(message.packet == packet(0x0003_0000, "user\0ann\0_pq_\0kept\0search_path\0a,b\0\0"))
    }

    @Test("a packet of our own is read as what it says")
    func roundTrip() {
        let message = StartupMessage(user: "ann", database: "shop")
        #expect(StartupPacket(message.packet.span.bytes) == .startup(message))
    }

    @Test("random bytes never trap, and are read to their end or refused")
    func randomBytes() {
        var random = SeededGenerator()
        for _ in 0..<100_000 {
            var bytes = random.bytes(Int.random(in: 0..<40, using: &random))
            if bytes.count > 8, Bool.random(using: &random) {
                bytes.replaceSubrange(4..<8, with: [0, 3, 0, UInt8.random(in: 0...2, using: &random)])
                for index in bytes.indices.dropFirst(8) where Int.random(in: 0..<3, using: &random) == 0 {
                    bytes[index] = 0
                }
            }
            if case .startup(let message) = StartupPacket(bytes.span.bytes) {
                let size = message.parameters.reduce(9) { $0 + $1.name.utf8.count + $1.value.count + 2 }
                let hasOddNames = message.parameters.contains { $0.name.unicodeScalars.contains("\u{FFFD}") }
                #expect(size == bytes.count || hasOddNames, "seed \(random.seed)")
            }
        }
    }
}

private func parameter(_ name: String, _ value: String) -> StartupMessage.Parameter {
    StartupMessage.Parameter(name: name, value: Array(value.utf8))
}

/// A startup packet with its length.
private func packet(_ code: Int32, _ table: String) -> [UInt8] {
    packet(code, Array(table.utf8))
}

private func packet(_ code: Int32, _ table: [UInt8]) -> [UInt8] {
    bigEndian(Int32(8 + table.count)) + bigEndian(code) + table
}

private func bigEndian(_ value: Int32) -> [UInt8] {
    withUnsafeBytes(of: value.bigEndian) { Array($0) }
}
