"""Every statement of corpus.sql gives through the endpoint what it gives on the primary, by any protocol and every time.

Two databases are copies of each other. Each statement runs in one through the endpoint, and in the other on the primary.
Then everything is compared that a client can see (results, errors, notices, the state of the transaction), and what is in
the tables and sequences.
"""

import collections
import pathlib
import re
import sys
import time

from psycopg import pq

from endpoint import HOST, NODES, PORT, PRIMARY, EndpointTestCase, direct, eventually, main, value

THROUGH, PLAIN = "corpus_through", "corpus_plain"
# By weight every node has its turn within five.
REPETITIONS = 6
PROTOCOLS = ["simple", "extended", "prepared"]
# Anything else goes to the primary in any case.
MAY_READ = re.compile(r"\W*(SELECT|TABLE|VALUES|WITH|COPY|EXPLAIN|SHOW|/\*|--)", re.IGNORECASE)

# MARK: - The statements


def statements(text):
    statement = ""
    for line in text.splitlines(keepends=True):
        if statement or line.strip():
            statement += line
        if line.rstrip().endswith(";") and statement.count("$$") % 2 == 0:
            yield statement.rstrip("\n")
            statement = ""
    assert not statement, f"it has no end: {statement}"


def corpus():
    """The setup's statements, and the groups: kind, name and statements."""
    text = pathlib.Path(__file__).with_suffix(".sql").read_text()
    pieces = re.split(r"^-- (setup|(?:group|session): .*)\n", text, flags=re.MULTILINE)[1:]
    bodies = [list(statements(body)) for body in pieces[1::2]]
    return bodies[0], [(*heading.split(": "), body) for heading, body in zip(pieces[2::2], bodies[1:])]


SETUP, GROUPS = corpus()

# MARK: - Both sides


class Side:
    """One session by libpq, which says what came over the wire and nothing else."""

    def __init__(self, port, database):
        self.notices = []
        self.connection = pq.PGconn.connect(f"host={HOST} port={port} user=app dbname={database}".encode())
        assert self.connection.status == pq.ConnStatus.OK, self.connection.error_message
        self.connection.notice_handler = lambda result: self.notices.append(self.seen(result))
        self.prepared = set()

    def close(self):
        self.connection.finish()

    def seen(self, result):
        """What one result says."""
        fields = [result.error_field(field) for field in pq.DiagnosticField]
        columns = [(result.fname(n), result.ftype(n), result.fmod(n)) for n in range(result.nfields)]
        rows = [[result.get_value(row, n) for n in range(result.nfields)] for row in range(result.ntuples)]
        return pq.ExecStatus(result.status).name, result.command_status, columns, rows, [field for field in fields if field]

    def results(self):
        while result := self.connection.get_result():
            yield self.seen(result)
            if result.status == pq.ExecStatus.COPY_OUT:
                while (copied := self.connection.get_copy_data(0))[0] > 0:
                    yield bytes(copied[1])
            elif result.status == pq.ExecStatus.COPY_IN:
                self.connection.put_copy_data(b"9\n")
                self.connection.put_copy_end()
            elif result.status == pq.ExecStatus.FATAL_ERROR and self.connection.status != pq.ConnStatus.OK:
                return

    def execute(self, statement, protocol, name=b""):
        self.notices.clear()
        found, statement = [], statement.encode()
        if protocol == "simple":
            self.connection.send_query(statement)
        elif protocol == "extended":
            self.connection.send_query_params(statement, None)
        else:
            if name not in self.prepared:
                self.connection.send_prepare(name, statement)
                found += self.results()
            if not any(result[0] == "FATAL_ERROR" for result in found):
                self.prepared.add(name)
                self.connection.send_query_prepared(name, None)
        found += self.results()
        return found, list(self.notices), pq.TransactionStatus(self.connection.transaction_status).name

    def ask(self, query):
        return self.connection.exec_(query.encode()).get_value(0, 0)


class Pair:
    """The same session on both sides."""

    def __init__(self):
        self.through, self.plain = Side(PORT, THROUGH), Side(PRIMARY, PLAIN)

    def close(self):
        self.through.close()
        self.plain.close()

    def may_read_anywhere(self):
        """Whether the standbys are known to have what this session wrote, and no state keeps it on the primary."""
        for _ in range(5):
            if self.through.ask("/* slipstream: standby */ SELECT inet_server_port()") != str(PRIMARY).encode():
                return True
            time.sleep(0.001)
        return False


class Corpus(EndpointTestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.nodes = {name: direct(name) for name in NODES}
        cls.drop()
        primary = cls.nodes["primary"]
        primary.execute(f"CREATE DATABASE {THROUGH} OWNER app")
        with direct(dbname=THROUGH) as setup:
            for statement in SETUP:
                setup.execute(statement)
        # A copy: even the numbers of types and tables are the same.
        primary.execute(f"CREATE DATABASE {PLAIN} OWNER app TEMPLATE {THROUGH}")
        cls.replayed()
        cls.keepers = [direct(dbname=name) for name in (THROUGH, PLAIN)]
        tables = value(cls.keepers[0], """
            SELECT string_agg(format('SELECT %L, t::text FROM %s AS t', oid::regclass, oid::regclass), ' UNION ALL ')
            FROM pg_class WHERE relkind IN ('r', 'm') AND oid >= 16384""")
        cls.contents = f"""
            {tables} UNION ALL SELECT schemaname || '.' || sequencename, last_value::text FROM pg_sequences
            UNION ALL SELECT loid::text, data::text FROM pg_largeobject ORDER BY 1, 2"""

    @classmethod
    def tearDownClass(cls):
        for keeper in cls.keepers:
            keeper.close()
        eventually("everything is dropped", lambda: cls.drop() or True)
        for node in cls.nodes.values():
            node.close()

    @classmethod
    def drop(cls):
        for name in (THROUGH, PLAIN):
            cls.nodes["primary"].execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @classmethod
    def replayed(cls):
        """Waits until the standbys have what was committed; not for what is not flushed, which takes a while and nobody sees."""
        position = value(cls.nodes["primary"], "SELECT pg_current_wal_flush_lsn()::text")
        for name, node in cls.nodes.items():
            while name != "primary" and not value(node, "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn - 40", position):
                time.sleep(0.001)

    def compare(self, pair, statement, protocol, name):
        expected = pair.plain.execute(statement, protocol, name)
        found = pair.through.execute(statement, protocol, name)
        if found != expected:
            self.fail(f"{protocol}: {statement}\nthe primary gives\n{expected}\nthe endpoint gives\n{found}")

    def compare_contents(self):
        through, plain = (collections.Counter(keeper.execute(self.contents).fetchall()) for keeper in self.keepers)
        if through != plain:
            self.fail(f"in the end the primary has besides\n{plain - through}\nthe endpoint's database\n{through - plain}")

    def fresh(self):
        self.replayed()
        return Pair()

    def run_session(self, group, protocol):
        pair = self.fresh()
        for index, statement in enumerate(group):
            self.compare(pair, statement, protocol, f"s{index}".encode())
        pair.close()

    def run_group(self, group, protocol):
        """Each statement by a session that may read anywhere, as far as its text says."""
        pair = self.fresh()
        for index, statement in enumerate(group):
            if MAY_READ.match(statement) and not pair.may_read_anywhere():
                pair.close()
                pair = self.fresh()
            self.compare(pair, statement, protocol, f"s{index}".encode())
        pair.close()


def test_of(kind, group):
    def test(self):
        for protocol in PROTOCOLS:
            for _ in range(REPETITIONS):
                (self.run_session if kind == "session" else self.run_group)(group, protocol)
                self.compare_contents()

    return test


for kind, name, group in GROUPS:
    setattr(Corpus, f"test_{name.replace(' ', '_').replace(',', '')}", test_of(kind, group))

if __name__ == "__main__":
    count = sum(len(group) for _, _, group in GROUPS)
    print(f"{count} statements, each {REPETITIONS} times by each of {', '.join(PROTOCOLS)}", file=sys.stderr)
    main()
