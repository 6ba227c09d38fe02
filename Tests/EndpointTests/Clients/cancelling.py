"""A cancel request hits the statement it was meant for, or nothing."""

import random
import socket
import threading
import time

from endpoint import HOST, PORT, EndpointTestCase, connect, direct, main, value
from wire import Wire, cancel_request


def send_cancel(process, secret):
    """Returns when the endpoint is done with it, as PQcancel does."""
    with socket.create_connection((HOST, PORT)) as connection:
        connection.settimeout(120)
        connection.sendall(cancel_request(process, secret))
        assert connection.recv(1) == b""


class Cancelling(EndpointTestCase):
    def test_the_running_statement_ends(self):
        with Wire() as wire:
            wire.log_in()
            for statement in ("SELECT pg_sleep(600)", "DO $$BEGIN PERFORM pg_sleep(600); END$$"):
                for _ in range(5):
                    outcome = []
                    thread = threading.Thread(target=lambda: outcome.append(self.sqlstate(wire, statement)))
                    thread.start()
                    # Until it hits: before the statement has begun a request means nothing.
                    while thread.is_alive():
                        send_cancel(*wire.key)
                        thread.join(0.01)
                    self.assertEqual(outcome, ["57014"])
                    self.assertEqual(wire.ask("SELECT 1"), [[b"1"]])

    def sqlstate(self, wire, statement):
        try:
            wire.ask(statement)
        except RuntimeError as error:
            return error.args[0]["C"]
        return None

    def test_a_late_request_never_hits_the_next_statement(self):
        """The request races the end of its statement. Whoever waits for PQcancel to return is safe."""
        hits = 0
        generator = random.Random(42)
        with Wire() as wire:
            wire.log_in()
            for round in range(200):
                statement = f"SELECT pg_sleep({generator.random() / 200})"
                if round % 2:
                    statement = f"DO $$BEGIN PERFORM pg_sleep({generator.random() / 200}); END$$"
                delay = generator.random() / 100
                canceller = threading.Thread(target=lambda: (time.sleep(delay), send_cancel(*wire.key)))
                canceller.start()
                outcome = self.sqlstate(wire, statement)
                self.assertIn(outcome, (None, "57014"))
                hits += outcome is not None
                canceller.join()
                # The request is done with: what comes now is not its business.
                self.assertEqual(wire.ask(f"SELECT {round} FROM pg_sleep(0.001)"), [[str(round).encode()]])
        # Both ends of the race were seen.
        self.assertTrue(0 < hits < 200, hits)

    def test_an_idle_session_is_left_alone(self):
        with Wire() as wire:
            wire.log_in()
            for number in range(100):
                send_cancel(*wire.key)
                self.assertEqual(wire.ask(f"SELECT {number} FROM pg_sleep(0.001)"), [[str(number).encode()]])

    def test_no_other_session_is_hit(self):
        stop = threading.Event()
        failures, statements = [], [0]

        def work(number):
            try:
                with connect() as connection:
                    while not stop.is_set():
                        value(connection, "SELECT 1 FROM pg_sleep(0.001)")
                        value(connection, "SELECT nextval('cancel_test')")
                        statements[0] += 1
            except Exception as error:  # noqa: BLE001
                failures.append(f"{number}: {error!r}")

        with direct(user="app") as setup:
            setup.execute("DROP SEQUENCE IF EXISTS cancel_test; CREATE SEQUENCE cancel_test")
        others = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in others:
            thread.start()
        try:
            with Wire() as wire:
                wire.log_in()
                for number in range(100):
                    outcome = []
                    thread = threading.Thread(
                        target=lambda: outcome.append(self.sqlstate(wire, "SELECT pg_sleep(600)")))
                    thread.start()
                    while thread.is_alive():
                        send_cancel(*wire.key)
                        thread.join(0.002)
                    self.assertEqual(outcome, ["57014"])
        finally:
            stop.set()
            for thread in others:
                thread.join()
        self.assertEqual(failures, [])
        self.assertGreater(statements[0], 0)
        with direct(user="app") as setup:
            setup.execute("DROP SEQUENCE cancel_test")

    def test_forged_keys_do_nothing(self):
        generator = random.Random(7)
        with Wire() as wire:
            wire.log_in()
            process, secret = wire.key
            outcome = []
            thread = threading.Thread(target=lambda: outcome.append(self.sqlstate(wire, "SELECT pg_sleep(2)")))
            thread.start()
            for _ in range(200):
                for forged in (
                    (process, generator.randint(-(2**31), 2**31 - 1)),
                    (process, secret ^ 1),
                    (process ^ 64, secret),
                    (process ^ 1, secret),
                    (-process, secret),
                    (generator.randint(-(2**31), 2**31 - 1), secret),
                    (0, 0),
                ):
                    send_cancel(*forged)
            self.assertTrue(thread.is_alive(), "the statement was over too early to tell")
            thread.join()
            self.assertEqual(outcome, [None])

    def test_the_key_of_a_session_that_is_gone_means_nothing(self):
        old = Wire().log_in()
        key = old.key
        old.close()
        for _ in range(20):
            with Wire() as wire:
                wire.log_in()
                outcome = []
                thread = threading.Thread(target=lambda: outcome.append(self.sqlstate(wire, "SELECT pg_sleep(0.05)")))
                thread.start()
                while thread.is_alive():
                    send_cancel(*key)
                thread.join()
                self.assertEqual(outcome, [None])

    def test_keys_are_the_endpoints(self):
        with connect() as connection, direct() as past:
            ours = connection.info.backend_pid
            self.assertNotEqual(ours, value(connection, "SELECT pg_backend_pid()"))
            self.assertEqual(value(past, "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND usename = 'app'", ours), 0)
            # It is nobody's: who ends "his backend" by it ends no stranger's.
            self.assertGreater(ours, 2**22)
            self.assertFalse(value(connection, "SELECT pg_terminate_backend(%s)", ours))


if __name__ == "__main__":
    main()
