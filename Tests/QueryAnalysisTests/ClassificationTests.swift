import QueryAnalysis
import Testing

/// A database with a few built-in functions and a few of the user's.
let catalog = FunctionCatalog(
    [
        "count", "sum", "max", "avg", "lower", "upper", "length", "abs", "substr", "generate_series", "row_number",
        "now",
        "array_agg", "string_agg", "coalesce_all", "current_setting", "inet_server_port", "to_char", "unnest",
        "overlaps",
        "like", "left", "timezone", "extract", "overlay", "position", "btrim", "ltrim", "rtrim", "substring", "rank",
        "like_escape", "similar_to_escape", "pg_backend_pid", "txid_current_snapshot", "jsonb_each", "date_trunc",
        "xmlagg",
        "version", "normalize", "is_normalized", "json_build_object", "percentile_cont", "regexp_replace", "xmlexists",
    ].map { (name: $0, volatility: .stable, isBuiltIn: true) }
        + [
            "random", "clock_timestamp", "pg_sleep", "gen_random_uuid", "nextval", "currval", "lastval", "setval",
            "set_config", "setseed", "pg_advisory_lock", "pg_advisory_xact_lock", "pg_try_advisory_lock", "pg_notify",
            "pg_advisory_unlock_all", "pg_is_in_recovery", "pg_terminate_backend", "lo_get", "query_to_xml",
            "bernoulli",
            "system", "timeofday", "pg_stat_reset", "pg_export_snapshot", "pg_read_file", "txid_current",
            "pg_last_wal_replay_lsn", "pg_current_wal_lsn", "pg_switch_wal", "pg_create_logical_replication_slot",
        ].map { (name: $0, volatility: .volatile, isBuiltIn: true) }
        + [
            (name: "price", volatility: .stable, isBuiltIn: false),
            (name: "audit", volatility: .volatile, isBuiltIn: false),
            (name: "Odd Name", volatility: .stable, isBuiltIn: false),
            (name: "uuid_generate_v4", volatility: .volatile, isBuiltIn: false),
            (name: "abs", volatility: .immutable, isBuiltIn: false),
            (name: "length", volatility: .volatile, isBuiltIn: false),
        ]
)

func effect(_ sql: String) -> StatementEffect { Classification.of(sql, functions: catalog).effect }

@Suite("Classification")
struct ClassificationTests {
    @Test(
        "Nothing at all",
        arguments: ["", " ", ";", " ;; ", "-- select", "/* a /* b */ c */", "/* x */;--", "\u{b}\t\r\n\u{c}"]
    )
    func nothing(_ sql: String) {
        let verdict = Classification.of(sql, functions: catalog)
        #expect(verdict.effect == .empty)
        #expect(verdict.statements == 0)
    }

    @Test(
        "Queries are reads",
        arguments: [
            "select 1", "SELECT * FROM t WHERE a = $1 AND b IN (1, 2)", "values (1), (2)", "TABLE t", "(select 1)",
            "((select 1) union (select 2)) order by 1", "select 1;", "select 1; select 2;",
            "select 1 union all select 2 except table t", "with a as (select 1) select * from a",
            "with recursive a(n) as (values (1) union select n + 1 from a), b(m, o) as (select 1, 2) table b",
            "with a as materialized (select 1), b as not materialized (select 2) select * from a",
            "select count(*) filter (where a > 1) over (partition by b order by c rows 1 preceding)",
            "select max(a) over w from t window w as (partition by b)", "select row_number() over ()",
            "select string_agg(a, ',' order by b) from t",
            "select percentile_cont(0.5) within group (order by a) from t",
            "select distinct on (a, (b)) a from t", "select distinct on (a) abs(b) from t",
            "select a from t as x(a, b) join u y(c) using (d)", "select * from (values (1, 2)) v(a, b)",
            "select * from generate_series(1, 3) g(x)",
            "select * from generate_series(1, 3) with ordinality as g(x, n)",
            "select * from rows from (generate_series(1, 2), unnest(array[1])) as r(a, b)",
            "select * from jsonb_each('{}') as j(a varchar(10), b numeric(10, 2))",
            "select * from t tablesample bernoulli (10) repeatable (1)", "select * from t tablesample system(1)",
            "select a::numeric(10, 2), cast(b as varchar(10)), c::character varying(3), d::s.geometry(Point, 9)",
            "select timestamp(3) with time zone '2020-01-01', interval '1' second(3), a::timestamp(0) with time zone",
            "select coalesce(a, b), nullif(a, b), greatest(1, 2), row(1, 2), exists (select 1), array(select 1)",
            "select extract(year from now()), substring('abc' from 1 for 2), overlay('a' placing 'b' from 1 for 1)",
            "select trim(both 'x' from a), position(a in b), grouping(a) from t group by grouping sets (a, rollup(b))",
            "select a from t where b = any (select 1) and c like ('x') and d ilike ('y') escape ('z') and e not in (1)",
            "select a from t where (a, b) overlaps (c, d) or a similar to ('x') or a between (1) and (2)",
            "select case when (a) then (b) else (c) end, current_timestamp(3), current_user, localtime",
            "select xmlelement(name a, xmlattributes(b as c)), xmlforest(a), xmlparse(document ('<a/>'))",
            "select * from t for read only", "select price(1), public.price(2), \"Odd Name\"(3)",
            "select a.b.c, a.*, (r).f, (r).*, arr[1].g from t",
            "select t.select, t.update, 1 as delete, 2 as into from t",
            "select 1 a, 2 \"update\", 3 from \"insert\" where \"for\" = 'update'",
            "select * from t order by a using < nulls first limit all offset 1 fetch first 2 rows with ties",
            "select random(), clock_timestamp(), pg_sleep(0), gen_random_uuid(), timeofday()",
            "select inet_server_port(), current_setting('port')", "select 1 where a @> b and c ?| d and e - -1 > 2",
            "select date '2020-01-01' + time '10:00'", "select operator(pg_catalog.-) 1, 1 operator(pg_catalog.+) 2",
            "select json_object('a' value 1), json_value(a, '$')", "select abs(1)",
            "select a from pg_stats, pg_statistic",
            "copy t to stdout", "copy s.t (a, b) to stdout with (format csv)", "copy (select 1) to stdout",
            "copy (with a as (select 1) select * from a) to stdout csv force quote a",
            "explain select 1", "explain analyze verbose select 1", "EXPLAIN (ANALYZE, BUFFERS on) VALUES (1)",
            "explain (select 1)", "explain ((select 1))", "show port", "show search_path", "SHOW TIME ZONE",
        ]
    )
    func reads(_ sql: String) {
        let verdict = Classification.of(sql, functions: catalog)
        #expect(verdict.effect == .read, "\(verdict)")
    }

    @Test(
        "Writes",
        arguments: [
            "insert into t values (1)", "INSERT INTO t (a, b) SELECT 1, abs(2)", "insert into s.t as x (a) values (1)",
            "insert into t (a) values (1) on conflict (a) do update set (b, c) = (1, 2) returning *",
            "update t set a = 1", "delete from only t",
            "merge into t using u on a = b when not matched then insert (a) values (1)",
            "with a as (insert into t (x) values (1) returning *) select * from a",
            "with a as (select 1) insert into t select 1",
            "with a as (delete from t returning *) table a",
            "with a as (with b as (select 1) update t set x = 1) select 1",
            "with a as materialized (/* */ merge into t using u on true when matched then delete) select 1",
            "select * from t for update", "select * from t for no key update", "select 1 for share",
            "select 1 for key share",
            "select * from t for /* x */ update of t skip locked", "(select 1 for update)", "select 1 into t",
            "select * into table x from y", "select 1into t", "select $1into t", "truncate t", "create table t (a int)",
            "create table t (a varchar(3) default lower('a'), check (a > ''))", "create index on t (lower(a))",
            "create view v as select audit()", "create function f() returns int language sql as 'select 1'",
            "create trigger x before insert on t for each row execute function audit()", "drop table t",
            "alter table t add a int",
            "alter table t add constraint c foreign key (a) references u (b)", "vacuum t (a)", "analyze",
            "grant select on t to u",
            "copy t from stdin", "copy t (a) from '/x'", "copy t to '/x'", "copy t to program 'x'",
            "copy (select 1) to '/x'",
            "copy (delete from t returning *) to stdout", "copy (select 1 for update) to stdout", "copy t to",
            "explain insert into t values (1)", "explain analyze delete from t",
            "explain (analyze) select * from t for update",
            "explain begin", "explain show x", "explain create table t as select 1", "explain explain select 1",
            "lock table t", "notify a", "notify a, 'b'", "prepare transaction 'x'", "commit prepared 'x'",
            "rollback prepared 'x'", "declare c cursor for select 1", "checkpoint", "refresh materialized view v",
            "select nextval('s')", "select setval('s', 1)", "select pg_notify('a', 'b')",
            "select pg_advisory_xact_lock(1)",
            "select lo_get(1)", "select pg_terminate_backend(1)", "select pg_switch_wal()", "select pg_stat_reset()",
            "select * from f() cross join lateral nextval('s')",
            "insert into t values (nextval('s'), uuid_generate_v4())",
            "select uuid_generate_v4()",
            "create rule r as on insert to t do also (insert into u values (1); delete from v)",
            "create function f() returns int begin atomic select 1; select case when true then 2 end; end",
            "nonsense", "1", "'x'", "(drop table t)", "((1))", "select (1", "select 1)", "start replication", "start",
            "select 1; drop table t", "begin; select 1; commit", "select 1; commit", "begin read only; select 1",
            "create table temperatures (temp real)", "select U&\"d\\0061ta\" from t", "select u&\"x\" uescape '!'",
        ]
    )
    func writes(_ sql: String) {
        let verdict = Classification.of(sql, functions: catalog)
        #expect([.write, .sessionState].contains(verdict.effect), "\(verdict)")
        if !sql.contains("f()") || sql.hasPrefix("create") { #expect(verdict.effect == .write, "\(verdict)") }
    }

    @Test(
        "State of the session",
        arguments: [
            "set a = 1", "set session a = 1", "set session characteristics as transaction read only", "set local.a = 1",
            "set transaction.a = 1", "set constraints.a to 1", "set local = 1", "set constraints = 1", "reset all",
            "listen a",
            "unlisten *", "prepare a as select 1", "prepare transaction as select 1", "execute a", "deallocate a",
            "discard all", "load 'x'", "do 'x'", "do $$ begin end $$", "call f()", "create temp table t (a int)",
            "create temporary view v as select 1", "create or replace local temp view v as select 1",
            "create table pg_temp.t (a int)", "create function pg_temp.f() returns int language sql as 'select 1'",
            "create schema s create temp view v as select 1", "create table t as select audit()",
            "create table t as execute a",
            "create table t as (with x(a) as (values (audit())) select * from x)",
            "create materialized view v as select audit()",
            "select 1 into temp t", "select 1 into temporary table t", "select 1 into local temp t",
            "select 1 into pg_temp.t",
            "declare c cursor with hold for select 1", "declare c cursor for select audit()",
            "alter table t add a int default audit()",
            "select lo_wer(1)", "select current_timestamq(3)", "select current_timestampp(3)",
            "select current_timestam(3)",
            "select audit()", "select public.audit()", "select AUDIT /* */ ()", "select \"audit\"(1)",
            "select t.audit from t",
            "select (t).audit from t", "select (audit(t)).x from t", "select unknown_function(1)",
            "select \"select\"(1)",
            "select distinct on (a) audit(b) from t", "select distinct on ((a), (b)) audit(b)", "select a, audit(b)",
            "select 1 from t order by audit(1)", "select a like audit(1)", "select not audit(1)",
            "select * from t, audit(1) as x(a)",
            "select * from (select 1) a, lateral audit(1)", "select a is distinct from audit(1)",
            "select a || audit(1)",
            "with a(x) as (select 1) select 1, audit(2)", "with a as (select 1) (select 1) order by 1, audit(1)",
            "with a as (select audit(1)), b as (select 1) select 1", "select a escape audit(1)",
            "select a at time zone audit(1)",
            "select length('x')", "select \"ABS\"(1)", "insert into t values (audit())", "update t set a = audit()",
            "select set_config('a', 'b', false)", "select set_config('a', 'b', $1)",
            "select set_config('a', 'b', not true)",
            "select pg_catalog.set_config('search_path', '', false)", "select setseed(0.5)",
            "select pg_advisory_lock(1)",
            "select pg_try_advisory_lock(1, 2)", "select pg_advisory_unlock_all()", "select dblink('x', 'y')",
            "select query_to_xml('x', true, true, '')", "select pg_create_logical_replication_slot('a', 'b', true)",
            "select 1; set a = 1", "begin; set a = 1; commit", "explain execute a", "explain analyze select audit()",
            "copy (select audit()) to stdout", "select \"\"\"x\"(1)", "select a from t where exists (select audit())",
        ]
    )
    func sessionState(_ sql: String) {
        let verdict = Classification.of(sql, functions: catalog)
        #expect(verdict.effect == .sessionState, "\(verdict)")
    }

    @Test(
        "Reads that must see the primary",
        arguments: [
            "select pg_is_in_recovery()", "select pg_last_wal_replay_lsn()", "select pg_current_wal_lsn()",
            "select lastval()",
            "select currval('s')", "select txid_current()", "select txid_current_snapshot()", "select pg_backend_pid()",
            "select pg_export_snapshot()", "select pg_read_file('x')", "select * from pg_stat_activity",
            "table pg_locks",
            "select * from pg_catalog.\"pg_stat_replication\"", "select * from pg_statio_user_tables",
            "table pg_settings",
            "select * from pg_prepared_statements", "select * from pg_cursors", "select * from pg_replication_slots",
            "select * from pg_temp.t", "select * from pg_temp_3.t", "select last_value from s",
            "select is_called from s",
            "copy pg_stat_activity to stdout", "explain analyze select * from pg_locks", "fetch 1 from c", "move c",
            "close all",
            "show transaction_read_only", "SHOW in_hot_standby", "show default_transaction_read_only", "show all",
            "show transaction isolation level", "select current_setting('transaction_read_only')",
            "select current_setting('in_hot_standby', true)", "select set_config('a', upper(b), true)",
        ]
    )
    func primaryReads(_ sql: String) {
        let verdict = Classification.of(sql, functions: catalog)
        #expect(verdict.effect == .primaryRead, "\(verdict)")
    }

    @Test(
        "a comment may ask for the primary or for a standby",
        arguments: [
            ("/* slipstream: primary */ select 1", .primaryRead, .none),
            ("select 1 /*slipstream='primary'*/", .primaryRead, .none),
            ("select /*a='b',slipstream='primary',c='d'*/ 1", .primaryRead, .none),
            ("/* slipstream:primary */ begin read only", .begin, .none),
            ("/* slipstream: standby */ select 1", .read, .wantsStandby),
            ("/* slipstream: standby */ /* slipstream: primary */ select 1", .primaryRead, .none),
            ("/* slipstream: standby */ delete from t", .write, .none),
            ("/* slipstream: primary */ delete from t", .write, .none),
            ("/* /* slipstream: primary */ */ select 1", .primaryRead, .none),
            ("/* slipstream: primarily */ select 1", .read, .none), ("/* slipstream primary */ select 1", .read, .none),
            ("/* myslipstream: primary */ select 1", .read, .none),
            ("select '/* slipstream: primary */'", .read, .none),
            ("/*slipstream:*/ select 1", .read, .none), ("/* slipstream: standby", .write, .none),
        ] as [(String, StatementEffect, StatementTraits)]
    )
    func hints(sql: String, effect: StatementEffect, traits: StatementTraits) {
        let verdict = Classification.of(sql)
        #expect(verdict.effect == effect, "\(verdict)")
        #expect(verdict.traits.contains(.wantsStandby) == (traits == .wantsStandby), "\(verdict)")
    }
}
