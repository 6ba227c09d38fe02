import Glibc

@testable import Archive

/// A directory of a test's own, removed with it.
final class Scratch: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/slipstream-archive-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw ArchiveError(errno, "make", "a temporary directory") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        Scratch.remove(path)
    }

    func file(_ name: String) -> String { path + "/" + name }

    func write(_ bytes: [UInt8], _ name: String) throws -> String {
        try DurableFile.write(bytes, to: file(name))
        return file(name)
    }

    func read(_ name: String) throws -> [UInt8]? {
        let descriptor = open(file(name), O_RDONLY)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        return try DurableFile.readChunk(descriptor, name, size: 64 << 20)
    }

    private static func remove(_ path: String) {
        for name in (try? ArchiveStore(directory: path).names()) ?? [] {
            let child = path + "/" + name
            if unlink(child) != 0 { remove(child) }
        }
        rmdir(path)
    }
}

/// A WAL segment as far as an archive looks into it.
struct FakeSegment {
    var system: UInt64 = 42
    /// Bytes; the smallest that PostgreSQL allows keeps the tests fast.
    var size = 1 << 20
    var timeline: UInt32 = 1
    var number: UInt64 = 3
    var filling: UInt8 = 0

    var name: String {
        let perFile = UInt64(0x1_0000_0000) / UInt64(size)
        return hex(UInt64(timeline)) + hex(number / perFile) + hex(number % perFile)
    }

    private func hex(_ value: UInt64) -> String {
        let text = String(value, radix: 16, uppercase: true)
        return String(repeating: "0", count: 8 - text.count) + text
    }

    var bytes: [UInt8] {
        var bytes = [UInt8](repeating: filling, count: size)
        func store<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
            withUnsafeBytes(of: value) { bytes.replaceSubrange(offset..<(offset + $0.count), with: $0) }
        }
        store(UInt16(0xD110), at: 0)
        store(UInt16(0x0002), at: 2)
        store(timeline, at: 4)
        store(number * UInt64(size), at: 8)
        store(system, at: 24)
        store(UInt32(size), at: 32)
        store(UInt32(8192), at: 36)
        return bytes
    }
}
