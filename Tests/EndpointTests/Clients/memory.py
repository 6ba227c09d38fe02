"""Clients that come and go, and values larger than any buffer, leave the process as large as it was.

The long runs are script/bench memory and script/bench soak.
"""

import random

from endpoint import EndpointTestCase, connect, descriptors, eventually, main, resident_bytes, value
from wire import Wire, query

MEGABYTE = 1 << 20
KILOBYTE = 1 << 10


class Churn(EndpointTestCase):
    WARM_UP, SESSIONS = 400, 600

    def visit(self, number):
        """One client, which leaves as clients do."""
        kind = number % 5
        if kind == 0:
            with connect() as session:
                session.execute("SET application_name = 'churn'")
                session.execute("SELECT %s::int", (number,), prepare=True)
        elif kind == 1:
            with connect(autocommit=False) as session:
                session.execute("SELECT 1")
        else:
            wire = Wire()
            wire.log_in()
            if kind == 2:
                wire.send(query("BEGIN"))
                wire.until()
            elif kind == 3:
                wire.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 500)"))
            else:
                wire.send(query("SELECT 1")[:-3])
            random.choice((wire.close, wire.reset))()

    def test_nothing_grows_while_clients_come_and_go(self):
        for number in range(self.WARM_UP):
            self.visit(number)
        open_before, before = descriptors(), resident_bytes()
        for number in range(self.SESSIONS):
            self.visit(number)
        eventually("descriptors are given back", lambda: descriptors() <= open_before + 10)
        # What one client holds while it is there is more than this.
        self.assertLess(resident_bytes(), before + self.SESSIONS * 8 * KILOBYTE)


class LargeValues(EndpointTestCase):
    VALUE = 200 * MEGABYTE

    def grown(self, action):
        action(MEGABYTE)
        before = resident_bytes()
        action(self.VALUE)
        return resident_bytes() - before

    def test_a_large_result(self):
        def receive(count):
            with connect() as session, session.cursor() as cursor:
                with cursor.copy(f"COPY (SELECT repeat('x', {count})) TO STDOUT") as copy:
                    self.assertGreater(sum(len(part) for part in copy), count)

        self.assertLess(self.grown(receive), 20 * MEGABYTE)

    def test_a_large_parameter(self):
        def send(count):
            with connect() as session:
                self.assertEqual(value(session, "SELECT length(%b)", b"x" * count), count)

        self.assertLess(self.grown(send), 20 * MEGABYTE)


if __name__ == "__main__":
    main()
