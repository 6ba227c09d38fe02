import QueryAnalysis
import Testing

@Suite("Traits")
struct TraitsTests {
    @Test(
        "What names prepared statements in SQL, or lists them, is noticed",
        arguments: [
            "prepare a as select 1", "prepare transaction as select 1", "execute a", "EXECUTE a(1)", "deallocate a",
            "deallocate prepare a", "deallocate \"all\"", "explain execute a", "explain analyze execute a",
            "create table t as execute a",
            "create temp table t as execute a", "select * from pg_prepared_statements",
            "select name from pg_catalog.pg_prepared_statements", "select 1; deallocate a", "begin; execute a; commit",
            "select * from pg_prepared_statement()",
        ]
    )
    func namesStatements(_ sql: String) { #expect(traits(sql) == .namesStatements) }

    @Test(
        "What asks for the last value of a sequence is noticed",
        arguments: [
            "select lastval()", "select currval('s')", "select pg_catalog.currval('s')", "select 1, LASTVAL ()",
            "insert into t values (currval('s'))", "insert into t select lastval()",
            "with a as (select currval('s')) select * from a", "select 1; select lastval()",
        ]
    )
    func asksSequence(_ sql: String) { #expect(traits(sql) == .asksSequence) }

    @Test(
        "What asks for it when it is used is noticed where it is defined",
        arguments: [
            "create table t (a int default nextval('s'), b int default -1 * currval('s'))",
            "create table t (b int default pg_catalog.currval('s'))", "alter table t alter a set default lastval()",
            "create view v as select CURRVAL('s') as a", "create rule r as on insert to t do also select lastval()",
            "create function f() returns bigint language sql begin atomic; select lastval(); end",
            "create function f() returns bigint language sql as 'select lastval()'",
            "create or replace function f() returns bigint language plpgsql as $$begin return CurrVal('s'); end$$",
            "do $$begin perform lastval(); end$$", "do language plpgsql 'begin perform currval(''s''); end'",
        ]
    )
    func definesWhatAsksSequence(_ sql: String) { #expect(traits(sql) == .asksSequence) }

    @Test(
        "What makes, drops or alters a database is noticed",
        arguments: [
            "create database d", "CREATE DATABASE d template e", "drop database d", "drop database if exists d",
            "alter database d rename to e", "alter database d set a = 1",
        ]
    )
    func changesDatabases(_ sql: String) { #expect(traits(sql) == .changesDatabases) }

    @Test(
        "What not even DISCARD ALL takes back is noticed",
        arguments: [
            "load 'x'", "LOAD '$libdir/x'", "set seed to 0.5", "set seed = 0.5", "select setseed(0.5)",
            "select pg_catalog.setseed(0)", "begin; load 'x'; commit",
        ]
    )
    func cannotBeDiscarded(_ sql: String) { #expect(traits(sql) == .cannotBeDiscarded) }

    @Test(
        "What may take from a sequence is noticed",
        arguments: [
            "select nextval('s')", "insert into t values (1)", "insert into t values (nextval('s'))", "execute a",
            "select audit()",
        ]
    )
    func mayTakeFromSequence(_ sql: String) {
        #expect(Classification.of(sql, functions: catalog).traits.contains(.mayTakeFromSequence))
    }

    @Test(
        "Reads, settings and transactions take nothing from a sequence",
        arguments: ["select 1", "select currval('s')", "set a = 1", "begin", "begin; select 1; commit", "listen a"]
    )
    func takesNothing(_ sql: String) {
        #expect(!Classification.of(sql, functions: catalog).traits.contains(.mayTakeFromSequence))
    }

    @Test(
        "Everything else has none",
        arguments: [
            "", "select 1", "insert into t values (nextval('s'))", "prepare transaction 'x'", "commit prepared 'x'",
            "create table database (a int)", "drop table database", "select 'deallocate a'", "select 1 -- lastval()",
            "set a = 1", "discard all", "deallocate all", "DEALLOCATE PREPARE ALL", "select execute, load from t",
            "create schema s", "create table prepare ()",
            "select \"seed\" from t", "alter table t add a int", "create table t (currval int, lastval int)",
            "select 'lastval()'", "create function f() returns int language sql as 'select 1'",
        ]
    )
    func none(_ sql: String) { #expect(traits(sql) == []) }

    @Test("Those of all statements count, and those of both readings of a string")
    func union() {
        let all: StatementTraits = [.asksSequence, .namesStatements, .changesDatabases]
        #expect(traits("select lastval(); execute a; drop database d") == all)
        #expect(traits("select '\\'; execute a; --'").contains(.namesStatements))
        #expect(traits("select '\\', ' ; execute a; --'").contains(.namesStatements))
    }

    /// But for `mayTakeFromSequence`, which comes with most.
    @Test(
        "What tells the time of its transaction is noticed",
        arguments: [
            "select now()", "select pg_catalog.NOW ()", "select transaction_timestamp()", "select age(a) from t",
            "select current_date", "select CURRENT_TIMESTAMP", "select current_timestamp(3)", "select current_time(1)",
            "select localtime", "select localtimestamp(0)", "select a from t where b < now() - interval '1 day'",
        ]
    )
    func tellsTransactionTime(_ sql: String) { #expect(traits(sql) == .tellsTransactionTime) }

    @Test(
        "What tells another time, or none, is not",
        arguments: ["select clock_timestamp()", "select current_user", "select a.age from a"]
    )
    func tellsAnotherTime(_ sql: String) { #expect(traits(sql) == .none) }

    private func traits(_ sql: String) -> StatementTraits {
        Classification.of(sql, functions: catalog).traits.subtracting(.mayTakeFromSequence)
    }
}
