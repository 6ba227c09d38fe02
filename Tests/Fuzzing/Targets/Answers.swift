import PostgresWire
import ProxyCore

extension FuzzTarget {
    /// What a server answers.
    static let answers = FuzzTarget(name: "answers", seeds: conversations.flatMap { [[0] + $0, [255] + $0] }) {
        (input) throws(Violation) in
        let (options, bytes) = input.optionsAndRest
        let whole = try AnswerTrace(bytes, cut: bytes.count, options)
        for cut in bytes.cuts {
            let parts = try AnswerTrace(bytes, cut: cut, options)
            try require(whole == parts, "cut at \(cut) it is \(parts), not \(whole)")
        }
    }

    /// The rows that say what state a server session holds.
    static let stateProbe = FuzzTarget(
        name: "state-probe",
        seeds: [
            [0, 0, 3] + column("s") + column("a") + column("1"), Array("\u{1}s\0TimeZone\0UTC\0p\0x\0x\0h\0a\0\0".utf8),
        ]
    ) { (input) throws(Violation) in
        let (options, rest) = input.optionsAndRest
        var probe = StateProbe()
        guard options & 1 == 1 else {
            probe.received(.dataRow, message(.dataRow, rest).span.bytes)
            return
        }
        // Rows as they must be, of what the input has between its zeros.
        var parts = rest.split(separator: 0, omittingEmptySubsequences: false).map { Array($0) }[...]
        var (settings, statements, holds) = (0, Set<[UInt8]>(), 0)
        while parts.count >= 3 {
            let columns = Array(parts.prefix(3))
            parts = parts.dropFirst(3)
            probe.received(.dataRow, message(.dataRow, [0, 3] + columns.flatMap(column)).span.bytes)
            switch columns[0] {
            case [UInt8(ascii: "s")]:
                settings += 1
                try require(probe.result.settings.last?.value == columns[2], "a setting has another value")
            case [UInt8(ascii: "p")]: statements.insert(columns[1])
            default: holds += 1
            }
        }
        try require(
            probe.result.settings.count == settings && probe.result.statements == statements
                && probe.result.holds.count == holds && !probe.hasFailed,
            "rows are lost"
        )
    }

    private static func column(_ value: [UInt8]) -> [UInt8] {
        withUnsafeBytes(of: UInt32(value.count).bigEndian) { Array($0) } + value
    }
    private static func column(_ value: String) -> [UInt8] { column(Array(value.utf8)) }

    private static let conversations: [[UInt8]] = [
        message(.parseComplete) + message(.bindComplete) + message(.rowDescription, [0, 0])
            + message(.dataRow, [0, 1, 0, 0, 0, 1, 0x31]) + message(.commandComplete, Array("SELECT 1\0".utf8))
            + message(.readyForQuery, [0x49]),
        ErrorMessage(.error, .queryCanceled, "canceled", detail: "why", hint: "how").bytes
            + message(.readyForQuery, [0x45]),
        message(.copyOutResponse, [0, 0, 0]) + message(BackendMessage.copyData, Array("1\n".utf8))
            + message(BackendMessage.copyDone)
            + message(.parameterStatus, Array("TimeZone\0UTC\0".utf8))
            + message(.notificationResponse, [0, 0, 0, 1, 0x63, 0, 0]) + message(.noticeResponse, [0x4D, 0, 0]),
    ]
}

func message(_ type: BackendMessage, _ body: [UInt8] = []) -> [UInt8] {
    var writer = MessageWriter()
    writer.message(type) { $0.raw(body) }
    return writer.bytes
}

/// What is seen of an answer of which the bytes behind a cut come later.
private struct AnswerTrace: Equatable {
    private struct Seen: Equatable {
        var type: BackendMessage
        var start: Int
    }

    private var messages: [Seen] = []
    private var position = 0
    private var bodyRemaining = 0
    private var isGarbage = false
    private var reported = ReportedParameters.none

    init(_ bytes: [UInt8], cut: Int, _ options: UInt8) throws(Violation) {
        let wantsRows = options & 1 == 1
        let limit = 5 + Int(options >> 1)
        var reader = AnswerReader()
        for visible in [cut, bytes.count] where !isGarbage {
            let window = Array(bytes[position..<visible])
            var offset = 0
            reading: while true {
                let before = offset
                try checkSkipping(reader, window, offset)
                let step = reader.next(window.span.bytes, offset: &offset, limit: limit, wantsRows: wantsRows)
                try require(offset >= before && offset <= window.count, "the offset goes to \(offset)")
                try require(reader.bodyRemaining >= 0, "less than nothing remains")
                switch step {
                case .end, .incomplete:
                    break reading
                case .garbage:
                    isGarbage = true
                    break reading
                case .message(let type, let range):
                    try require(
                        range.count >= MessageHeader.size && range.lowerBound >= before && range.upperBound == offset,
                        "\(range) ends at \(offset)"
                    )
                    messages.append(Seen(type: type, start: position + range.lowerBound))
                    if reader.bodyRemaining == 0 { read(type, Array(window[range])) }
                }
            }
            position += offset
            bodyRemaining = reader.bodyRemaining
        }
    }

    private mutating func read(_ type: BackendMessage, _ message: [UInt8]) {
        switch type {
        case .errorResponse, .noticeResponse:
            _ = ServerErrorFields(body: Array(message.dropFirst(MessageHeader.size)).span.bytes)
        case .parameterStatus:
            reported = reported.reporting(message.span.bytes)
        default:
            break
        }
    }

    /// Rows that are skipped are those that would have been seen.
    private func checkSkipping(_ reader: AnswerReader, _ window: [UInt8], _ offset: Int) throws(Violation) {
        var (skipping, stepping) = (reader, reader)
        var (skipped, stepped) = (offset, offset)
        let wasAny = skipping.skipRows(window.span.bytes, offset: &skipped)
        try require(wasAny == (skipped > offset) && skipped <= window.count, "skipping goes to \(skipped)")
        while stepped < skipped {
            let step = stepping.next(window.span.bytes, offset: &stepped, limit: .max)
            guard case .message(.dataRow, _) = step else {
                guard case .message(BackendMessage.copyData, _) = step else {
                    throw Violation(description: "\(step) is skipped")
                }
                continue
            }
        }
        try require(stepped == skipped, "skipping ends within a message")
    }

    static func == (left: AnswerTrace, right: AnswerTrace) -> Bool {
        left.messages == right.messages && left.position == right.position && left.isGarbage == right.isGarbage
            && left.bodyRemaining == right.bodyRemaining
    }
}
