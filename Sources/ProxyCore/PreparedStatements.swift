package import PostgresWire
package import QueryAnalysis

/// A prepared statement's name as a key: a hash of its bytes, so that a look-up allocates nothing.
///
/// FNV-1a, 64 bits. A collision needs two names of one client session and harms that session only.
package struct StatementName: Hashable, Sendable {
    private let hash: UInt64
    package let isUnnamed: Bool

    package init(_ bytes: RawSpan) {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for offset in 0..<bytes.byteCount {
            hash = (hash ^ UInt64(bytes.byte(at: offset))) &* 0x100_0000_01B3
        }
        self.hash = hash
        isUnnamed = bytes.byteCount == 0
    }
}

/// The protocol-level prepared statements of one client session: what is needed to prepare each again on a server
/// connection that lacks it.
package struct PreparedStatements: Sendable {
    /// Counts definitions of the session: the same name defined anew is another statement.
    package typealias Generation = UInt32

    package struct Definition: Sendable {
        package let generation: Generation
        package let effect: StatementEffect
        /// Its name, without the terminating zero.
        package let name: [UInt8]
        /// The whole Parse message.
        package let message: [UInt8]
    }

    private var named: [StatementName: Definition] = [:]
    private var generation: Generation = 0

    // The unnamed statement changes with every query of most drivers, so its bytes live in storage that is used again.
    private var unnamedMessage: [UInt8] = []
    private var unnamedGeneration: Generation = 0
    private var unnamedEffect = StatementEffect.sessionState

    package init() {}

    /// The effect of executing a statement; `nil` when the session has not prepared one of this name.
    package func effect(of name: StatementName) -> StatementEffect? {
        if name.isUnnamed {
            return unnamedGeneration == 0 ? nil : unnamedEffect
        }
        return named[name]?.effect
    }

    /// Which definition of a statement is the present one; `nil` when there is none.
    package func generation(of name: StatementName) -> Generation? {
        if name.isUnnamed {
            return unnamedGeneration == 0 ? nil : unnamedGeneration
        }
        return named[name]?.generation
    }

    /// The bytes of a name that is defined; empty for the unnamed statement.
    package func bytes(of name: StatementName) -> [UInt8] {
        named[name]?.name ?? []
    }

    /// The Parse message of a statement; empty when there is none of this name.
    package func parse(of name: StatementName) -> [UInt8] {
        name.isUnnamed ? (unnamedGeneration == 0 ? [] : unnamedMessage) : named[name]?.message ?? []
    }

    /// Appends the Parse message of a statement.
    package func appendParse(of name: StatementName, to writer: inout MessageWriter) {
        if name.isUnnamed {
            writer.raw(unnamedMessage)
        } else if let definition = named[name] {
            writer.raw(definition.message)
        }
    }

    /// Takes over a statement that a server has accepted.
    @discardableResult
    package mutating func define(
        _ name: StatementName,
        nameBytes: RawSpan,
        message: RawSpan,
        effect: StatementEffect
    ) -> Generation {
        generation &+= 1
        if generation == 0 { generation = 1 }
        if name.isUnnamed {
            unnamedMessage.removeAll(keepingCapacity: true)
            message.withUnsafeBytes { unnamedMessage.append(contentsOf: $0) }
            unnamedGeneration = generation
            unnamedEffect = effect
        } else {
            named[name] = Definition(
                generation: generation,
                effect: effect,
                name: nameBytes.array(0..<nameBytes.byteCount),
                message: message.array(0..<message.byteCount)
            )
        }
        return generation
    }

    package mutating func remove(_ name: StatementName) {
        if name.isUnnamed {
            unnamedGeneration = 0
        } else {
            named[name] = nil
        }
    }

    /// A simple query, too, destroys the unnamed statement.
    package mutating func removeUnnamed() {
        unnamedGeneration = 0
    }

    package mutating func removeAll() {
        named.removeAll()
        unnamedGeneration = 0
    }
}

/// What one server connection has prepared, by the generation of its definition.
package struct PreparedOnServer: Sendable {
    private struct Entry {
        var generation: PreparedStatements.Generation
        var name: [UInt8]
    }

    private var entries: [StatementName: Entry] = [:]
    private var unnamed: PreparedStatements.Generation?

    package init() {}

    package func generation(of name: StatementName) -> PreparedStatements.Generation? {
        name.isUnnamed ? unnamed : entries[name]?.generation
    }

    /// The name in bytes, of a statement that is prepared.
    package func bytes(of name: StatementName) -> [UInt8]? {
        name.isUnnamed ? unnamed.map { _ in [] } : entries[name]?.name
    }

    /// - Parameter bytes: the name; not needed for the unnamed statement.
    package mutating func add(_ name: StatementName, _ bytes: [UInt8], _ generation: PreparedStatements.Generation) {
        if name.isUnnamed {
            unnamed = generation
        } else {
            entries[name] = Entry(generation: generation, name: bytes)
        }
    }

    package mutating func remove(_ name: StatementName) {
        if name.isUnnamed {
            unnamed = nil
        } else {
            entries[name] = nil
        }
    }

    package mutating func removeUnnamed() {
        unnamed = nil
    }

    package mutating func removeAll() {
        entries.removeAll()
        unnamed = nil
    }
}
