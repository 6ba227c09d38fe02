import FuzzTargets
import Glibc
import QueryAnalysis
import TestSupport
import Testing

/// Compares the classifier with PostgreSQL's own parser on statements nobody wrote.
///
/// A failure prints its seed; set `SLIPSTREAM_SEED` to run it again.
@Suite("Soundness, by PostgreSQL's own parser")
struct SoundnessTests {
    private let seed = SeededGenerator().seed

    private func objection(to sql: String) -> String? {
        ParserOracle(sql).objection(to: Classification.of(sql, functions: catalog), functions: catalog)
    }

    @Test("Composed statements")
    func composed() {
        var generator = StatementGenerator(seed: seed)
        let count = getenv("SLIPSTREAM_STATEMENTS").flatMap { Int(String(cString: $0)) } ?? 50_000
        var tally = Tally()
        for _ in 0..<count {
            let sql = generator.statement()
            let verdict = Classification.of(sql, functions: catalog)
            if let objection = tally.add(sql, verdict, functions: catalog) {
                Issue.record("\(verdict), but \(objection), seed \(seed): \(sql)")
            }
        }
        print("classifier, generated statements, seed \(seed): \(tally)")
        #expect(tally.valid > count * 2 / 5)
        #expect(tally.recognised > count / 20)
    }

    @Test("Statements with bytes deleted, doubled, swapped and replaced")
    func mutated() {
        var generator = StatementGenerator(seed: seed)
        let spice = Array("'\"$/*-;\\eEuU&().,: \nbx0_1".utf8)
        for _ in 0..<4_000 {
            let original = Array(generator.statement().utf8)
            for _ in 0..<20 {
                var bytes = original
                for _ in 0..<Int.random(in: 1...3, using: &generator.random) where bytes.count > 1 {
                    let index = Int.random(in: 0..<bytes.count, using: &generator.random)
                    switch Int.random(in: 0..<5, using: &generator.random) {
                    case 0: bytes.remove(at: index)
                    case 1: bytes.insert(bytes[index], at: index)
                    case 2: bytes.swapAt(index, Int.random(in: 0..<bytes.count, using: &generator.random))
                    case 3: bytes[index] = generator.pick(spice)
                    default: bytes.insert(generator.pick(spice), at: index)
                    }
                }
                let sql = String(decoding: bytes, as: UTF8.self)
                if let objection = objection(to: sql) {
                    Issue.record(
                        "\(Classification.of(sql, functions: catalog)), but \(objection), seed \(seed): \(sql)"
                    )
                    return
                }
            }
        }
    }

    @Test("The oracle objects to wrong verdicts")
    func oracle() {
        func objects(_ sql: String, _ effect: StatementEffect) -> Bool {
            let verdict = Classification(effect: effect, reason: "", statements: 1)
            return ParserOracle(sql).objection(to: verdict, functions: catalog) != nil
        }
        for sql in [
            "insert into t values (1)", "with a as (delete from t) select 1", "select 1 for update", "select 1 into t",
            "set a = 1",
            "select audit()", "select public.unknown(1)", "select 1; select 2", "copy t from stdin",
            "explain delete from t", "begin",
            "select nextval('s')", "copy t to '/x'", "truncate t",
        ] { #expect(objects(sql, .read), "\(sql)") }
        for sql in ["set a = 1", "listen a", "create temp table t ()", "select audit()"] {
            #expect(objects(sql, .write), "\(sql)")
        }
        for sql in ["begin", "begin isolation level serializable read only", "commit"] {
            #expect(objects(sql, .beginReadOnly), "\(sql)")
        }
        for sql in ["select 1", "table t", "show a", "explain select 1"] { #expect(!objects(sql, .read), "\(sql)") }
    }
}

/// What PostgreSQL's parser says of many verdicts.
struct Tally: CustomStringConvertible {
    private(set) var total = 0
    private(set) var valid = 0
    private(set) var unsound = 0
    /// Plain SELECTs that any node may run, by the parser's opinion.
    private(set) var reads = 0
    private(set) var recognised = 0
    /// Those of them that the classifier sends to the primary, but not as writes: what they read differs there.
    private(set) var primaryReads = 0

    /// Returns why the verdict is wrong, nil when it is not.
    mutating func add(_ sql: String, _ verdict: Classification, functions: FunctionCatalog) -> String? {
        let oracle = ParserOracle(sql)
        total += 1
        guard !oracle.isSyntaxError else { return nil }
        valid += 1
        if oracle.isTrueRead(functions: functions) {
            reads += 1
            recognised += verdict.effect == .read ? 1 : 0
            primaryReads += verdict.effect == .primaryRead ? 1 : 0
        }
        let objection = oracle.objection(to: verdict, functions: functions)
        unsound += objection == nil ? 0 : 1
        return objection
    }

    var description: String {
        let share = Double(recognised * 10_000 / max(reads, 1)) / 100
        return "\(total) statements, \(valid) of them valid; verdicts that are not sound: \(unsound);"
            + " true reads: \(reads), recognised: \(recognised) (\(share) %),"
            + " kept on the primary for what they read: \(primaryReads)"
    }
}
