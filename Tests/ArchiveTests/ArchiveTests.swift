import Glibc
import Testing

@testable import Archive

@Suite struct ArchiveTests {
    let scratch: Scratch
    let store: ArchiveStore
    let segment = FakeSegment()

    init() throws {
        scratch = try Scratch()
        store = try ArchiveStore.create(at: scratch.file("archive"), systemIdentifier: 42)
    }

    private func code(_ body: () throws(ArchiveError) -> Void) -> ArchiveError.Code? {
        do throws(ArchiveError) {
            try body()
            return nil
        } catch {
            return error.code
        }
    }

    private var strayNames: [String] {
        get throws { try store.names().filter { $0.hasPrefix(".") } }
    }

    @Test func aPushedSegmentComesBack() throws {
        let source = try scratch.write(segment.bytes, segment.name)
        #expect(try store.push(source) == .stored)
        #expect(try store.get(segment.name, to: scratch.file("RECOVERYXLOG")) == .found)
        #expect(try scratch.read("RECOVERYXLOG") == segment.bytes)
        // As plain cp would restore it.
        #expect(try scratch.read("archive/\(segment.name)") == segment.bytes)
        #expect(try strayNames == [])
        #expect(try store.summary().lastSegment?.text == segment.name)
    }

    @Test func theSameContentAgainIsSuccess() throws {
        let source = try scratch.write(segment.bytes, segment.name)
        try store.push(source)
        #expect(try store.push(source) == .alreadyStored)
        #expect(try store.push(source, name: segment.name) == .alreadyStored)
    }

    @Test func otherContentUnderTheSameNameIsRefusedAndNothingIsOverwritten() throws {
        let source = try scratch.write(segment.bytes, segment.name)
        try store.push(source)
        var other = segment
        other.filling = 7
        let changed = try scratch.write(other.bytes, segment.name)
        #expect(code { () throws(ArchiveError) in try store.push(changed) } == .conflict)
        #expect(try scratch.read("archive/\(segment.name)") == segment.bytes)
    }

    @Test func aShorterStoredFileIsAConflictToo() throws {
        let source = try scratch.write(segment.bytes, segment.name)
        _ = try scratch.write(Array(segment.bytes.dropLast(8192)), "archive/\(segment.name)")
        #expect(code { () throws(ArchiveError) in try store.push(source) } == .conflict)
    }

    @Test func aSegmentOfAnotherSystemIsRefused() throws {
        var stranger = segment
        stranger.system = 43
        let source = try scratch.write(stranger.bytes, stranger.name)
        #expect(code { () throws(ArchiveError) in try store.push(source) } == .wrongSystem)
        #expect(try store.segments() == [])
    }

    @Test func aStoreIsMadeOnceForOneSystem() throws {
        #expect(try ArchiveStore.create(at: store.directory + "/", systemIdentifier: 42).systemIdentifier() == 42)
        #expect(
            code { () throws(ArchiveError) in
                _ = try ArchiveStore.create(at: store.directory, systemIdentifier: 43)
            } == .wrongSystem
        )
        _ = try scratch.write([1], "archive/something")
        unlink(store.path(ArchiveStore.markerName))
        #expect(
            code { () throws(ArchiveError) in
                _ = try ArchiveStore.create(at: store.directory, systemIdentifier: 42)
            } == .conflict
        )
    }

    @Test func withoutItsMarkerADirectoryIsNoStore() throws {
        let source = try scratch.write(segment.bytes, segment.name)
        unlink(store.path(ArchiveStore.markerName))
        #expect(code { () throws(ArchiveError) in try store.push(source) } == .storeMissing)
        #expect(try store.names() == [])
        let nowhere = ArchiveStore(directory: scratch.file("unmounted"))
        #expect(code { () throws(ArchiveError) in try nowhere.push(source) } == .storeMissing)
        #expect(
            code { () throws(ArchiveError) in _ = try nowhere.get(segment.name, to: scratch.file("x")) }
                == .storeMissing
        )
    }

    @Test(arguments: ["../\(FakeSegment().name)", "postgresql.conf", "00000001", "000000010000000000000001.x", ""])
    func onlyNamesOfPostgresAreTaken(_ name: String) throws {
        let source = try scratch.write(segment.bytes, segment.name)
        #expect(code { () throws(ArchiveError) in try store.push(source, name: name) } == .badName)
    }

    @Test func aCutOrMisnamedSegmentIsDamaged() throws {
        let cut = try scratch.write(Array(segment.bytes.dropLast()), segment.name)
        #expect(code { () throws(ArchiveError) in try store.push(cut) } == .damaged)
        let whole = try scratch.write(segment.bytes, "whole")
        var next = segment
        next.number += 1
        #expect(code { () throws(ArchiveError) in try store.push(whole, name: next.name) } == .damaged)
        let empty = try scratch.write([], segment.name)
        #expect(code { () throws(ArchiveError) in try store.push(empty) } == .damaged)
    }

    @Test(arguments: ["00000002.history", "000000010000000000000003.00000028.backup"])
    func historyAndBackupFilesAreArchived(_ name: String) throws {
        let source = try scratch.write(Array("1\t0/3000000\tno recovery target\n".utf8), name)
        #expect(try store.push(source) == .stored)
        #expect(try store.get(name, to: scratch.file("back")) == .found)
        #expect(try scratch.read("back") == scratch.read(name))
        #expect(try store.segments() == [])
    }

    @Test func aPartialSegmentIsArchivedBesideTheSegment() throws {
        let name = segment.name + ".partial"
        try store.push(try scratch.write(segment.bytes, name))
        try store.push(try scratch.write(segment.bytes, segment.name))
        #expect(try store.files().map(\.text) == [segment.name, name])
    }

    @Test func whatTheArchiveDoesNotHoldIsMissing() throws {
        #expect(try store.get(segment.name, to: scratch.file("RECOVERYXLOG")) == .missing)
        #expect(try scratch.read("RECOVERYXLOG") == nil)
    }

    @Test func aDamagedArchivedSegmentIsNotRestored() throws {
        _ = try scratch.write(Array(segment.bytes.prefix(8192)), "archive/\(segment.name)")
        let target = try scratch.write([1, 2, 3], "RECOVERYXLOG")
        #expect(code { () throws(ArchiveError) in _ = try store.get(segment.name, to: target) } == .damaged)
        #expect(try scratch.read("RECOVERYXLOG") == [1, 2, 3])
        #expect(try ArchiveStore(directory: scratch.path).names().filter { $0.contains(".get.") } == [])
    }

    @Test func leftoversOfKilledPushesAreRemovedByTheNext() throws {
        let mine = ".\(segment.name).push.1.1"
        let others = ".000000010000000000000009.push.1.1"
        _ = try scratch.write([1], "archive/\(mine)")
        _ = try scratch.write([1], "archive/\(others)")
        let source = try scratch.write(segment.bytes, segment.name)
        try store.push(source)
        #expect(try strayNames == [others])
        // Killed after the link and before the unlink.
        link(store.path(segment.name), store.path(mine))
        #expect(try store.push(source) == .alreadyStored)
        #expect(try strayNames == [others])
        #expect(try scratch.read("archive/\(segment.name)") == segment.bytes)
    }

    @Test func aTemporaryFileOfALivingPushIsLeftAlone() throws {
        let living = ".\(segment.name).push.1.1"
        let path = try scratch.write([1], "archive/\(living)")
        let descriptor = open(path, O_WRONLY)
        defer { close(descriptor) }
        #expect(flock(descriptor, LOCK_EX | LOCK_NB) == 0)
        try store.push(try scratch.write(segment.bytes, segment.name))
        #expect(try strayNames == [living])
    }
}
