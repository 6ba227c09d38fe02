import FuzzTargets
import QueryAnalysis
import TestSupport
import Testing

/// Compares the classifier with PostgreSQL's own parser on statements nobody wrote.
///
/// A failure prints its seed; set `SLIPSTREAM_SEED` to run it again.
@Suite("Soundness, by PostgreSQL's own parser")
struct SoundnessTests {
    private let seed = SeededGenerator().seed

    private func check(_ sql: String) -> (objection: String?, isPure: Bool, isRead: Bool, isValid: Bool) {
        let verdict = Classification.of(sql, functions: catalog)
        let oracle = ParserOracle(sql)
        let isRead = verdict.effect == .read || verdict.effect == .primaryRead
        return (oracle.objection(to: verdict, functions: catalog), oracle.isPureSelect, isRead, !oracle.isSyntaxError)
    }

    @Test("Composed statements")
    func composed() {
        var generator = StatementGenerator(seed: seed)
        var (valid, pure, recognised) = (0, 0, 0)
        for _ in 0..<50_000 {
            let sql = generator.statement()
            let result = check(sql)
            if let objection = result.objection {
                Issue.record("\(Classification.of(sql, functions: catalog)), but \(objection), seed \(seed): \(sql)")
                return
            }
            valid += result.isValid ? 1 : 0
            pure += result.isPure ? 1 : 0
            recognised += result.isPure && result.isRead ? 1 : 0
        }
        print("seed \(seed): \(valid) of 50000 valid, \(pure) pure SELECTs, \(recognised) of them reads")
        #expect(valid > 20_000)
        #expect(recognised > 3_000)
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
                if let objection = check(sql).objection {
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
