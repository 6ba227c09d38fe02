"""`transactions: deferred`: transactions that only read run on standbys, and nobody can tell but by the node that answers.

What PostgreSQL answers is what is right: conversations are said to a node, too, and compared.
SLIPSTREAM_SEED repeats the random ones, of which SLIPSTREAM_CONVERSATIONS says how many there are.
"""

import contextlib
import itertools
import os
import random
import signal
import subprocess
import threading

import psycopg
import sqlalchemy
from psycopg import errors
from sqlalchemy.orm import Session

from differential import (
    FLUSH,
    SYNC,
    DifferentialTestCase,
    bind,
    close_statement,
    describe_portal,
    describe_statement,
    execute,
    once,
    parse,
    say,
)
from endpoint import (
    NODES,
    PORT,
    PRIMARY,
    SOCKET_DIRECTORY,
    STANDBYS,
    EndpointTestCase,
    connect,
    direct,
    eventually,
    main,
    place,
    places,
    replayed,
    table,
    value,
)
from freshness import paused
from wire import query

ALL = set(NODES.values())
numbers = itertools.count()
SEED = int(os.environ.get("SLIPSTREAM_SEED") or random.randrange(1 << 32))
CONVERSATIONS = int(os.environ.get("SLIPSTREAM_CONVERSATIONS", "150"))


def session(**parameters):
    """In autocommit mode unless told otherwise, so that tests say BEGIN themselves."""
    return connect(**{"prepare_threshold": None, **parameters})


@contextlib.contextmanager
def on_standby(connection, begin="BEGIN"):
    """In a transaction that has read on a standby; how it ends is for the test to say."""
    def began():
        connection.execute(begin)
        # None has started so before: nothing is known of how it may go on.
        where = value(connection, f"SELECT inet_server_port() AS p{next(numbers)}")
        if where in STANDBYS:
            return where
        connection.execute("ROLLBACK")

    # Not at once, when the session has written.
    yield eventually("a transaction begins on a standby", began)


def isolation(connection):
    return value(connection, "SELECT current_setting('transaction_isolation')")


class Places(EndpointTestCase):
    def test_transactions_that_only_read_run_on_all_nodes(self):
        with session() as connection:
            for begin in ("BEGIN", "START TRANSACTION", "begin work;", "BEGIN READ WRITE",
                          "BEGIN ISOLATION LEVEL READ COMMITTED, NOT DEFERRABLE"):
                def seen():
                    found = set()
                    for end in ("COMMIT", "ROLLBACK", "END", "ABORT") * 10:
                        connection.execute(begin)
                        where = places(connection, 5)
                        self.assertEqual(len(where), 1, "a transaction is on one node")
                        connection.execute(end)
                        found |= where
                    return found

                # As soon as what others wrote before is known to be everywhere.
                eventually(f"{begin} runs everywhere", lambda: seen() == ALL)

    def test_psycopg_as_it_is_by_default(self):
        """It begins a transaction with the first statement of each."""
        with psycopg.connect(prepare_threshold=0) as connection:
            def seen():
                found = set()
                for n in range(30):
                    self.assertEqual(value(connection, "SELECT %s::int + 1 AS psycopg", n), n + 1)
                    found |= places(connection, 3)
                    connection.commit()
                return found

            eventually("all nodes are read", lambda: seen() == ALL)

    def test_sqlalchemy_sessions_that_only_read(self):
        engine = sqlalchemy.create_engine(f"postgresql+psycopg://app@127.0.0.1:{PORT}/app")
        with table("n int") as t:
            def seen():
                found = set()
                for _ in range(30):
                    with Session(engine) as orm:
                        read = sqlalchemy.text(f"SELECT inet_server_port() + count(*) FROM {t}")
                        where = {orm.scalar(read) for _ in range(3)}
                        self.assertEqual(len(where), 1)
                        found |= where
                return found

            eventually("all nodes are read", lambda: seen() == ALL)
            with Session(engine) as orm:
                for number in range(20):
                    self.assertEqual(orm.scalar(sqlalchemy.text(f"SELECT count(*) FROM {t}")), number)
                    orm.execute(sqlalchemy.text(f"INSERT INTO {t} VALUES (1)"))
                    self.assertEqual(orm.scalar(sqlalchemy.text(f"SELECT count(*) FROM {t}")), number + 1)
                    orm.commit()
        engine.dispose()

    def test_what_is_no_proven_read_moves_and_never_goes_back(self):
        with table("n int") as t:
            for statement in (
                    f"INSERT INTO {t} VALUES (2)", f"SELECT n FROM {t} FOR UPDATE", f"LOCK {t}", "SAVEPOINT a",
                    "SET LOCAL work_mem = '7MB'", "SET work_mem = '8MB'", f"DECLARE c CURSOR FOR SELECT n FROM {t}",
                    "SELECT pg_advisory_xact_lock(1)", "PREPARE prepared AS SELECT 1", "CREATE TEMP TABLE mine (n int)",
                    "SHOW transaction_read_only", "SHOW transaction_isolation", "SELECT txid_current()",
                    "SELECT pg_is_in_recovery()", "SELECT pg_backend_pid()", "SELECT now()", "SELECT current_timestamp(3)",
                    "SELECT localtime", "SELECT age(date '2000-01-01')", "SELECT current_date", "NOTIFY somebody",
                    "/* slipstream: primary */ SELECT 1", "SET TRANSACTION READ ONLY", "DO 'BEGIN PERFORM 1; END'"):
                with self.subTest(statement), session() as connection, on_standby(connection):
                    connection.execute(statement)
                    self.assertEqual(places(connection, 10), {PRIMARY})
                    connection.execute("ROLLBACK")

    def test_transactions_of_other_kinds_begin_on_the_primary(self):
        with session() as connection:
            for begin in ("BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE",
                          "BEGIN ISOLATION LEVEL READ UNCOMMITTED", "BEGIN DEFERRABLE", "/* slipstream: primary */ BEGIN"):
                for _ in range(5):
                    connection.execute(begin)
                    self.assertEqual(places(connection, 3), {PRIMARY}, begin)
                    connection.execute("COMMIT")
            # As without deferring.
            def seen():
                found = set()
                for _ in range(20):
                    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    found |= places(connection, 3)
                    connection.execute("COMMIT")
                return found

            eventually("all nodes are read", lambda: seen() == ALL)

    def test_sessions_with_another_isolation_level_begin_on_the_primary(self):
        def where(connection):
            seen = set()
            for _ in range(8):
                connection.execute("BEGIN")
                seen |= places(connection, 2)
                self.assertEqual(isolation(connection), "repeatable read")
                connection.execute("COMMIT")
            return seen

        for options in ("-c default_transaction_isolation=repeatable\\ read",
                        "--default-transaction-isolation=repeatable\\ read"):
            with self.subTest(options), session(options=options) as connection:
                self.assertEqual(where(connection), {PRIMARY})
        for statement in ("SET default_transaction_isolation = 'repeatable read'",
                          "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                          "SELECT set_config('default_transaction_isolation', 'repeatable read', false)"):
            with self.subTest(statement), session() as connection:
                connection.execute(statement)
                self.assertEqual(where(connection), {PRIMARY})

    def test_the_isolation_level_of_a_role_is_heeded(self):
        with direct() as past:
            past.execute("ALTER ROLE app SET default_transaction_isolation = 'repeatable read'")
            try:
                def known():
                    with session() as connection:
                        connection.execute("BEGIN")
                        return places(connection, 2) == {PRIMARY} and isolation(connection) == "repeatable read"

                # It is asked for every ten seconds, and old server connections have the old one.
                past.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
                eventually("it is known", lambda: all(known() for _ in range(10)))
            finally:
                past.execute("ALTER ROLE app RESET default_transaction_isolation")
            past.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        with session() as connection:
            def defers():
                try:
                    connection.execute("BEGIN")
                    return place(connection) != PRIMARY
                except errors.OperationalError:
                    return False
                finally:
                    connection.execute("ROLLBACK")

            eventually("transactions are deferred again", defers)

    def test_what_always_writes_begins_on_the_primary_in_the_end(self):
        with table("n int") as t, session() as connection:
            first = []
            for number in range(200):
                connection.execute("BEGIN")
                first.append(value(connection, f"SELECT inet_server_port() + 0 * count(*) FROM {t} WHERE n = {number}"))
                connection.execute(f"INSERT INTO {t} VALUES ({number})")
                connection.execute("COMMIT")
                replayed()
            # Four out of five would be on standbys; but for the first three and one in 64, all are on the primary.
            self.assertGreater(first.count(PRIMARY), 150)
            # What starts otherwise is none of that.
            self.assertNotEqual({place(connection) for _ in range(10)}, {PRIMARY})
            with on_standby(connection):
                connection.execute("COMMIT")


class Guarantees(EndpointTestCase):
    def test_a_session_reads_what_it_wrote(self):
        with table("n int") as t, session() as connection:
            for number in range(100):
                connection.execute("BEGIN")
                self.assertEqual(value(connection, f"SELECT count(*) FROM {t}"), number)
                connection.execute(f"INSERT INTO {t} VALUES (1)")
                self.assertEqual(value(connection, f"SELECT count(*) FROM {t}"), number + 1)
                connection.execute("COMMIT")
            with paused():
                connection.execute(f"INSERT INTO {t} VALUES (1)")
                for _ in range(10):
                    connection.execute("BEGIN")
                    self.assertEqual(value(connection, f"SELECT count(*) FROM {t}"), 101)
                    self.assertEqual(place(connection), PRIMARY)
                    connection.execute("COMMIT")

    def test_each_statement_sees_what_was_committed_before_it(self):
        """READ COMMITTED, and never less than the statement before."""
        with table("n int") as t, session() as reader, session() as writer:
            for number in range(1, 30):
                with on_standby(reader):
                    before = value(reader, f"SELECT count(*) FROM {t}")
                    writer.execute(f"INSERT INTO {t} VALUES (1)")
                    self.assertLessEqual(before, value(reader, f"SELECT count(*) FROM {t}"))
                    # On the primary at the latest.
                    reader.execute("SAVEPOINT a")
                    self.assertEqual(value(reader, f"SELECT count(*) FROM {t}"), number)
                    reader.execute("COMMIT")

    def test_a_write_in_it_is_rolled_back_with_it(self):
        with table("n int") as t, session() as connection:
            for end, expected in (("ROLLBACK", 0), ("COMMIT", 1)):
                with on_standby(connection):
                    connection.execute(f"INSERT INTO {t} VALUES (1)")
                    connection.execute(end)
                self.assertEqual(value(connection, f"SELECT count(*) FROM {t}"), expected)

    def test_the_time_of_a_transaction_is_one(self):
        with session() as connection:
            for _ in range(10):
                with on_standby(connection):
                    before = value(connection, "SELECT now()")
                    connection.execute("SAVEPOINT a")
                    self.assertEqual(value(connection, "SELECT now()"), before)
                    connection.execute("COMMIT")

    def test_a_setting_made_in_it_holds(self):
        with session() as connection:
            with on_standby(connection):
                connection.execute("SET work_mem = '7MB'")
                connection.execute("COMMIT")
            self.assertEqual({value(connection, "SHOW work_mem") for _ in range(20)}, {"7MB"})
            with on_standby(connection):
                self.assertEqual(value(connection, "SHOW work_mem"), "7MB")
                connection.execute("SET work_mem = '8MB'")
                connection.execute("ROLLBACK")
            self.assertEqual({value(connection, "SHOW work_mem") for _ in range(20)}, {"7MB"})


class Global(EndpointTestCase):
    """`consistency: global`: each statement sees what anybody has written."""

    def test_another_session_sees_it_within_a_transaction(self):
        with table("n int") as t, session() as writer, session() as reader:
            for number in range(200):
                reader.execute("BEGIN")
                self.assertEqual(value(reader, f"SELECT count(*) FROM {t}"), number)
                writer.execute(f"INSERT INTO {t} VALUES (1)")
                self.assertEqual(value(reader, f"SELECT count(*) FROM {t}"), number + 1)
                reader.execute("COMMIT")
                if number % 10 == 0:
                    replayed()

    def test_what_is_not_replayed_is_read_on_the_primary(self):
        with table("n int") as t, session() as writer, session() as reader:
            with on_standby(reader), paused():
                writer.execute(f"INSERT INTO {t} VALUES (1)")
                self.assertEqual(value(reader, f"SELECT count(*) FROM {t}"), 1)
                self.assertEqual(place(reader), PRIMARY)
                reader.execute("COMMIT")


class Errors(EndpointTestCase):
    def test_what_a_standby_refuses_runs_on_the_primary(self):
        with table("n int") as t, session() as connection:
            with direct(user="app") as setup:
                setup.execute(f"""
                    CREATE FUNCTION hidden() RETURNS int LANGUAGE sql VOLATILE AS 'INSERT INTO {t} VALUES (1) RETURNING n';
                    CREATE VIEW hiding AS SELECT hidden() AS n; CREATE UNLOGGED TABLE quick AS SELECT 42 AS n""")
            replayed()
            try:
                for number in range(10):
                    # So that it is not learned that these transactions write.
                    with on_standby(connection):
                        connection.execute("COMMIT")
                    with on_standby(connection):
                        self.assertEqual(value(connection, "SELECT n FROM quick"), 42)
                        self.assertEqual(value(connection, "SELECT n FROM hiding"), 1)
                        self.assertEqual(place(connection), PRIMARY)
                        connection.execute("COMMIT" if number % 2 else "ROLLBACK")
                self.assertEqual(value(connection, f"SELECT count(*) FROM {t}"), 5)
            finally:
                with direct(user="app") as setup:
                    setup.execute("DROP VIEW hiding; DROP FUNCTION hidden(); DROP TABLE quick")

    def test_an_error_fails_the_transaction(self):
        with table("n int") as t, session() as connection:
            for end in ("COMMIT", "ROLLBACK"):
                with on_standby(connection):
                    with self.assertRaises(errors.DivisionByZero):
                        connection.execute("SELECT 1/0")
                    for statement in ("SELECT 1", f"INSERT INTO {t} VALUES (1)", "SAVEPOINT a"):
                        with self.assertRaises(errors.InFailedSqlTransaction):
                            connection.execute(statement)
                    self.assertEqual(connection.execute(end).statusmessage, "ROLLBACK")
            self.assertEqual(value(connection, f"SELECT count(*) FROM {t}"), 0)

    def fails_behind_rows(self, connection):
        with self.assertRaises(errors.DivisionByZero):
            connection.execute("SELECT 1/(50000 - n) FROM generate_series(1, 100000) n")

    def test_an_error_behind_rows_fails_it_where_it_is(self):
        with table("n int") as t, session() as connection:
            for statements in (["SELECT 1"], [f"INSERT INTO {t} VALUES (1)", "SELECT 1"], ["SAVEPOINT a", "ROLLBACK TO a"],
                               [f"SELECT 1; INSERT INTO {t} VALUES (1)"], ["SELECT now()"], []):
                for end in ("COMMIT", "ROLLBACK"):
                    with on_standby(connection):
                        self.fails_behind_rows(connection)
                        for statement in statements:
                            with self.assertRaises((errors.InFailedSqlTransaction, errors.InvalidSavepointSpecification)):
                                connection.execute(statement)
                        self.assertEqual(connection.execute(end).statusmessage, "ROLLBACK")
            with on_standby(connection):
                self.fails_behind_rows(connection)
                # Which works on the primary only.
                connection.execute(f"ROLLBACK; INSERT INTO {t} VALUES (1)")
            self.assertEqual(value(connection, f"SELECT count(*) FROM {t}"), 1)

    def test_a_cancelled_read_fails_it(self):
        with session() as connection:
            with on_standby(connection):
                timer = threading.Timer(0.3, connection.cancel)
                timer.start()
                with self.assertRaises(errors.QueryCanceled):
                    connection.execute("SELECT pg_sleep(600)")
                timer.join()
                with self.assertRaises(errors.InFailedSqlTransaction):
                    connection.execute("SELECT 1")
                self.assertEqual(connection.execute("COMMIT").statusmessage, "ROLLBACK")

    def terminate(self, port):
        name = next(name for name in NODES if NODES[name] == port)
        with direct(name) as standby:
            standby.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")

    def test_a_standby_that_is_gone_between_two_statements(self):
        with table("n int") as t, session() as connection:
            for statement in ("SELECT inet_server_port()", f"INSERT INTO {t} VALUES (1) RETURNING inet_server_port()"):
                with on_standby(connection) as standby:
                    self.terminate(standby)
                    self.assertEqual(value(connection, statement), PRIMARY)
                    connection.execute("COMMIT")
            for end in ("COMMIT", "ROLLBACK"):
                with on_standby(connection) as standby:
                    self.terminate(standby)
                    self.assertEqual(connection.execute(end).statusmessage, end)
            with on_standby(connection) as standby:
                self.fails_behind_rows(connection)
                self.terminate(standby)
                for statement in ("SELECT 1", f"INSERT INTO {t} VALUES (1)"):
                    with self.assertRaises(errors.InFailedSqlTransaction):
                        connection.execute(statement)
                self.assertEqual(connection.execute("COMMIT").statusmessage, "ROLLBACK")
            self.assertEqual(value(connection, f"SELECT count(*) FROM {t}"), 1)

    def test_a_standby_that_is_gone_under_a_statement(self):
        with session() as connection:
            with on_standby(connection) as standby:
                timer = threading.Timer(0.3, self.terminate, [standby])
                timer.start()
                self.assertEqual(connection.execute("SELECT pg_sleep(1), inet_server_port()").fetchone()[1], PRIMARY)
                timer.join()
                self.assertEqual(place(connection), PRIMARY)
                connection.execute("COMMIT")

    def kill(self, port):
        """The whole server, without a word to anybody."""
        name = next(name for name in NODES if NODES[name] == port)
        with open(f"{SOCKET_DIRECTORY}/nodes/{name}/data/postmaster.pid") as file:
            postmaster = int(file.readline())
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(postmaster)], capture_output=True, text=True, check=True)
        for process in [postmaster, *map(int, children.stdout.split())]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def test_a_standby_that_is_killed(self):
        with table("n int") as t, session() as connection:
            for number, statement in enumerate(["SELECT inet_server_port()", f"INSERT INTO {t} VALUES (1) RETURNING inet_server_port()"]):
                with on_standby(connection) as standby:
                    self.kill(standby)
                    self.assertEqual(value(connection, statement), PRIMARY)
                    connection.execute("COMMIT")
                self.assertEqual(value(connection, f"SELECT count(*) FROM {t}"), number)
            with on_standby(connection) as standby:
                timer = threading.Timer(0.3, self.kill, [standby])
                timer.start()
                self.assertEqual(connection.execute("SELECT pg_sleep(1), inet_server_port()").fetchone()[1], PRIMARY)
                timer.join()
                connection.execute(f"INSERT INTO {t} VALUES (1)")
                connection.execute("COMMIT")
            self.assertEqual(value(connection, f"SELECT count(*) FROM {t}"), 2)
            eventually("every node gets reads", lambda: places(connection) == ALL, within=120)

    def test_a_client_that_goes_away_leaves_nothing(self):
        for _ in range(20):
            connection = session()
            with on_standby(connection):
                connection.close()
        for _ in range(20):
            connection = session()
            connection.execute("BEGIN")
            connection.close()
        for name in NODES:
            with direct(name) as past:
                eventually("no transaction is left", lambda: value(past, """SELECT count(*) FROM pg_stat_activity
                    WHERE usename = 'app' AND state LIKE 'idle in transaction%%'""") == 0)


ROWS = "SELECT n, s FROM kept WHERE n < 5 ORDER BY n"


class Transcripts(DifferentialTestCase):
    """Message by message what PostgreSQL says."""

    TIMES = 4

    def test_transactions_of_simple_queries(self):
        for statements in (
                ["BEGIN", "COMMIT"], ["BEGIN", "ROLLBACK"], ["START TRANSACTION", "END"], ["begin;", "abort work;"],
                ["BEGIN", "BEGIN", "COMMIT", "COMMIT"], ["COMMIT"], ["ROLLBACK"], ["BEGIN", "START TRANSACTION READ ONLY", "COMMIT"],
                ["BEGIN", "", "COMMIT"], ["BEGIN", ROWS, ROWS, "COMMIT"], ["BEGIN", ROWS, "COMMIT AND CHAIN", ROWS, "COMMIT"],
                ["BEGIN", ROWS, "ROLLBACK AND NO CHAIN", ROWS], ["BEGIN", "COMMIT AND CHAIN", ROWS, "ROLLBACK AND CHAIN", "END"],
                ["BEGIN", ROWS, "BEGIN", ROWS, "COMMIT"], ["BEGIN", ROWS, "INSERT INTO kept VALUES (70, 'd')", ROWS, "COMMIT", ROWS],
                ["BEGIN", ROWS, "INSERT INTO kept VALUES (70, 'd')", ROWS, "ROLLBACK", ROWS],
                ["BEGIN", ROWS, "SELEC", ROWS, "COMMIT", ROWS], ["BEGIN", "SELECT 1/0", "SELECT 1", "COMMIT"],
                ["BEGIN", ROWS, "SELECT 1; SELECT 1/0", "INSERT INTO kept VALUES (1)", "ROLLBACK", ROWS],
                ["BEGIN", ROWS, "SELECT 1; COMMIT", ROWS], ["BEGIN", ROWS, "COMMIT; SELECT 1", ROWS],
                ["BEGIN", ROWS, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "ROLLBACK"],
                ["BEGIN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", ROWS, "SHOW transaction_isolation", "COMMIT"],
                ["BEGIN", "SET TRANSACTION READ ONLY", ROWS, "INSERT INTO kept VALUES (1)", "COMMIT"],
                ["BEGIN", ROWS, "SHOW transaction_read_only", "SHOW transaction_isolation", "COMMIT"],
                ["BEGIN", ROWS, "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a", ROWS, "RELEASE a", "COMMIT"],
                ["BEGIN", ROWS, "DECLARE c CURSOR FOR SELECT n FROM kept ORDER BY n", "FETCH 3 FROM c", ROWS, "FETCH 2 FROM c", "COMMIT"],
                ["BEGIN", ROWS, "SET work_mem = '7MB'", "COMMIT", "SHOW work_mem"],
                ["BEGIN", ROWS, "SET timezone = 'Asia/Tokyo'", ROWS, "ROLLBACK", "SHOW timezone"],
                ["BEGIN", ROWS, "VACUUM kept", "ROLLBACK"], ["BEGIN", "VACUUM kept", "ROLLBACK"],
                ["BEGIN", ROWS, "PREPARE q1 AS SELECT 5", "EXECUTE q1", "COMMIT", "EXECUTE q1"],
                ["BEGIN", ROWS, "PREPARE TRANSACTION 'x'", "ROLLBACK"], ["BEGIN", ROWS, "SELECT nextval('kept_numbers')", "COMMIT"],
                ["BEGIN", ROWS, "COPY kept TO STDOUT", "COMMIT"], ["BEGIN", "COPY (SELECT 1) TO STDOUT", ROWS, "COMMIT"],
                ["BEGIN", ROWS, "SELECT * FROM kept_writing_view", ROWS, "COMMIT"], ["BEGIN", "DISCARD ALL", "ROLLBACK"],
                ["BEGIN", "SELECT repeat('x', 200000)", "SELECT repeat('x', 70000)", "COMMIT"],
                ["BEGIN", "SELECT 'begin", "COMMIT"], ["BEGIN x"], ["BEGIN ISOLATION LEVEL"], ["BEGIN, READ WRITE"],
                ["BEGIN READ WRITE,", "BEGIN READ WRITE READ WRITE", "COMMIT WORK x", "COMMIT"]):
            with self.subTest(statements):
                self.compare([say(query(statement)) for statement in statements])
                # All at once, too.
                self.compare([say(*map(query, statements), count=len(statements))])

    def test_transactions_of_extended_queries(self):
        def simply(statement):
            return say(once(statement), SYNC)

        named = say(parse("b", "BEGIN"), parse("c", "COMMIT"), parse("r", "SELECT $1::int"), describe_statement("b"), SYNC)

        def by_name(name, *parameters):
            return say(bind("", name, *parameters), describe_portal(""), execute(), SYNC)

        for exchanges in (
                [simply("BEGIN"), simply(ROWS), simply("COMMIT")], [simply("BEGIN"), simply("ROLLBACK")],
                [simply("START TRANSACTION"), simply(ROWS), simply("INSERT INTO kept VALUES (70, 'd')"), simply("COMMIT")],
                [named, by_name("b"), by_name("r", b"5"), by_name("c")], [named, by_name("b"), by_name("c"), by_name("r", b"6")],
                [named, by_name("b"), by_name("r", b"x"), by_name("r", b"1"), by_name("c")],
                # Shapes that no driver gives them.
                [say(parse("b", "BEGIN"), bind("", "b"), execute(), SYNC), simply(ROWS), simply("COMMIT")],
                [say(once("BEGIN"), once(ROWS), SYNC), simply("COMMIT")], [say(once("BEGIN"), once("COMMIT"), SYNC)],
                [say(parse("", "BEGIN"), bind("p", ""), execute("p"), SYNC), simply("COMMIT")],
                [say(parse("", "BEGIN"), bind("", "", b"1"), execute(), SYNC), simply("COMMIT")],
                [say(parse("", "BEGIN"), bind("", ""), SYNC), say(execute(), SYNC), simply("COMMIT")],
                [say(once("BEGIN"), FLUSH, SYNC), simply(ROWS), say(once("COMMIT"), FLUSH, SYNC)],
                [say(parse("", "BEGIN"), SYNC), say(bind("", ""), execute(), SYNC), say(bind("", ""), execute(), SYNC), simply("COMMIT")],
                [named, simply("BEGIN"), say(parse("", "SELEC"), bind("", "c"), execute(), SYNC), simply("COMMIT")],
                [named, simply("BEGIN"), say(parse("", ROWS), bind("", "c"), execute(), SYNC), simply(ROWS)],
                # The unnamed statement of a BEGIN that no server had is there all the same.
                [simply("BEGIN"), say(describe_statement(""), SYNC), simply("COMMIT")],
                [simply("BEGIN"), say(bind("", ""), execute(), SYNC), simply("COMMIT")],
                [say(parse("", ROWS), SYNC), say(query("BEGIN")), say(bind("", ""), execute(), SYNC), simply("COMMIT")],
                # Portals outlive their unit, and would not outlive a move.
                [simply("BEGIN"), say(parse("", ROWS), bind("p", ""), execute("p", 1), SYNC), simply("INSERT INTO kept VALUES (70, 'd')"),
                 say(execute("p", 1), SYNC), simply("COMMIT")],
                [simply("BEGIN"), say(parse("s", ROWS), bind("", "s"), execute("", 1), SYNC), say(parse("t", "DELETE FROM kept"), SYNC),
                 say(execute("", 1), SYNC), simply("COMMIT")],
                [simply("BEGIN"), say(parse("s", ROWS), bind("", "s"), SYNC), say(parse("t", "DELETE FROM kept"), SYNC),
                 say(execute(), SYNC), simply("COMMIT")],
                [simply("BEGIN"), simply(ROWS), say(parse("s", ROWS), bind("", "s"), execute("", 1), SYNC), say(execute("", 2), SYNC),
                 simply("COMMIT")],
                # What goes on behind a Flush.
                [simply("BEGIN"), say(parse("s", ROWS), describe_statement("s"), FLUSH, until=b"T"), say(bind("", "s"), execute(), SYNC),
                 simply("COMMIT")],
                [simply("BEGIN"), simply(ROWS), say(parse("s", ROWS), describe_statement("s"), FLUSH, until=b"T"),
                 say(bind("", "s"), execute(), SYNC), simply("COMMIT")],
                [simply("BEGIN"), say(parse("s", "SELECT"), parse("s", "SELECT"), SYNC), say(bind("", "s"), execute(), SYNC), simply("END")],
                [simply("BEGIN"), simply(ROWS), say(parse("s", ROWS), SYNC), simply("INSERT INTO kept VALUES (0, 'd')"),
                 say(bind("", "s"), execute(), close_statement("s"), SYNC), simply("ROLLBACK"), say(bind("", "s"), SYNC)],
                [simply("BEGIN"), say(SYNC), say(SYNC, SYNC, count=2), simply("COMMIT")],
                [simply("BEGIN"), simply("SELECT " + "1" * 70_000), simply("COMMIT")],
                [simply("BEGIN"), simply(ROWS), say(query("SELECT '" + "1" * 70_000 + "'")), simply("COMMIT")]):
            with self.subTest(exchanges[-3:]):
                self.compare(exchanges)

    # Nothing that hides a writer: what it wrote on the primary may be missing from the next transaction on a standby, a limit in
    # the decision note on freshness.
    READS = [
        "", "SELECT 1", ROWS, ROWS, "SELECT count(*) FROM kept", "SELECT max(n) FROM kept_view", "VALUES (1), (2)",
        "SELECT kept_same({number})", "SELECT 1; SELECT 2", "SELECT repeat('z', 70000)", "SHOW work_mem", "SELECT $1::int + 1",
        "EXPLAIN (COSTS off) SELECT 1", "COPY (SELECT 1) TO STDOUT",
    ]
    OTHERS = [
        "INSERT INTO kept VALUES ({number}, 'n')", "UPDATE kept SET s = s || 'y' WHERE n = {number}", "SELECT 1/0", "SELEC",
        "SELECT * FROM kept ORDER BY n, s FOR UPDATE", "SELECT kept_add({number})", "SAVEPOINT a", "ROLLBACK TO a",
        "SET work_mem = '{number}kB'", "SET LOCAL work_mem = '{number}kB'", "SHOW transaction_isolation", "DEALLOCATE ALL",
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT nextval('kept_numbers')", "PREPARE q1 AS SELECT 5", "EXECUTE q1",
        "DECLARE c1 CURSOR FOR SELECT n FROM generate_series(1, 9) n", "FETCH 2 FROM c1", "BEGIN", "BEGIN READ ONLY",
        "SELECT 1; COMMIT; SELECT 2", "COMMIT AND CHAIN", "SELECT now() IS NULL", "SELECT pg_is_in_recovery()",
        "SELECT 1/(5000 - n) FROM generate_series(1, 9000) n", "SELECT * FROM nowhere",
    ]

    def test_random_transactions(self):
        for seed in range(SEED, SEED + CONVERSATIONS):
            with self.subTest(seed=seed):
                self.compare(self.conversation(random.Random(seed)), times=1)

    def conversation(self, choose):
        exchanges = [say(parse("r", "SELECT $1::int"), parse("w", "INSERT INTO kept VALUES ($1, 'w')"), SYNC)]
        for _ in range(choose.randint(1, 6)):
            messages = [self.message(choose, choose.choice(["BEGIN", "BEGIN", "START TRANSACTION", "BEGIN READ WRITE"]))]
            for _ in range(choose.choice([0, 1, 2, 3, 5, 8])):
                statement = choose.choice(self.READS if choose.random() < 0.8 else self.OTHERS)
                messages.append(self.message(choose, statement.format(number=choose.randint(64, 999))))
                if choose.random() < 0.15:
                    messages.append(bind("", choose.choice("rw"), b"7") + execute() + SYNC)
            messages.append(self.message(choose, choose.choice(["COMMIT", "COMMIT", "ROLLBACK", "END", "ABORT"])))
            if choose.random() < 0.3:
                messages.append(self.message(choose, choose.choice(self.READS)))
            if choose.random() < 0.3:
                exchanges.append(say(*messages, count=len(messages)))
            else:
                exchanges += [say(message) for message in messages]
        return exchanges

    def message(self, choose, statement):
        """As a simple query, or by the extended protocol, where a statement is alone."""
        if choose.random() < 0.5 or ";" in statement:
            return query(statement)
        return once(statement, *([b"4"] if "$1" in statement else [])) + SYNC


if __name__ == "__main__":
    print(f"seed {SEED}", flush=True)
    main()
