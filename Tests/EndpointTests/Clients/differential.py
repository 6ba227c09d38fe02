"""Says the same bytes to a node and through the endpoint, and compares the answers message by message.

What PostgreSQL answers is what is right: nothing here knows the answers themselves.
"""

import dataclasses
import hashlib
import socket
import struct
import time

from endpoint import HOST, NODES, PORT, PRIMARY, EndpointTestCase, direct, eventually, value
from wire import Closed, Wire, fields, message

# MARK: - Messages


def text(string):
    return string.encode() + b"\0"


def parse(name, statement):
    return message(b"P", text(name) + text(statement) + struct.pack("!h", 0))


def bind(portal, name, *parameters):
    body = text(portal) + text(name) + struct.pack("!hh", 0, len(parameters))
    for parameter in parameters:
        body += struct.pack("!i", -1) if parameter is None else struct.pack("!i", len(parameter)) + parameter
    return message(b"B", body + struct.pack("!h", 0))


def execute(portal="", limit=0):
    return message(b"E", text(portal) + struct.pack("!i", limit))


def describe_statement(name):
    return message(b"D", b"S" + text(name))


def describe_portal(name):
    return message(b"D", b"P" + text(name))


def close_statement(name):
    return message(b"C", b"S" + text(name))


def close_portal(name):
    return message(b"C", b"P" + text(name))


def once(statement, *parameters):
    """A statement by the extended protocol's usual messages, without the Sync."""
    return parse("", statement) + bind("", "", *parameters) + describe_portal("") + execute()


def copy_data(data):
    return message(b"d", data)


def copy_fail(reason="no"):
    return message(b"f", text(reason))


def function_call(function, *arguments):
    """By object identifier, with arguments in text."""
    body = struct.pack("!ihh", function, 0, len(arguments))
    for argument in arguments:
        body += struct.pack("!i", len(argument)) + argument
    return message(b"F", body + struct.pack("!h", 0))


SYNC = message(b"S")
FLUSH = message(b"H")
COPY_DONE = message(b"c")

# MARK: - Conversations


@dataclasses.dataclass(frozen=True)
class Exchange:
    """What is sent, and how much of an answer is waited for before the next."""

    data: bytes
    """The kinds of message that end an answer."""
    until: bytes = b"Z"
    """How many answers there are."""
    count: int = 1
    """Where the data is cut into segments."""
    cuts: tuple = ()
    """Nothing more will be sent, and everything up to the end is waited for."""
    is_last: bool = False
    """What is answered matters to nobody."""
    is_ignored: bool = False


def say(*messages, until=b"Z", count=1, cuts=(), is_last=False, is_ignored=False):
    return Exchange(b"".join(messages), until, count, tuple(cuts), is_last, is_ignored)


def kinds(data):
    """For failure messages: the messages in the data, shortened."""
    offset, found = 0, []
    while offset + 5 <= len(data):
        kind, length = struct.unpack_from("!ci", data, offset)
        body = data[offset + 5:offset + 1 + length]
        found.append(f"{kind.decode('latin1')}{body[:60]!r}" + (f" of {length}" if length > 64 else ""))
        offset += max(1 + length, 5)
    return found


class Conversation(Wire):
    """A session with a node, or with the endpoint; what is answered, hangs and ends is told as messages."""

    # Far more than any answer takes.
    PATIENCE = 20

    def __init__(self, port=PORT, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(self.PATIENCE)
        self.socket.connect((HOST if port == PORT else "127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.step = self.key = None

    def play(self, exchanges):
        """The answers to each exchange; those behind a hang or an end are missing."""
        answers = []
        for exchange in exchanges:
            answers.append(self.exchange(exchange))
            if answers[-1] and answers[-1][-1][0] in ("silence", "end"):
                break
        return answers

    def exchange(self, exchange):
        answer, left = [], exchange.count
        try:
            begin = 0
            for end in (*exchange.cuts, len(exchange.data)):
                self.send(exchange.data[begin:end])
                begin = end
                if len(exchange.cuts) < 10:
                    # So that they are received apart; with many cuts enough of them are.
                    time.sleep(0.0005)
            if exchange.is_last:
                self.socket.shutdown(socket.SHUT_WR)
                left = -1
            while left:
                kind, body = self.read()
                left -= kind in exchange.until
                # Those come when they come.
                if kind not in (b"S", b"A") and not exchange.is_ignored:
                    answer.append(shown(kind, body))
        except (Closed, ConnectionError):
            answer.append(("end",))
        except TimeoutError:
            answer.append(("silence",))
        return answer


def shown(kind, body):
    """A message as it is compared."""
    if kind == b"T":
        columns, offset = [], 2
        for _ in range(struct.unpack_from("!h", body)[0]):
            end = body.index(b"\0", offset)
            # A temporary table's identifier is its session's own.
            columns.append((body[offset:end], *struct.unpack_from("!hihih", body, end + 5)))
            offset = end + 19
        return ("T", *columns)
    if kind in (b"E", b"N"):
        # The endpoint's own have no place in PostgreSQL's sources.
        return (kind.decode(), {name: value for name, value in fields(body).items() if name not in "FLR"})
    if len(body) > 200:
        return (kind.decode(), len(body), hashlib.sha256(body).hexdigest())
    return (kind.decode(), body)


def are_same(node, endpoint):
    """In an aborted transaction a statement that has to be prepared anew there is refused for that before anything else
    is wrong with its Bind."""
    return len(node) == len(endpoint) and all(
        left == right or (left[0] == right[0] == "E" and right[1]["C"] == "25P02" and ("Z", b"E") in node[index:])
        for index, (left, right) in enumerate(zip(node, endpoint)))


def difference(exchanges, expected, found):
    """The first, in words; None if there is none."""
    for number, exchange in enumerate(exchanges):
        node = expected[number] if number < len(expected) else []
        endpoint = found[number] if number < len(found) else []
        if are_same(node, endpoint):
            continue
        differing = (index for index, pair in enumerate(zip(node, endpoint)) if pair[0] != pair[1])
        index = next(differing, min(len(node), len(endpoint)))
        return "\n".join([
            f"exchange {number}, message {index} of {len(node)} and {len(endpoint)}",
            f"sent, cut at {list(exchange.cuts)[:10]}:", *(f"    {kind}" for kind in kinds(exchange.data)[:40]),
            "the node answers, from the message before:", *(f"    {m}" for m in node[max(0, index - 1):index + 3]),
            "the endpoint answers:", *(f"    {m}" for m in endpoint[max(0, index - 1):index + 3]),
        ])
    return None


class DifferentialTestCase(EndpointTestCase):
    """What is written shows in the table `kept`, which has the numbers 1 to 20 at first."""

    TIMES = 3

    @classmethod
    def setUpClass(cls):
        cls.setup = direct(user="app")
        cls.nodes = {name: direct(name) for name in NODES}
        cls.setup.execute("SET client_min_messages = error")
        cls.setup.execute("""
            DROP TABLE IF EXISTS kept, refusing CASCADE; DROP SEQUENCE IF EXISTS kept_numbers;
            CREATE TABLE kept (n int, s text); CREATE SEQUENCE kept_numbers;
            CREATE VIEW kept_view AS SELECT n FROM kept;
            CREATE OR REPLACE FUNCTION kept_add(int) RETURNS int LANGUAGE sql VOLATILE AS
                'INSERT INTO kept VALUES ($1, NULL) RETURNING n';
            CREATE OR REPLACE FUNCTION kept_same(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1';
            CREATE OR REPLACE VIEW kept_writing_view AS SELECT kept_add(1000);
            CREATE TABLE refusing (n int);
            CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                $$BEGIN RAISE 'nothing comes in here'; END$$;
            CREATE TRIGGER refuse BEFORE INSERT ON refusing EXECUTE FUNCTION refuse()
            """)
        cls.reset()

    @classmethod
    def tearDownClass(cls):
        cls.setup.execute("DROP TABLE kept, refusing CASCADE; DROP SEQUENCE kept_numbers")
        cls.setup.execute("DROP FUNCTION refuse, kept_same, kept_add CASCADE")
        for connection in (cls.setup, *cls.nodes.values()):
            connection.close()

    @classmethod
    def reset(cls):
        cls.setup.execute("TRUNCATE kept; INSERT INTO kept SELECT n, 't' FROM generate_series(1, 20) n")
        cls.setup.execute("ALTER SEQUENCE kept_numbers RESTART")

    @classmethod
    def replayed(cls):
        """As endpoint.replayed, by connections that stay."""
        position = value(cls.nodes["primary"], "SELECT pg_current_wal_insert_lsn()::text")
        for name, node in cls.nodes.items():
            if name != "primary":
                question = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn - 40"
                eventually(f"{name} replays {position}", lambda: value(node, question, position))

    def kept(self):
        return self.setup.execute("SELECT n, s FROM kept ORDER BY 1, 2").fetchall()

    def played(self, port, exchanges):
        self.reset()
        if port == PORT:
            self.replayed()
        with Conversation(port) as conversation:
            answers = conversation.log_in().play(exchanges)
        return answers, self.kept()

    def compare(self, exchanges, times=TIMES):
        """Several times through the endpoint, so that it begins with different nodes."""
        expected, contents = self.played(PRIMARY, exchanges)
        assert ("silence",) not in expected[-1], f"PostgreSQL itself keeps silent: {expected}"
        for _ in range(times):
            found, found_contents = self.played(PORT, exchanges)
            problem = difference(exchanges, expected, found)
            if problem:
                self.fail(problem)
            self.assertEqual(found_contents, contents)
