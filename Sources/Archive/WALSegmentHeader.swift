/// The long header of a segment's first page: the only place in a WAL file that says to which system it belongs.
///
/// Source: PostgreSQL, `access/xlog_internal.h`, `XLogLongPageHeaderData`. The layout is that of the machine that wrote it.
struct WALSegmentHeader: Equatable {
    static let size = 40
    /// `XLP_LONG_HEADER`.
    private static let longHeaderFlag: UInt16 = 0x0002

    /// Where in the WAL the segment begins.
    var pageAddress: UInt64
    var systemIdentifier: UInt64
    /// Bytes.
    var segmentSize: UInt64

    /// Reads a header; `nil` when the bytes are not one.
    init?(_ bytes: [UInt8]) {
        guard bytes.count >= WALSegmentHeader.size else { return nil }
        func load<Value: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, as type: Value.Type) -> Value {
            bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: type) }
        }
        guard load(2, as: UInt16.self) & WALSegmentHeader.longHeaderFlag != 0 else { return nil }
        pageAddress = load(8, as: UInt64.self)
        systemIdentifier = load(24, as: UInt64.self)
        segmentSize = UInt64(load(32, as: UInt32.self))
        // 1 MiB to 1 GiB, a power of two: PostgreSQL manual, initdb, --wal-segsize.
        guard (1 << 20...1 << 30).contains(segmentSize), segmentSize & (segmentSize - 1) == 0 else { return nil }
    }
}

extension ArchiveStore {
    /// Refuses a segment that another system wrote, that is cut short, or that is not the one its name says.
    func verify(
        header bytes: [UInt8],
        size: UInt64,
        name: WALFileName,
        path: String,
        systemIdentifier: UInt64
    ) throws(ArchiveError) {
        switch name.kind {
        case .timelineHistory, .backupHistory:
            return
        case .segment, .partialSegment:
            break
        }
        guard let header = WALSegmentHeader(bytes) else {
            throw ArchiveError(code: .damaged, message: "\"\(path)\" does not begin like a WAL segment")
        }
        try require(systemIdentifier, toBe: header.systemIdentifier)
        guard size == header.segmentSize else {
            throw ArchiveError(
                code: .damaged,
                message: "\"\(path)\" has \(size) bytes, but a segment of this system has \(header.segmentSize)"
            )
        }
        guard header.pageAddress == name.startPosition(segmentSize: header.segmentSize) else {
            throw ArchiveError(code: .damaged, message: "\"\(path)\" is not the segment that its name says")
        }
    }
}
