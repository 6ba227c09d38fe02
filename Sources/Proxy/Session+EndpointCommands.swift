import PostgresWire
import ProxyCore
import QueryAnalysis

/// Statements about the endpoint itself, which no server sees: `SET slipstream.key = 'user:42'`, `SHOW slipstream.token`.
extension Session {
    /// Which of its reads may miss which writes.
    var consistency: Consistency { preferences?.present.consistency ?? group.consistency }

    /// How old what the current unit reads may be; `nil` for no limit.
    var maxStaleness: Duration? {
        guard let unit = current?.unit, unit.traits.contains(.limitsStaleness) else {
            return preferences?.present.maxStaleness
        }
        let hint = soleStatement(of: unit)?.withUnsafeBytes { RoutingHint.maxStaleness(in: $0) }
        // What is not understood is not exceeded.
        return hint.flatMap { Duration(text: $0) } ?? .zero
    }

    // MARK: - Answering

    /// Takes a unit that holds nothing but such statements. Returns false when a server has to see it.
    func answersHere(_ unit: RequestUnit) -> Bool {
        guard !unit.isOpaque, let commands = endpointCommands(of: unit) else {
            return false
        }
        answerWhenKnown(commands)
        return true
    }

    /// The commands that a unit prepares, describes or executes; `nil` when there is anything else in it.
    private func endpointCommands(of unit: RequestUnit) -> [EndpointCommand]? {
        let bytes = client.unread.bytes
        if unit.isSimpleQuery { return Self.endpointCommand(in: soleStatement(of: unit)).map { [$0] } }
        var commands: [EndpointCommand] = []
        for operation in requests.operations {
            switch operation.kind {
            case .parse, .bind, .describe:
                guard let command = Self.endpointCommand(in: text(of: operation, in: bytes)) else { return nil }
                if operation.kind == .bind { commands.append(command) }
            case .parseUnseen: return nil
            case .close, .closePortal: break
            }
        }
        return commands
    }

    private static func endpointCommand(in text: [UInt8]?) -> EndpointCommand? {
        text?.withUnsafeBytes { EndpointCommand($0) }
    }

    private func answerWhenKnown(_ commands: [EndpointCommand]) {
        guard let unit = current?.unit else { return }
        if shownStatus != .failed, commands.contains(where: mustWait) {
            phase = .answering
            since = worker.now
            worker.awaitProbe(self)
            return
        }
        phase = .idle
        answer(unit)
    }

    /// Whether the next probe of the primary is needed to answer.
    private func mustWait(_ command: EndpointCommand) -> Bool {
        switch command {
        case .show("token"):
            worker.freshness.settle(&freshness)
            return freshness.unresolved != 0
        case .set("token", let value?, _):
            guard let token = FreshnessToken(value) else { return false }
            var freshness = freshness
            return !worker.freshness.accept(token, &freshness)
        case .set, .reset, .show, .explainRoute: return false
        }
    }

    /// What is known of the primary's log has changed.
    func probeAnswered() {
        if phase == .answering, let unit = current?.unit {
            answerWhenKnown(endpointCommands(of: unit) ?? [])
            if phase == .idle { advance() }
        }
        guard preferences?.present.reportsToken == true, phase != .closed else { return }
        worker.freshness.settle(&freshness)
        if freshness.unresolved != 0 {
            worker.awaitProbe(self)
        } else if let token = worker.freshness.token(of: freshness), !isMidMessage {
            var writer = MessageWriter()
            writer.parameterStatus(EndpointCommand.prefix + "token", token.description)
            client.send(writer.bytes)
        }
    }

    /// What the unit waits for will not be known in time.
    func answerWithError(_ message: ErrorMessage) {
        guard let unit = current?.unit, phase == .answering else { return }
        phase = .idle
        var writer = MessageWriter()
        message.write(to: &writer)
        finishAnswer(unit, &writer, hasFailed: true)
        advance()
    }

    /// No primary has answered, or none of the timeline that a token speaks of.
    func waitedTooLongForProbe() {
        answerWithError(
            ErrorMessage(
                .error,
                .cannotConnectNow,
                "it is not known how far the primary's log is",
                detail: "No primary, or none of the token's timeline, has answered within "
                    + "\(worker.configuration.primaryWait).",
                hint: "Look at \"slipstream status\", and try again."
            )
        )
    }

    private func answer(_ unit: RequestUnit) {
        var writer = MessageWriter()
        var hasFailed = false
        do throws(ErrorMessage) {
            if shownStatus == .failed {
                throw ErrorMessage(
                    .error,
                    .inFailedTransaction,
                    "current transaction is aborted, commands ignored until end of transaction block"
                )
            }
            if unit.isSimpleQuery {
                statements.removeUnnamed()
                if let command = Self.endpointCommand(in: soleStatement(of: unit)) {
                    describe(command, to: &writer)
                    try run(command, to: &writer)
                }
            } else {
                try answerMessages(of: unit, to: &writer)
            }
        } catch {
            hasFailed = true
            error.write(to: &writer)
        }
        finishAnswer(unit, &writer, hasFailed: hasFailed)
    }

    private func finishAnswer(_ unit: RequestUnit, _ writer: inout MessageWriter, hasFailed: Bool) {
        let saysReady = unit.ending == .ready && current?.hidesReady == false
        current = nil
        since = worker.now
        client.consume(unit.length)
        if saysReady {
            writer.readyForQuery(shownStatus)
        } else if hasFailed {
            throwAway(until: .sync)
        }
        client.send(writer.bytes)
    }

    /// The messages of an extended query, each with its answer.
    private func answerMessages(of unit: RequestUnit, to writer: inout MessageWriter) throws(ErrorMessage) {
        let bytes = client.unread.bytes
        var operations = requests.operations[...]
        var portal: EndpointCommand?
        var offset = 0
        while offset < unit.length, let header = MessageHeader(bytes, at: offset) {
            defer { offset += header.totalSize }
            let operation = operations.first?.message.lowerBound == offset ? operations.removeFirst() : nil
            let command = operation.flatMap { Self.endpointCommand(in: text(of: $0, in: bytes)) }
            switch FrontendMessage(rawValue: header.type) {
            case .parse:
                try operation.map { operation throws(ErrorMessage) in try define(operation, bytes) }
                writer.message(.parseComplete) { _ in }
            case .bind:
                portal = command
                writer.message(.bindComplete) { _ in }
            case .describe:
                if operation != nil {
                    let count = command?.parameterCount ?? 0
                    writer.message(.parameterDescription) {
                        $0.int16(Int16(count))
                        // Which type does not matter: text.
                        for _ in 0..<count { $0.int32(25) }
                    }
                }
                if let described = operation == nil ? portal : command {
                    describe(described, to: &writer, isExtended: true)
                }
            case .execute:
                if let portal { try run(portal, to: &writer) }
            case .close:
                if operation?.kind == .close, let name = operation?.statement { statements.remove(name) }
                writer.message(.closeComplete) { _ in }
            default: break
            }
        }
    }

    private func define(_ operation: StatementOperation, _ bytes: RawSpan) throws(ErrorMessage) {
        guard case .parse(let effect, let traits) = operation.kind else { return }
        if operation.statement.isUnnamed {
            statements.defineUnnamed(
                bytes.extracting(operation.message),
                effect: effect,
                traits: traits,
                generation: worker.nextGeneration()
            )
            return
        }
        let name = bytes.array(operation.name)
        guard statements.statement(operation.statement) == nil else {
            throw ErrorMessage(
                .error,
                .duplicatePreparedStatement,
                "prepared statement \"\(String(decoding: name, as: UTF8.self))\" already exists"
            )
        }
        let statement = worker.statements.statement(
            bytes.extracting(operation.name.upperBound + 1..<operation.message.upperBound),
            settings: settings.fingerprint,
            effect: effect,
            traits: traits
        )
        statements.define(operation.statement, name, statement)
    }

    private func describe(_ command: EndpointCommand, to writer: inout MessageWriter, isExtended: Bool = false) {
        switch command {
        case .show(let name): writer.rowDescription(Self.columns(of: name))
        case .explainRoute: writer.rowDescription(["ROUTE PLAN"])
        case .set, .reset: if isExtended { writer.message(.noData) { _ in } }
        }
    }

    private static func columns(of name: String) -> [String] {
        switch name {
        case "learned": ["database", "fingerprint", "sqlstate", "statement", "count", "learned_at"]
        case "shadow": ShadowReport.columns
        default: [EndpointCommand.prefix + name]
        }
    }

    private func rows(of name: String) throws(ErrorMessage) -> [[String]] {
        switch name {
        case "learned": worker.learned.all.filter { $0.database == database }.map(\.row)
        case "shadow": ShadowCounts.total(worker.siblings.compactMap(\.shadow)).rows()
        default: [[try value(of: name)]]
        }
    }

    // MARK: - Settings

    private func run(_ command: EndpointCommand, to writer: inout MessageWriter) throws(ErrorMessage) {
        switch command {
        case .show(let name):
            for row in try rows(of: name) { writer.dataRow(row) }
            writer.commandComplete("SHOW")
        case .explainRoute(let statement):
            for line in routePlan(ofStatement: statement).lines { writer.dataRow([line]) }
            writer.commandComplete("EXPLAIN")
        case .set(let name, let value, let isLocal):
            if isLocal, !isInTransaction {
                let warning = ErrorMessage(
                    .warning,
                    .noActiveTransaction,
                    "SET LOCAL can only be used in transaction blocks"
                )
                warning.write(to: &writer)
            }
            try set(name, to: value, isLocal: isLocal)
            writer.commandComplete("SET")
        case .reset("learned"):
            worker.forgetLearned(in: database)
            writer.commandComplete("RESET")
        case .reset("shadow"):
            for sibling in worker.siblings { sibling.shadow?.forget() }
            writer.commandComplete("RESET")
        case .reset(let name):
            try set(name, to: nil)
            writer.commandComplete("RESET")
        }
    }

    private func value(of name: String) throws(ErrorMessage) -> String {
        if name == "token" { return worker.freshness.token(of: freshness)?.description ?? "" }
        let present = preferences?.present ?? SessionPreferences()
        guard let value = present.value(of: name, configured: group.consistency) else {
            throw SessionPreferences.unknown(name)
        }
        return value
    }

    /// - Parameter value: `nil` for DEFAULT.
    func set(_ name: String, to value: String?, isLocal: Bool = false) throws(ErrorMessage) {
        if name == "token" { return try accept(value ?? "") }
        guard !SessionPreferences.reports.contains(name) else {
            throw ErrorMessage(
                .error,
                .cannotChangeParameter,
                "parameter \"slipstream.\(name)\" cannot be changed",
                hint: "RESET slipstream.\(name) forgets all of it."
            )
        }
        let preferences = preferences ?? TransactionalPreferences()
        try preferences.set(name, to: value, isLocal: isLocal, isInTransaction: isInTransaction)
        self.preferences = preferences
        preferencesChanged()
    }

    /// What has to be seen is never taken back: an empty token changes nothing.
    private func accept(_ text: String) throws(ErrorMessage) {
        guard !text.isEmpty else { return }
        guard let token = FreshnessToken(text) else {
            let hint = "Give what SHOW slipstream.token has told, such as 1:16/B374D848."
            throw SessionPreferences.refusal("token", text, hint)
        }
        // Where it cannot be waited for the timeline: the next probe counts.
        if !worker.freshness.accept(token, &freshness) { worker.wrote(self) }
    }

    func preferencesChanged() {
        route.pinTime = consistency == .seconds ? worker.configuration.pinTime : .zero
    }

    func preferencesEndTransaction(isCommitted: Bool) {
        guard let preferences else { return }
        preferences.transactionEnded(isCommitted: isCommitted)
        preferencesChanged()
    }

    /// RESET ALL, or DISCARD ALL.
    func resetPreferences() {
        guard let preferences else { return }
        preferences.resetAll(isInTransaction: isInTransaction)
        preferencesChanged()
    }

    /// Settings of ours that came to a server, among other statements or by `set_config`.
    func adoptPreferences(_ found: [(name: String, value: [UInt8])]) {
        for (name, value) in found where name.hasPrefix(EndpointCommand.prefix) {
            let name = String(name.dropFirst(EndpointCommand.prefix.count))
            do throws(ErrorMessage) {
                // What was reset is empty there.
                try set(name, to: value.isEmpty ? nil : String(decoding: value, as: UTF8.self))
            } catch {
                if !isMidMessage { client.send(error.asWarning.bytes) }
            }
        }
    }
}
