import PostgresWire
import ProxyCore
import TestSupport
import Testing

struct AnswerReaderTests {
    @Test("messages are told one by one, and the end")
    func messages() {
        let answer =
            Backend.message(.parseComplete) + Backend.message(.dataRow, [0, 0])
            + Backend.message(.readyForQuery, [0x49])
        var reader = AnswerReader()
        var offset = 0
        #expect(reader.next(answer, offset: &offset, limit: 100) == .message(.parseComplete, 0..<5))
        #expect(reader.next(answer, offset: &offset, limit: 100) == .message(.dataRow, 5..<12))
        #expect(reader.next(answer, offset: &offset, limit: 100) == .message(.readyForQuery, 12..<18))
        #expect(reader.next(answer, offset: &offset, limit: 100) == .end)
        #expect(offset == answer.count)
    }

    @Test("a message that decides something is seen whole, at any cut")
    func seenWhole() {
        let message = ErrorMessage(.error, .queryCanceled, "canceled").bytes
        for count in 1..<message.count {
            var reader = AnswerReader()
            var offset = 0
            #expect(reader.next(message[..<count], offset: &offset, limit: 1_000) == .incomplete)
            #expect(offset == 0)
            #expect(reader.next(message, offset: &offset, limit: 1_000) == .message(.errorResponse, 0..<message.count))
        }
    }

    @Test(
        "what comes unasked is seen whole, so that it is never told in part",
        arguments: [.notificationResponse, .noticeResponse] as [BackendMessage]
    )
    func unasked(type: BackendMessage) {
        let message = Backend.message(type, [UInt8](repeating: 0x61, count: 50))
        for count in 1..<message.count {
            var reader = AnswerReader()
            var offset = 0
            #expect(reader.next(message[..<count], offset: &offset, limit: 1_000) == .incomplete)
            #expect(reader.next(message, offset: &offset, limit: 1_000) == .message(type, 0..<message.count))
        }
    }

    @Test("a message of a deciding type that is longer than the limit is passed on in parts")
    func beyondTheLimit() {
        let message = Backend.message(.errorResponse, [UInt8](repeating: 1, count: 95))
        var reader = AnswerReader()
        var offset = 0
        #expect(reader.next(message[..<50], offset: &offset, limit: 99) == .message(.errorResponse, 0..<50))
        #expect(reader.bodyRemaining == 50)
        offset = 0
        #expect(reader.next(message[50...], offset: &offset, limit: 99) == .end)
        #expect(reader.bodyRemaining == 0)
    }

    @Test("a row's body is never waited for")
    func rows() {
        let row = Backend.message(.dataRow, [UInt8](repeating: 7, count: 20))
        var reader = AnswerReader()
        var offset = 0
        #expect(reader.next(row[..<4], offset: &offset, limit: 1_000) == .incomplete)
        #expect(reader.next(row[..<5], offset: &offset, limit: 1_000) == .message(.dataRow, 0..<5))
        #expect(reader.bodyRemaining == 20)
        offset = 0
        #expect(reader.next(row[5..<15], offset: &offset, limit: 1_000) == .end)
        #expect(reader.bodyRemaining == 10)
        let rest = row[15...] + Backend.message(.commandComplete, string("SELECT 1"))
        offset = 0
        #expect(reader.next(rest, offset: &offset, limit: 1_000) == .message(.commandComplete, 10..<24))
    }

    @Test(
        "what is no message of protocol 3 is garbage",
        arguments: [
            [0, 0, 0, 0, 4], [0x7A, 0, 0, 0, 4], [0x44, 0, 0, 0, 3], [0x5A, 0xFF, 0xFF, 0xFF, 0xFF],
            [0x5A, 0, 0, 0, 4], [0x5A, 0, 0, 0, 6, 0x49, 0x49],
        ] as [[UInt8]]
    )
    func garbage(bytes: [UInt8]) {
        var reader = AnswerReader()
        var offset = 0
        #expect(reader.next(bytes, offset: &offset, limit: 100) == .garbage)
    }

    @Test("whole rows and copy data are skipped, and nothing else")
    func skipRows() {
        let rows = Backend.message(.dataRow, [1, 2]) + Backend.message(.copyData, []) + Backend.message(.dataRow, [3])
        let tail = Backend.message(.commandComplete, string("SELECT 2"))
        var reader = AnswerReader()
        var offset = 0
        #expect(reader.skipRows((rows + tail), offset: &offset) == true)
        #expect(offset == rows.count)
        #expect(reader.skipRows((rows + tail), offset: &offset) == false)
        #expect(offset == rows.count)

        offset = 0
        #expect(reader.skipRows(rows.dropLast(), offset: &offset) == true)
        #expect(offset == rows.count - 6)
        #expect(reader.skipRows(([0x44, 0, 0, 0, 3] as [UInt8]), offset: &offset) == false)

        offset = 0
        _ = reader.next(Backend.message(.dataRow, [1, 2, 3]).dropLast(), offset: &offset, limit: 100)
        #expect(reader.skipRows(rows, offset: &offset) == false)
    }

    @Test("the messages and bytes seen do not depend on how the answer is cut")
    func anyCut() {
        var random = SeededGenerator()
        for _ in 0..<500 {
            let (answer, messages) = randomAnswer(&random)
            for skips in [false, true] {
                let ends = random.cuts(answer.count, largest: Int.random(in: 1...60, using: &random))
                #expect(walk(answer, ends, limit: 40, skips: skips) == messages, "seed \(random.seed)")
            }
        }
    }

    @Test("random bytes never trap, and no byte is looked at twice or beyond the end")
    func randomBytes() {
        var random = SeededGenerator()
        let types = (0...UInt8.max).compactMap { BackendMessage(rawValue: $0) }
        for _ in 0..<100_000 {
            var reader = AnswerReader()
            var bytes: [UInt8] = []
            for _ in 0..<3 {
                let body = random.bytes(Int.random(in: 0..<8, using: &random))
                let length =
                    UInt8(body.count + 4) &+ (Int.random(in: 0..<8, using: &random) == 0 ? random.bytes(1)[0] : 0)
                bytes += [types.randomElement(using: &random)?.rawValue ?? 0, 0, 0, 0, length] + body
            }
            bytes += random.bytes(Int.random(in: 0..<8, using: &random))
            var offset = 0
            var steps = 0
            scan: while steps < 100 {
                steps += 1
                let before = offset
                _ = reader.skipRows(bytes, offset: &offset)
                switch reader.next(bytes, offset: &offset, limit: 16) {
                case .message(_, let range):
                    #expect(range.lowerBound >= before && range.upperBound <= bytes.count && range.count >= 5)
                    #expect(offset == range.upperBound, "seed \(random.seed)")
                case .end, .incomplete, .garbage:
                    break scan
                }
            }
            #expect(steps < 100 && offset <= bytes.count && reader.bodyRemaining >= 0, "seed \(random.seed)")
        }
    }

    @Test("an answer that begins with a prologue may still be an error")
    func prologue() {
        #expect(BackendMessage.parseComplete.isPrologue)
        #expect(BackendMessage.rowDescription.isPrologue)
        #expect(!BackendMessage.dataRow.isPrologue)
        #expect(!BackendMessage.commandComplete.isPrologue)
        #expect(!BackendMessage.errorResponse.isPrologue)
        #expect(!BackendMessage.copyInResponse.isPrologue)
    }
}

/// A message of an answer and where it stands.
private struct Seen: Equatable {
    var type: BackendMessage
    var range: Range<Int>
}

private func randomAnswer(_ random: inout SeededGenerator) -> ([UInt8], [Seen]) {
    let types = (0...UInt8.max).compactMap { BackendMessage(rawValue: $0) }
    var answer: [UInt8] = []
    var messages: [Seen] = []
    for _ in 0..<Int.random(in: 1...12, using: &random) {
        let isRow = Bool.random(using: &random)
        guard let type = isRow ? .dataRow : types.randomElement(using: &random) else { continue }
        let size = type == .readyForQuery ? 1 : Int.random(in: 0..<70, using: &random)
        let message = Backend.message(type, random.bytes(size))
        messages.append(Seen(type: type, range: answer.count..<answer.count + message.count))
        answer += message
    }
    return (answer, messages)
}

/// Reads an answer that comes in parts, as the proxy does: what is left of a part is joined to the next.
private func walk(_ answer: [UInt8], _ ends: [Int], limit: Int, skips: Bool) -> [Seen] {
    var reader = AnswerReader()
    var seen: [Seen] = []
    var start = 0
    for end in ends {
        let part = Array(answer[start..<end])
        var offset = 0
        scan: while true {
            let before = offset
            if skips, reader.skipRows(part, offset: &offset) {
                // Rows are found again by their headers.
                var at = before
                while at < offset, let header = MessageHeader(part.span.bytes, at: at) {
                    seen.append(
                        Seen(
                            type: BackendMessage(rawValue: header.type) ?? .dataRow,
                            range: start + at..<start + at + header.totalSize
                        )
                    )
                    at += header.totalSize
                }
            }
            switch reader.next(part, offset: &offset, limit: limit) {
            case .message(let type, let range):
                seen.append(
                    Seen(type: type, range: start + range.lowerBound..<start + range.upperBound + reader.bodyRemaining)
                )
            case .end, .incomplete, .garbage:
                break scan
            }
        }
        start += offset
    }
    return seen
}
