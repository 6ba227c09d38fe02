package import PostgresWire
package import QueryAnalysis

/// One request unit at the start of a client's unread bytes.
package struct RequestUnit: Sendable, Equatable {
    package enum Ending: Sendable, Equatable {
        /// The server answers with ReadyForQuery: a simple query, a function call, or messages up to Sync.
        case ready
        /// Messages up to Flush: answers are due, but the unit goes on.
        case flush
    }

    /// Bytes from the start of the unit.
    package var length: Int
    package var ending: Ending
    package var isSimpleQuery = false
    /// A simple query or a function call: one message, answered by itself.
    package var isAlone = false
    /// The greatest effect of all its statements.
    package var effect: StatementEffect = .empty
    /// It parses or closes a named statement. The primary's connection knows all of a session's names.
    package var changesNames = false
    /// It refers to a statement or portal that is not known here (made by SQL PREPARE or DECLARE, or not at all).
    package var isOpaque = false

    package init(length: Int, ending: Ending) {
        self.length = length
        self.ending = ending
    }

    /// A message of it is malformed: the primary says in what way.
    mutating func isMalformed() {
        isOpaque = true
        effect = max(effect, .write)
    }
}

/// What a message of a unit does to prepared statements; in the order of the messages.
///
/// Ranges are offsets from the start of the unit.
package enum StatementOperation: Sendable, Equatable {
    /// Uses a statement that was prepared before this unit, or that is not known.
    case use(StatementName)
    case parse(StatementName, name: Range<Int>, message: Range<Int>, effect: StatementEffect)
    case closeStatement(StatementName)
    case closePortal
}

/// Finds request units in a client's bytes and says what they do.
///
/// Storage is used again from unit to unit.
package struct RequestUnitReader: Sendable {
    package enum OnBytes: Sendable, Equatable {
        /// The unit is not complete; this is what is known of it so far.
        case incomplete(RequestUnit)
        case unit(RequestUnit)
        /// Terminate.
        case terminate
        /// A copy message of so many bytes. Without a copy it is dropped, as PostgreSQL drops it: the copy may have failed.
        case drop(Int)
        /// What PostgreSQL would end the connection for.
        case violation(ErrorMessage)
    }

    /// The copy message last read ends a copy.
    package private(set) var endsCopy = false
    /// What the last unit does to prepared statements.
    package private(set) var operations: [StatementOperation] = []
    // The names in them.
    private var parsed: Set<StatementName> = []
    private var used: Set<StatementName> = []

    package init() {}

    /// Reads the unit at the start of `bytes`.
    package mutating func read(
        _ bytes: RawSpan,
        statements: borrowing PreparedStatements,
        functions: borrowing FunctionCatalog
    ) -> OnBytes {
        operations.removeAll(keepingCapacity: true)
        parsed.removeAll(keepingCapacity: true)
        used.removeAll(keepingCapacity: true)
        var unit = RequestUnit(length: 0, ending: .ready)
        var flushEnd: Int?
        var offset = 0
        while let header = MessageHeader(bytes, at: offset) {
            guard let type = FrontendMessage(rawValue: header.type) else {
                return .violation(Self.invalidType(header.type))
            }
            guard header.length >= 4, header.length <= type.lengthLimit else {
                return .violation(ErrorMessage(.fatal, .protocolViolation, "invalid message length"))
            }
            let isFirst = offset == 0
            if isFirst, type == .terminate { return .terminate }
            let end = offset + header.totalSize
            guard end <= bytes.byteCount else { break }
            let body = offset + MessageHeader.size..<end
            switch type {
            case .query, .functionCall:
                guard isFirst else {
                    // The messages before it have no Sync: they are a unit that does not end by itself.
                    return finish(&unit, length: offset, ending: .flush)
                }
                unit.isAlone = true
                if type == .query {
                    unit.isSimpleQuery = true
                    if let effect = Self.effect(ofQuery: bytes, body, functions: functions) {
                        unit.effect = effect
                    } else {
                        unit.isMalformed()
                    }
                } else {
                    unit.effect = .sessionState
                }
                return finish(&unit, length: end, ending: .ready)
            case .parse:
                if !parse(bytes, body, messageStart: offset, functions: functions, into: &unit) {
                    unit.isMalformed()
                }
            case .bind:
                if let portalEnd = bytes.terminator(from: body.lowerBound, before: end),
                    let nameEnd = bytes.terminator(from: portalEnd + 1, before: end)
                {
                    let name = StatementName(bytes.extracting(portalEnd + 1..<nameEnd))
                    use(name, executes: true, statements, into: &unit)
                } else {
                    unit.isMalformed()
                }
            case .describe, .close:
                guard body.count >= 2, let nameEnd = bytes.terminator(from: body.lowerBound + 1, before: end) else {
                    unit.isMalformed()
                    break
                }
                let isStatement = bytes.byte(at: body.lowerBound) == UInt8(ascii: "S")
                let name = StatementName(bytes.extracting(body.lowerBound + 1..<nameEnd))
                if type == .close {
                    operations.append(isStatement ? .closeStatement(name) : .closePortal)
                    if isStatement, !name.isUnnamed { unit.changesNames = true }
                } else if isStatement {
                    use(name, executes: false, statements, into: &unit)
                }
            case .execute:
                break
            case .flush:
                flushEnd = end
            case .sync:
                return finish(&unit, length: end, ending: .ready)
            case .copyData, .copyDone, .copyFail:
                guard isFirst else { return finish(&unit, length: offset, ending: .flush) }
                endsCopy = type != .copyData
                return .drop(end)
            case .terminate:
                return finish(&unit, length: offset, ending: .flush)
            case .password:
                return .violation(Self.invalidType(header.type))
            }
            offset = end
        }
        if let flushEnd {
            return finish(&unit, length: flushEnd, ending: .flush)
        }
        unit.length = offset
        return .incomplete(unit)
    }

    // MARK: - One message

    private func finish(_ unit: inout RequestUnit, length: Int, ending: RequestUnit.Ending) -> OnBytes {
        unit.length = length
        unit.ending = ending
        return .unit(unit)
    }

    private static func effect(
        ofQuery bytes: RawSpan,
        _ body: Range<Int>,
        functions: borrowing FunctionCatalog
    ) -> StatementEffect? {
        guard let textEnd = bytes.terminator(from: body.lowerBound, before: body.upperBound),
            textEnd == body.upperBound - 1
        else { return nil }
        let catalog = copy functions
        return bytes.extracting(body.lowerBound..<textEnd).withUnsafeBytes { classify($0, functions: catalog).effect }
    }

    private mutating func parse(
        _ bytes: RawSpan,
        _ body: Range<Int>,
        messageStart: Int,
        functions: borrowing FunctionCatalog,
        into unit: inout RequestUnit
    ) -> Bool {
        guard let nameEnd = bytes.terminator(from: body.lowerBound, before: body.upperBound),
            let textEnd = bytes.terminator(from: nameEnd + 1, before: body.upperBound)
        else { return false }
        let name = StatementName(bytes.extracting(body.lowerBound..<nameEnd))
        let catalog = copy functions
        let effect = bytes.extracting(nameEnd + 1..<textEnd).withUnsafeBytes {
            classify($0, functions: catalog).effect
        }
        operations.append(
            .parse(
                name,
                name: body.lowerBound..<nameEnd,
                message: messageStart..<body.upperBound,
                effect: effect
            )
        )
        parsed.insert(name)
        unit.effect = max(unit.effect, effect)
        if !name.isUnnamed { unit.changesNames = true }
        return true
    }

    private mutating func use(
        _ name: StatementName,
        executes: Bool,
        _ statements: borrowing PreparedStatements,
        into unit: inout RequestUnit
    ) {
        if parsed.contains(name) { return }
        if used.insert(name).inserted { operations.append(.use(name)) }
        guard let effect = statements.effect(of: name) else {
            unit.isOpaque = true
            unit.effect = max(unit.effect, .sessionState)
            return
        }
        if executes {
            unit.effect = max(unit.effect, effect)
        }
    }

    private static func invalidType(_ type: UInt8) -> ErrorMessage {
        ErrorMessage(.fatal, .protocolViolation, "invalid frontend message type \(type)")
    }
}
