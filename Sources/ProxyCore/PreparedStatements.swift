package import PostgresWire
package import QueryAnalysis
import Synchronization

/// A prepared statement's name as a key: a hash of its bytes, so that a look-up allocates nothing.
///
/// FNV-1a, 64 bits. A collision needs two names of one client session and harms that session only.
package struct StatementName: Hashable, Sendable {
    private let hash: UInt64
    package let isUnnamed: Bool

    package init(_ bytes: RawSpan) {
        var hash = FNV1a()
        hash.combine(bytes)
        self.hash = hash.value
        isUnnamed = bytes.byteCount == 0
    }
}

/// A prepared statement by its content, known by one name on every server connection of a worker.
///
/// Clients choose names for themselves: what two of them call `s1` may be two statements, or one.
package final class SharedStatement: Sendable {
    package let id: UInt32
    /// Its name on server connections, without the terminating zero.
    package let name: [UInt8]
    /// The body of its Parse message behind the name: the text with its zero, and the parameters' types.
    package let content: [UInt8]
    package let effect: StatementEffect
    package let traits: StatementTraits

    init(id: UInt32, name: [UInt8], content: [UInt8], effect: StatementEffect, traits: StatementTraits) {
        self.id = id
        self.name = name
        self.content = content
        self.effect = effect
        self.traits = traits
    }

    /// Appends the Parse message that prepares it, under its own name or another.
    package func appendParse(as name: [UInt8]? = nil, to writer: inout MessageWriter) {
        writer.message(.parse) {
            $0.raw(name ?? self.name)
            $0.byte(0)
            $0.raw(content)
        }
    }

    /// The text, without its zero.
    package var text: [UInt8] { Array(content.prefix { $0 != 0 }) }

    /// 0 until somebody asks.
    private let knownFingerprint = Atomic<UInt64>(0)

    package var fingerprint: Fingerprint {
        let known = knownFingerprint.load(ordering: .relaxed)
        if known != 0 { return Fingerprint(rawValue: known) }
        let fingerprint = text.withUnsafeBytes { Fingerprint($0) }
        knownFingerprint.store(fingerprint.rawValue, ordering: .relaxed)
        return fingerprint
    }
}

/// The named statements of all client sessions of a worker.
package struct SharedStatements: Sendable {
    private struct Key: Hashable {
        var content: UInt64
        var settings: UInt64
        var epoch: UInt32
    }

    private var table: [Key: SharedStatement] = [:]
    private var nextID: UInt32 = 0
    private var sweepsAt = 1_024
    private let prefix: [UInt8]
    /// Counts changes of definitions in the databases: a statement prepared after one is not the one prepared before, which the
    /// server may refuse to run ("cached plan must not change result type").
    private var epoch: UInt32 = 0

    /// - Parameter secret: bytes that nobody can guess. The names contain them, so that no client can name a statement that is
    ///   not its own.
    package init(secret: [UInt8]) {
        prefix = Array("slipstream_".utf8) + secret.prefix(5).map { UInt8(ascii: "a") + $0 % 26 } + [UInt8(ascii: "_")]
    }

    package mutating func definitionsChanged() {
        epoch &+= 1
    }

    /// The statement with this content.
    ///
    /// - Parameter settings: the fingerprint of the session's settings, under which it is prepared.
    package mutating func statement(
        _ content: RawSpan,
        settings: UInt64,
        effect: StatementEffect,
        traits: StatementTraits
    ) -> SharedStatement {
        var hash = FNV1a()
        hash.combine(content)
        let key = Key(content: hash.value, settings: settings, epoch: epoch)
        let known = table[key]
        if let known, Self.isEqual(known.content, content) { return known }
        nextID &+= 1
        let statement = SharedStatement(
            id: nextID,
            name: prefix + Array(String(nextID, radix: 36).utf8),
            content: content.array(0..<content.byteCount),
            effect: effect,
            traits: traits
        )
        // Of two with one hash the first is shared.
        if known == nil {
            table[key] = statement
            if table.count >= sweepsAt { sweep() }
        }
        return statement
    }

    private static func isEqual(_ bytes: [UInt8], _ span: RawSpan) -> Bool {
        bytes.count == span.byteCount && span.withUnsafeBytes { $0.elementsEqual(bytes) }
    }

    /// Forgets those that no session and no server connection has.
    private mutating func sweep() {
        table.removeUnshared()
        sweepsAt = max(1_024, table.count * 2)
    }

    package var count: Int { table.count }

    /// The first of our names in a message; `nil` when there is none.
    package func name(in message: RawSpan) -> (name: [UInt8], range: Range<Int>)? {
        var start = 0
        while start + prefix.count < message.byteCount {
            var length = 0
            while length < prefix.count, message.byte(at: start + length) == prefix[length] { length += 1 }
            guard length == prefix.count else {
                start += 1
                continue
            }
            var end = start + length
            while end < message.byteCount, Self.isDigit(message.byte(at: end)) { end += 1 }
            return (message.array(start..<end), start..<end)
        }
        return nil
    }

    /// Of a number to the base 36.
    private static func isDigit(_ byte: UInt8) -> Bool {
        (byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9"))
            || (byte >= UInt8(ascii: "a") && byte <= UInt8(ascii: "z"))
    }
}

/// The protocol-level prepared statements of one client session.
package struct PreparedStatements: Sendable {
    /// Tells definitions of unnamed statements apart, over all sessions of a worker.
    package typealias Generation = UInt64

    package struct Definition: Sendable {
        package let statement: SharedStatement
        /// The client's name for it, without the terminating zero.
        package let name: [UInt8]
        fileprivate let number: UInt64
    }

    /// Most sessions that idle have none, and those that have are handed around often: one reference is all there is.
    private final class Storage: @unchecked Sendable {
        var named: [StatementName: Definition] = [:]
        /// Of definitions so far.
        var count: UInt64 = 0
        // The unnamed statement changes with every query of most drivers, so its bytes live in storage that is used again.
        var unnamedMessage: [UInt8] = []
        var unnamedEffect = StatementEffect.sessionState
        var unnamedTraits = StatementTraits.none
        var unnamed: Generation?

        init() {}

        init(_ other: Storage) {
            named = other.named
            count = other.count
            unnamedMessage = other.unnamedMessage
            unnamedEffect = other.unnamedEffect
            unnamedTraits = other.unnamedTraits
            unnamed = other.unnamed
        }
    }

    private var storage: Storage?

    package init() {}

    /// Storage that nobody else has.
    private mutating func own() -> Storage {
        if storage == nil {
            storage = Storage()
        } else if !isKnownUniquelyReferenced(&storage) {
            storage = storage.map { Storage($0) }
        }
        return storage.unsafelyUnwrapped
    }

    /// Which definition of the unnamed statement is the present one; `nil` when there is none.
    package var unnamed: Generation? { storage?.unnamed }

    package var hasNamed: Bool { storage?.named.isEmpty == false }

    /// The named statements, in the order in which they were prepared.
    package var definitions: some Sequence<Definition> {
        (storage?.named ?? [:]).values.sorted { $0.number < $1.number }
    }

    /// What executing a statement does; `nil` when the session has not prepared one of this name.
    package func verdict(on name: StatementName) -> (effect: StatementEffect, traits: StatementTraits)? {
        guard let storage else { return nil }
        if name.isUnnamed { return storage.unnamed == nil ? nil : (storage.unnamedEffect, storage.unnamedTraits) }
        return storage.named[name].map { ($0.statement.effect, $0.statement.traits) }
    }

    package func statement(_ name: StatementName) -> SharedStatement? {
        storage?.named[name]?.statement
    }

    /// The text of a statement; empty when there is none of this name.
    package func text(of name: StatementName) -> [UInt8] {
        guard let storage else { return [] }
        guard name.isUnnamed else { return storage.named[name]?.statement.text ?? [] }
        return storage.unnamed == nil
            ? [] : Array(storage.unnamedMessage[(MessageHeader.size + 1)...].prefix { $0 != 0 })
    }

    package func fingerprint(of name: StatementName) -> Fingerprint {
        if !name.isUnnamed, let statement = storage?.named[name]?.statement { return statement.fingerprint }
        return text(of: name).withUnsafeBytes { Fingerprint($0) }
    }

    /// The Parse message of the unnamed statement.
    package func appendUnnamedParse(to writer: inout MessageWriter) {
        if let storage { writer.raw(storage.unnamedMessage) }
    }

    /// Takes over a named statement that a server has accepted.
    package mutating func define(_ name: StatementName, _ bytes: [UInt8], _ statement: SharedStatement) {
        let storage = own()
        storage.count += 1
        storage.named[name] = Definition(statement: statement, name: bytes, number: storage.count)
    }

    /// The unnamed statement of a Parse that is sent: it ends the one before, whatever comes of it.
    package mutating func defineUnnamed(
        _ message: RawSpan,
        effect: StatementEffect,
        traits: StatementTraits,
        generation: Generation
    ) {
        let storage = own()
        storage.unnamedMessage.removeAll(keepingCapacity: true)
        message.withUnsafeBytes { storage.unnamedMessage.append(contentsOf: $0) }
        storage.unnamed = generation
        storage.unnamedEffect = effect
        storage.unnamedTraits = traits
    }

    package mutating func remove(_ name: StatementName) {
        if name.isUnnamed {
            removeUnnamed()
        } else if hasNamed {
            own().named[name] = nil
        }
    }

    /// Removes named statements by the client's names.
    package mutating func remove(_ names: [[UInt8]]) {
        guard hasNamed else { return }
        for name in names { own().named[StatementName(name.span.bytes)] = nil }
    }

    /// A simple query, too, destroys the unnamed statement.
    package mutating func removeUnnamed() {
        if unnamed != nil { own().unnamed = nil }
    }

    package mutating func removeAll() {
        storage = nil
    }
}

/// What one server connection has prepared.
package struct PreparedOnServer: Sendable {
    private struct Entry {
        var statement: SharedStatement
        var lastUse: UInt64
    }

    private var entries: [UInt32: Entry] = [:]
    /// Counts uses.
    package private(set) var uses: UInt64 = 0
    /// Which unnamed statement it has; `nil` when there surely is none.
    package var unnamed: PreparedStatements.Generation?

    package init() {}

    package var count: Int { entries.count }

    /// Whether a statement is prepared, which counts as a use.
    package mutating func use(_ statement: SharedStatement) -> Bool {
        uses &+= 1
        guard let index = entries.index(forKey: statement.id) else { return false }
        entries.values[index].lastUse = uses
        return true
    }

    package mutating func add(_ statement: SharedStatement) {
        uses &+= 1
        entries[statement.id] = Entry(statement: statement, lastUse: uses)
    }

    package mutating func remove(_ statement: SharedStatement) {
        entries[statement.id] = nil
    }

    /// Takes out the statement that was not used for the longest time, to be closed; `nil` when there are not more than
    /// `limit`, which 0 lifts.
    ///
    /// - Parameter mark: what was used since `uses` had this value stays.
    package mutating func evict(limit: Int, usedBefore mark: UInt64) -> SharedStatement? {
        guard limit > 0, entries.count > limit, let oldest = entries.values.min(by: { $0.lastUse < $1.lastUse }),
            oldest.lastUse <= mark
        else { return nil }
        entries[oldest.statement.id] = nil
        return oldest.statement
    }

    /// Takes out all of them, to be closed.
    package mutating func takeAll() -> [SharedStatement] {
        defer { entries.removeAll() }
        return entries.values.map(\.statement)
    }

    package mutating func removeAll() {
        entries.removeAll()
        unnamed = nil
    }
}
