import PostgresWire
import ProxyCore
import QueryAnalysis

extension FuzzTarget {
    /// What a client sends once it is logged in, as units.
    static let requests = FuzzTarget(
        name: "requests",
        seeds: conversations.map { [0] + $0 } + [[40] + conversations[0]]
    ) {
        (input) throws(Violation) in
        let (options, bytes) = input.optionsAndRest
        // A buffer so small that messages don't fit, or one that is never full.
        let capacity = options == 0 ? Int.max : 8 + Int(options)
        let whole = try RequestTrace(bytes, cut: bytes.count, capacity: capacity)
        guard options == 0 else { return }
        for cut in bytes.cuts {
            let parts = try RequestTrace(bytes, cut: cut, capacity: capacity)
            // Behind a Flush a unit may be longer when more is there, so that what is wrong with it is seen earlier.
            let shorter = whole.operations.count < parts.operations.count ? whole : parts
            let longer = whole.operations.count < parts.operations.count ? parts : whole
            try require(longer.operations.starts(with: shorter.operations), "cut at \(cut) other statements are seen")
            try require(whole.end == parts.end, "cut at \(cut) it ends with \(parts.end), not \(whole.end)")
            if whole.end == .violation { continue }
            try require(
                whole.consumed == parts.consumed && whole.operations.count == parts.operations.count,
                "cut at \(cut) it ends at \(parts.consumed), not \(whole.consumed)"
            )
        }
    }

    /// What a client sends that is passed on unseen.
    static let passThrough = FuzzTarget(name: "pass-through", seeds: conversations.map { [2] + $0 }) {
        (input) throws(Violation) in
        let (options, bytes) = input.optionsAndRest
        let whole = try PassTrace(bytes, cut: bytes.count, options)
        for cut in bytes.cuts {
            let parts = try PassTrace(bytes, cut: cut, options)
            try require(whole == parts, "cut at \(cut) it is \(parts), not \(whole)")
        }
    }

    private static let conversations: [[UInt8]] = [
        extended("s1", "SELECT $1") + message(.sync),
        message(.query, Array("SELECT 1\0".utf8)) + message(.query, Array("BEGIN\0".utf8)) + message(.terminate),
        extended("", "INSERT INTO t VALUES (1)") + message(.flush) + extended("", "COMMIT") + message(.sync),
        message(.close, Array("Ss1\0".utf8)) + message(.close, Array("P\0".utf8)) + message(.sync),
        message(FrontendMessage.copyData, Array("1\t2\n".utf8)) + message(FrontendMessage.copyDone) + message(.sync)
            + message(.copyFail, [0x78, 0]),
        message(.functionCall, [0, 0, 4, 210, 0, 0, 0, 0, 0, 0]) + extended("a", "LISTEN x")
            + message(.query, Array("SELECT 2\0".utf8)),
        message(.parse, Array("name\0".utf8)) + message(.bind, [1, 2, 3]) + message(.describe, []) + message(.sync),
    ]

    private static func extended(_ name: String, _ sql: String) -> [UInt8] {
        let name = Array(name.utf8) + [0]
        return message(.parse, name + Array(sql.utf8) + [0, 0, 0])
            + message(.bind, [0] + name + [0, 0, 0, 0, 0, 0])
            + message(.describe, [UInt8(ascii: "S")] + name)
            + message(.execute, [0, 0, 0, 0, 0])
    }
}

func message(_ type: FrontendMessage, _ body: [UInt8] = []) -> [UInt8] {
    var writer = MessageWriter()
    writer.message(type) { $0.raw(body) }
    return writer.bytes
}

/// What a session reads from a client's bytes of which those behind a cut come later.
private struct RequestTrace {
    enum End: Equatable { case more, terminate, violation }

    private(set) var operations: [StatementOperation] = []
    private(set) var consumed = 0
    private(set) var end = End.more
    private let bytes: [UInt8]

    init(_ bytes: [UInt8], cut: Int, capacity: Int) throws(Violation) {
        self.bytes = bytes
        var reader = RequestUnitReader()
        var visible = cut
        while true {
            let isFull = visible - consumed >= capacity
            let window = Array(bytes[consumed..<(isFull ? consumed + capacity : visible)])
            let answer = read(window, &reader)
            var again = RequestUnitReader()
            try require(read(window, &again) == answer, "a reader that was used reads otherwise")
            switch answer {
            case .incomplete(let unit):
                try require(unit.length <= window.count, "an incomplete unit is longer than what is there")
                try checkOperations(reader.operations, in: window)
                if isFull {
                    if try passOversized(unit, window, &reader) { continue }
                    return
                }
                guard visible < bytes.count else { return }
                visible = bytes.count
            case .unit(let unit):
                try check(unit, reader.operations, in: window)
                consumed += unit.length
                if capacity == .max { try checkPrefixes(of: Array(window[..<unit.length]), unit) }
            case .drop(let count):
                try require(count >= MessageHeader.size && count <= window.count, "\(count) bytes are dropped")
                consumed += count
            case .terminate:
                end = .terminate
                return
            case .violation(let error):
                try require(error.severity == .fatal, "a violation leaves the connection open")
                end = .violation
                return
            }
        }
    }

    private func read(_ window: [UInt8], _ reader: inout RequestUnitReader) -> RequestUnitReader.OnBytes {
        reader.read(window.span.bytes, statements: PreparedStatements(), functions: FunctionCatalog())
    }

    /// As a session whose buffer is full. Returns false at the end.
    private mutating func passOversized(
        _ known: RequestUnit,
        _ window: [UInt8],
        _ reader: inout RequestUnitReader
    ) throws(Violation) -> Bool {
        guard known.length == 0 else {
            consumed += known.length
            return true
        }
        var unit = known
        let before = reader.operations.count
        reader.readOversized(window.span.bytes, into: &unit, statements: PreparedStatements())
        try require(unit.isOpaque && unit.effect >= .write, "a message that is not seen is taken for a read")
        try require(reader.operations.count <= before + 1, "a message is two operations")
        for operation in reader.operations[before...] {
            try require(operation.name.upperBound < window.count, "a name ends behind what is there")
        }
        var pass = PassThrough(ending: .message)
        let rest = Array(bytes[consumed...])
        let scan = pass.scan(rest.span.bytes)
        try require(scan.violation == nil && !scan.terminates, "a message that was read is a violation now")
        try require(scan.count > window.count || !scan.isOver, "a message that fits the buffer is passed on unseen")
        consumed += scan.count
        return scan.isOver
    }

    private mutating func check(
        _ unit: RequestUnit,
        _ found: [StatementOperation],
        in window: [UInt8]
    ) throws(Violation) {
        try require(unit.length > 0 && unit.length <= window.count, "\(unit.length) of \(window.count) bytes")
        try require(unit.effect >= unit.executes, "it executes more than it does")
        var types: [FrontendMessage?] = []
        var offset = 0
        while offset < unit.length, let header = MessageHeader(window.span.bytes, at: offset) {
            types.append(FrontendMessage(rawValue: header.type))
            offset += header.totalSize
        }
        try require(offset == unit.length, "a unit ends within a message")
        try require(
            !types.dropLast().contains { $0 == .sync || $0 == .query || $0 == .functionCall || $0 == .terminate },
            "a unit goes on behind its end"
        )
        switch unit.ending {
        case .ready:
            try require(types.last == .sync || (unit.isAlone && types.count == 1), "a unit without an end is ready")
        case .flush:
            try require(types.last == .flush || window.count > unit.length, "a unit ends where nothing ends it")
        }
        try require(found.count <= types.count, "more statements than messages")
        try checkOperations(found, in: Array(window[..<unit.length]))
        operations += found.map {
            var operation = $0
            operation.name = $0.name.lowerBound + consumed..<$0.name.upperBound + consumed
            operation.message = $0.message.lowerBound + consumed..<$0.message.upperBound + consumed
            return operation
        }
    }

    private func checkOperations(_ found: [StatementOperation], in window: [UInt8]) throws(Violation) {
        var end = 0
        for operation in found {
            try require(operation.message.lowerBound >= end, "operations go backwards")
            end = operation.message.upperBound
            try require(end <= window.count, "an operation is behind the end")
            try require(
                operation.name.lowerBound >= operation.message.lowerBound + MessageHeader.size
                    && operation.name.upperBound < end && window[operation.name.upperBound] == 0,
                "a name is not in its message"
            )
        }
    }

    /// A unit is none before its last byte is there.
    private func checkPrefixes(of window: [UInt8], _ unit: RequestUnit) throws(Violation) {
        guard unit.ending == .ready, window.count <= 256 else { return }
        for cut in window.cuts {
            var reader = RequestUnitReader()
            switch read(Array(window[..<cut]), &reader) {
            case .incomplete(let part):
                try require(part.length <= cut && part.effect <= unit.effect, "a part does more than the unit")
            case .unit(let part):
                try require(part.ending == .flush, "a unit is complete before its end")
            case .drop, .terminate, .violation:
                throw Violation(description: "the beginning of a unit is something else")
            }
        }
    }
}

/// What is passed on of a client's bytes of which those behind a cut come later.
private struct PassTrace: Equatable {
    private var count = 0
    private var isOver = false
    private var terminates = false
    private var violation: ErrorMessage?
    private var remaining = 0

    init(_ bytes: [UInt8], cut: Int, _ options: UInt8) throws(Violation) {
        let endings: [PassThrough.Ending] = [
            .message, .oversized, .sync, .copy(isExtended: false), .copy(isExtended: true),
        ]
        var pass = PassThrough(ending: endings[Int(options) % endings.count])
        for visible in [cut, bytes.count] {
            let window = Array(bytes[count..<visible])
            let scan = pass.scan(window.span.bytes)
            try require(scan.count >= 0 && scan.count <= window.count, "\(scan.count) of \(window.count) bytes")
            try require(pass.remaining >= 0, "less than nothing remains")
            count += scan.count
            (isOver, terminates, violation) = (scan.isOver, scan.terminates, scan.violation)
            if isOver || terminates || violation != nil { break }
            try require(window.count - scan.count < MessageHeader.size, "no progress is made")
        }
        remaining = pass.remaining
        try checkEvents(pass)
    }

    /// What the server's answer does to it.
    private func checkEvents(_ pass: PassThrough) throws(Violation) {
        var copy = pass
        copy.copyBegan(isExtended: true)
        _ = copy.copyFailed()
        copy.unitFailed()
        let isOver = copy.answerEnded()
        try require(isOver == (copy.remaining == 0), "an answer ends within a message")
    }
}
