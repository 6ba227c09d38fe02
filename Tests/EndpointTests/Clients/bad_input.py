"""Clients that know nothing of the protocol, break it, fall silent or disappear.

Nothing may crash or leak, and everybody else is served all the while.
"""

import random
import resource
import socket
import struct
import threading
import time

from endpoint import (
    HOST,
    NODES,
    PORT,
    EndpointTestCase,
    connect,
    descriptors,
    direct,
    eventually,
    main,
    replayed,
    resident_bytes,
    value,
)
from wire import SSL_REQUEST, TERMINATE, Wire, fields, message, query, startup

MEGABYTE = 1 << 20


class Bystander:
    """A client that is served all the while: a session that stays, and new ones that come and go."""

    def __enter__(self):
        self.failures, self.served, self.slowest = [], 0, 0.0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def run(self):
        try:
            with connect() as session:
                while not self.over.is_set():
                    began = time.monotonic()
                    value(session, "SELECT 1")
                    with connect() as other:
                        value(other, "SELECT txid_current()")
                    self.slowest = max(self.slowest, time.monotonic() - began)
                    self.served += 1
        except Exception as error:  # noqa: BLE001
            self.failures.append(repr(error))

    def __exit__(self, kind, *_):
        # At least one round after everything has happened.
        seen = self.served
        eventually("the bystander is served", lambda: self.served > seen or self.failures)
        self.over.set()
        self.thread.join()
        if kind is None:
            assert not self.failures, self.failures


class BadInput(EndpointTestCase):
    wire = Wire
    # Connections to nodes that pools keep, which a first test of a fresh cluster makes; fewer than a test has clients.
    slack = 40

    def setUp(self):
        # What a first client of its kind makes grow is no leak; nor are the connections that ask how far the nodes are, once
        # somebody has written.
        with connect() as connection:
            value(connection, "SELECT 1")
            connection.execute("DO 'BEGIN END'")
        eventually("what others have left is gone", lambda: self.is_settled())
        self.before = (descriptors(), resident_bytes())

    def is_settled(self):
        now = descriptors()
        time.sleep(0.2)
        return now == descriptors()

    def tearDown(self):
        # What was opened for the clients goes with them.
        eventually("descriptors are given back", lambda: descriptors() <= self.before[0] + self.slack)
        eventually("memory is given back", lambda: resident_bytes() < self.before[1] + 30 * MEGABYTE)
        super().tearDown()

    # MARK: - Before logging in

    def test_random_bytes(self):
        generator = random.Random(1)
        with Bystander():
            for size in [1, 3, 4, 7, 8, 9, 100, 1000, 10_000, 100_000] * 20:
                with self.wire() as wire:
                    self.pour(wire, generator.randbytes(size))
            for size in [5, 100, 5000] * 20:
                # A plausible length in front, so that what follows is looked at.
                with self.wire() as wire:
                    self.pour(wire, struct.pack("!ii", size, 196608) + generator.randbytes(size - 8 if size > 8 else 0))

    def pour(self, wire, data):
        try:
            wire.send(data)
            wire.stop_sending()
            wire.rest()
        except (OSError, struct.error):
            pass

    def test_lengths_that_cannot_be(self):
        for length in (0, 1, 4, 7, -1, -(2**31), 2**31 - 1, 10_005, 1_000_000_000):
            with self.subTest(length), self.wire() as wire:
                wire.send(struct.pack("!ii", length, 196608))
                # PostgreSQL says nothing to what may not be a client of its at all.
                self.assertEqual(wire.rest(), [])
        # A Terminate ahead of the startup packet: node-pg, when it is told to end before it is connected.
        for packet in (TERMINATE, struct.pack("!iii", 12, 80877102, 1), struct.pack("!iiiii", 20, 80877102, 1, 1, 1)):
            with self.subTest(packet), self.wire() as wire:
                wire.send(packet)
                self.assertEqual(wire.rest(), [])
        for version in (0, 131072, 262144, 2**31 - 1):
            with self.subTest(version), self.wire() as wire:
                wire.send(struct.pack("!ii", 8, version))
                ((kind, body),) = wire.rest()
                self.assertEqual((kind, fields(body)["C"]), (b"E", "0A000"))

    def test_startup_packets_that_make_no_sense(self):
        bodies = [b"", b"\0", b"user", b"user\0", b"user\0app", b"user\0app\0", b"user\0app\0database\0\0", b"\0\0\0\0",
                  b"database\0app\0\0", b"user\0\0\0", b"user\0app\0\0garbage"]
        for body in bodies:
            with self.subTest(body), self.wire() as wire:
                wire.send(struct.pack("!ii", len(body) + 8, 196608) + body)
                wire.stop_sending()
                wire.rest()

    def test_what_comes_too_early(self):
        """Bytes behind an SSLRequest may come from somebody in the middle (CVE-2021-23222)."""
        with self.wire() as wire:
            wire.send(SSL_REQUEST + startup(user="app", database="app"))
            answers = wire.rest()
            self.assertEqual([fields(body)["C"] for _, body in answers], ["08P01"])
        with self.wire() as wire:
            wire.send(startup(user="app", database="app") + query("SELECT 1"))
            self.assertEqual(wire.read()[0], b"R")
            ((kind, body),) = wire.rest()
            self.assertEqual((kind, fields(body)["C"]), (b"E", "08P01"))

    def test_passwords_that_are_no_proof(self):
        for body in (b"", b"\0", b"SCRAM-SHA-256", b"SCRAM-SHA-256\0", b"SCRAM-SHA-256\0\xff\xff\xff\xff",
                     b"SCRAM-SHA-256\0\x7f\xff\xff\xff", b"MD5\0\0\0\0\1x", b"SCRAM-SHA-256\0\0\0\0\4n,,n",
                     b"SCRAM-SHA-256\0\0\0\0\5\0\0\0\0\0", b"x" * 60_000):
            with self.subTest(body[:40]), self.wire() as wire:
                wire.send(startup(user="app", database="app"))
                self.assertEqual(wire.read()[0], b"R")
                wire.send(message(b"p", body))
                answers = wire.rest()
                self.assertEqual([kind for kind, _ in answers], [b"E"])
        for length in (0, 3, -1, 2**31 - 1, 1_000_000_000):
            with self.subTest(length), self.wire() as wire:
                wire.send(startup(user="app", database="app"))
                self.assertEqual(wire.read()[0], b"R")
                wire.send(b"p" + struct.pack("!i", length))
                answers = wire.rest()
                self.assertEqual([kind for kind, _ in answers], [b"E"])

    def test_an_unfinished_startup_disturbs_nobody(self):
        with Bystander():
            wires = []
            for cut in (1, 3, 4, 5, 8, 12, 20):
                wire = self.wire()
                wire.send(startup(user="app", database="app")[:cut])
                wires.append(wire)
            with connect() as connection:
                self.assertEqual(value(connection, "SELECT 1"), 1)
            for wire in wires:
                wire.close()

    # MARK: - In a session

    def test_messages_that_break_the_protocol(self):
        too_long = struct.pack("!i", 2**31 - 1)
        broken = [
            b"\0\0\0\0\4", b"?" + struct.pack("!i", 4), b"\xff\xff\xff\xff\xff", b"R" + struct.pack("!ii", 8, 0),
            *(kind + struct.pack("!i", length) for kind in (b"Q", b"P", b"B", b"S", b"d") for length in (0, 3, -1, -(2**31))),
            b"S" + too_long, b"E" + too_long, b"D" + too_long, b"C" + too_long, b"H" + too_long,
            message(b"p", b"password\0"),
        ]
        for data in broken:
            with self.subTest(data), self.wire() as wire:
                wire.log_in()
                wire.send(data)
                answers = wire.rest()
                self.assertEqual([fields(body)["C"] for kind, body in answers if kind == b"E"], ["08P01"])

    def test_messages_that_make_no_sense_inside(self):
        """PostgreSQL answers them with an error, and the session lives."""
        for data in (message(b"Q", b"SELECT 1"), message(b"Q", b""), message(b"Q", b"SELECT 1\0 behind\0"),
                     message(b"P", b"name"), message(b"P", b""), message(b"B", b"\0"), message(b"D", b""),
                     message(b"E", b""), message(b"C", b"S"), message(b"F", b"\0")):
            with self.subTest(data), self.wire() as wire:
                wire.log_in()
                wire.send(data + message(b"S") + query("SELECT 'alive'") + TERMINATE)
                answers = wire.rest()
                self.assertEqual({fields(body)["C"] for kind, body in answers if kind == b"E"}, {"08P01"})
                self.assertIn((b"D", b"\0\1\0\0\0\5alive"), answers)

    def test_claims_of_a_gigabyte_cost_nothing(self):
        with Bystander():
            wires = []
            for kind in (b"Q", b"P", b"B", b"d", b"F"):
                for _ in range(10):
                    wire = self.wire().log_in()
                    wire.send(kind + struct.pack("!i", 1_000_000_000) + b"x" * 1000)
                    wires.append(wire)
            self.assertLess(resident_bytes(), self.before[1] + 60 * MEGABYTE)
            for wire in wires:
                wire.close()

    def test_random_messages_in_a_session(self):
        generator = random.Random(3)
        kinds = b"QPBDESHCFcdfXp"
        with Bystander():
            for _ in range(150):
                with self.wire() as wire:
                    wire.log_in()
                    data = b""
                    for _ in range(generator.randrange(1, 20)):
                        body = generator.choice([
                            generator.randbytes(generator.randrange(30)), b"\0\0", b"\0SELECT 1\0\0\0",
                            b"\0\0\0\0\0\0\0\0", b"\0\0\0\0\0", b"S\0", b"P\0", b"SELECT 1\0", b"",
                        ])
                        data += message(bytes([generator.choice(kinds)]), body)
                    self.pour(wire, data)

    def test_one_byte_at_a_time(self):
        with self.wire(step=1) as wire:
            wire.log_in()
            self.assertEqual(wire.ask("SELECT 1, 'two', NULL"), [[b"1", b"two", None]])
            wire.send(
                message(b"P", b"s\0SELECT $1::int * 2\0\0\0") + message(b"B", b"\0s\0\0\0\0\1\0\0\0\2" + b"21" + b"\0\0")
                + message(b"D", b"P\0") + message(b"E", b"\0\0\0\0\0") + message(b"S"))
            self.assertIn((b"D", b"\0\1\0\0\0\2" + b"42"), wire.until())
            self.assertEqual(wire.ask("CREATE TEMP TABLE t (n int)"), [])
            wire.send(query("COPY t FROM STDIN"))
            self.assertEqual(wire.read()[0], b"G")
            wire.send(message(b"d", b"1\n2\n") + message(b"d", b"3\n") + message(b"c"))
            self.assertIn((b"C", b"COPY 3\0"), wire.until())
            self.assertEqual(wire.ask("SELECT sum(n) FROM t"), [[b"6"]])
            wire.send(TERMINATE)
            self.assertEqual(wire.rest(), [])

    def test_a_reader_of_one_byte_at_a_time(self):
        with self.wire() as wire:
            wire.log_in()
            wire.send(query("SELECT repeat('x', 100) FROM generate_series(1, 100)"))
            data = b""
            while not data.endswith(b"Z\0\0\0\5I"):
                data += wire.socket.recv(1)
            self.assertEqual(data.count(b"x" * 100), 100)

    def test_a_session_goes_on_after_copy_messages_without_copy(self):
        with self.wire() as wire:
            wire.log_in()
            wire.send(message(b"d", b"1\n") + message(b"c") + message(b"f", b"no\0") + query("SELECT 5"))
            self.assertEqual([body for kind, body in wire.until() if kind == b"D"], [b"\0\1\0\0\0\0015"])

    # MARK: - Those who say nothing

    def test_two_thousand_silent_connections(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
        with Bystander() as bystander:
            silent = [socket.create_connection((HOST, PORT)) for _ in range(2000)]
            eventually("all were accepted", lambda: descriptors() >= self.before[0] + 2000)
            served = bystander.served
            eventually("others are served meanwhile", lambda: bystander.served > served + 10 or bystander.failures)
            with connect() as connection:
                self.assertEqual(value(connection, "SELECT 1"), 1)
            for connection in silent:
                connection.close()

    # MARK: - Those who disappear

    def test_clients_that_disappear(self):
        with direct(user="app") as setup:
            setup.execute("DROP TABLE IF EXISTS survivor; CREATE TABLE survivor (n int); INSERT INTO survivor VALUES (0)")
        replayed()

        def in_copy(wire):
            wire.send(query("COPY survivor FROM STDIN"))
            wire.read()
            wire.send(message(b"d", b"1\n" * 1000) + b"d\0\0\1")

        def in_copy_out(wire):
            wire.send(query("COPY (SELECT * FROM generate_series(1, 10000000)) TO STDOUT"))
            wire.exactly(100_000)

        def in_a_transaction(wire):
            wire.ask("BEGIN")
            wire.ask("UPDATE survivor SET n = n + 1")

        def in_a_read_only_transaction(wire):
            wire.ask("BEGIN READ ONLY")
            wire.ask("SELECT * FROM survivor")

        def in_half_a_message(wire):
            wire.send(query("INSERT INTO survivor VALUES (1)")[:-1])

        def in_half_a_huge_message(wire):
            wire.send(query(f"INSERT INTO survivor VALUES ({'1' * 200_000})")[:-1])

        def in_a_statement(wire):
            wire.send(query("SELECT pg_sleep(1)"))

        def in_an_answer(wire):
            wire.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"))
            wire.exactly(100_000)

        def in_a_pipeline(wire):
            wire.send(message(b"P", b"\0SELECT 1\0\0\0") + message(b"H"))

        def before_its_name(wire):
            pass

        situations = [in_copy, in_copy_out, in_a_transaction, in_a_read_only_transaction, in_half_a_message,
                      in_half_a_huge_message, in_a_statement, in_an_answer, in_a_pipeline, before_its_name]
        with Bystander():
            for situation in situations:
                for leave in (self.wire.close, self.wire.reset):
                    with self.subTest(f"{situation.__name__}, {leave.__name__}"):
                        for _ in range(5):
                            wire = self.wire()
                            if situation is not before_its_name:
                                wire.log_in()
                            situation(wire)
                            leave(wire)
                        # Locks go with their sessions.
                        with connect() as connection:
                            connection.execute("SET lock_timeout = '60s'")
                            connection.execute("UPDATE survivor SET n = n")
        with direct(user="app") as past:
            self.assertEqual(past.execute("SELECT n FROM survivor").fetchall(), [(0,)])
            past.execute("DROP TABLE survivor")
        for node in NODES:
            with direct(node) as past:
                # Those that idle belong to the pools.
                eventually(f"no server process works for them on {node}", lambda: value(
                    past, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state <> 'idle'") == 0)


if __name__ == "__main__":
    main()
