import PostgresWire
package import QueryAnalysis

/// The settings a client session has made, and how to make them again on another server connection.
///
/// A value that never changes, shared by the session and by the connections that have these settings: whether nothing
/// has to be done is mostly a comparison of two references.
package final class SessionSettings: Sendable {
    struct Entry: Sendable, Equatable {
        /// As `SettingNames.folded` spells it.
        var name: String
        /// The statement that makes it.
        var command: [UInt8]

        /// Byte by byte, as PostgreSQL compares names: to `==` an "é" and an "e" with its accent behind are the same, and
        /// to `contains` a dot is none that an accent follows.
        func isNamed(_ other: String) -> Bool { name.utf8.elementsEqual(other.utf8) }
    }

    package static let none = SessionSettings([])

    /// By name, each once.
    let entries: [Entry]
    /// Of all settings but `application_name`: equal statements prepared under other settings may mean something else.
    package let fingerprint: UInt64
    /// The isolation level of its transactions is chosen by the session.
    package let choosesIsolation: Bool

    private init(_ entries: [Entry]) {
        self.entries = entries
        choosesIsolation = entries.contains { $0.isNamed("default_transaction_isolation") }
        var hash = FNV1a()
        for entry in entries where entry.name != "application_name" { hash.combine(entry.command) }
        fingerprint = hash.value
    }

    package var isEmpty: Bool { entries.isEmpty }

    /// Whether both are the same settings.
    package func equals(_ other: SessionSettings) -> Bool {
        self === other || (fingerprint == other.fingerprint && entries == other.entries)
    }

    // MARK: - Changes

    /// - Parameter command: the statement that made the setting, without its zero.
    package func setting(_ name: String, by command: [UInt8]) -> SessionSettings {
        var entries = entries.filter { !$0.isNamed(name) }
        let place = entries.firstIndex { name.utf8.lexicographicallyPrecedes($0.name.utf8) } ?? entries.count
        entries.insert(Entry(name: name, command: command), at: place)
        return SessionSettings(entries)
    }

    /// As a value that `set_config` takes, which is the form `pg_settings` shows.
    package func setting(_ name: String, to value: [UInt8]) -> SessionSettings {
        var command = Array("SELECT pg_catalog.set_config('\(name)', ".utf8)
        command += Self.literal(value)
        command += Array(", false)".utf8)
        return setting(name, by: command)
    }

    /// - Parameter base: what the settings of the startup packet were.
    package func resetting(_ name: String, to base: SessionSettings) -> SessionSettings {
        if let entry = base.entries.first(where: { $0.isNamed(name) }) { return setting(name, by: entry.command) }
        return SessionSettings(entries.filter { !$0.isNamed(name) })
    }

    /// RESET ALL leaves the role as it is: only RESET ROLE takes it off.
    private func resettingAll(to base: SessionSettings) -> SessionSettings {
        guard let role = entries.first(where: { $0.name == "role" }) else { return base }
        return base.setting(role.name, by: role.command)
    }

    /// After a statement that succeeded outside of a transaction, or whose transaction was committed.
    package func applying(_ change: SettingChange, _ text: [UInt8], base: SessionSettings) -> SessionSettings {
        switch change {
        case .set(let name): setting(name, by: text)
        case .reset(let name): resetting(name, to: base)
        case .resetAll: resettingAll(to: base)
        }
    }

    /// What a connection has after a statement: RESET there goes back to what the connection was opened with.
    package func applyingOnServer(_ change: SettingChange, _ text: [UInt8]) -> SessionSettings {
        applying(change, text, base: .none)
    }

    /// These, and those of `base` that are missing: what was reset is as the startup packet had it.
    package func completed(with base: SessionSettings) -> SessionSettings {
        base.entries.reduce(self) { settings, entry in
            let isThere = settings.entries.contains { $0.isNamed(entry.name) }
            return isThere ? settings : settings.setting(entry.name, by: entry.command)
        }
    }

    /// Names that are asked for one by one, because `pg_settings` does not show them.
    package var customNames: [String] {
        entries.map(\.name).filter { $0.utf8.contains(UInt8(ascii: ".")) }
    }

    // MARK: - Replay

    /// The statements that make a connection with the settings `present` one with these; `nil` when it is one.
    ///
    /// A role comes off first and on last: it decides what else may be set.
    package func replay(from present: SessionSettings) -> [UInt8]? {
        guard !equals(present) else { return nil }
        var sql: [UInt8] = []
        func append(_ command: some Sequence<UInt8>) {
            if !sql.isEmpty { sql += Array("\n;".utf8) }
            sql += command
        }
        if present.entries.contains(where: { $0.name == "role" }) { append("RESET ROLE".utf8) }
        for old in present.entries where old.name != "role" && !entries.contains(where: { $0.isNamed(old.name) }) {
            append("RESET \(Self.quoted(old.name))".utf8)
        }
        for new in entries where new.name != "role" && !present.entries.contains(new) { append(new.command) }
        if let role = entries.first(where: { $0.name == "role" }) { append(role.command) }
        return sql
    }

    private static func quoted(_ name: String) -> String {
        let quote = UInt8(ascii: "\"")
        return name.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
            .map { part in
                let doubled = part.flatMap { $0 == quote ? [quote, quote] : [$0] }
                return "\"\(String(decoding: doubled, as: UTF8.self))\""
            }
            .joined(separator: ".")
    }

    /// A string constant that means the same whatever `standard_conforming_strings` is.
    package static func literal(_ value: [UInt8]) -> [UInt8] {
        var literal = Array("E'".utf8)
        for byte in value {
            if byte == UInt8(ascii: "'") || byte == UInt8(ascii: "\\") { literal.append(byte) }
            literal.append(byte)
        }
        literal.append(UInt8(ascii: "'"))
        return literal
    }
}

/// FNV-1a, 64 bits.
struct FNV1a {
    private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

    mutating func combine(_ byte: UInt8) {
        value = (value ^ UInt64(byte)) &* 0x100_0000_01B3
    }

    mutating func combine(_ bytes: some Sequence<UInt8>) {
        for byte in bytes { combine(byte) }
        combine(0xFF)
    }

    mutating func combine(_ bytes: RawSpan) {
        for offset in 0..<bytes.byteCount { combine(bytes.byte(at: offset)) }
    }
}
