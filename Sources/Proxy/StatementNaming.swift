import PostgresWire
import ProxyCore
import QueryAnalysis

/// Gives the statements of a unit the names they have on server connections, and prepares there what is missing.
///
/// Storage is used again from unit to unit.
struct StatementNaming {
    /// What becomes of a message.
    private struct Edit {
        var message: Range<Int>
        var name: Range<Int>
        /// Its statement, whose name takes the place of the client's; `nil` leaves the message as it is.
        var statement: SharedStatement?
        /// Messages of ours that go ahead of it, in `writer`. Their answers are kept from the client.
        var ahead: Range<Int>
    }

    private var writer = MessageWriter()
    /// In the order of the messages.
    private var edits: [Edit] = []
    /// What the unit itself has done to names, latest last; `nil` for closed.
    private var defined: [(name: StatementName, statement: SharedStatement?)] = []
    private var output: [UInt8] = []
    /// How many uses of statements the server connection had seen before the unit.
    private var firstUse: UInt64 = 0

    var hasEdits: Bool { !edits.isEmpty }

    /// Walks over the operations of the unit at the start of `unit`.
    mutating func prepare(
        _ operations: [StatementOperation],
        _ unit: RawSpan,
        for session: Session,
        on server: ServerConnection
    ) {
        writer.clear()
        edits.removeAll(keepingCapacity: true)
        defined.removeAll(keepingCapacity: true)
        firstUse = server.prepared.uses
        for operation in operations {
            let start = writer.bytes.count
            let statement: SharedStatement? =
                switch operation.kind {
                case .parse(let effect, let traits):
                    parse(operation, effect, traits, unit, session, server)
                case .parseUnseen:
                    parseUnseen(operation, unit, session, server)
                case .bind, .describe:
                    use(operation.statement, session, server)
                case .close:
                    close(operation, unit, server)
                case .closePortal:
                    expect(.other, on: server)
                }
            if statement != nil { evict(server, usedBefore: firstUse) }
            if operation.kind == .bind { server.pending.append(.bind(operation.statement)) }
            guard statement != nil || writer.bytes.count > start else { continue }
            edits.append(
                Edit(
                    message: operation.message,
                    name: operation.name,
                    statement: statement,
                    ahead: start..<writer.bytes.count
                )
            )
        }
    }

    private func definition(
        of name: StatementName,
        _ session: Session,
        _ server: ServerConnection
    ) -> SharedStatement? {
        for entry in defined.reversed() where entry.name == name { return entry.statement }
        // The unit may go on behind messages that are not answered yet.
        return server.definitionUnderWay(of: name) ?? session.statements.statement(name)
    }

    private func expect(_ operation: ServerConnection.PendingOperation, on server: ServerConnection) -> SharedStatement?
    {
        server.pending.append(operation)
        return nil
    }

    private mutating func parse(
        _ operation: StatementOperation,
        _ effect: StatementEffect,
        _ traits: StatementTraits,
        _ unit: RawSpan,
        _ session: Session,
        _ server: ServerConnection
    ) -> SharedStatement? {
        let name = operation.statement
        if name.isUnnamed {
            let generation = session.worker.nextGeneration()
            let message = unit.extracting(operation.message)
            session.statements.defineUnnamed(message, effect: effect, traits: traits, generation: generation)
            server.prepared.unnamed = generation
            server.unseenUnnamedOf = nil
            return expect(.parseUnnamed, on: server)
        }
        let bytes = unit.array(operation.name)
        if mustBeRefused(name, bytes, session, server) { return expect(.parseAsNamed(bytes), on: server) }
        let content = unit.extracting(operation.name.upperBound + 1..<operation.message.upperBound)
        let statement = session.worker.statements.statement(
            content,
            settings: session.settings.fingerprint,
            effect: effect,
            traits: traits
        )
        if server.prepared.use(statement) {
            // What it means is for the server to say anew.
            writer.closeStatement(statement.name)
            server.pending.append(.injectedClose(statement))
        }
        server.prepared.add(statement)
        // What makes room is sent, and answered, ahead of this message.
        evict(server, usedBefore: firstUse)
        defined.append((name, statement))
        server.pending.append(.parse(name, bytes, statement))
        return statement
    }

    /// Its text is known to the one server only, under the client's name: there the session stays.
    private mutating func parseUnseen(
        _ operation: StatementOperation,
        _ unit: RawSpan,
        _ session: Session,
        _ server: ServerConnection
    ) -> SharedStatement? {
        if operation.statement.isUnnamed {
            session.statements.removeUnnamed()
            server.prepared.unnamed = 0
            server.unseenUnnamedOf = session.serial
            return expect(.parseUnnamed, on: server)
        }
        let bytes = unit.array(operation.name)
        _ = mustBeRefused(operation.statement, bytes, session, server)
        return expect(.parseAsNamed(bytes), on: server)
    }

    /// Whether the name of a Parse is taken: the server is to refuse it, in its own words.
    private mutating func mustBeRefused(
        _ name: StatementName,
        _ bytes: [UInt8],
        _ session: Session,
        _ server: ServerConnection
    ) -> Bool {
        // By SQL's PREPARE, or by a Parse that was not seen.
        if server.hasNamed(bytes) { return true }
        guard definition(of: name, session, server) != nil else { return false }
        // The name has to be there for that.
        writer.parseNothing(as: bytes)
        server.pending.append(.injectedRefusal(bytes))
        return true
    }

    private mutating func use(_ name: StatementName, _ session: Session, _ server: ServerConnection) -> SharedStatement?
    {
        if name.isUnnamed {
            useUnnamed(session, server)
            return nil
        }
        guard let statement = definition(of: name, session, server) else { return nil }
        if !server.prepared.use(statement) {
            statement.appendParse(to: &writer)
            server.pending.append(.injectedParse(statement))
            server.prepared.add(statement)
        }
        return statement
    }

    private mutating func useUnnamed(_ session: Session, _ server: ServerConnection) {
        guard server.prepared.unnamed != session.statements.unnamed, server.unseenUnnamedOf != session.serial else {
            return
        }
        if session.statements.unnamed == nil {
            // The one there is another session's.
            writer.closeStatement([])
        } else {
            session.statements.appendUnnamedParse(to: &writer)
        }
        server.pending.append(.injected)
        server.prepared.unnamed = session.statements.unnamed
    }

    private mutating func close(
        _ operation: StatementOperation,
        _ unit: RawSpan,
        _ server: ServerConnection
    ) -> SharedStatement? {
        // Under the client's name nothing is prepared, mostly: to close it is no error, and others keep the statement.
        if operation.statement.isUnnamed {
            server.unseenUnnamedOf = nil
        } else {
            defined.append((operation.statement, nil))
        }
        return expect(.closeStatement(operation.statement, unit.array(operation.name)), on: server)
    }

    private mutating func evict(_ server: ServerConnection, usedBefore first: UInt64) {
        let limit = server.pool.worker.configuration.pooling.maxPreparedStatements
        while let statement = server.prepared.evict(limit: limit, usedBefore: first) {
            writer.closeStatement(statement.name)
            server.pending.append(.injectedClose(statement))
        }
    }

    /// Sends the unit with its edits.
    mutating func edit(_ unit: RawSpan, into stream: Stream) {
        output.removeAll(keepingCapacity: true)
        var copied = 0
        for edit in edits {
            append(unit, copied..<edit.message.lowerBound)
            copied = edit.message.lowerBound
            if !edit.ahead.isEmpty { output += writer.bytes[edit.ahead] }
            guard let statement = edit.statement else { continue }
            output.append(unit.byte(at: copied))
            let length = edit.message.count - 1 - edit.name.count + statement.name.count
            for shift in [24, 16, 8, 0] as [Int] { output.append(UInt8(truncatingIfNeeded: length >> shift)) }
            append(unit, copied + MessageHeader.size..<edit.name.lowerBound)
            output += statement.name
            copied = edit.name.upperBound
        }
        append(unit, copied..<unit.byteCount)
        stream.send(output)
    }

    private mutating func append(_ unit: RawSpan, _ range: Range<Int>) {
        unit.extracting(range).withUnsafeBytes { output.append(contentsOf: $0) }
    }
}
