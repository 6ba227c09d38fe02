/// What comments of a query string ask for: `/* slipstream: primary */`, or, as sqlcommenter writes it among others,
/// `/*slipstream='primary'*/`. Source: sqlcommenter's specification, "Format".
package struct RoutingHint: OptionSet, Sendable {
    package let rawValue: UInt8

    /// Read from the primary.
    static let primary = RoutingHint(rawValue: 1)
    /// Read from a standby that has replayed enough, if there is one.
    static let standby = RoutingHint(rawValue: 2)
    /// Read nothing that is older than what the comment says: `max_staleness=2s`.
    static let maxStaleness = RoutingHint(rawValue: 4)

    private static let key: StaticString = "slipstream"

    /// - Parameter comment: all of it, `/*` and `*/` included.
    init(comment: UnsafeBufferPointer<UInt8>) {
        self = []
        let count = Self.key.utf8CodeUnitCount
        // No value is shorter than this.
        guard comment.count >= count + 12 else { return }
        var index = 2
        while index + count < comment.count {
            guard Self.starts(comment, at: index, with: Self.key), !isIdentifierByte(comment[index - 1]) else {
                index += 1
                continue
            }
            index += count
            formUnion(Self.value(comment, behind: index))
        }
    }

    package init(rawValue: UInt8) { self.rawValue = rawValue }

    private static func value(_ comment: UnsafeBufferPointer<UInt8>, behind key: Int) -> RoutingHint {
        var index = key
        func skipSpace() {
            while index < comment.count, isSpace(comment[index]) { index += 1 }
        }
        func skip(_ byte: UInt8) -> Bool {
            guard index < comment.count, comment[index] == byte else { return false }
            index += 1
            return true
        }
        skipSpace()
        guard skip(UInt8(ascii: ":")) || skip(UInt8(ascii: "=")) else { return [] }
        skipSpace()
        _ = skip(UInt8(ascii: "'"))
        let hints: [(StaticString, RoutingHint)] = [
            ("primary", .primary), ("standby", .standby), (stalenessKey, .maxStaleness),
        ]
        for (word, hint) in hints where starts(comment, at: index, with: word) {
            let end = index + word.utf8CodeUnitCount
            return end < comment.count && isIdentifierByte(comment[end]) ? [] : hint
        }
        return []
    }

    private static let stalenessKey: StaticString = "max_staleness"

    /// The length of time that a hint of a query string names, as it is written there: `2s`.
    package static func maxStaleness(in sql: UnsafeRawBufferPointer) -> String? {
        sql.withMemoryRebound(to: UInt8.self) { text in
            text.indices.lazy.compactMap { value(text, ofStalenessAt: $0) }.first
        }
    }

    private static func value(_ text: UnsafeBufferPointer<UInt8>, ofStalenessAt start: Int) -> String? {
        guard starts(text, at: start, with: stalenessKey) else { return nil }
        var rest = text[(start + stalenessKey.utf8CodeUnitCount)...].drop(while: isSpace)
        // sqlcommenter encodes what is in quotes as in a URL.
        let signs: [StaticString] = ["=", ":", "%3d", "%3D"]
        guard let sign = signs.first(where: { starts(text, at: rest.startIndex, with: $0) }) else { return nil }
        rest = rest.dropFirst(sign.utf8CodeUnitCount).drop { isSpace($0) || $0 == UInt8(ascii: "'") }
        let value = rest.prefix { isDigit($0) || $0 == UInt8(ascii: ".") || isIdentifierStart($0) || isSpace($0) }
        let end = value.lastIndex { !isSpace($0) }
        return end.map { String(decoding: value[...$0], as: UTF8.self) }
    }

    private static func starts(_ bytes: UnsafeBufferPointer<UInt8>, at start: Int, with text: StaticString) -> Bool {
        let count = text.utf8CodeUnitCount
        guard start + count <= bytes.count else { return false }
        return (0..<count).allSatisfy { bytes[start + $0] == text.utf8Start[$0] }
    }
}
