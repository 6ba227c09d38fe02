import Archive
import FoundationEssentials
import Glibc
import PostgresClient
import Replication

/// The archive's part of the smoke test: a segment goes in, and comes out as it was.
struct ArchiveCheck: Sendable {
    let description: ClusterDescription
    /// Name of the primary.
    let primary: String

    func run(_ connection: DatabaseConnection, _ report: inout CheckReport) async throws {
        let started = ContinuousClock.now
        // A switch without a record since the last would complete nothing.
        _ = try await connection.query("select pg_logical_emit_message(true, 'slipstream', 'check')")
        let answer = try await connection.query("select pg_walfile_name(pg_switch_wal())")
        guard let segment = answer.first?[0], let node = description[node: primary] else {
            report.problems.append("the primary named no WAL segment")
            return
        }
        // The switch has flushed the whole segment. It may be recycled as soon as it is archived, so it is read now.
        let original: Data
        do {
            original = try Data(contentsOf: URL(filePath: "\(node.dataDirectory)/pg_wal/\(segment)"))
        } catch {
            report.problems.append("the primary's segment \(segment) cannot be read: \(error)")
            return
        }
        guard let copy = try await wait(for: segment, in: ArchiveStore(directory: description.archiveDirectory)) else {
            report.problems.append("segment \(segment) has not arrived in the archive in \(ClusterCheck.patience)")
            return
        }
        let isIntact = copy == original
        let seconds = (ContinuousClock.now - started) / .seconds(1)
        report.archive = CheckReport.ArchiveRoundTrip(segment: segment, seconds: seconds, intact: isIntact)
        if !isIntact { report.problems.append("segment \(segment) in the archive differs from the primary's") }
    }

    /// What `archive get` makes of the segment, once it is there; `nil` when patience ends first.
    private func wait(for segment: String, in store: ArchiveStore) async throws -> Data? {
        var template = Array("/tmp/slipstream-check-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw CommandFailure("cannot make a temporary directory: \(String(cString: strerror(errno)))")
        }
        let directory = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let target = "\(directory)/\(segment)"
        defer {
            unlink(target)
            rmdir(directory)
        }
        let limit = ContinuousClock.now + ClusterCheck.patience
        while ContinuousClock.now < limit {
            switch try store.get(segment, to: target) {
            case .found: return try Data(contentsOf: URL(filePath: target))
            case .missing: try await Task.sleep(for: .milliseconds(20))
            }
        }
        return nil
    }
}
