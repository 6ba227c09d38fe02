import Glibc
import Testing

@testable import Archive

/// The command as PostgreSQL runs it: through a shell, several at once, killed at any moment.
@Suite struct ArchiveCommandTests {
    let scratch: Scratch
    let store: ArchiveStore
    /// The real size: the more there is to copy, the more there is to interrupt.
    let segment = FakeSegment(size: 16 << 20)

    init() throws {
        scratch = try Scratch()
        store = try ArchiveStore.create(at: scratch.file("archive"), systemIdentifier: 42)
    }

    /// The program that was built with this test.
    static let program: String = {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &buffer, buffer.count)
        let executable = String(decoding: buffer.prefix(max(count, 0)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return DurableFile.parent(of: executable) + "/slipstream"
    }()

    /// Runs a shell command. Returns its exit status, as a shell has it.
    private func shell(_ command: String) -> Int32 {
        let status = system(command)
        return status & 0x7F == 0 ? (status >> 8) & 0xFF : 128 + (status & 0x7F)
    }

    private func push(_ path: String, store directory: String? = nil) -> String {
        let store = directory ?? store.directory
        return "'\(Self.program)' archive push '\(path)' --store '\(store)' 2>>'\(scratch.file("errors"))'"
    }

    private var strayNames: [String] {
        get throws { try store.names().filter { $0.hasPrefix(".") } }
    }

    private var errors: String {
        get throws { String(decoding: try scratch.read("errors") ?? [], as: UTF8.self) }
    }

    @Test func exitCodesAreThoseThatPostgresUnderstands() throws {
        let source = try scratch.write(segment.bytes, segment.name)
        let target = scratch.file("RECOVERYXLOG")
        let get = "'\(Self.program)' archive get \(segment.name) '\(target)' --store '\(store.directory)'"
        #expect(shell(get) == 1)
        #expect(shell(push(source)) == 0)
        #expect(shell(push(source)) == 0)
        #expect(shell(get) == 0)
        #expect(try scratch.read("RECOVERYXLOG") == segment.bytes)
        #expect(try errors == "")
        #expect((1..<126).contains(shell(push(source, store: scratch.file("unmounted")))))
        #expect(try errors.contains("no Slipstream archive"))
        var other = segment
        other.filling = 1
        #expect((1..<126).contains(shell(push(try scratch.write(other.bytes, segment.name)))))
        #expect(try errors.contains("already holds other content"))
        #expect((1..<126).contains(shell("'\(Self.program)' archive push 2>/dev/null")))
    }

    @Test func manyPushesOfOneSegmentAtOnceAllSucceed() throws {
        let source = try scratch.write(segment.bytes, segment.name)
        _ = try scratch.write(Array("\(push(source)) || touch '\(scratch.file("failed"))'\n".utf8), "push.sh")
        // Not the shell's own "wait": it may inherit a blocked SIGCHLD here, and then waits for ever.
        #expect(shell("seq 8 | xargs -P 8 -I _ sh '\(scratch.file("push.sh"))'") == 0)
        #expect(try scratch.read("failed") == nil)
        #expect(try errors == "")
        #expect(try scratch.read("archive/\(segment.name)") == segment.bytes)
        #expect(try strayNames == [])
    }

    @Test func killedAtAnyPointNothingFalseIsStoredAndTheNextPushSucceeds() throws {
        let source = try scratch.write(segment.bytes, segment.name)
        for milliseconds in stride(from: 1, through: 40, by: 3) {
            unlink(store.path(segment.name))
            let delay = "0.0" + (milliseconds < 10 ? "0" : "") + String(milliseconds)
            _ = shell("timeout -s KILL \(delay) \(push(source)) >/dev/null 2>&1")
            let stored = try scratch.read("archive/\(segment.name)")
            #expect(stored == nil || stored == segment.bytes)
            // The killed process may hold its lock for some moments more.
            let deadline = ContinuousClock.now + .seconds(10)
            repeat {
                #expect(shell(push(source)) == 0)
            } while try !strayNames.isEmpty && ContinuousClock.now < deadline
            #expect(try strayNames == [])
            #expect(try scratch.read("archive/\(segment.name)") == segment.bytes)
        }
    }

    /// Needs the right to mount; a container often lacks it.
    @Test func aFullFileSystemIsAnErrorThatSaysWhatToDo() throws {
        let small = scratch.file("small")
        mkdir(small, 0o700)
        guard shell("mount -t tmpfs -o size=4m none '\(small)' 2>/dev/null") == 0 else { return }
        defer { _ = shell("umount '\(small)'") }
        let full = try ArchiveStore.create(at: small, systemIdentifier: 42)
        let source = try scratch.write(segment.bytes, segment.name)
        #expect((1..<126).contains(shell(push(source, store: small))))
        #expect(try errors.contains("Free space"))
        #expect(try full.names() == [ArchiveStore.markerName])
        #expect(shell("mount -o remount,ro '\(small)'") == 0)
        #expect((1..<126).contains(shell(push(source, store: small))))
        #expect(try errors.contains("read-write"))
    }
}
