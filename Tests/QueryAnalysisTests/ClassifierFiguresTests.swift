import Foundation
import FuzzTargets
import QueryAnalysis
import Testing

/// The classifier on statements that others wrote: PostgreSQL's own regression tests, with PostgreSQL's parser to judge.
///
/// `script/bench classifier` obtains them, and names their place in `SLIPSTREAM_POSTGRES_SOURCE`.
@Suite(
    "The classifier's figures",
    .enabled(if: ProcessInfo.processInfo.environment["SLIPSTREAM_POSTGRES_SOURCE"] != nil)
)
struct ClassifierFiguresTests {
    @Test("PostgreSQL's regression tests")
    func regressionTests() throws {
        let source = URL(filePath: ProcessInfo.processInfo.environment["SLIPSTREAM_POSTGRES_SOURCE"] ?? "")
        let statements = try regressionStatements(source.appending(path: "src/test/regress/sql"))
        let builtIn = try String(
            contentsOf: source.appending(path: "src/include/catalog/pg_proc.dat"),
            encoding: .utf8
        )
        // Nothing else is volatile there (`F_PROC` has 'i' for a default).
        let functions =
            builtIn.matches(of: /proname => '(\w+)'(?:(?!proname =>)[^}])*/).map { match in
                (name: String(match.1), volatility: volatility(inEntry: match.0), isBuiltIn: true)
            } + statements.flatMap(definedFunctions)
        let catalog = FunctionCatalog(functions)
        #expect(builtIn.contains("proname => 'nextval'") && catalog.volatilities["nextval"] == .volatile)
        #expect(catalog.volatilities["lower"] == .immutable && catalog.volatilities["now"] == .stable)

        var tally = Tally()
        for sql in statements {
            let verdict = Classification.of(sql, functions: catalog)
            if let objection = tally.add(sql, verdict, functions: catalog) {
                Issue.record("\(verdict), but \(objection): \(sql)")
            }
        }
        #expect(tally.valid > 20_000)
        print("classifier, PostgreSQL's regression tests: \(tally)")
        printTime(statements, catalog)
    }

    /// Of each statement, by this classifier and by libpg_query; the best of some rounds.
    private func printTime(_ statements: [String], _ catalog: FunctionCatalog) {
        let texts = statements.map { Array($0.utf8) }
        let clock = ContinuousClock()
        func best(_ rounds: Int, _ work: () -> Void) -> Double {
            let times = (0..<rounds).map { _ in clock.measure(work) }
            return times.min().map { $0 / .nanoseconds(1) / Double(texts.count) } ?? 0
        }
        var effects = 0
        let ours = best(10) {
            for text in texts {
                let verdict = text.withUnsafeBytes { classify($0, functions: catalog, explains: false) }
                effects &+= Int(verdict.effect.rawValue)
            }
        }
        let theirs = best(2) { for sql in statements { effects &+= ParserOracle(sql).isSyntaxError ? 1 : 0 } }
        let bytes = texts.reduce(0) { $0 + $1.count } / texts.count
        print(
            "classifier, time: \(Int(ours)) ns per statement of \(bytes) bytes on average,"
                + " 1/\(Int(theirs / ours)) of a parse by libpg_query (\(effects & 1))"
        )
    }

    private func volatility(inEntry entry: Substring) -> Volatility {
        if entry.contains("provolatile => 'v'") { return .volatile }
        return entry.contains("provolatile => 's'") ? .stable : .immutable
    }

    /// The functions that a statement makes, roughly: what it says nothing of is volatile.
    private func definedFunctions(_ sql: String) -> [(name: String, volatility: Volatility, isBuiltIn: Bool)] {
        let definition = /(?i)create\s+(?:or\s+replace\s+)?(?:function|aggregate)\s+(?:\w+\.)?(\w+)\s*\(/
        guard let match = sql.firstMatch(of: definition) else { return [] }
        let isAggregate = match.0.lowercased().contains("aggregate")
        let words = sql.lowercased()
        let volatility: Volatility =
            isAggregate || words.contains("immutable") ? .immutable : words.contains("stable") ? .stable : .volatile
        return [(name: match.1.lowercased(), volatility: volatility, isBuiltIn: false)]
    }

    /// What psql would send: without its own commands, and without the data of COPY.
    private func regressionStatements(_ directory: URL) throws -> [String] {
        var statements: [String] = []
        let files = try FileManager.default.contentsOfDirectory(at: directory, includingPropertiesForKeys: nil)
        for file in files.sorted(by: { $0.path < $1.path }) where file.pathExtension == "sql" {
            let text = String(decoding: try Data(contentsOf: file), as: UTF8.self)
            var (pending, isData) = ("", false)
            for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
                if isData {
                    isData = line != "\\."
                    continue
                }
                if line.hasPrefix("\\") {
                    pending = ""
                    continue
                }
                pending += line + "\n"
                guard line.contains(";"), let complete = ParserOracle.statements(of: pending) else { continue }
                statements += complete
                isData = complete.last?.contains(/(?i)\bcopy\b.*\bfrom\s+stdin/) == true
                pending = ""
            }
        }
        return statements
    }
}
