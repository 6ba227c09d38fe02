package import PostgresWire
package import QueryAnalysis

/// A READ COMMITTED transaction whose BEGIN was answered by the endpoint, as long as the primary has nothing of it.
///
/// The rules:
/// 1. BEGIN is sent with the first statement. A transaction that never sends anything ends here, too.
/// 2. While all statements are reads that a standby may answer, they go to the standby where the first one went.
/// 3. At the first other one, at an error of the standby, and when its connection breaks, the transaction moves to the primary:
///    it is begun there, and the statement runs there. That is possible at any time because in READ COMMITTED each
///    statement has a snapshot of its own, and because a standby cannot have written anything.
/// 4. It never goes back: on the primary it is a transaction like any other, and this value is gone.
///
/// Decision note on deferred transactions.
package struct DeferredTransaction: Sendable, Equatable {
    package enum Place: Sendable, Equatable {
        case nowhere
        case standby
    }

    /// What a unit is to a transaction.
    package enum Statement: Sendable, Equatable {
        /// COMMIT, ROLLBACK, and nothing more.
        case end(TransactionCommand)
        /// A read that leaves nothing a later statement could ask for. Whether the standby where the transaction is may
        /// answer it.
        case read(mayStay: Bool)
        case other
    }

    package enum OnStatement: Sendable, Equatable {
        /// Nothing was sent: the endpoint answers it as it does this command, and the transaction is over.
        case answer(TransactionCommand)
        /// It begins with this statement, on any node that may answer it, or on the primary.
        case begin
        /// It goes to the standby where the transaction is.
        case stay
        /// The transaction is to be taken back there, and begins on the primary.
        case move
    }

    /// The client's BEGIN, as a Query message.
    package let begin: [[UInt8]]
    package private(set) var place = Place.nowhere
    /// No standby will do any more.
    package private(set) var needsPrimary = false
    /// A statement of it failed, which the client knows: until its end all others are refused.
    package private(set) var hasFailed = false
    /// A standby has answered a statement.
    package private(set) var hasRead = false
    /// A snapshot was taken for one of them.
    package private(set) var hasSnapshot = false
    /// The shape of its first statement; 0 as long as there was none.
    package private(set) var shape: UInt64 = 0

    package init(begin: [[UInt8]]) { self.begin = begin }

    // MARK: - What happens

    /// The client's next unit. Asked again, it says the same until something has happened.
    package mutating func next(_ statement: Statement) -> OnStatement {
        switch (place, statement) {
        case (.nowhere, .end(let command)):
            return .answer(hasFailed ? .rollback : command)
        case (.nowhere, .read):
            return .begin
        case (.nowhere, .other):
            needsPrimary = true
            return .begin
        case (.standby, .end), (.standby, .read(mayStay: true)):
            return .stay
        case (.standby, .read(mayStay: false)), (.standby, .other):
            return .move
        }
    }

    /// Its first statement has this shape; those that had it before wrote later on, or did not.
    package mutating func startsWith(_ shape: UInt64, writes: Bool) {
        self.shape = shape
        needsPrimary = needsPrimary || writes
    }

    /// `standbyBeginning` was sent to a standby.
    package mutating func began() { place = .standby }

    /// The standby has answered a unit, and the transaction goes on.
    package mutating func answered(_ status: TransactionStatus, tookSnapshot: Bool) {
        hasRead = true
        hasSnapshot = hasSnapshot || tookSnapshot
        hasFailed = status == .failed
    }

    /// It was taken back on the standby, or is lost with the connection.
    package mutating func left() {
        place = .nowhere
        // What was read may not be there yet on another standby.
        needsPrimary = needsPrimary || hasRead || hasFailed
    }

    /// It has to go on on the primary.
    package mutating func leftForPrimary() {
        left()
        needsPrimary = true
    }

    // MARK: - What is sent

    /// Begins it on a standby: at the level that it has whatever the standby's own default is.
    package static let standbyBeginning = [query("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY")]

    /// Begins it on the primary. Where SET TRANSACTION would have come too late, it is to come too late there.
    package var primaryBeginning: [[UInt8]] {
        hasSnapshot ? begin + Self.firstQuery : begin
    }

    private static let firstQuery = [query("SELECT")]

    /// Fails, and the transaction with it.
    package static let failure = [query("ROLLBACK TO SAVEPOINT slipstream_failed")]

    private static func query(_ sql: String) -> [UInt8] {
        var writer = MessageWriter()
        writer.query(sql)
        return writer.bytes
    }

    // MARK: - Units

    /// Whether a later unit cannot ask for a portal that this one leaves, and that would be gone when the transaction has moved:
    /// every Bind is of the unnamed portal, and executed to its end.
    package static func leavesNoPortal(_ unit: RawSpan) -> Bool {
        var offset = 0
        var isOpen = false
        while let header = MessageHeader(unit, at: offset), header.length >= 4,
            offset + header.totalSize <= unit.byteCount
        {
            let body = offset + MessageHeader.size
            let end = offset + header.totalSize
            switch FrontendMessage(rawValue: header.type) {
            case .bind:
                guard !isOpen, body < end, unit.byte(at: body) == 0 else { return false }
                isOpen = true
            case .execute:
                guard end - body == 5, unit.byte(at: body) == 0, unit.int32(at: body + 1) == 0 else { return false }
                isOpen = false
            case .parse, .describe, .close, .flush, .sync, .query: break
            case .copyData, .copyDone, .copyFail, .functionCall, .password, .terminate, nil: return false
            }
            offset = end
        }
        return !isOpen && offset == unit.byteCount
    }

    /// What a server answers to a unit that is such a command; `nil` when it is not as simple as drivers make it: a Query, or
    /// Parse (of the unnamed statement), Bind, Describe, Execute, Sync, in this order, the first and the third being optional.
    package static func answer(to unit: RawSpan, as command: TransactionCommand) -> [UInt8]? {
        if unit.byte(at: 0) == FrontendMessage.query.rawValue { return simpleAnswer(command) }
        var writer = MessageWriter()
        var offset = 0
        var previous: FrontendMessage?
        while let header = MessageHeader(unit, at: offset), header.length >= 4,
            offset + header.totalSize <= unit.byteCount
        {
            let body = unit.extracting(offset + MessageHeader.size..<offset + header.totalSize)
            let type = FrontendMessage(rawValue: header.type)
            switch type {
            case .parse:
                guard previous == nil, isPlainParse(body) else { return nil }
                writer.message(.parseComplete) { _ in }
            case .bind:
                guard previous == nil || previous == .parse, isPlainBind(body) else { return nil }
                writer.message(.bindComplete) { _ in }
            case .describe:
                guard previous == .bind, body.byteCount == 2, body.byte(at: 0) == UInt8(ascii: "P") else { return nil }
                writer.message(.noData) { _ in }
            case .execute:
                guard previous == .bind || previous == .describe, body.byteCount == 5, body.byte(at: 0) == 0
                else { return nil }
                writer.complete(command)
            case .sync:
                guard previous == .execute else { return nil }
                writer.readyForQuery(command.begins ? .inTransaction : .idle)
            case .close, .copyData, .copyDone, .copyFail, .flush, .functionCall, .password, .query, .terminate, nil:
                return nil
            }
            previous = type
            offset += header.totalSize
        }
        return previous == .sync && offset == unit.byteCount ? writer.bytes : nil
    }

    /// To a Query message: always the same.
    private static func simpleAnswer(_ command: TransactionCommand) -> [UInt8] {
        switch command {
        case .begin: simpleBegin
        case .startTransaction: simpleStart
        case .commit: simpleCommit
        case .rollback: simpleRollback
        }
    }

    private static let simpleBegin = makeSimpleAnswer(.begin)
    private static let simpleStart = makeSimpleAnswer(.startTransaction)
    private static let simpleCommit = makeSimpleAnswer(.commit)
    private static let simpleRollback = makeSimpleAnswer(.rollback)

    private static func makeSimpleAnswer(_ command: TransactionCommand) -> [UInt8] {
        var writer = MessageWriter()
        writer.complete(command)
        writer.readyForQuery(command.begins ? .inTransaction : .idle)
        return writer.bytes
    }

    /// Of the unnamed statement, without types of parameters.
    private static func isPlainParse(_ body: RawSpan) -> Bool {
        guard body.byteCount > 0, body.byte(at: 0) == 0, let end = body.terminator(from: 1, before: body.byteCount)
        else { return false }
        return body.byteCount == end + 3 && body.byte(at: end + 1) == 0 && body.byte(at: end + 2) == 0
    }

    /// Of the unnamed portal, without parameters. Formats of results do not matter where there are none.
    private static func isPlainBind(_ body: RawSpan) -> Bool {
        guard body.byteCount > 0, body.byte(at: 0) == 0, let end = body.terminator(from: 1, before: body.byteCount),
            body.byteCount >= end + 7, body.int32(at: end + 1) == 0
        else { return false }
        let formats = Int(body.byte(at: end + 5)) << 8 | Int(body.byte(at: end + 6))
        return body.byteCount == end + 7 + 2 * formats
    }
}

extension MessageWriter {
    fileprivate mutating func complete(_ command: TransactionCommand) {
        message(.commandComplete) { $0.string("\(command.tag)") }
    }
}
