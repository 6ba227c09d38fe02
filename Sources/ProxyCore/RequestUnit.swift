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
    /// The greatest effect of all its statements, those it only prepares among them: where it may go.
    package var effect: StatementEffect = .empty
    /// The greatest effect of the statements that it executes: what it may leave behind.
    package var executes: StatementEffect = .empty
    /// Of all its statements.
    package var traits = StatementTraits.none
    /// How many times it binds a statement.
    package var binds = 0
    /// It prepares a named statement, or refers to one.
    package var hasNames = false
    /// It refers to a statement or portal that is not known here (made by SQL PREPARE or DECLARE, or not at all).
    package var isOpaque = false

    package init(length: Int, ending: Ending) {
        self.length = length
        self.ending = ending
    }

    /// A message of it is malformed: the primary says in what way.
    mutating func isMalformed() {
        isOpaque = true
        execute(.write)
    }

    package mutating func execute(_ effect: StatementEffect) {
        self.effect = max(self.effect, effect)
        executes = max(executes, effect)
    }
}

/// What a message of a unit does to prepared statements.
package struct StatementOperation: Sendable, Equatable {
    package enum Kind: Sendable, Equatable {
        case parse(StatementEffect, StatementTraits)
        /// A Parse whose text is too long to be read.
        case parseUnseen
        case bind
        case describe
        case close
        /// Close of a portal: of interest for its answer only.
        case closePortal
    }

    package var kind: Kind
    package var statement: StatementName
    /// The statement's name, in bytes from the start of the unit.
    package var name: Range<Int>
    /// The whole message, likewise.
    package var message: Range<Int>
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
    /// What the last unit does to prepared statements, in the order of its messages.
    package private(set) var operations: [StatementOperation] = []
    /// Which names it prepared so far, and what their statements do.
    private var parsed: [StatementName: (effect: StatementEffect, traits: StatementTraits)] = [:]

    package init() {}

    /// Reads the unit at the start of `bytes`.
    package mutating func read(
        _ bytes: RawSpan,
        statements: borrowing PreparedStatements,
        functions: borrowing FunctionCatalog
    ) -> OnBytes {
        operations.removeAll(keepingCapacity: true)
        if !parsed.isEmpty { parsed.removeAll(keepingCapacity: true) }
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
                    if let verdict = Self.verdict(onQuery: bytes, body, functions: functions) {
                        unit.execute(verdict.effect)
                        unit.traits = verdict.traits
                    } else {
                        unit.isMalformed()
                    }
                } else {
                    unit.execute(.sessionState)
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
                    unit.binds += 1
                    use(.bind, bytes, portalEnd + 1..<nameEnd, offset..<end, statements, into: &unit)
                } else {
                    unit.isMalformed()
                }
            case .describe, .close:
                guard body.count >= 2, let nameEnd = bytes.terminator(from: body.lowerBound + 1, before: end) else {
                    unit.isMalformed()
                    break
                }
                let isStatement = bytes.byte(at: body.lowerBound) == UInt8(ascii: "S")
                let name = body.lowerBound + 1..<nameEnd
                if type == .close {
                    operations.append(
                        StatementOperation(
                            kind: isStatement ? .close : .closePortal,
                            statement: StatementName(bytes.extracting(name)),
                            name: name,
                            message: offset..<end
                        )
                    )
                } else if isStatement {
                    use(.describe, bytes, name, offset..<end, statements, into: &unit)
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
            operations.removeAll { $0.message.lowerBound >= flushEnd }
            return finish(&unit, length: flushEnd, ending: .flush)
        }
        unit.length = offset
        return .incomplete(unit)
    }

    /// Takes the message at the start of `bytes`, which is longer than what can be read of it, into the unit.
    package mutating func readOversized(
        _ bytes: RawSpan,
        into unit: inout RequestUnit,
        statements: borrowing PreparedStatements
    ) {
        unit.isOpaque = true
        guard let header = MessageHeader(bytes, at: 0) else { return }
        let nameStart = MessageHeader.size
        let message = 0..<header.totalSize
        switch FrontendMessage(rawValue: header.type) {
        case .bind:
            guard let portalEnd = bytes.terminator(from: nameStart, before: bytes.byteCount),
                let nameEnd = bytes.terminator(from: portalEnd + 1, before: bytes.byteCount)
            else { break }
            unit.binds += 1
            use(.bind, bytes, portalEnd + 1..<nameEnd, message, statements, into: &unit)
            unit.effect = max(unit.effect, .write)
            return
        case .parse:
            guard let nameEnd = bytes.terminator(from: nameStart, before: bytes.byteCount) else { break }
            let name = nameStart..<nameEnd
            let statement = StatementName(bytes.extracting(name))
            operations.append(
                StatementOperation(kind: .parseUnseen, statement: statement, name: name, message: message)
            )
            unit.effect = max(unit.effect, .sessionState)
            return
        default:
            break
        }
        unit.execute(.sessionState)
    }

    /// What the beginning of a query, which is longer than what can be read of it, tells of the whole.
    package static func traits(ofBeginning bytes: RawSpan, functions: borrowing FunctionCatalog) -> StatementTraits {
        verdict(on: bytes.extracting(MessageHeader.size..<bytes.byteCount), functions: functions).traits
    }

    // MARK: - One message

    private func finish(_ unit: inout RequestUnit, length: Int, ending: RequestUnit.Ending) -> OnBytes {
        unit.length = length
        unit.ending = ending
        return .unit(unit)
    }

    private static func verdict(
        onQuery bytes: RawSpan,
        _ body: Range<Int>,
        functions: borrowing FunctionCatalog
    ) -> (effect: StatementEffect, traits: StatementTraits)? {
        guard let textEnd = bytes.terminator(from: body.lowerBound, before: body.upperBound),
            textEnd == body.upperBound - 1
        else { return nil }
        return verdict(on: bytes.extracting(body.lowerBound..<textEnd), functions: functions)
    }

    private static func verdict(
        on text: RawSpan,
        functions: borrowing FunctionCatalog
    ) -> (effect: StatementEffect, traits: StatementTraits) {
        let catalog = copy functions
        return text.withUnsafeBytes {
            let verdict = classify($0, functions: catalog, explains: false)
            return (verdict.effect, verdict.traits)
        }
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
        let verdict = Self.verdict(on: bytes.extracting(nameEnd + 1..<textEnd), functions: functions)
        operations.append(
            StatementOperation(
                kind: .parse(verdict.effect, verdict.traits),
                statement: name,
                name: body.lowerBound..<nameEnd,
                message: messageStart..<body.upperBound
            )
        )
        parsed[name] = verdict
        unit.effect = max(unit.effect, verdict.effect)
        unit.traits.formUnion(verdict.traits.intersection(.isEndpointCommand))
        if !name.isUnnamed { unit.hasNames = true }
        return true
    }

    private mutating func use(
        _ kind: StatementOperation.Kind,
        _ bytes: RawSpan,
        _ name: Range<Int>,
        _ message: Range<Int>,
        _ statements: borrowing PreparedStatements,
        into unit: inout RequestUnit
    ) {
        let statement = StatementName(bytes.extracting(name))
        operations.append(StatementOperation(kind: kind, statement: statement, name: name, message: message))
        if !statement.isUnnamed { unit.hasNames = true }
        guard let verdict = (parsed.isEmpty ? nil : parsed[statement]) ?? statements.verdict(on: statement) else {
            unit.isOpaque = true
            unit.execute(.sessionState)
            return
        }
        unit.effect = max(unit.effect, verdict.effect)
        // What EXECUTE returns is told by the statement that it names.
        unit.traits.formUnion(verdict.traits.intersection(.ofUnexecuted))
        guard kind == .bind else { return }
        unit.execute(verdict.effect)
        unit.traits.formUnion(verdict.traits)
    }

    private static func invalidType(_ type: UInt8) -> ErrorMessage {
        ErrorMessage(.fatal, .protocolViolation, "invalid frontend message type \(type)")
    }
}
