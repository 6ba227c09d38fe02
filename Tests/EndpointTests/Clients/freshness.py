"""A session never reads something older than what it wrote, and still reads from the standbys.

PAIRS says how many writes are each read at once, per situation; SLIPSTREAM_PAIRS raises it.
"""

import contextlib
import json
import os
import random
import subprocess
import threading
import time

from endpoint import (
    NODES,
    PRIMARY,
    SOCKET_DIRECTORY,
    EndpointTestCase,
    connect,
    direct,
    eventually,
    main,
    place,
    places,
    places_of_new_sessions,
    replayed,
    table,
    value,
)
from wire import Wire

PAIRS = int(os.environ.get("SLIPSTREAM_PAIRS", "400"))
STANDBYS = [name for name in NODES if name != "primary"]
SEED = int(os.environ.get("SLIPSTREAM_SEED", random.randrange(1 << 32)))


def on_standbys(*statements):
    for name in STANDBYS:
        with direct(name) as standby:
            for statement in statements:
                standby.execute(statement)


@contextlib.contextmanager
def as_usual():
    yield


@contextlib.contextmanager
def delayed():
    """What is committed is replayed 200 ms later."""
    on_standbys("ALTER SYSTEM SET recovery_min_apply_delay = '200ms'", "SELECT pg_reload_conf()")
    try:
        yield
    finally:
        on_standbys("ALTER SYSTEM RESET recovery_min_apply_delay", "SELECT pg_reload_conf()")


@contextlib.contextmanager
def paused_now_and_then():
    over = threading.Event()
    generator = random.Random(SEED)

    def work():
        with contextlib.ExitStack() as stack:
            standbys = [stack.enter_context(direct(name)) for name in STANDBYS]
            while not over.wait(generator.random() / 20):
                standby = generator.choice(standbys)
                standby.execute("SELECT pg_wal_replay_pause()")
                over.wait(generator.random() / 10)
                standby.execute("SELECT pg_wal_replay_resume()")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        on_standbys("SELECT pg_wal_replay_resume()")


@contextlib.contextmanager
def without_waiting_for_the_disk():
    with direct() as primary:
        primary.execute("ALTER ROLE app SET synchronous_commit = off")
    try:
        yield
    finally:
        with direct() as primary:
            primary.execute("ALTER ROLE app RESET synchronous_commit")


@contextlib.contextmanager
def paused():
    on_standbys("SELECT pg_wal_replay_pause()")
    try:
        yield
    finally:
        on_standbys("SELECT pg_wal_replay_resume()")


@contextlib.contextmanager
def database(name):
    with direct() as superuser:
        superuser.execute(f"CREATE DATABASE {name} OWNER app")
        try:
            yield name
        finally:
            superuser.execute(f"DROP DATABASE {name} WITH (FORCE)")


SITUATIONS = [as_usual, delayed, paused_now_and_then, without_waiting_for_the_disk]


class Session(EndpointTestCase):
    """Each read is of the row just written."""

    def assert_never_stale(self, situation, ask, start=0):
        """`ask` writes a number, and returns what it reads then."""
        stale = sum(ask(number) != number for number in range(start, start + PAIRS))
        self.assertEqual(stale, 0, f"{situation.__name__}, seed {SEED}: stale reads of {PAIRS}")

    def test_a_row_is_read_as_it_was_written(self):
        for situation in SITUATIONS:
            with self.subTest(situation.__name__), table("n int") as t:
                with direct(user="app") as setup:
                    setup.execute(f"INSERT INTO {t} VALUES (-1)")
                replayed()
                with situation(), connect() as session, Wire() as wire:
                    wire.log_in()

                    def extended(number):
                        session.execute(f"UPDATE {t} SET n = %s", [number])
                        return value(session, f"SELECT n FROM {t}")

                    def read():
                        ((found,),) = wire.ask(f"SELECT n FROM {t}")
                        return int(found)

                    def simple(number):
                        wire.ask(f"UPDATE {t} SET n = {number}")
                        return read()

                    def later(number):
                        """When a standby may have it, or not quite."""
                        wire.ask(f"UPDATE {t} SET n = {number}")
                        time.sleep(random.random() / 50)
                        return read()

                    def in_a_transaction(number):
                        wire.ask("BEGIN")
                        wire.ask(f"UPDATE {t} SET n = {number}")
                        wire.ask("COMMIT")
                        return read()

                    for step, ask in enumerate([extended, simple, later, in_a_transaction]):
                        self.assert_never_stale(situation, ask, start=step * PAIRS)

    def test_what_was_read_is_never_taken_back(self):
        """Others count on and on; who reads never sees the count go back, wherever he reads it."""
        for situation in SITUATIONS:
            with self.subTest(situation.__name__, seed=SEED), table("n int") as t, contextlib.ExitStack() as stack:
                counters = [stack.enter_context(connect()) for _ in range(3)]
                readers = [stack.enter_context(connect()) for _ in range(3)]
                counters[0].execute(f"INSERT INTO {t} VALUES (0)")
                replayed()
                over = threading.Event()

                def count(session):
                    while not over.is_set():
                        session.execute(f"UPDATE {t} SET n = n + 1")

                threads = [threading.Thread(target=count, args=[session]) for session in counters]
                with situation():
                    for thread in threads:
                        thread.start()
                    try:
                        seen = [0] * len(readers)
                        for _ in range(PAIRS):
                            for index, reader in enumerate(readers):
                                found = value(reader, f"SELECT n FROM {t}")
                                self.assertGreaterEqual(found, seen[index])
                                seen[index] = found
                    finally:
                        over.set()
                        for thread in threads:
                            thread.join()

    def test_reads_go_to_the_standbys_again_as_soon_as_they_may(self):
        """At once, not after seconds: what is behind the replication is read there."""
        with table("n int") as t, connect() as session:
            fresh = 0
            for number in range(100):
                session.execute(f"INSERT INTO {t} VALUES (%s)", [number])
                time.sleep(0.05)
                fresh += sum(place(session) != PRIMARY for _ in range(5))
            # By weight, 400 of 500.
            self.assertGreater(fresh, 300)

    def test_who_has_not_written_is_not_held_up(self):
        with table("n int") as t, connect() as writer, paused():
            writer.execute(f"INSERT INTO {t} VALUES (1)")
            self.assertEqual(places(writer), {PRIMARY})
            self.assertEqual(places_of_new_sessions(), set(NODES.values()))

    def test_what_counts_as_a_write(self):
        with table("n int") as t, paused():
            for writes in (["BEGIN", f"INSERT INTO {t} VALUES (1)", "COMMIT"], [f"SELECT n FROM {t} FOR UPDATE"],
                           [f"WITH w AS (DELETE FROM {t} RETURNING n) SELECT * FROM w"],
                           ["DO 'BEGIN PERFORM 1; END'"], [f"ANALYZE {t}"]):
                with self.subTest(writes), connect() as session:
                    for statement in writes:
                        session.execute(statement)
                    self.assertEqual(places(session), {PRIMARY})
        replayed()
        with paused():
            for reads in (["SET work_mem = '5MB'"], ["BEGIN", "SELECT 1", "ROLLBACK"], ["SHOW work_mem"]):
                with self.subTest(reads):
                    self.assertEqual(places_of_new_sessions(30, *reads), set(NODES.values()))

    def test_who_has_read_stays_where_it_is_not_to_go_back(self):
        with table("n int") as t, connect() as writer, paused():
            writer.execute(f"INSERT INTO {t} VALUES (1)")
            kinds = set()
            for _ in range(20):
                with connect() as reader:
                    where = places(reader)
                    self.assertEqual(len(where), 1)
                    kinds |= where
            self.assertEqual(kinds, set(NODES.values()))

    def test_what_a_standby_refused_was_a_write(self):
        """A view over a function that writes looks like a table."""
        with table("n int") as t, connect() as session:
            with direct(user="app") as setup:
                setup.execute(f"""
                    CREATE FUNCTION hidden() RETURNS int LANGUAGE sql VOLATILE AS 'INSERT INTO {t} VALUES (1) RETURNING n';
                    CREATE VIEW hiding AS SELECT hidden()""")
            replayed()
            try:
                for number in range(20):
                    # Where the primary is asked in the first place, nobody knows: the limit in the decision note.
                    eventually("standbys have what it wrote", lambda: place(session) != PRIMARY)
                    session.execute("/* slipstream: standby */ SELECT * FROM hiding")
                    self.assertEqual(value(session, f"SELECT count(*) FROM {t}"), number + 1)
            finally:
                with direct(user="app") as setup:
                    setup.execute("DROP VIEW hiding; DROP FUNCTION hidden()")

    def test_a_write_that_no_text_shows_is_read_at_once(self):
        """On whichever node the read that hides it begins."""
        hiding = {
            "a view": "SELECT * FROM hiding", "a view over a view": "TABLE hiding_too", "row security": "SELECT n FROM secured",
            "a domain": "SELECT 'x'::checked", "a cast": "SELECT (1::boxed).n", "an aggregate": "SELECT total(1)",
            "a function said to be stable": "SELECT said_to_be_stable()",
        }
        # A database of its own: what is in it is read when somebody first connects.
        with database("hiding") as name, direct(user="app", dbname=name) as setup:
            setup.execute("""
                CREATE TABLE t (n int); INSERT INTO t VALUES (0);
                CREATE FUNCTION hidden() RETURNS int LANGUAGE sql VOLATILE AS 'UPDATE t SET n = n + 1 RETURNING n';
                CREATE FUNCTION hidden(a int, b int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT hidden()';
                CREATE FUNCTION said_to_be_stable() RETURNS int LANGUAGE sql STABLE AS 'SELECT hidden()';
                CREATE VIEW hiding AS SELECT hidden(); CREATE VIEW hiding_too AS SELECT * FROM hiding;
                CREATE TABLE secured (n int); INSERT INTO secured VALUES (1);
                ALTER TABLE secured ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
                CREATE POLICY hiding ON secured USING (hidden() > 0);
                CREATE DOMAIN checked AS text CHECK (hidden() > 0); CREATE AGGREGATE total(int) (SFUNC = hidden, STYPE = int);
                CREATE TYPE boxed AS (n int);
                CREATE FUNCTION to_boxed(int) RETURNS boxed LANGUAGE sql VOLATILE AS 'SELECT ROW(hidden())::boxed';
                CREATE CAST (int AS boxed) WITH FUNCTION to_boxed(int)""")
            replayed()
            with delayed():
                for what, statement in hiding.items():
                    with self.subTest(what):
                        for number in range(40):
                            # First where nobody refuses it.
                            comment = "/* slipstream: primary */ " if number < 20 else ""
                            with connect(dbname=name) as session:
                                session.execute(comment + statement)
                                self.assertEqual(value(session, "SELECT n FROM t"), value(setup, "SELECT n FROM t"))

    def test_an_idle_system_catches_up_at_the_boundary_of_a_page(self):
        """The log's insert position is then behind the next page's header, which is replayed with the next record only."""
        with table("n int, filler text") as t, connect() as session, direct() as primary:
            # Nobody else's records may follow.
            primary.execute("CHECKPOINT")
            for _ in range(4000):
                filler = "x" * random.randrange(100)
                session.execute(f"INSERT INTO {t} VALUES (1, %s)", [filler])
                if value(primary, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint % 8192 = 24"):
                    break
            else:
                self.fail("no record ended with its page")
            eventually("the standbys serve the writer", lambda: place(session) != PRIMARY, within=10)

    def test_a_standby_that_was_started_again_is_not_believed_to_be_where_it_was(self):
        with table("n int") as t, connect() as session:
            for number in range(10):
                session.execute(f"INSERT INTO {t} VALUES (%s)", [number])
                for name in STANDBYS:
                    with direct(name) as standby:
                        standby.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
                for _ in range(5):
                    self.assertEqual(value(session, f"SELECT count(*) FROM {t}"), number + 1)


class Global(EndpointTestCase):
    """`consistency: global`: whoever reads sees what anybody has written."""

    def test_another_session_sees_it_at_once(self):
        for situation in SITUATIONS:
            with self.subTest(situation.__name__), table("n int") as t, connect() as writer:
                writer.execute(f"INSERT INTO {t} VALUES (-1)")
                with situation(), contextlib.ExitStack() as stack:
                    readers = [stack.enter_context(connect()) for _ in range(8)]
                    for number in range(PAIRS):
                        writer.execute(f"UPDATE {t} SET n = %s", [number])
                        reader = random.choice(readers)
                        self.assertEqual(value(reader, f"SELECT n FROM {t}"), number, situation.__name__)
        with connect() as reader:
            eventually("reads spread", lambda: places(reader) == set(NODES.values()))


class Seconds(EndpointTestCase):
    """`consistency: seconds`, with a pin time of 2 seconds."""

    def test_reads_come_from_the_primary_for_some_seconds(self):
        with table("n int") as t, connect() as writer, connect() as other:
            writer.execute(f"INSERT INTO {t} VALUES (1)")
            wrote = time.monotonic()
            while time.monotonic() < wrote + 1.8:
                where = place(writer)
                # Asked and answered within the time, which began a moment before it was heard here.
                if time.monotonic() < wrote + 1.8:
                    self.assertEqual(where, PRIMARY)
            self.assertNotEqual(places(other), {PRIMARY})
            eventually("reads spread again", lambda: places(writer) == set(NODES.values()))


class Eventual(EndpointTestCase):
    """`consistency: eventual`: a write holds up nobody's reads, not even its own session's."""

    def test_reads_spread_after_a_write(self):
        with table("n int") as t, connect() as session, paused():
            session.execute(f"INSERT INTO {t} VALUES (1)")
            self.assertEqual(places(session), set(NODES.values()))


class MaxLag(EndpointTestCase):
    """`consistency: eventual`, so that nothing but `max_lag` keeps a read from the standby: 1 MB, 5 seconds."""

    def command(self, name, *arguments):
        """What `slipstream` says, which must go well."""
        command = [os.environ["SLIPSTREAM_PROGRAM"], name, "--dir", SOCKET_DIRECTORY, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def problem(self):
        """Why the standby serves no reads, if it serves none."""
        return json.loads(self.command("status", "--json"))["nodes"][1].get("lag_problem")

    def news(self):
        with open(f"{SOCKET_DIRECTORY}/slipstream.log") as log:
            return [line.split(": ", 1)[1] for line in log if "serves no reads" in line or "serves reads again" in line]

    def everybody_reads(self, session):
        eventually("reads go everywhere", lambda: places(session) == set(NODES.values()))

    def begin_on_a_standby(self, session):
        def begin():
            session.execute("BEGIN READ ONLY")
            if place(session) != PRIMARY:
                return True
            session.execute("ROLLBACK")

        eventually("a transaction begins on a standby", begin)

    def test_a_standby_that_is_far_behind_serves_no_reads_until_it_is_not(self):
        with table("n int, filler text") as t, connect() as session, connect() as inside:
            self.everybody_reads(session)
            old = len(self.news())
            self.begin_on_a_standby(inside)
            with paused():
                session.execute(f"INSERT INTO {t} SELECT n, repeat('x', 1000) FROM generate_series(1, 5000) n")
                eventually("reads leave the standby", lambda: places(session) == {PRIMARY})
                self.assertEqual(value(session, "/* slipstream: standby */ SELECT inet_server_port()"), PRIMARY)
                problem = eventually("the status says why", self.problem)
                self.assertRegex(problem, r"^lags \d+\.?\d* MB behind, more than max_lag 1 MB.*: serves no reads$")
                # Nothing is wrong with the node, nor with what runs there.
                status = self.command("status")
                self.assertRegex(status, "^cluster +healthy\n")
                self.assertRegex(status, r"\nstandby1: lags .* behind, more than max_lag 1 MB")
                self.assertTrue(self.command("route", "SELECT 1").startswith("primary 100 %: "))
                self.assertNotEqual(place(inside), PRIMARY)
                self.assertEqual(value(inside, f"SELECT count(*) FROM {t}"), 0)
                inside.execute("COMMIT")
                self.assertEqual(places(inside), {PRIMARY})
            self.everybody_reads(session)
            eventually("the status says nothing of it", lambda: self.problem() is None)
            left, returned = self.news()[old:]
            self.assertRegex(left, r"^standby1 \(standby\) lags .* behind, more than max_lag 1 MB.*: serves no reads\n$")
            self.assertEqual(returned, "standby1 (standby) has caught up: serves reads again\n")

    def test_a_standby_whose_data_is_old_serves_no_reads_until_it_is_not(self):
        with table("n int") as t, connect() as session:
            self.everybody_reads(session)
            with paused():
                session.execute(f"INSERT INTO {t} VALUES (1)")
                self.assertEqual(places(session), set(NODES.values()))
                eventually("reads leave the standby", lambda: places(session) == {PRIMARY})
                problem = eventually("the status says why", self.problem)
                self.assertRegex(problem, r"^lags \d+\.?\d* s behind, more than max_lag 5 s: serves no reads$")
            self.everybody_reads(session)

    def test_while_nobody_writes_nobody_lags(self):
        """The last transaction grows older than the limit, and what the standby has is all there is."""
        with table("n int"), connect() as session, direct("standby1") as standby:
            self.everybody_reads(session)
            while value(standby, "SELECT now() - pg_last_xact_replay_timestamp() < '8 s'"):
                self.assertEqual(places(session), set(NODES.values()))


if __name__ == "__main__":
    main()
