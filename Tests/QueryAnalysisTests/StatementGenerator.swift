import TestSupport

/// Composes statements, most of them valid, that read, write or hide a write, with noise between and in their tokens.
struct StatementGenerator {
    var random: SeededGenerator

    init(seed: UInt64) { random = SeededGenerator(seed: seed) }

    mutating func statement() -> String {
        var statements = [noisy(topLevel())]
        while chance(8) { statements.append(noisy(topLevel())) }
        return statements.joined(separator: ";") + pick(["", "", ";", " ; -- end", "/* x */"])
    }

    // MARK: - Choices

    mutating func chance(_ outOf: Int) -> Bool { Int.random(in: 0..<outOf, using: &random) == 0 }

    mutating func pick<Element>(_ elements: [Element]) -> Element { elements.randomElement(using: &random)! }

    private mutating func some(_ chances: Int, _ text: String) -> String { chance(chances) ? " \(text) " : " " }

    /// Texts of one space are places where noise may go.
    private mutating func noisy(_ text: String) -> String {
        var result = ""
        for character in text {
            guard character == " " else {
                result += chance(3) ? character.uppercased() : String(character)
                continue
            }
            result += pick([" ", " ", " ", "  ", "\n", "\t", " /* ' */ ", "/* /* ; */ */ ", " -- it's\n", "/**/ "])
        }
        return result
    }

    // MARK: - Statements

    private mutating func topLevel() -> String {
        switch Int.random(in: 0..<20, using: &random) {
        case 0: return change(2)
        case 1:
            return
                "explain " + pick(["", "analyze ", "(costs off) ", "( analyze , verbose ) "])
                + pick([query(2), change(2)])
        case 2:
            return
                "copy " + pick([relation(), "( \(query(2)) )", "( \(change(2)) )"])
                + pick([" to stdout", " to '/x'", " from stdin"])
        case 3:
            return pick([
                "begin", "start transaction read only", "begin isolation level serializable read only", "commit",
                "rollback",
                "rollback to a", "savepoint a", "set local a = 1", "set a = 1", "show a", "fetch 1 from c", "listen a",
                "set local . a = 1", "commit prepared 'x'", "discard all", "prepare a as select 1",
                "set transaction read only",
            ])
        case 4:
            return pick([
                "create table t as \(query(2))", "create temp table t ( a int )", "create view v as \(query(2))",
                "create table t ( a numeric(10,2) )", "alter table t add a int default \(expression(1))", "do 'x'",
                "declare c cursor \(pick(["", "with hold"])) for \(query(2))", "execute a", "truncate t",
            ])
        default: return query(2)
        }
    }

    private mutating func change(_ depth: Int) -> String {
        let returning = some(2, "returning \(expression(depth - 1))")
        return switch Int.random(in: 0..<5, using: &random) {
        case 0: "insert into \(relation()) \(pick(["", "(a, b)", "as x (a)"])) \(query(depth - 1))" + returning
        case 1: "insert into t values ( \(expression(depth - 1)) ) on conflict (a) do nothing" + returning
        case 2:
            "update \(relation()) set a = \(expression(depth - 1)) , ( b , c ) = ( 1 , 2 )"
                + " where \(expression(depth - 1))"
                + returning
        case 3: "delete from \(relation()) where \(expression(depth - 1))" + returning
        default: "merge into t using u on \(expression(depth - 1)) when matched then delete"
        }
    }

    private mutating func query(_ depth: Int) -> String {
        guard depth > 0 else { return pick(["select 1", "table t", "values (1)", "select a"]) }
        var text = ""
        if chance(5) {
            let body = chance(4) ? change(depth - 1) : query(depth - 1)
            let columns = pick(["", "", " ( x )", "(x)"])
            text +=
                "with \(pick(["", "recursive"])) a\(columns) as"
                + " \(pick(["", "materialized", "not materialized"])) ( \(body) )"
            if chance(3) { text += " , b\(pick(["", "(y)", " ( y , z )"])) as ( \(query(depth - 1)) )" }
            text += " "
        }
        if chance(8) {
            return text
                + "( \(query(depth - 1)) ) \(pick(["", "union all select 1", "except select 1"]))"
                + " order by \(expression(1))"
        }
        text += "select " + some(8, pick(["distinct", "all", "distinct on ( a )", "distinct on ( ( a ) , b )"]))
        text += expression(depth)
        while chance(2) {
            text += " , " + expression(depth - 1) + pick(["", " as x", " x", " as \"into\"", " as update"])
        }
        text += some(30, pick(["into x", "into temp x", "into table pg_temp . x"]))
        if !chance(4) { text += " from " + source(depth) }
        while chance(3) { text += " , " + source(depth - 1) }
        text += some(3, "where " + expression(depth)) + some(6, "group by " + expression(0))
        text += some(8, "window w as ( partition by \(expression(1)) )") + some(10, "union " + query(depth - 1))
        text += some(5, "order by \(expression(1)) , \(expression(1))") + some(6, "limit " + expression(0))
        return text
            + some(
                12,
                pick(["for update", "for no key update of t", "for share nowait", "for key share", "for read only"])
            )
    }

    private mutating func relation() -> String {
        pick([
            "t", "u", "\"T u\"", "s . t", "\"for\"", "only t", "pg_class", "pg_locks", "pg_catalog . pg_stat_activity",
            "update_log",
        ])
    }

    private mutating func source(_ depth: Int) -> String {
        let alias = pick(["", " x", " as x", " x ( a )", " as x ( a , b )", " \"x\"(a)", " x(a)"])
        guard depth > 0 else { return relation() + alias }
        return switch Int.random(in: 0..<7, using: &random) {
        case 0: "( \(query(depth - 1)) ) x(a)"
        case 1: call(depth - 1) + alias
        case 2: "lateral \(call(depth - 1)) with ordinality as x ( a , n )"
        case 3: relation() + " a join \(source(depth - 1)) on \(expression(depth - 1))"
        case 4: "t tablesample \(pick(["bernoulli", "system", "audit"])) ( 10 )"
        case 5: "rows from ( \(call(depth - 1)) as ( a numeric(3,1) ) , \(call(depth - 1)) ) as x"
        default: relation() + alias
        }
    }

    private static let plain = [
        "abs", "lower", "now", "price", "left", "overlaps", "count", "sum", "max", "random", "pg_catalog . abs",
        "public . price", "\"Odd Name\"", "UPPER", "pg_sleep",
    ]
    private static let delicate = [
        "audit", "\"audit\"", "public . audit", "AUDIT", "nextval", "set_config", "pg_advisory_lock", "unknown",
        "lastval",
        "pg_is_in_recovery", "currval", "\"select\"", "filter",
    ]

    private mutating func call(_ depth: Int) -> String {
        let name = chance(4) ? pick(Self.delicate) : pick(Self.plain)
        let suffix =
            name == "count" ? pick(["", " filter ( where a )", " over ( order by \(expression(0)) )", " over w"]) : ""
        return name + pick(["(", " (", " ( "]) + (depth > 0 ? expression(depth - 1) : "") + " )" + suffix
    }

    /// In parentheses, for most operators do not associate.
    private mutating func operand(_ depth: Int) -> String {
        depth > 0 ? "( \(expression(depth)) )" : expression(0)
    }

    private mutating func expression(_ depth: Int) -> String {
        guard depth > 0 else {
            return pick(
                [
                    "1", "$1", "a", "t . a", "'x'", "'it''s'", "E'\\'; drop'", "$$ ; ' $$", "$a$ $$ $a$", "\"a\"\"b\"",
                    "null", "true",
                    "1.5e3", "'a' \n 'b'", "current_timestamp(3)", "\"update\"", "t . into", "U&'\\0041'", "'\\d'",
                    "B'01'", "x'1f'",
                    "array[1,2]", "'a'::varchar(3)", "1::numeric(10,2)", "interval '1' second(3)", "*", "a$b", "é",
                    "delete",
                ].filter { $0 != "*" }
            )
        }
        let (left, right) = (operand(depth - 1), operand(depth - 1))
        return switch Int.random(in: 0..<18, using: &random) {
        case 0...3: call(depth)
        case 4:
            left + " \(pick(["+", "||", "->", "@>", "-", "*", "/", "=", "is distinct from", "and", "or", "<>"])) "
                + right
        case 5: "( \(query(depth - 1)) )"
        case 6: "exists ( \(query(depth - 1)) )"
        case 7: "case when \(left) then \(right) else \(call(depth - 1)) end"
        case 8: "\(left) in ( \(right) , \(call(depth - 1)) )"
        case 9: "coalesce ( \(left) , \(right) )"
        case 10: "cast ( \(left) as \(pick(["numeric(10,2)", "varchar ( 3 )", "text", "s . t(3)"])) )"
        case 11: "\(left) \(pick(["like", "not like", "ilike", "similar to"])) \(call(depth - 1)) escape \(right)"
        case 12: "extract ( year from \(left) )"
        case 13: "substring ( \(left) from \(right) for \(call(depth - 1)) )"
        case 14: "\(left) at time zone \(call(depth - 1))"
        case 15: "not \(call(depth - 1))"
        case 16: "\(left) between \(right) and \(call(depth - 1))"
        default: "( \(left) )"
        }
    }
}
