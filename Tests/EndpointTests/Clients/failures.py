"""Servers that die, hang, or end a session: what clients see of it."""

import os
import signal
import subprocess
import threading
import time

import psycopg

from endpoint import (
    NODES,
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

ALL = set(NODES.values())


def postmaster(node):
    with open(f"{SOCKET_DIRECTORY}/nodes/{node}/data/postmaster.pid") as file:
        return int(file.readline())


def processes(node):
    """A server's processes, the postmaster first."""
    parent = postmaster(node)
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=True)
    return [parent] + [int(child) for child in children.stdout.split()]


def session(**parameters):
    return connect(prepare_threshold=None, **parameters)


def all_serve():
    """Every node gets reads."""
    def serve():
        with session() as connection:
            return places(connection) == ALL

    eventually("every node gets reads", serve, within=120)


class Failure(EndpointTestCase):
    def setUp(self):
        all_serve()

    def tearDown(self):
        all_serve()
        super().tearDown()


class AStandby(Failure):
    def test_is_killed_while_sessions_read(self):
        before = postmaster("standby1")
        readers = [session() for _ in range(8)]
        for reader in readers:
            self.assertEqual(places(reader), ALL)
        stop = threading.Event()
        failures, reads = [], [0] * len(readers)

        def read(number):
            try:
                while not stop.is_set():
                    # Some in flight are long.
                    statement = "SELECT inet_server_port() FROM pg_sleep(0.01)" if number % 2 else "SELECT inet_server_port()"
                    value(readers[number], statement)
                    reads[number] += 1
            except Exception as error:  # noqa: BLE001
                failures.append(repr(error))

        threads = [threading.Thread(target=read, args=(number,)) for number in range(len(readers))]
        for thread in threads:
            thread.start()
        for _ in range(3):
            victim = postmaster("standby1")
            os.kill(victim, signal.SIGKILL)

            def returned():
                try:
                    if postmaster("standby1") == victim:
                        return False
                    with direct("standby1") as standby:
                        return value(standby, "SELECT pg_is_in_recovery()")
                except (OSError, ValueError, psycopg.OperationalError):
                    return False

            eventually("the standby is back", returned)
            with session() as fresh:
                eventually("the standby gets reads", lambda: place(fresh) == NODES["standby1"])
        stop.set()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertTrue(all(reads))
        self.assertNotEqual(postmaster("standby1"), before)
        for reader in readers:
            self.assertEqual(value(reader, "SELECT 1"), 1)
            reader.close()

    def test_hangs(self):
        with session() as reader:
            self.assertEqual(places(reader), ALL)
            stopped = processes("standby2")
            try:
                for process in stopped:
                    os.kill(process, signal.SIGSTOP)
                slowest = 0.0
                for _ in range(300):
                    began = time.monotonic()
                    self.assertNotEqual(place(reader), NODES["standby2"])
                    slowest = max(slowest, time.monotonic() - began)
                # A probe gives up after a second; the rest is for a machine that is busy.
                self.assertLess(slowest, 15)
                with session() as fresh:
                    self.assertNotIn(NODES["standby2"], places(fresh))
            finally:
                for process in stopped:
                    os.kill(process, signal.SIGCONT)

    def test_ends_a_session(self):
        with session(application_name="victim") as reader:
            for _ in range(20):
                self.assertEqual(places(reader), ALL)
                for node in NODES:
                    with direct(node) as past:
                        past.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'")
                self.assertEqual(value(reader, "SELECT 1"), 1)
                eventually("every node gets reads", lambda: places(reader) == ALL)

    def test_ends_a_transaction(self):
        with session(application_name="victim") as reader:
            def on_a_standby():
                reader.execute("BEGIN READ ONLY")
                if place(reader) in STANDBYS:
                    return True
                reader.execute("COMMIT")
                return False

            eventually("a transaction runs on a standby", on_a_standby)
            for node in NODES:
                with direct(node) as past:
                    past.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'")

            with self.assertRaises(psycopg.OperationalError) as caught:
                # What was read before cannot be read again elsewhere.
                eventually("the loss is noticed", lambda: place(reader) is None)
            self.assertEqual(caught.exception.sqlstate, "08006")
            self.assertEqual(value(reader, "SELECT 1"), 1)


class ThePrimary(Failure):
    def test_is_killed(self):
        with table("n int") as t:
            reader, writer, idle_in_transaction, stateful, setting = (session() for _ in range(5))
            self.assertEqual(places(reader), ALL)
            writer.execute(f"INSERT INTO {t} VALUES (1)")
            replayed()
            idle_in_transaction.execute("BEGIN")
            idle_in_transaction.execute(f"INSERT INTO {t} VALUES (2)")
            setting.execute("SET work_mem = '7MB'")
            stateful.execute("LISTEN kept_by_failures")

            in_flight = []

            def write():
                try:
                    writer.execute(f"INSERT INTO {t} SELECT 3 FROM pg_sleep(600)")
                except psycopg.Error as error:
                    in_flight.append(error.sqlstate)

            thread = threading.Thread(target=write)
            thread.start()
            with direct() as past:
                eventually("the write is in flight", lambda: value(
                    past, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT%%pg_sleep%%' AND state = 'active'"))
            victim = postmaster("primary")
            os.kill(victim, signal.SIGKILL)

            # Reads go on, in the session that was there and in new ones, while there is no primary and afterwards.
            reads = 0

            def primary_is_back():
                nonlocal reads
                self.assertEqual(value(reader, f"SELECT n FROM {t}"), 1)
                reads += 1
                with session() as fresh:
                    self.assertEqual(value(fresh, f"SELECT n FROM {t}"), 1)
                try:
                    if postmaster("primary") == victim:
                        return False
                    with direct():
                        return True
                except (OSError, ValueError, psycopg.OperationalError):
                    return False

            eventually("the primary is back", primary_is_back)
            self.assertGreater(reads, 0)
            thread.join()
            self.assertEqual(in_flight, ["08006"])

            # The sessions live; a write may wait for the primary.
            writer.execute(f"INSERT INTO {t} VALUES (4)")
            self.assertEqual(writer.execute(f"SELECT n FROM {t} ORDER BY n").fetchall(), [(1,), (4,)])
            reader.execute(f"INSERT INTO {t} VALUES (5)")

            # A transaction is lost, and that is said once.
            with self.assertRaises(psycopg.OperationalError) as caught:
                idle_in_transaction.execute("SELECT 1")
            self.assertEqual(caught.exception.sqlstate, "08006")
            self.assertEqual(idle_in_transaction.info.transaction_status, psycopg.pq.TransactionStatus.IDLE)
            self.assertEqual(value(idle_in_transaction, "SELECT 1"), 1)

            # A setting is made again wherever the session goes.
            self.assertEqual({value(setting, "SHOW work_mem") for _ in range(20)}, {"7MB"})
            setting.execute("BEGIN")
            self.assertEqual(value(setting, "SHOW work_mem"), "7MB")
            setting.execute("COMMIT")

            # What cannot be made again must not be missed silently.
            with self.assertRaises(psycopg.OperationalError):
                stateful.execute("SELECT 1")
            self.assertTrue(stateful.closed)
            for connection in (reader, writer, idle_in_transaction, setting):
                connection.close()

    def test_is_killed_and_a_write_comes_meanwhile(self):
        with table("n int") as t, session() as connection:
            connection.execute(f"INSERT INTO {t} VALUES (1)")
            os.kill(postmaster("primary"), signal.SIGKILL)
            # Until the loss is noticed a write may still be sent, and lost; from then on writes wait.
            for n in range(2, 100):
                try:
                    connection.execute(f"INSERT INTO {t} VALUES ({n})")
                    break
                except psycopg.OperationalError as error:
                    self.assertEqual(error.sqlstate, "08006")
            self.assertEqual(connection.execute(f"SELECT n FROM {t} ORDER BY n").fetchall(), [(1,), (n,)])

    def test_ends_a_session_that_is_idle(self):
        with session(application_name="victim") as connection, direct() as past:
            for _ in range(20):
                connection.execute("BEGIN")
                connection.execute("ROLLBACK")
                past.execute("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = 'victim'")
                # Once more when the statement met the end of its server process.
                try:
                    self.assertEqual(value(connection, "SELECT txid_current() > 0"), True)
                except psycopg.OperationalError as error:
                    self.assertEqual(error.sqlstate, "08006")
                    self.assertEqual(value(connection, "SELECT txid_current() > 0"), True)

    def test_ends_a_statement(self):
        for statement in ("INSERT INTO {t} SELECT 1 FROM pg_sleep(600)", "SELECT count(*) FROM {t}, pg_sleep(600) FOR UPDATE OF t",
                          "SELECT pg_sleep(600), txid_current()"):
            with self.subTest(statement), table("n int") as t, session(application_name="victim") as connection:
                caught = []

                def work():
                    try:
                        connection.execute(statement.format(t=t).replace("count(*)", "n"))
                    except psycopg.Error as error:
                        caught.append(error.sqlstate)

                connection.execute(f"INSERT INTO {t} VALUES (0)")
                thread = threading.Thread(target=work)
                thread.start()
                with direct() as past:
                    active = "FROM pg_stat_activity WHERE application_name = 'victim' AND query LIKE '%%600%%' AND state = 'active'"
                    eventually("it runs", lambda: value(past, f"SELECT count(*) {active}"))
                    past.execute(f"SELECT pg_terminate_backend(pid) {active}")
                thread.join()
                self.assertEqual(len(caught), 1)
                self.assertIn(caught[0], ("57P01", "08006"))
                if not connection.closed:
                    self.assertEqual(value(connection, "SELECT 1"), 1)
                    connection.execute(f"INSERT INTO {t} VALUES (2)")


if __name__ == "__main__":
    main()
