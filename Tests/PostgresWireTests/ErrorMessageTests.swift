import PostgresWire
import TestSupport
import Testing

struct ErrorMessageTests {
    @Test("an ErrorResponse has its fields in PostgreSQL's order and a zero behind them")
    func bytes() {
        let message = ErrorMessage(.fatal, .adminShutdown, "bye", detail: "d", hint: "h")
        let fields = "SFATAL\0VFATAL\0C57P01\0Mbye\0Dd\0Hh\0\0"
        #expect(message.bytes == [0x45, 0, 0, 0, UInt8(fields.utf8.count + 4)] + Array(fields.utf8))
    }

    @Test(
        "errors go into an ErrorResponse, warnings and notices into a NoticeResponse",
        arguments: [(.error, 0x45), (.fatal, 0x45), (.warning, 0x4E), (.notice, 0x4E)]
            as [(ErrorMessage.Severity, UInt8)]
    )
    func type(severity: ErrorMessage.Severity, type: UInt8) {
        #expect(ErrorMessage(severity, .protocolViolation, "x").bytes.first == type)
    }

    @Test("what is written is read again", arguments: ["", "plain", "\u{e9}\u{1F418}"])
    func roundTrip(text: String) {
        for (detail, hint) in [(nil, nil), (text, nil), (nil, text), (text, text)] as [(String?, String?)] {
            let message = ErrorMessage(.error, .queryCanceled, text, detail: detail, hint: hint)
            let fields = ServerErrorFields(body: Array(message.bytes.dropFirst(5)).span.bytes)
            #expect(fields.severity == "ERROR")
            #expect(fields.state == .queryCanceled)
            #expect(fields.message == text)
        }
    }

    @Test("the severity that is not translated counts, and the other where it is missing")
    func severity() {
        #expect(fields("SFEHLER\0VERROR\0\0").severity == "ERROR")
        #expect(fields("VERROR\0SFEHLER\0\0").severity == "ERROR")
        #expect(fields("SFEHLER\0\0").severity == "FEHLER")
    }

    @Test("fields nobody knows are passed over")
    func unknownFields() {
        let read = fields("zfuture\0C25006\0P17\0Mcannot\0\0")
        #expect(read.state.code == "25006")
        #expect(read.message == "cannot")
    }

    @Test("a body that is cut short has the fields before the cut")
    func cut() {
        let body = "SERROR\0C42P01\0Mgone\0\0"
        for count in 0...body.utf8.count {
            let read = fields(String(body.prefix(count)))
            #expect(read.severity == (count > 6 ? "ERROR" : ""))
            #expect(read.state.code == (count > 13 ? "42P01" : ""))
            #expect(read.message == (count > 19 ? "gone" : ""))
        }
    }

    @Test("random bytes never trap")
    func randomBytes() {
        var random = SeededGenerator()
        for _ in 0..<100_000 {
            var bytes = random.bytes(Int.random(in: 0..<40, using: &random))
            for index in bytes.indices where Bool.random(using: &random) {
                bytes[index] = [0, 0x43, 0x4D, 0x53, 0x56].randomElement(using: &random) ?? 0
            }
            let read = ServerErrorFields(body: bytes.span.bytes)
            #expect(read.message.unicodeScalars.count <= bytes.count, "seed \(random.seed)")
        }
    }
}

private func fields(_ body: String) -> ServerErrorFields {
    ServerErrorFields(body: Array(body.utf8).span.bytes)
}
