import PostgresWire
import TestSupport
import Testing

struct MessageWriterTests {
    @Test("each message is written byte for byte as in the manual's \"Message Formats\"", arguments: Transcript.all)
    func bytes(transcript: Transcript) {
        var writer = MessageWriter()
        transcript.write(&writer)
        #expect(writer.bytes == transcript.bytes)
    }

    @Test("messages follow one another without a gap")
    func sequence() {
        var writer = MessageWriter()
        for transcript in Transcript.all { transcript.write(&writer) }
        #expect(writer.bytes == Transcript.all.flatMap(\.bytes))
    }

    @Test("a length counts itself and the body, not the type")
    func lengths() {
        var random = SeededGenerator()
        for _ in 0..<1_000 {
            let body = random.bytes(
                Int.random(in: 0..<100_000 >> Int.random(in: 0..<16, using: &random), using: &random)
            )
            var writer = MessageWriter()
            writer.message(.copyData as BackendMessage) { $0.raw(body) }
            #expect(
                MessageHeader(writer.bytes.span.bytes, at: 0) == MessageHeader(type: 0x64, length: body.count + 4),
                "seed \(random.seed)"
            )
            #expect(Array(writer.bytes.dropFirst(5)) == body, "seed \(random.seed)")
        }
    }
}

/// A message and its bytes.
struct Transcript: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let write: @Sendable (inout MessageWriter) -> Void
    let bytes: [UInt8]

    private init(
        _ name: String,
        _ bytes: [UInt8],
        _ text: String = "",
        _ tail: [UInt8] = [],
        write: @escaping @Sendable (inout MessageWriter) -> Void
    ) {
        testDescription = name
        self.write = write
        self.bytes = bytes + Array(text.utf8) + tail
    }

    static let all: [Transcript] = [
        Transcript("ReadyForQuery, idle", [0x5A, 0, 0, 0, 5], "I") { $0.readyForQuery(.idle) },
        Transcript("ReadyForQuery, in a transaction", [0x5A, 0, 0, 0, 5], "T") { $0.readyForQuery(.inTransaction) },
        Transcript("ReadyForQuery, failed", [0x5A, 0, 0, 0, 5], "E") { $0.readyForQuery(.failed) },
        Transcript("ParameterStatus", [0x53, 0, 0, 0, 11], "a\0b\u{e9}c\0") { $0.parameterStatus("a", "b\u{e9}c") },
        Transcript("BackendKeyData", [0x4B, 0, 0, 0, 12, 0x12, 0x34, 0x56, 0x78, 0xFF, 0xFF, 0xFF, 0xFF]) {
            $0.backendKeyData(CancelKey(processID: 0x1234_5678, secret: -1))
        },
        Transcript("AuthenticationOk", [0x52, 0, 0, 0, 8, 0, 0, 0, 0]) { $0.authenticationOk() },
        Transcript("AuthenticationSASL", [0x52, 0, 0, 0, 23, 0, 0, 0, 10], "SCRAM-SHA-256\0\0") {
            $0.authenticationSASL(["SCRAM-SHA-256"])
        },
        Transcript("AuthenticationSASLContinue", [0x52, 0, 0, 0, 11, 0, 0, 0, 11], "r=x") {
            $0.authenticationSASLContinue(Array("r=x".utf8))
        },
        Transcript("AuthenticationSASLFinal", [0x52, 0, 0, 0, 11, 0, 0, 0, 12], "v=x") {
            $0.authenticationSASLFinal(Array("v=x".utf8))
        },
        Transcript("SASLInitialResponse", [0x70, 0, 0, 0, 24], "SCRAM-SHA-256\0", [0, 0, 0, 2, 0x6E, 0x2C]) {
            $0.saslInitialResponse(mechanism: "SCRAM-SHA-256", Array("n,".utf8))
        },
        Transcript("SASLResponse", [0x70, 0, 0, 0, 7], "c=x") { $0.saslResponse(Array("c=x".utf8)) },
        Transcript("Terminate", [0x58, 0, 0, 0, 4]) { $0.terminate() },
        Transcript("Sync", [0x53, 0, 0, 0, 4]) { $0.sync() },
        Transcript("Close of a statement", [0x43, 0, 0, 0, 8], "Ss1\0") { $0.closeStatement(Array("s1".utf8)) },
        Transcript("Query", [0x51, 0, 0, 0, 13], "SELECT 1\0") { $0.query("SELECT 1") },
        Transcript("CancelRequest", [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 7, 0xFF, 0xFF, 0xFF, 0xFE]) {
            $0.cancelRequest(CancelKey(processID: 7, secret: -2))
        },
        Transcript("NegotiateProtocolVersion", [0x76, 0, 0, 0, 20, 0, 3, 0, 0, 0, 0, 0, 1], "_pq_.ab\0") {
            $0.negotiateProtocolVersion(unrecognised: ["_pq_.ab"])
        },
    ]
}
