import ArgumentParser
import FoundationEssentials
import Monitor
import Replication
import UnixSignals

/// `slipstream check`: the smoke test.
struct CheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Test replication and archiving for real.",
        discussion: """
            WAL sender and receiver of every standby are live; rows inserted on the primary appear on every standby, \
            and how soon; a WAL segment arrives in the archive and comes back as it was. Leaves nothing behind, also \
            when interrupted. Exit status: 0 when all of it holds, 1 otherwise.
            """
    )

    @OptionGroup var location: DirectoryOption

    @Option(help: "How many rows to measure with.")
    var rows = 200

    @Flag(help: "The result as JSON (see docs/check.md).")
    var json = false

    func validate() throws {
        guard (1...1_000_000).contains(rows) else { throw ValidationError("--rows must be between 1 and 1000000.") }
    }

    func run() async throws {
        let directory = location.directory
        let status = try StatusFile(directory: directory).current()
        let check = ClusterCheck(
            status: status,
            description: try directory.readDescription(),
            secrets: try directory.readSecrets(),
            rows: rows
        )
        let checking = Task { try await check.run { Console.note($0) } }
        let signals = await UnixSignalsSequence(trapping: .sigint, .sigterm)
        let listener = Task {
            for await _ in signals {
                Console.note("interrupted; cleaning up")
                checking.cancel()
            }
        }
        defer { listener.cancel() }
        let report = try await checking.value
        Console.print(json ? try report.json() : report.text)
        if !report.ok { throw ExitCode(1) }
    }
}

/// What `check` found.
struct CheckReport: Codable, Sendable {
    /// Delay from commit on the primary to visible on a standby, in milliseconds.
    struct Delay: Codable, Sendable, Equatable {
        var rows: Int
        var p50: Double
        var p99: Double
        var max: Double

        private enum CodingKeys: String, CodingKey {
            case rows
            case p50 = "p50_ms"
            case p99 = "p99_ms"
            case max = "max_ms"
        }

        /// Nearest-rank percentiles; `nil` of nothing.
        init?(_ samples: [Duration]) {
            let milliseconds = samples.map { $0 / .milliseconds(1) }.sorted()
            guard let last = milliseconds.last else { return nil }
            func percentile(_ percent: Double) -> Double {
                let rank = Int((percent / 100 * Double(milliseconds.count)).rounded(.up))
                return milliseconds[Swift.max(rank - 1, 0)]
            }
            rows = milliseconds.count
            p50 = percentile(50)
            p99 = percentile(99)
            max = last
        }
    }

    struct Standby: Codable, Sendable {
        var name: String
        /// `pg_stat_replication.state` on the primary.
        var sender: String?
        /// `pg_stat_wal_receiver.status` on the standby.
        var receiver: String?
        var delay: Delay?
    }

    struct ArchiveRoundTrip: Codable, Sendable {
        var segment: String
        /// From the switch to the verified copy.
        var seconds: Double
        var intact: Bool
    }

    var version = 1
    var ok: Bool { problems.isEmpty }
    var standbys: [Standby] = []
    var archive: ArchiveRoundTrip?
    /// One sentence for each thing that does not hold.
    var problems: [String] = []

    private enum CodingKeys: String, CodingKey {
        case version, ok, standbys, archive, problems
    }

    init() {}

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        version = try container.decode(Int.self, forKey: .version)
        standbys = try container.decode([Standby].self, forKey: .standbys)
        archive = try container.decodeIfPresent(ArchiveRoundTrip.self, forKey: .archive)
        problems = try container.decode([String].self, forKey: .problems)
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(version, forKey: .version)
        try container.encode(ok, forKey: .ok)
        try container.encode(standbys, forKey: .standbys)
        try container.encodeIfPresent(archive, forKey: .archive)
        try container.encode(problems, forKey: .problems)
    }

    func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        return String(decoding: try encoder.encode(self), as: UTF8.self)
    }

    var text: String {
        var table = TextTable(
            ["standby", "sender", "receiver", "rows", "p50 ms", "p99 ms", "max ms"],
            rightAligned: [3, 4, 5, 6]
        )
        for standby in standbys {
            let delay = standby.delay
            table.append([
                standby.name,
                standby.sender ?? "-",
                standby.receiver ?? "-",
                delay.map { String($0.rows) } ?? "-",
                delay.map { Quantity.fixed($0.p50, 2) } ?? "-",
                delay.map { Quantity.fixed($0.p99, 2) } ?? "-",
                delay.map { Quantity.fixed($0.max, 2) } ?? "-",
            ])
        }
        var lines = standbys.isEmpty ? ["no standbys"] : table.lines
        lines.append("")
        if let archive {
            let verdict = archive.intact ? "archived and read back intact" : "DAMAGED in the archive"
            lines.append("\(archive.segment) \(verdict) after \(Quantity.seconds(archive.seconds))")
        }
        lines += problems.map { "FAILED: \($0)" }
        if ok { lines.append("ok") }
        return lines.joined(separator: "\n")
    }
}
