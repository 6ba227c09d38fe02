"""What a shared server connection does to messages, and who gets it when.

As pooling.py: for an endpoint whose pool has one server connection per node, database and user; --direct tests the tests.

Covered: statements of the protocol with the same name in several clients, in several nodes, many of them, changed by DDL;
DEALLOCATE and DISCARD; unnamed statements and portals; Flush; pipelines that fail; clients that vanish at every step;
cancelling, early, late and by strangers; that there is one connection; queues, their order, fairness, and the time limit
of waiting; databases that are dropped, renamed or copied when their last client has gone.
"""

import contextlib
import os
import random
import threading
import time
import unittest

from twins import DIRECT, PLAIN, THROUGH, TwinsTestCase  # first: it decides where the endpoint is

import psycopg

from cancelling import send_cancel
from differential import (
    COPY_DONE, FLUSH, SYNC, Conversation, bind, close_portal, close_statement, copy_data, describe_portal,
    describe_statement, difference, execute, once, parse, say)
from endpoint import PORT, PRIMARY, connect, direct, eventually, main, replayed, value
from wire import TERMINATE, message, query, rows, startup

ABOUT_A_POOL = unittest.skipIf(DIRECT, "says something about a pool only")
# Of the primary, whoever asks, and without ending up on a standby.
PROCESS = "BEGIN; SELECT pg_backend_pid(); COMMIT"
ALIVE = say(query("BEGIN; SELECT count(*) FROM kept; COMMIT"))


class Pair:
    """One client on each side that speaks by messages."""

    def __init__(self, case):
        self.case = case
        self.through = Conversation(PORT).log_in(database=THROUGH)
        self.plain = Conversation(PRIMARY).log_in(database=PLAIN)

    def say(self, *messages, **how):
        exchange = say(*messages, **how)
        expected, found = self.plain.exchange(exchange), self.through.exchange(exchange)
        problem = difference([exchange], [expected], [found])
        if problem:
            self.case.fail(problem)

    def run(self, name, *parameters):
        self.say(bind("", name, *parameters) + describe_portal("") + execute() + SYNC)

    def send(self, data):
        for side in (self.plain, self.through):
            side.send(data)

    def vanish(self):
        for side in (self.plain, self.through):
            side.reset()

    def close(self):
        for side in (self.plain, self.through):
            with contextlib.suppress(OSError):
                side.send(TERMINATE)
            side.close()


class ProtocolTestCase(TwinsTestCase):
    def pair(self):
        pair = Pair(self)
        self.clients.append(pair)
        return pair


class Statements(ProtocolTestCase):
    def test_the_same_name_for_different_statements(self):
        pairs = [self.pair() for _ in range(4)]
        for number, pair in enumerate(pairs):
            pair.say(parse("s", f"SELECT {number} AS column_{number}, $1::int") + describe_statement("s") + SYNC)
        for _ in range(4):
            for pair in pairs:
                pair.run("s", b"7")
                pair.say(describe_statement("s") + SYNC)
        # One closes its own.
        pairs[1].say(close_statement("s") + SYNC)
        for pair in pairs:
            pair.run("s", b"8")
        pairs[1].say(parse("s", "SELECT 'new'") + SYNC)
        for pair in (*pairs, self.pair()):
            pair.run("s", b"9")

    def test_different_names_for_the_same_statement(self):
        a, b = self.pair(), self.pair()
        for name in ("one", "two", "three"):
            for pair in (a, b):
                pair.say(parse(name, "SELECT n FROM kept WHERE n = $1") + SYNC)
        a.say(close_statement("one") + SYNC)
        for _ in range(3):
            for name in ("one", "two", "three"):
                for pair in (a, b):
                    pair.run(name, b"3")

    def test_a_name_that_is_taken(self):
        a, b = self.pair(), self.pair()
        for pair in (a, b, a, b):
            pair.say(parse("s", "SELECT 1") + SYNC)
            pair.run("s")
        a.say(parse("s", "SELECT 2") + bind("", "s") + execute() + SYNC)
        a.run("s")

    def test_unnamed_statements_are_ones_own(self):
        a, b, c = (self.pair() for _ in range(3))
        a.say(parse("", "SELECT 'a', $1::text") + SYNC)
        b.say(parse("", "SELECT 'b', $1::int") + SYNC)
        for _ in range(5):
            a.run("", b"1")
            b.run("", b"2")
            c.run("", b"3")
        # A simple query takes away the unnamed statement of its own client only.
        a.say(query("SELECT 1"))
        a.run("", b"1")
        b.run("", b"2")
        b.say(close_statement("") + SYNC)
        b.run("", b"2")

    def test_types_of_parameters_belong_to_the_statement(self):
        a, b = self.pair(), self.pair()
        with_type = message(b"P", b"s\0SELECT $1\0" + b"\0\1" + (23).to_bytes(4, "big"))
        for _ in range(2):
            a.say(with_type + describe_statement("s") + SYNC)
            b.say(parse("s", "SELECT $1") + describe_statement("s") + SYNC)
            a.run("s", b"12")
            b.run("s", b"twelve")
            a.say(close_statement("s") + SYNC)
            b.say(close_statement("s") + SYNC)

    def test_settings_belong_to_the_statement(self):
        """What a name means is decided when the statement is prepared, by its own client's settings."""
        a, b = self.client(), self.client()
        for client in (a, b):
            client.do("CREATE TABLE IF NOT EXISTS elsewhere.place AS SELECT 'elsewhere' AS place",
                      "CREATE TABLE IF NOT EXISTS public.place AS SELECT 'public' AS place")
        if not DIRECT:
            replayed()
        a.do("SET search_path = elsewhere")
        for _ in range(4):
            for client in (a, b):
                client.do("SELECT * FROM place", prepare=True)
        b.do("SET search_path = elsewhere")
        a.do("SET search_path = public")
        for _ in range(4):
            for client in (a, b):
                client.do("SELECT * FROM place", prepare=True)

    def test_more_than_anybody_keeps(self):
        """Statements that were put away to make room are still there for their clients."""
        pairs = [self.pair() for _ in range(3)]
        for number, pair in enumerate(pairs):
            pair.say(*(parse(f"s{n}", f"SELECT {n}, {number if n % 2 else 0}") for n in range(400)), SYNC)
        generator = random.Random(5)
        for _ in range(300):
            generator.choice(pairs).run(f"s{generator.randrange(400)}")
        # In one pipeline more than fit.
        for pair in pairs:
            pair.say(*(bind("", f"s{n}") + execute() for n in range(400)), SYNC)
            pair.say(*(bind("", f"s{n}") + execute() + SYNC for n in range(400)), count=400)

    def test_long_texts(self):
        a, b = self.pair(), self.pair()
        # A longer one is known to the one connection only, which its client then keeps.
        for length in (8_000, 30_000, 65_000):
            for pair, letter in ((a, "a"), (b, "b")):
                pair.say(parse("long", f"SELECT length('{letter * length}'), left($1, 3)") + SYNC)
            for pair in (a, b, a):
                pair.run("long", b"parameter" * (length // 9))
                pair.say(close_statement("long") + SYNC)
                pair.run("long", b"gone")

    def test_parse_here_and_bind_there(self):
        """Prepared outside a transaction, executed within one, and the other way round."""
        a, b = self.pair(), self.pair()
        a.say(parse("s", "SELECT count(*) FROM kept WHERE n > $1") + SYNC)
        for _ in range(3):
            a.run("s", b"3")
            a.say(query("BEGIN"))
            a.run("s", b"4")
            a.say(parse("t", "SELECT 't', $1::int") + SYNC)
            a.run("t", b"1")
            a.say(query("ROLLBACK"))
            b.run("t", b"1")
            for _ in range(5):
                a.run("t", b"2")
                a.run("s", b"5")
            a.say(close_statement("t") + SYNC)

    def test_prepared_by_a_statement_that_fails(self):
        a, b = self.pair(), self.pair()
        for pair in (a, b):
            pair.say(parse("s", "SELEC") + SYNC)
            pair.run("s")
            pair.say(parse("s", "SELECT * FROM not_yet") + bind("", "s") + execute() + SYNC)
        a.say(query("CREATE TABLE IF NOT EXISTS not_yet AS SELECT 1 AS n"))
        for pair in (a, b):
            pair.say(query("BEGIN"), parse("s", "SELECT * FROM not_yet") + SYNC, query("COMMIT"), count=3)
            pair.say(query("BEGIN"))
            pair.run("s")
            pair.say(query("COMMIT"))
        a.say(query("DROP TABLE not_yet"))

    def test_deallocate_and_discard(self):
        for statement in ("DEALLOCATE s", "DEALLOCATE ALL", "DISCARD ALL", "DEALLOCATE PREPARE ALL", 'DEALLOCATE "s"'):
            with self.subTest(statement):
                a, b = self.pair(), self.pair()
                for pair in (a, b):
                    pair.say(parse("s", "SELECT $1::int") + parse("t", "SELECT 't'") + SYNC)
                    pair.run("s", b"1")
                a.say(query(statement))
                for pair in (a, b, a, b):
                    pair.run("s", b"1")
                    pair.run("t")
                b.say(once(statement) + SYNC)
                b.run("s", b"1")
                a.say(parse("s", "SELECT $1::text") + SYNC)
                for pair in (a, b):
                    pair.run("s", b"2")
                a.close(), b.close()

    def test_discard_plans(self):
        a, b = self.pair(), self.pair()
        for pair in (a, b):
            pair.say(parse("s", "SELECT 1") + SYNC)
        a.say(query("DISCARD PLANS"))
        for pair in (a, b, a):
            pair.run("s")

    def test_names_of_both_kinds_are_the_same_names(self):
        """A statement of the protocol can be executed by EXECUTE, and one of PREPARE by messages."""
        a = self.pair()
        a.say(parse("s", "SELECT 1, $1::int") + SYNC)
        a.say(query("EXECUTE s(3)"))
        a.say(query("PREPARE q AS SELECT 42"))
        a.run("q")
        a.say(close_statement("q") + SYNC)
        a.say(query("EXECUTE q"))
        a.close()
        b = self.pair()
        b.say(query("EXECUTE s(3)"))
        b.say(query("EXECUTE q"))
        b.say(query("BEGIN; SELECT count(*) FROM pg_prepared_statements; COMMIT"))

    def test_ddl_changes_what_a_statement_gives(self):
        a, b = self.pair(), self.pair()
        a.say(query("DROP TABLE IF EXISTS changing; CREATE TABLE changing AS SELECT 1 AS n"))
        for pair in (a, b):
            pair.say(query("BEGIN"), parse("s", "SELECT * FROM changing") + SYNC, query("COMMIT"), count=3)
        for change in ("ADD COLUMN m int", "ALTER n TYPE text", "DROP COLUMN m"):
            a.say(query(f"ALTER TABLE changing {change}"))
            for pair in (a, b):
                pair.say(query("BEGIN"))
                pair.run("s")
                pair.say(query("ROLLBACK"))
                # As drivers do then.
                pair.say(close_statement("s") + parse("s", "SELECT * FROM changing") + SYNC)
                pair.say(query("BEGIN"))
                pair.run("s")
                pair.say(query("COMMIT"))
        a.say(query("DROP TABLE changing"))


class Messages(ProtocolTestCase):
    def test_portals_across_flush(self):
        a, b = self.pair(), self.pair()
        a.say(parse("", "SELECT n FROM kept ORDER BY n") + bind("p", "") + execute("p", 2) + FLUSH, until=b"s")
        a.say(execute("p", 3) + FLUSH, until=b"s")
        a.say(close_portal("p") + FLUSH, until=b"3")
        a.say(execute("p", 3) + SYNC)
        b.say(execute("p", 3) + SYNC)
        a.say(query("BEGIN"))
        a.say(parse("", "SELECT n FROM kept ORDER BY n") + bind("p", "") + execute("p", 2) + SYNC)
        a.say(execute("p", 3) + SYNC)
        a.say(query("COMMIT"))
        for pair in (a, b):
            pair.say(execute("p", 3) + SYNC)

    def test_an_error_needs_no_flush(self):
        """PostgreSQL sends one at once, and whoever sends without Sync or Flush may wait for it (psycopg's tests do)."""
        a, b = self.pair(), self.pair()
        for before in ("BEGIN", "SET work_mem = '5MB'", "SELECT 1"):
            a.say(query(before))
            a.say(once("SELECT 1") + once("SELECT 1/0") + once("SELECT 2"), until=b"E")
            a.say(SYNC)
            a.say(query("ROLLBACK"))
            b.say(once("SELECT count(*) FROM kept") + SYNC)

    def test_pipelines_that_fail_in_the_middle(self):
        a, b = self.pair(), self.pair()
        for failing in ("SELECT 1/0", "SELEC", "SELECT * FROM there_is_none", "SELECT 1/n FROM generate_series(-3, 3) n"):
            for pair in (a, b):
                pair.say(once("SET work_mem = '5MB'") + once(failing) + once("SELECT 2") + SYNC,
                         once("SHOW work_mem") + SYNC, once("INSERT INTO kept VALUES (99) RETURNING n") + once(failing) + SYNC,
                         once("SELECT count(*) FROM kept WHERE n = 99") + SYNC, count=4)
            a.say(parse("s", failing) + bind("", "s") + execute() + parse("t", "SELECT 't'") + SYNC, bind("", "t") + execute() + SYNC,
                  count=2)
            b.run("t")
            for pair in (a, b):
                pair.say(close_statement("s") + close_statement("t") + SYNC)
                pair.say(query("BEGIN"), once(failing) + SYNC, once("SELECT 1") + SYNC, query("COMMIT"), count=4)
                pair.say(query("SHOW work_mem"))

    def test_copies(self):
        a, b = self.pair(), self.pair()
        copy = query("COPY kept FROM STDIN")
        for pair in (a, b):
            pair.say(query("BEGIN"))
            pair.say(copy, copy_data(b"71\n") + COPY_DONE)
            pair.say(query("ROLLBACK"))
            pair.say(copy, copy_data(b"no number\n") * 100 + COPY_DONE)
            pair.say(query("COPY there_is_none FROM STDIN"), copy_data(b"1\n"), COPY_DONE)
            pair.say(copy, message(b"f", b"no\0"))
            pair.say(query("COPY (SELECT generate_series(1, 5000)) TO STDOUT"))
            pair.say(query("COPY (SELECT 1/(n - 3000) FROM generate_series(1, 5000) n) TO STDOUT"))
            pair.say(parse("c", "COPY kept FROM STDIN") + bind("", "c") + execute() + FLUSH, until=b"G")
            pair.say(copy_data(b"no number\n") + COPY_DONE + SYNC)
            pair.say(query("BEGIN; SELECT count(*) FROM kept; COMMIT"))

    # What a client has said when it vanishes, and up to which answer it was there.
    VANISHING = {
        "logged in": [],
        "in a transaction": [say(query("BEGIN")), say(query("INSERT INTO kept VALUES (66)"))],
        "in a transaction with locks": [say(query("BEGIN")), say(query("LOCK TABLE kept; SELECT pg_advisory_xact_lock(66)"))],
        "in a failed transaction": [say(query("BEGIN; INSERT INTO kept VALUES (66); SELECT 1/0"))],
        "in a transaction with settings": [say(query("BEGIN")), say(query("SET work_mem = '66MB'; SET LOCAL DateStyle = SQL"))],
        "with settings": [say(query("SET work_mem = '66MB'")), say(query("SET ROLE pooling_other"))],
        "with an advisory lock": [say(query("SELECT pg_advisory_lock(66)"))],
        "with a temporary table": [say(query("CREATE TEMP TABLE kept AS SELECT 66 AS n"))],
        "before an answer": [say(query("INSERT INTO kept SELECT 66 / length(pg_sleep(0.5)::text)"), is_ignored=True, count=0)],
        "before the answer of a read": [say(query("SELECT count(*) FROM kept, pg_sleep(0.5)"), count=0)],
        "in an answer": [say(query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"), until=b"T")],
        "in an answer, in a transaction": [
            say(query("BEGIN")), say(query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"), until=b"T")],
        "in COPY in": [say(query("COPY kept FROM STDIN"), until=b"G"), say(copy_data(b"66\n"), count=0)],
        "in COPY in, in a message": [say(query("COPY kept FROM STDIN"), until=b"G"), say(copy_data(b"66\n" * 100)[:50], count=0)],
        "in COPY in, in a transaction": [
            say(query("BEGIN")), say(query("COPY kept FROM STDIN"), until=b"G"), say(copy_data(b"66\n"), count=0)],
        "in COPY out": [say(query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT"), until=b"H")],
        "in a header": [say(query("BEGIN")), say(query("SELECT 66")[:3], count=0)],
        "in a message": [say(query("INSERT INTO kept VALUES (66)")[:20], count=0)],
        "in a large message": [say(query("INSERT INTO kept VALUES (66) --" + "x" * 200_000)[:150_000], count=0)],
        "behind Parse": [say(parse("s", "INSERT INTO kept VALUES (66)"), count=0)],
        "behind Execute": [say(once("INSERT INTO kept VALUES (66)"), count=0)],
        "behind Flush": [say(once("INSERT INTO kept VALUES (66)") + FLUSH, until=b"C")],
        "behind Flush, with a portal": [
            say(parse("", "SELECT n FROM kept") + bind("p", "") + execute("p", 2) + FLUSH, until=b"s")],
        "behind Flush, failed": [say(once("SELECT 1/0") + FLUSH, until=b"E")],
        "in a pipeline": [say(*(once("SELECT pg_sleep(0.01)") + SYNC for _ in range(20)), until=b"Z")],
        "behind nonsense": [say(b"\xff\0\0\0\4", count=0)],
    }

    def vanish(self, exchanges):
        for times in range(2):
            pair = Pair(self)
            for exchange in exchanges:
                self.assertEqual(pair.through.exchange(exchange), pair.plain.exchange(exchange))
            pair.vanish()
        # Who comes next finds a connection as good as new, and nothing that was not committed.
        witness = self.client()
        witness.do("BEGIN", "SET LOCAL lock_timeout = '60s'", "LOCK TABLE kept", "SELECT n FROM kept WHERE n > 20 ORDER BY 1",
                   "SELECT pg_try_advisory_xact_lock(66)", "SELECT current_user, current_setting('work_mem')", "COMMIT",
                   "SELECT count(*) FROM kept", "SHOW DateStyle", "BEGIN; SELECT count(*) FROM pg_prepared_statements; COMMIT")

    def test_clients_that_vanish_while_they_log_in(self):
        whole = startup(user="app", database=THROUGH)
        for data in (b"", whole[:3], whole[:-5], whole, whole + message(b"p", b"SCRAM-SHA-256\0")[:9]):
            for _ in range(10):
                conversation = Conversation()
                conversation.send(data)
                conversation.reset()
        self.client().do("SELECT 1")


def vanishing_test(exchanges):
    return lambda self: self.vanish(exchanges)


for name, exchanges in Messages.VANISHING.items():
    setattr(Messages, f"test_a_client_that_vanishes_{name.replace(' ', '_').replace(',', '')}", vanishing_test(exchanges))


class Cancelling(ProtocolTestCase):
    def through(self):
        conversation = Conversation().log_in(database=THROUGH)
        conversation.socket.settimeout(100)
        self.addCleanup(conversation.close)
        return conversation

    def sqlstate(self, conversation, statement):
        try:
            conversation.ask(statement)
        except RuntimeError as error:
            return error.args[0]["C"]
        return None

    def test_a_late_cancel_hits_nobody_else(self):
        """The connection that one's statement ran on runs another's when the request arrives."""
        a, b = self.through(), self.through()
        generator = random.Random(42)
        for _ in range(100):
            delay, length = generator.random() / 100, generator.random() / 100
            canceller = threading.Thread(target=lambda: (time.sleep(delay), send_cancel(*a.key)))
            mine = threading.Thread(target=lambda: self.sqlstate(a, f"DO $$BEGIN PERFORM pg_sleep({length}); END$$"))
            canceller.start(), mine.start()
            for number in range(10):
                self.assertIsNone(self.sqlstate(b, f"SELECT {number} FROM pg_sleep(0.001), nextval('numbers')"))
            canceller.join(), mine.join()

    def test_many_requests_for_one_statement(self):
        a, b = self.through(), self.through()
        outcome = []
        running = threading.Thread(target=lambda: outcome.append(self.sqlstate(a, "DO $$BEGIN PERFORM pg_sleep(600); END$$")))
        running.start()
        after = []
        waiting = threading.Thread(target=lambda: after.append(self.sqlstate(b, "DO $$BEGIN PERFORM pg_sleep(0.5); END$$")))
        waiting.start()
        while running.is_alive():
            requests = [threading.Thread(target=send_cancel, args=a.key) for _ in range(30)]
            for request in requests:
                request.start()
            for request in requests:
                request.join()
        waiting.join()
        self.assertEqual((outcome, after), (["57014"], [None]))

    @ABOUT_A_POOL
    def test_one_who_waits_is_cancelled(self):
        """Its statement has not begun anywhere, and never does."""
        holder, waiter = self.through(), self.through()
        holder.ask("BEGIN; LOCK TABLE kept")
        outcome = []
        waiting = threading.Thread(target=lambda: outcome.append(self.sqlstate(waiter, "INSERT INTO kept VALUES (77)")))
        waiting.start()
        deadline = time.monotonic() + 60
        while waiting.is_alive() and time.monotonic() < deadline:
            send_cancel(*waiter.key)
            waiting.join(0.05)
        is_left_waiting = waiting.is_alive()
        holder.ask("COMMIT")
        waiting.join()
        self.assertFalse(is_left_waiting, "a cancel request does not reach who waits for a connection")
        self.assertEqual(outcome, ["57014"])
        self.assertEqual(waiter.ask("BEGIN; SELECT count(*) FROM kept WHERE n = 77; COMMIT"), [[b"0"]])

    def test_in_a_transaction(self):
        a, b = self.through(), self.through()
        for _ in range(5):
            a.ask("BEGIN")
            outcome = []
            running = threading.Thread(target=lambda: outcome.append(self.sqlstate(a, "SELECT pg_sleep(600)")))
            running.start()
            while running.is_alive():
                send_cancel(*a.key)
                running.join(0.01)
            self.assertEqual(outcome, ["57014"])
            self.assertEqual(self.sqlstate(a, "SELECT 1"), "25P02")
            a.ask("ROLLBACK")
            self.assertIsNone(self.sqlstate(b, "SELECT nextval('numbers')"))


class Queues(ProtocolTestCase):
    CLIENTS = 30

    def connections(self, role="app", database=THROUGH):
        with direct() as superuser:
            return value(superuser, "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND datname = %s", role, database)

    @ABOUT_A_POOL
    def test_there_is_one_connection(self):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(dbname=THROUGH)) for _ in range(self.CLIENTS)]
            processes = set()
            for client in clients * 2:
                with client.transaction():
                    processes.add(value(client, "SELECT pg_backend_pid()"))
                self.assertLessEqual(self.connections(), 1)
        self.assertEqual(len(processes), 1)

    def test_all_are_served(self):
        """Much more than there are connections; nobody is forgotten, and nobody is preferred."""
        done, failures, when_one_had_done = [0] * self.CLIENTS, [], []
        rounds = 20
        # Whoever logs in late has not been kept waiting.
        everybody = threading.Barrier(self.CLIENTS, timeout=60)

        def work(number):
            try:
                with connect(dbname=THROUGH) as client:
                    everybody.wait()
                    for round in range(rounds):
                        with client.transaction():
                            self.assertEqual(value(client, "SELECT %s::int", round), round)
                            client.execute("UPDATE kept SET n = n WHERE n = %s", [number % 20 + 1])
                        done[number] += 1
                        if done[number] == rounds and not when_one_had_done:
                            when_one_had_done.extend(done)
            except Exception as error:  # noqa: BLE001
                failures.append(repr(error))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(self.CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertEqual(done, [rounds] * self.CLIENTS)
        if not DIRECT:
            # Whoever began later is behind; but they take turns.
            self.assertGreater(sorted(when_one_had_done)[self.CLIENTS // 2], rounds // 4, when_one_had_done)

    @ABOUT_A_POOL
    def test_first_come_first_served(self):
        with contextlib.ExitStack() as stack:
            holder, *waiters = (
                stack.enter_context(Conversation().log_in(database=THROUGH)) for _ in range(self.CLIENTS + 1))
            holder.ask("CREATE TABLE IF NOT EXISTS arrivals (at int, number serial); TRUNCATE arrivals")
            holder.ask("BEGIN; SELECT nextval('numbers')")
            for number, waiter in enumerate(waiters):
                waiter.send(query(f"INSERT INTO arrivals VALUES ({number})"))
                # So that they arrive in this order.
                time.sleep(0.01)
            holder.ask("COMMIT")
            for waiter in waiters:
                rows(waiter.until())
            answer = holder.ask("BEGIN; SELECT at FROM arrivals ORDER BY number; DROP TABLE arrivals; COMMIT")
        self.assertEqual([int(row[0]) for row in answer], list(range(self.CLIENTS)))

    def test_nobody_comes_between_two_statements_of_a_transaction(self):
        with connect(dbname=THROUGH) as a, connect(dbname=THROUGH) as b:
            with a.transaction():
                a.execute("INSERT INTO kept VALUES (88)")
                seen = []
                other = threading.Thread(target=lambda: seen.append(
                    b.execute("BEGIN; SELECT 1; COMMIT") and value(b, "SELECT count(*) FROM kept WHERE n = 88")))
                other.start()
                if not DIRECT:
                    other.join(0.5)
                    self.assertTrue(other.is_alive(), "there was a second connection")
                self.assertEqual(value(a, "SELECT count(*) FROM kept WHERE n = 88"), 1)
                a.execute("DELETE FROM kept WHERE n = 88")
            other.join()
            self.assertEqual(seen, [0])

    @unittest.skipUnless("SLIPSTREAM_QUERY_WAIT_TIMEOUT" in os.environ, "the endpoint has no short query_wait_timeout")
    def test_waiting_has_an_end(self):
        limit = float(os.environ["SLIPSTREAM_QUERY_WAIT_TIMEOUT"])
        with connect(dbname=THROUGH) as holder, connect(dbname=THROUGH) as waiter:
            with holder.transaction():
                holder.execute("LOCK TABLE kept IN ROW EXCLUSIVE MODE")
                begun = time.monotonic()
                with self.assertRaisesRegex(psycopg.Error, "query_wait_timeout"):
                    waiter.execute("INSERT INTO kept VALUES (77)")
                self.assertGreaterEqual(time.monotonic() - begun, limit * 0.9)
                self.assertEqual(value(holder, "SELECT 1"), 1)
            # As PgBouncer's, it ends the session; nobody else's, and nothing was executed.
            self.assertTrue(waiter.closed)
            self.assertEqual(value(holder, "SELECT count(*) FROM kept WHERE n = 77"), 0)

    def test_a_database_whose_last_client_has_gone(self):
        """As test runners do: they drop it, copy it and rename it at once."""
        server = {"host": "127.0.0.1", "user": "postgres", "dbname": "postgres"}
        with connect(**server) as superuser:
            for name in ("pooling_copy", "pooling_renamed", "pooling_made"):
                superuser.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            for round in range(3):
                with self.subTest(round):
                    superuser.execute("CREATE DATABASE pooling_made OWNER app")
                    with connect(dbname="pooling_made") as client:
                        client.execute("CREATE TABLE t AS SELECT %s::int AS n" % round)
                        self.assertEqual(value(client, "SELECT n FROM t"), round)
                        client.execute("SET work_mem = '5MB'")
                    superuser.execute("CREATE DATABASE pooling_copy TEMPLATE pooling_made OWNER app")
                    with connect(dbname="pooling_copy") as client:
                        self.assertEqual(value(client, "SELECT n FROM t"), round)
                        client.execute("LISTEN something")
                    with connect(dbname="pooling_made") as client:
                        client.execute("CREATE TEMP TABLE u AS SELECT 1")
                    superuser.execute("ALTER DATABASE pooling_made RENAME TO pooling_renamed")
                    with self.assertRaises(psycopg.OperationalError):
                        connect(dbname="pooling_made")
                    with connect(dbname="pooling_renamed") as client:
                        self.assertEqual(value(client, "SELECT n FROM t"), round)
                    superuser.execute("DROP DATABASE pooling_renamed")
                    superuser.execute("DROP DATABASE pooling_copy")

    def test_a_database_that_is_dropped_by_force(self):
        with connect(user="postgres", dbname="postgres") as superuser:
            superuser.execute("DROP DATABASE IF EXISTS pooling_forced WITH (FORCE)")
            superuser.execute("CREATE DATABASE pooling_forced OWNER app")
            client = connect(dbname="pooling_forced")
            client.execute("CREATE TABLE t (n int)")
            superuser.execute("DROP DATABASE pooling_forced WITH (FORCE)")
            with self.assertRaises(psycopg.OperationalError):
                for _ in range(3):
                    client.execute("INSERT INTO t VALUES (1)")
            client.close()

    def test_a_role_that_is_dropped(self):
        with connect(user="postgres") as superuser:
            superuser.execute("DROP ROLE IF EXISTS pooling_guest")
            for _ in range(2):
                superuser.execute("CREATE ROLE pooling_guest LOGIN PASSWORD 'guest'")

                def guest():
                    try:
                        return connect(user="pooling_guest", password="guest", passfile=os.devnull)
                    except psycopg.OperationalError:
                        return None

                with eventually("the role may log in", guest) as client:
                    self.assertEqual(value(client, "SELECT current_user"), "pooling_guest")
                superuser.execute("DROP ROLE pooling_guest")


if __name__ == "__main__":
    main()
