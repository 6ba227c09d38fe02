import Foundation
import Testing

/// The endpoint from outside: real clients, real servers, the real program.
///
/// One test after the other, for they share two clusters and the machine may be small.
@Suite(.serialized, .clusters) struct EndpointTests {
    // MARK: - psql

    @Test(arguments: Backend.allCases) func psqlRunsScriptsOverTCPAndTheUnixSocket(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend)
        for host in ["127.0.0.1", cluster.directory] {
            let script = """
                \\set name psql_test
                DROP TABLE IF EXISTS :name;
                CREATE TABLE :name (n int, s text);
                INSERT INTO :name SELECT n, 'line ' || n FROM generate_series(1, 1000) n;
                BEGIN;
                DELETE FROM :name WHERE n > 500;
                SAVEPOINT here;
                DELETE FROM :name;
                ROLLBACK TO here;
                COMMIT;
                SELECT count(*) AS total, count(*) = 500 AS is_right FROM :name \\gset
                \\if :is_right
                \\echo total :total
                \\endif
                SELECT 1 \\; SELECT 2;
                \\d :name
                SELECT $1 + $2 \\bind 1 2 \\g
                """
            let newer = try await cluster.psql("--version").output.contains(/\ (1[6-9]|[2-9][0-9])\./)
            let text = newer ? script : script.replacing(/.*\\bind.*/, with: "SELECT 3;")
            let outcome = try await cluster.psql("-qAt", environment: ["PGHOST": host], input: text)
            #expect(outcome.status == 0, "\(outcome.text)")
            #expect(outcome.output == "total 500\n1\n2\nn|integer|||\ns|text|||\n3\n", "\(outcome.text)")

            let command = try await cluster.psql("-At", "-c", "SELECT 6 * 7", environment: ["PGHOST": host])
            #expect(command.output == "42\n", "\(command.text)")
            let failing = try await cluster.psql(
                "-c",
                "DROP TABLE psql_test",
                "-c",
                "SELEC",
                "-c",
                "SELECT 1",
                environment: ["PGHOST": host]
            )
            #expect(failing.status == 1 && failing.errors.contains("syntax error at or near \"SELEC\""))
        }
    }

    @Test(arguments: Backend.allCases) func psqlCopiesBothWays(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend)
        let lines = (1...50_000).map { "\($0)\tsome text of line \($0)\n" }.joined()
        let file = cluster.scratch + "/copied"
        try lines.write(toFile: file, atomically: true, encoding: .utf8)
        let outcome = try await cluster.psql(
            input: """
                CREATE TABLE copied (n int, s text);
                \\copy copied FROM '\(file)'
                \\copy (SELECT * FROM copied ORDER BY n) TO '\(file).back'
                COPY copied FROM STDIN;
                0\tinline
                \\.
                SELECT 'rows: ' || count(*) FROM copied;
                DROP TABLE copied;
                """
        )
        #expect(outcome.status == 0 && outcome.output.contains("rows: 50001"), "\(outcome.text)")
        #expect(try String(contentsOfFile: file + ".back", encoding: .utf8) == lines)
    }

    @Test(arguments: Backend.allCases) func aHugeValuePassesInConstantMemory(_ backend: Backend) async throws {
        let cluster = try await Clusters.cluster(backend)
        let size = 50_000_000
        let file = cluster.scratch + "/huge"
        try String(repeating: "x", count: size).write(toFile: file, atomically: true, encoding: .utf8)
        // Once in small, so that everything the way needs is there.
        _ = try await cluster.psql("-At", "-c", "SELECT repeat('y', 1000000)")
        let before = try cluster.residentBytes()
        let watch = Task {
            var highest = 0
            while !Task.isCancelled {
                highest = max(highest, (try? cluster.residentBytes()) ?? 0)
                try? await Task.sleep(for: .milliseconds(5))
            }
            return highest
        }
        let outcome = try await cluster.psql(
            "-At",
            input: """
                CREATE TABLE huge (s text);
                \\copy huge FROM '\(file)'
                SELECT length(s) FROM huge;
                \\copy huge TO '\(file).back'
                \\set content `cat \(file)`
                SELECT length(:'content');
                DROP TABLE huge;
                """
        )
        // A read, on whichever node.
        let read = try await cluster.psql("-At", "-c", "SELECT repeat('y', \(size))")
        watch.cancel()
        let highest = await watch.value
        #expect(outcome.status == 0, "\(outcome.errors.prefix(2000))")
        #expect(outcome.output.contains("\(size)\n") && outcome.output.hasSuffix("\(size)\nDROP TABLE\n"))
        #expect(read.output.utf8.count == size + 1)
        let back = try FileManager.default.attributesOfItem(atPath: file + ".back")[.size] as? Int
        #expect(back == size + 1)
        #expect(highest > 0 && highest - before < 30_000_000, "grew from \(before) to \(highest) bytes")
    }
}
