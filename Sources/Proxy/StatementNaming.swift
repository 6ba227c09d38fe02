import PostgresWire
import ProxyCore

/// Gives the statements of a unit the names they have on server connections, and prepares there what is missing.
///
/// Storage is used again from unit to unit.
struct StatementNaming {
    /// What becomes of a message: its statement has another name, or another message goes ahead of it.
    private struct Edit {
        var message: Range<Int>
        var name: Range<Int>
        /// `nil`: the server is to refuse the name, which is taken by a message of ours.
        var statement: SharedStatement?
    }

    private var writer = MessageWriter()
    /// In the order of the messages.
    private var edits: [Edit] = []
    /// What the unit itself has done to names, latest last; `nil` for closed.
    private var defined: [(name: StatementName, statement: SharedStatement?)] = []
    private var output: [UInt8] = []

    /// Messages of ours that go ahead of the unit; and so do their answers.
    var injected: [UInt8] { writer.bytes }
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
        let injectedBefore = server.pending.count
        // What is injected goes ahead, and so it stands first among what is pending: two passes.
        for operation in operations { inject(operation, unit, session, server) }
        evict(server, keeping: injectedBefore)
        for operation in operations { expect(operation, unit, session, server) }
    }

    private func definition(of name: StatementName, _ session: Session) -> SharedStatement? {
        for entry in defined.reversed() where entry.name == name { return entry.statement }
        return session.statements.statement(name)
    }

    private mutating func inject(
        _ operation: StatementOperation,
        _ unit: RawSpan,
        _ session: Session,
        _ server: ServerConnection
    ) {
        let name = operation.statement
        switch operation.kind {
        case .parse(let effect, let traits):
            if name.isUnnamed {
                let generation = session.worker.nextGeneration()
                let message = unit.extracting(operation.message)
                session.statements.defineUnnamed(message, effect: effect, traits: traits, generation: generation)
                server.prepared.unnamed = generation
            } else if definition(of: name, session) != nil {
                // The server is to refuse the name, in its own words: so the name has to be there.
                guard !server.clientNames.contains(unit.array(operation.name)) else { return }
                edits.append(Edit(message: operation.message, name: operation.name))
            } else if !server.clientNames.isEmpty, server.clientNames.contains(unit.array(operation.name)) {
                // SQL's PREPARE has taken it: likewise.
            } else {
                let statement = session.worker.statements.statement(
                    unit.extracting(operation.name.upperBound + 1..<operation.message.upperBound),
                    settings: session.settings.fingerprint,
                    effect: effect,
                    traits: traits
                )
                if server.prepared.use(statement) || defined.contains(where: { $0.statement === statement }) {
                    // What it means is for the server to say anew.
                    writer.closeStatement(statement.name)
                    server.pending.append(.injectedClose(statement))
                }
                server.prepared.add(statement)
                defined.append((name, statement))
                edits.append(Edit(message: operation.message, name: operation.name, statement: statement))
            }
        case .bind, .describe:
            if name.isUnnamed {
                useUnnamed(session, server)
            } else if let statement = definition(of: name, session) {
                if !server.prepared.use(statement) {
                    statement.appendParse(to: &writer)
                    server.pending.append(.injectedParse(statement))
                    server.prepared.add(statement)
                }
                edits.append(Edit(message: operation.message, name: operation.name, statement: statement))
            }
        case .close:
            if !name.isUnnamed { defined.append((name, nil)) }
        case .closePortal:
            break
        }
    }

    private mutating func useUnnamed(_ session: Session, _ server: ServerConnection) {
        guard server.prepared.unnamed != session.statements.unnamed else { return }
        if session.statements.unnamed == nil {
            // The one there is another session's.
            writer.closeStatement([])
        } else {
            session.statements.appendUnnamedParse(to: &writer)
        }
        server.pending.append(.injected)
        server.prepared.unnamed = session.statements.unnamed
    }

    private mutating func evict(_ server: ServerConnection, keeping first: Int) {
        let limit = server.pool.worker.configuration.pooling.maxPreparedStatements
        // What this unit uses was used last.
        let needed = edits.count
        while let statement = server.prepared.evict(limit: max(limit, needed)) {
            writer.closeStatement(statement.name)
            server.pending.append(.injectedClose(statement))
        }
    }

    private func expect(
        _ operation: StatementOperation,
        _ unit: RawSpan,
        _ session: Session,
        _ server: ServerConnection
    ) {
        switch operation.kind {
        case .parse:
            if operation.statement.isUnnamed {
                server.pending.append(.parseUnnamed)
            } else if let edit = edits.first(where: { $0.message == operation.message }) {
                let name = unit.array(operation.name)
                if let statement = edit.statement {
                    server.pending.append(.parse(operation.statement, name, statement))
                } else {
                    server.pending.append(.injectedRefusal(name))
                    server.pending.append(.parseAsNamed(name))
                }
            } else {
                server.pending.append(.parseAsNamed(unit.array(operation.name)))
            }
        case .close:
            server.pending.append(.closeStatement(operation.statement, unit.array(operation.name)))
        case .closePortal:
            server.pending.append(.other)
        case .bind, .describe:
            break
        }
    }

    /// What the client calls a statement of the unit last prepared, which stands at the start of `unit` still.
    func clientName(of name: [UInt8], in unit: RawSpan) -> [UInt8]? {
        edits.first { $0.statement?.name == name && $0.name.upperBound <= unit.byteCount }.map { unit.array($0.name) }
    }

    /// Sends the unit with its edits.
    mutating func edit(_ unit: RawSpan, into stream: Stream) {
        output.removeAll(keepingCapacity: true)
        var copied = 0
        for edit in edits {
            append(unit, copied..<edit.message.lowerBound)
            output.append(unit.byte(at: edit.message.lowerBound))
            if let statement = edit.statement {
                append(length: edit.message.count - 1 - edit.name.count + statement.name.count)
                append(unit, edit.message.lowerBound + MessageHeader.size..<edit.name.lowerBound)
                output += statement.name
                copied = edit.name.upperBound
            } else {
                // A Parse of nothing.
                append(length: 4 + edit.name.count + 4)
                append(unit, edit.name)
                for _ in 0..<4 { output.append(0) }
                copied = edit.message.lowerBound
            }
        }
        append(unit, copied..<unit.byteCount)
        stream.send(output)
    }

    private mutating func append(length: Int) {
        for shift in [24, 16, 8, 0] as [Int] { output.append(UInt8(truncatingIfNeeded: length >> shift)) }
    }

    private mutating func append(_ unit: RawSpan, _ range: Range<Int>) {
        unit.extracting(range).withUnsafeBytes { output.append(contentsOf: $0) }
    }
}
