"""What one client does, or leaves undone, is not the others' loss. It is counted, not timed."""

import collections
import contextlib
import random

import psycopg

from differential import Conversation
from endpoint import (
    NODES,
    EndpointTestCase,
    connect,
    descriptors,
    direct,
    eventually,
    main,
    places,
    resident_bytes,
    value,
)
from wire import query

MEGABYTE = 1 << 20
# More than there are workers, so that each worker has some.
SESSIONS = 8
# More than the pools of this test keep open, and fewer than its clients.
POOLED = 60


class Neighbours(EndpointTestCase):
    READS = 50

    def shares(self, meanwhile=lambda: None):
        """How many reads each node answers, in percent, whichever worker a session belongs to."""
        counts = collections.Counter()
        # Who has read stays where it is until what was written a moment ago is everywhere.
        with connect() as session:
            eventually("reads spread", lambda: places(session) == set(NODES.values()))
        for _ in range(SESSIONS):
            with connect() as session:
                for _ in range(self.READS):
                    meanwhile()
                    counts[value(session, "SELECT inet_server_port()")] += 1
        return {name: 100 * counts[port] / counts.total() for name, port in NODES.items()}

    def assert_spread(self, shares):
        """As the weights 1, 2 and 2 say."""
        expected = {name: 20 if name == "primary" else 40 for name in NODES}
        for name, share in shares.items():
            self.assertAlmostEqual(share, expected[name], delta=8, msg=shares)

    # MARK: - Notifications that nobody reads

    def test_notifications_that_a_client_does_not_read(self):
        length, count = 7900, 4000
        with connect() as reader, connect() as notifier:
            deaf = Conversation(receive_buffer=4096).log_in()
            deaf.ask("LISTEN flood")
            reader.execute("LISTEN flood")
            before = resident_bytes()
            notify = "SELECT pg_notify('flood', %s || repeat('x', %s))"
            received = 0
            # More than the sockets hold; what is left waits in the server, or in the endpoint, within bounds.
            for number in range(count):
                notifier.execute(notify, (f"{number:08}", length - 8))
                if number % 100 == 0:
                    received += sum(1 for _ in reader.notifies(timeout=0))
            # Small ones that each might occupy a buffer.
            for number in range(count, 6 * count):
                notifier.execute(notify, (f"{number:08}", 0))
                if number % 100 == 0:
                    received += sum(1 for _ in reader.notifies(timeout=0))
            self.assertLess(resident_bytes(), before + 100 * MEGABYTE)
            self.assert_spread(self.shares())

            # Nothing is lost to those who read, and, late, to those who did not.
            def everything():
                nonlocal received
                received += sum(1 for _ in reader.notifies(timeout=0.1))
                return received == 6 * count

            eventually("one who reads gets everything", everything)
            numbers = []
            while len(numbers) < 6 * count:
                kind, body = deaf.read()
                self.assertEqual(kind, b"A")
                numbers.append(int(body[4:].split(b"\0")[1][:8]))
            self.assertEqual(numbers, list(range(6 * count)))
            self.assertEqual(deaf.ask("SELECT 1"), [[b"1"]])
            deaf.close()

    # MARK: - Passwords

    def test_a_password_that_was_changed(self):
        """Whose session has begun with the old one has no more server connections; that is no node's fault."""
        generator = random.Random(9)
        outcomes = collections.Counter()
        with direct() as superuser, contextlib.ExitStack() as sessions:
            superuser.execute("DROP ROLE IF EXISTS changing")
            superuser.execute("CREATE ROLE changing LOGIN PASSWORD 'old'")
            changing = [
                sessions.enter_context(contextlib.closing(eventually("the role may log in", self.session_of_the_role)))
                for _ in range(SESSIONS)]
            superuser.execute("ALTER ROLE changing PASSWORD 'new'")

            def read():
                # Not always as many, or they would take the same turns every time.
                for session in generator.sample(changing, generator.randrange(SESSIONS)):
                    try:
                        outcomes[value(session, "SELECT inet_server_port()")] += 1
                    except psycopg.Error as error:
                        outcomes[error.sqlstate] += 1

            self.assert_spread(self.shares(read))
        # They have read all the while, where they could.
        self.assertGreater(outcomes.total(), SESSIONS * self.READS, outcomes)
        with direct() as superuser:
            eventually("the role is not used", lambda: self.drops_the_role(superuser))

    def session_of_the_role(self):
        # The endpoint has to hear of a new role first.
        with contextlib.suppress(psycopg.OperationalError):
            return connect(user="changing", password="old")

    def drops_the_role(self, superuser):
        with contextlib.suppress(psycopg.errors.ObjectInUse, psycopg.errors.DependentObjectsStillExist):
            return superuser.execute("DROP ROLE changing")

    # MARK: - Clients that vanish

    def test_clients_that_vanish_amid_a_statement(self):
        def busy():
            """Server processes that are not idle in a pool."""
            total = 0
            for node in NODES:
                with direct(node) as superuser:
                    total += value(superuser, """
                        SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state IS DISTINCT FROM 'idle'""")
            return total

        eventually("earlier clients are gone", lambda: busy() == 0)
        open_before = descriptors()
        for leave in (Conversation.close, Conversation.reset):
            for statement in ("SELECT pg_sleep(0.5)", "SELECT txid_current(), pg_sleep(0.5)",
                              "SELECT repeat('x', 1000000)"):
                for _ in range(20):
                    gone = Conversation().log_in()
                    gone.send(query(statement))
                    leave(gone)
        eventually("their statements end", lambda: busy() == 0)
        # What the pools may have opened meanwhile: a connection per node and worker for each of those that were there at once.
        eventually("their descriptors are closed", lambda: descriptors() <= open_before + POOLED)
        self.assert_spread(self.shares())


if __name__ == "__main__":
    main()
