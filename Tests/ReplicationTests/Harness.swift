import Glibc
import Logging
import Testing
import Topology

@testable import PostgresClient
@testable import Replication

/// A directory for one cluster, gone with the test: servers that it still names are stopped first.
final class ClusterScratch: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/slipstream-replication-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw FileSystem.failure("make", "a temporary directory") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        // mkdtemp makes it 0700, which the servers' user could not enter.
        chmod(path, 0o755)
    }

    var directory: ClusterDirectory { ClusterDirectory(path: path + "/cluster") }

    /// Removes the cluster, wherever it is.
    func remove() async {
        _ = try? await LocalCluster.stopOrphans(in: directory)
        let root = try? directory.readDescription().serverRoot
        for tree in [root, path].compactMap({ $0 }) {
            try? FileSystem.rename(tree, to: tree + ".partial")
            try? FileSystem.removePartial(tree + ".partial")
        }
    }
}

/// The program that was built with this test.
let slipstreamProgram: String = {
    var buffer = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &buffer, buffer.count)
    let executable = String(decoding: buffer.prefix(max(count, 0)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return FileSystem.parent(of: executable) + "/slipstream"
}()

/// Runs `body` with a cluster of a test's own, and stops and removes it afterwards, also when `body` throws.
func withScratch(_ body: (ClusterScratch) async throws -> Void) async throws {
    let scratch = try ClusterScratch()
    do {
        try await body(scratch)
    } catch {
        await scratch.remove()
        throw error
    }
    await scratch.remove()
}

/// Opens a cluster for the time of `body`.
func withCluster(
    _ directory: ClusterDirectory,
    standbys: Int? = 1,
    weights: [Int] = [],
    told: Told = Told(),
    _ body: (LocalCluster) async throws -> Void
) async throws {
    let cluster = try await LocalCluster.open(
        directory: directory,
        options: ClusterOptions(standbys: standbys, weights: weights, executable: slipstreamProgram),
        logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }),
        progress: { told.append($0) }
    )
    do {
        try await body(cluster)
    } catch {
        await cluster.stop()
        throw error
    }
    await cluster.stop()
}

/// Runs one statement on a node as superuser.
@discardableResult
func query(_ cluster: LocalCluster, _ node: String, _ sql: String, database: String = "app") async throws -> [Row] {
    var parameters = try #require(cluster.superuserParameters(node: node))
    parameters.database = database
    let connection = try await DatabaseConnection.connect(parameters)
    defer { connection.close() }
    return try await connection.query(sql, timeout: .seconds(60))
}

/// Polls until a condition holds. Errors count as "not yet": servers come and go here.
func eventually(
    _ what: Comment,
    within timeout: Duration = .seconds(60),
    sourceLocation: SourceLocation = #_sourceLocation,
    _ condition: () async throws -> Bool
) async {
    let deadline = ContinuousClock.now + timeout
    while ContinuousClock.now < deadline {
        if (try? await condition()) == true { return }
        try? await Task.sleep(for: .milliseconds(20))
    }
    Issue.record(what, sourceLocation: sourceLocation)
}

func isStreaming(_ cluster: LocalCluster, _ standby: String) async throws -> Bool {
    let sql = """
        SELECT 1 FROM pg_stat_replication WHERE application_name = \(SQLText.literal(standby)) AND state = 'streaming'
        """
    return try await !query(cluster, "primary", sql).isEmpty
}
