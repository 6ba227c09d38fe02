import PostgresWire
import ProxyCore

/// Gives the statements of a unit the names they have on server connections, and prepares there what is missing.
///
/// Storage is used again from unit to unit.
struct StatementNaming {
    private struct Renamed {
        var message: Range<Int>
        var name: Range<Int>
        var statement: SharedStatement
    }

    private var writer = MessageWriter()
    private var renamed: [Renamed] = []
    /// What the unit itself has done to names, latest last; `nil` for closed.
    private var defined: [(name: StatementName, statement: SharedStatement?)] = []
    private var output: [UInt8] = []

    /// Messages of ours that go ahead of the unit; and so do their answers.
    var injected: [UInt8] { writer.bytes }
    var hasRenamed: Bool { !renamed.isEmpty }

    /// Walks over the operations of the unit at the start of `unit`.
    mutating func prepare(
        _ operations: [StatementOperation],
        _ unit: RawSpan,
        for session: Session,
        on server: ServerConnection
    ) {
        writer.clear()
        renamed.removeAll(keepingCapacity: true)
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
                let bytes = unit.array(operation.name)
                guard !server.clientNames.contains(bytes) else { return }
                writer.message(.parse) {
                    $0.raw(bytes)
                    for _ in 0..<4 { $0.byte(0) }
                }
                server.pending.append(.injected)
                server.clientNames.append(bytes)
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
                    server.pending.append(.injected)
                }
                server.prepared.add(statement)
                defined.append((name, statement))
                renamed.append(Renamed(message: operation.message, name: operation.name, statement: statement))
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
                renamed.append(Renamed(message: operation.message, name: operation.name, statement: statement))
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
        let needed = renamed.count
        while let statement = server.prepared.evict(limit: max(limit, needed)) {
            writer.closeStatement(statement.name)
            server.pending.append(.injected)
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
            } else if let entry = renamed.first(where: { $0.message == operation.message }) {
                server.pending.append(.parse(operation.statement, unit.array(operation.name), entry.statement))
            } else {
                server.pending.append(.other)
            }
        case .close:
            server.pending.append(.closeStatement(operation.statement, unit.array(operation.name)))
        case .closePortal:
            server.pending.append(.other)
        case .bind, .describe:
            break
        }
    }

    /// Sends the unit with its statements renamed.
    mutating func rename(_ unit: RawSpan, into stream: Stream) {
        output.removeAll(keepingCapacity: true)
        var copied = 0
        for entry in renamed {
            append(unit, copied..<entry.message.lowerBound + 1)
            let length = entry.message.count - 1 - entry.name.count + entry.statement.name.count
            for shift in [24, 16, 8, 0] as [Int] { output.append(UInt8(truncatingIfNeeded: length >> shift)) }
            append(unit, entry.message.lowerBound + MessageHeader.size..<entry.name.lowerBound)
            output += entry.statement.name
            copied = entry.name.upperBound
        }
        append(unit, copied..<unit.byteCount)
        stream.send(output)
    }

    private mutating func append(_ unit: RawSpan, _ range: Range<Int>) {
        unit.extracting(range).withUnsafeBytes { output.append(contentsOf: $0) }
    }
}
