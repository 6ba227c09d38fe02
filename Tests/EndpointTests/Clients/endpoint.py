"""What the client programs share: where the endpoint and its nodes are, how to wait, and how a test run ends.

libpq's own variables (PGHOST, PGPORT, PGUSER, PGDATABASE, PGPASSFILE) point at the endpoint.
"""

import contextlib
import json
import os
import sys
import time
import unittest

import psycopg

HOST = os.environ["PGHOST"]
PORT = int(os.environ["PGPORT"])
SOCKET_DIRECTORY = os.environ["SLIPSTREAM_SOCKET_DIRECTORY"]
"""Ports of the nodes by name."""
NODES = json.loads(os.environ["SLIPSTREAM_NODES"])
PRIMARY = NODES["primary"]
STANDBYS = {port for name, port in NODES.items() if name != "primary"}
"""The process that serves the endpoint."""
PID = int(os.environ["SLIPSTREAM_PID"])


def connect(**parameters):
    """A session through the endpoint; autocommit unless told otherwise."""
    return psycopg.connect(**{"autocommit": True, "connect_timeout": 60, **parameters})


def direct(node="primary", **parameters):
    """A session past the endpoint, as the superuser unless told otherwise."""
    return connect(**{"host": "127.0.0.1", "port": NODES[node], "user": "postgres", **parameters})


def password_of(role):
    """From the file libpq uses."""
    with open(os.environ["PGPASSFILE"]) as lines:
        for line in lines:
            fields = line.rstrip("\n").split(":")
            if fields[-2] in (role, "*"):
                return fields[-1]
    raise LookupError(role)


def value(connection, query, *parameters):
    return connection.execute(query, parameters or None).fetchone()[0]


def place(connection):
    """The port of the node that answers this session's next read."""
    return value(connection, "SELECT inet_server_port()")


def places(connection, count=30):
    return {place(connection) for _ in range(count)}


def places_of_new_sessions(count=30, *statements, **parameters):
    """Where sessions read first, after some statements: later they may stay, not to go back in time."""
    found = set()
    for _ in range(count):
        with connect(**parameters) as session:
            for statement in statements:
                session.execute(statement)
            found.add(place(session))
    return found


def eventually(what, condition, within=60.0):
    """Polls until `condition` returns something true, and returns that."""
    deadline = time.monotonic() + within
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(0.02)


def attempt(action):
    """What it returns; `None` when a server was not there."""
    try:
        return action()
    except psycopg.OperationalError:
        return None


def replayed():
    """Waits until every standby has replayed what the primary has written by now."""
    with direct() as primary:
        position = value(primary, "SELECT pg_current_wal_insert_lsn()::text")
    for node in NODES:
        if node == "primary":
            continue
        with direct(node) as standby:
            # A position just behind a page's header is its end: nothing follows yet (24 bytes, 40 in a segment).
            query = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn - 40"
            eventually(f"{node} replays {position}", lambda: value(standby, query, position))


@contextlib.contextmanager
def table(columns, name="t"):
    """A table of this test's own, on every node."""
    with direct(user="app") as connection:
        connection.execute(f"DROP TABLE IF EXISTS {name}")
        connection.execute(f"CREATE TABLE {name} ({columns})")
    replayed()
    try:
        yield name
    finally:
        def drop():
            with direct(user="app") as connection:
                connection.execute(f"DROP TABLE IF EXISTS {name}")
            return True

        # The test may have left a primary that recovers.
        eventually(f"{name} is dropped", lambda: attempt(drop))


def resident_bytes(pid=PID):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid=PID):
    return len(os.listdir(f"/proc/{pid}/fd"))


class EndpointTestCase(unittest.TestCase):
    """Every test leaves the same process serving."""

    def tearDown(self):
        with connect() as connection:
            self.assertEqual(value(connection, "SELECT 1"), 1)
        os.kill(PID, 0)


def main():
    """Runs the module's tests, or those named, and says which failed."""
    program = unittest.main(module="__main__", verbosity=2, exit=False, buffer=True)
    # A filter that matches nothing must not look like success.
    sys.exit(0 if program.result.wasSuccessful() and program.result.testsRun > 0 else 1)
