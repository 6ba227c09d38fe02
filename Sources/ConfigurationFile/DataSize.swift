import ProxyCore

/// Amounts of data as people write them; a kilobyte is 1024 bytes, as in PostgreSQL's own configuration.
enum DataSize {
    private static let units: [(name: String, scale: Double)] = [
        ("B", 1), ("kB", 0x1p10), ("MB", 0x1p20), ("GB", 0x1p30), ("TB", 0x1p40),
    ]
    static let unitNames = units.map(\.name).joined(separator: ", ")

    /// Reads `16MB`, `1.5 GB`, or a plain number of bytes; `nil` for anything else, negative amounts and more than a log can
    /// hold.
    static func bytes(_ text: String) -> UInt64? {
        guard let bytes = number(text, in: units, plain: 1), bytes <= 0x1p63 else { return nil }
        return UInt64(bytes)
    }
}
