import QueryAnalysis
import Testing

struct StatementShapeTests {
    @Test("literals, parameters, spaces, comments and the case of words make no difference")
    func same() {
        let shape = shape("select a from t where b = 5 and c = 'x'")
        for sql in [
            "SELECT a\nFROM t WHERE b = 7 AND c = $$y$$", "select a from t where b = $1 and c = $2 -- x",
            "/* x */ select a from t where b = 5.5e3 and c = E'\\n'",
        ] {
            #expect(self.shape(sql) == shape, "\(sql)")
        }
        for sql in [
            "select a from t where b = 5 or c = 'x'", "select \"a\" from u where b = 5 and c = 'x'",
            "select a from t where b = 5", "", "selecta from t where b = 5 and c = 'x'",
        ] {
            #expect(self.shape(sql) != shape, "\(sql)")
        }
        #expect(self.shape("") != 0)
    }

    @Test("any read but SHOW takes a snapshot")
    func snapshots() {
        for sql in ["select 1", "show a; select 1", "explain select 1", "copy t to stdout", "(select 1)", "table t"] {
            #expect(takes(sql), "\(sql)")
        }
        for sql in ["", ";", "show a", "SHOW a; show b;", "-- select"] { #expect(!takes(sql), "\(sql)") }
    }

    private func shape(_ sql: String) -> UInt64 {
        var sql = sql
        return sql.withUTF8 { statementShape(UnsafeRawBufferPointer($0)) }
    }

    private func takes(_ sql: String) -> Bool {
        var sql = sql
        return sql.withUTF8 { takesSnapshot(UnsafeRawBufferPointer($0)) }
    }
}
