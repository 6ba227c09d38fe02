/// What comments of a query string ask for: `/* slipstream: primary */`, or, as sqlcommenter writes it among others,
/// `/*slipstream='primary'*/`. Source: sqlcommenter's specification, "Format".
struct RoutingHint: OptionSet {
    let rawValue: UInt8

    /// Read from the primary.
    static let primary = RoutingHint(rawValue: 1)
    /// Read from a standby that has replayed enough, if there is one.
    static let standby = RoutingHint(rawValue: 2)

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

    init(rawValue: UInt8) { self.rawValue = rawValue }

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
        for (word, hint) in [("primary", RoutingHint.primary), ("standby", .standby)] as [(StaticString, RoutingHint)]
        where starts(comment, at: index, with: word) {
            let end = index + word.utf8CodeUnitCount
            return end < comment.count && isIdentifierByte(comment[end]) ? [] : hint
        }
        return []
    }

    private static func starts(_ bytes: UnsafeBufferPointer<UInt8>, at start: Int, with text: StaticString) -> Bool {
        let count = text.utf8CodeUnitCount
        guard start + count <= bytes.count else { return false }
        return (0..<count).allSatisfy { bytes[start + $0] == text.utf8Start[$0] }
    }
}
