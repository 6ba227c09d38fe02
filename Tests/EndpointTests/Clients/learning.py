"""What only a standby refuses is remembered, and told; where statements go is explained."""

import asyncio
import contextlib
import os
import subprocess

import asyncpg
from psycopg import errors

from endpoint import (
    HOST, NODES, PORT, PRIMARY, EndpointTestCase, connect, direct, eventually, main, password_of, place, places, replayed, table, value,
)
from freshness import STANDBYS, on_standbys, paused
from wire import Wire, message, query

COLUMNS = ["database", "fingerprint", "sqlstate", "statement", "count", "learned_at"]


def learned(connection=None):
    """What SHOW LEARNED tells, by statement."""
    with contextlib.ExitStack() as stack:
        rows = (connection or stack.enter_context(connect())).execute("SHOW LEARNED")
        assert [column.name for column in rows.description] == COLUMNS
        return {row[3]: dict(zip(COLUMNS, row)) for row in rows}


def forget():
    with connect() as session:
        assert session.execute("RESET slipstream.learned").statusmessage == "RESET"


@contextlib.contextmanager
def objects(create, drop):
    """On every node, and nothing learned of them before or after."""
    with direct(user="app") as setup:
        setup.execute(drop)
        setup.execute(create)
    replayed()
    forget()
    try:
        yield
    finally:
        with direct(user="app") as setup:
            setup.execute(drop)
        forget()


def hiding():
    """A view over a function that writes looks like a table."""
    return objects(
        """CREATE TABLE hidden_table (n int);
        CREATE FUNCTION hidden(int) RETURNS int LANGUAGE sql VOLATILE AS 'INSERT INTO hidden_table VALUES ($1) RETURNING n';
        CREATE VIEW hiding AS SELECT n, hidden(n) FROM generate_series(1, 1) n""",
        "DROP VIEW IF EXISTS hiding; DROP FUNCTION IF EXISTS hidden(int); DROP TABLE IF EXISTS hidden_table",
    )


def unlogged():
    return objects("CREATE UNLOGGED TABLE not_there (n int)", "DROP TABLE IF EXISTS not_there")


def teach(query, text, parameters=None):
    """Runs a statement on standbys until it is learned."""
    with connect() as session:
        def ran():
            session.execute("/* slipstream: standby */ " + query, parameters)
            return text in learned()

        eventually(f"{text} is learned", ran)
    # On every worker.
    for _ in range(8):
        eventually("all know", lambda: text in learned())


class Learning(EndpointTestCase):
    def test_what_a_standby_refuses_is_sent_there_once(self):
        with hiding():
            teach("SELECT * FROM hiding WHERE n = 1", "select * from hiding where n = ?")
            row = learned()["select * from hiding where n = ?"]
            self.assertEqual((row["database"], row["sqlstate"]), ("app", "25006"))
            self.assertRegex(row["fingerprint"], "^[0-9a-f]{16}$")
            self.assertRegex(row["learned_at"], r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00$")
            with direct() as primary:
                before = value(primary, "SELECT count(*) FROM hidden_table")
            told_before = refusals_of("hiding")
            with connect() as session, connect() as other, Wire() as wire:
                wire.log_in()
                for number in range(20):
                    session.execute("/* slipstream: standby */ select * from HIDING where n = 1")
                    other.execute("/* slipstream: standby */ SELECT * FROM hiding WHERE n = %s", [1], prepare=number % 2 == 0)
                    wire.ask("/* slipstream: standby */ SELECT * FROM hiding WHERE n = 1")
            with direct() as primary:
                self.assertEqual(value(primary, "SELECT count(*) FROM hidden_table"), before + 60)
            self.assertEqual(refusals_of("hiding"), told_before)
            self.assertGreaterEqual(int(learned()["select * from hiding where n = ?"]["count"]), 60)

    def test_what_is_learned_is_a_write(self):
        """Also where it runs on the primary in the first place, and in a transaction."""
        with hiding():
            teach("SELECT * FROM hiding", "select * from hiding")
            with paused(), connect() as session:
                self.assertEqual(places(session), set(NODES.values()))
                session.execute("SELECT * FROM hiding")
                self.assertEqual(places(session), {PRIMARY})
            replayed()
            with paused(), connect() as session:
                with session.transaction():
                    session.execute("SELECT * FROM hiding")
                self.assertEqual(places(session), {PRIMARY})

    def test_what_is_not_replicated(self):
        with unlogged():
            teach("SELECT count(*) FROM not_there", "select count(*) from not_there")
            self.assertEqual(learned()["select count(*) from not_there"]["sqlstate"], "0A000")
            with connect() as session:
                session.execute("BEGIN READ ONLY")
                self.assertEqual(value(session, "SELECT count(*) FROM not_there"), 0)
                self.assertEqual(place(session), PRIMARY)
                session.execute("COMMIT")

    def test_of_several_statements_the_one_that_was_refused(self):
        """If the answer to the first was shown before the second was refused, they cannot be repeated."""
        def extended(text):
            bind = message(b"B", b"\0\0" + b"\0" * 6)
            return message(b"P", b"\0" + text + b"\0\0\0") + bind + message(b"E", b"\0\0\0\0\0")

        unit = extended(b"/* slipstream: standby */ SELECT 17") + extended(b"SELECT n FROM not_there") + message(b"S")
        with unlogged(), Wire() as wire:
            wire.log_in()

            def ran():
                wire.send(unit)
                answers = wire.until()
                self.assertIn(b"\0\1\0\0\0\x0217", [body for kind, body in answers if kind == b"D"])
                return "select n from not_there" in learned()

            eventually("it is learned", ran)
            self.assertEqual(list(learned()), ["select n from not_there"])

    def test_what_is_not_learned(self):
        forget()
        with table("n int") as t, connect() as session:
            for query, error in (("SELECT 1/n FROM (VALUES (0)) v(n)", errors.DivisionByZero), ("SELECT * FROM nowhere", errors.UndefinedTable)):
                for _ in range(5):
                    with self.assertRaises(error):
                        session.execute("/* slipstream: standby */ " + query)
            # A setting of the session's is to blame.
            session.execute("SET default_transaction_isolation = serializable")
            for _ in range(10):
                session.execute(f"/* slipstream: standby */ SELECT * FROM {t}")
            session.execute("RESET default_transaction_isolation")
            # On the primary, too, it is an error.
            with hiding_read_only(session):
                for _ in range(5):
                    with self.assertRaises(errors.ReadOnlySqlTransaction):
                        session.execute("/* slipstream: standby */ SELECT * FROM hiding")
            self.assertEqual(learned(), {})

    def test_it_is_forgotten(self):
        with hiding():
            teach("SELECT * FROM hiding", "select * from hiding")
            with connect() as session:
                for wrong in ("SET slipstream.learned = 1", "SET slipstream.learned TO DEFAULT"):
                    with self.assertRaises(errors.CantChangeRuntimeParam):
                        session.execute(wrong)
                self.assertIn("select * from hiding", learned(session))
                session.execute("RESET slipstream.learned")
                self.assertEqual(learned(session), {})
            eventually("all have forgotten", lambda: learned() == {})

    def test_it_is_tried_again_when_definitions_have_changed(self):
        with hiding():
            teach("SELECT n FROM hiding", "select n from hiding")
            with connect() as session:
                session.execute("CREATE OR REPLACE VIEW hiding AS SELECT n, n AS hidden FROM generate_series(1, 1) n")
            eventually("it is forgotten", lambda: learned() == {})
            replayed()
            with connect() as session:
                query = "/* slipstream: standby */ SELECT inet_server_port() FROM hiding"
                eventually("standbys serve it", lambda: value(session, query) != PRIMARY)
            self.assertEqual(learned(), {})

    def test_a_standby_that_has_old_definitions_teaches_nothing(self):
        with hiding():
            teach("SELECT n FROM hiding", "select n from hiding")
            with paused():
                with connect() as session:
                    session.execute("CREATE OR REPLACE VIEW hiding AS SELECT n, n AS hidden FROM generate_series(1, 1) n")
                eventually("it is forgotten", lambda: learned() == {})
                with connect() as other:
                    for _ in range(20):
                        other.execute("/* slipstream: standby */ SELECT n FROM hiding")
                self.assertEqual(learned(), {})

    def test_by_extended_protocol(self):
        async def run():
            session = await asyncpg.connect(host=HOST, port=PORT, user="app", database="app", password=password_of("app"))
            try:
                for _ in range(3):
                    for query in ("SHOW LEARNED", "SHOW slipstream.learned"):
                        rows = await session.fetch(query)
                        self.assertEqual([row["statement"] for row in rows], ["select * from hiding"])
                        self.assertEqual(list(rows[0].keys()), COLUMNS)
            finally:
                await session.close()

        with hiding():
            teach("SELECT * FROM hiding", "select * from hiding")
            asyncio.run(run())
        self.assertEqual(learned(), {})


def plan(connection, statement, **how):
    """The lines of EXPLAIN (ROUTE), by what stands before the colon."""
    rows = connection.execute("EXPLAIN (ROUTE) " + statement, **how)
    assert rows.statusmessage == "EXPLAIN" and [column.name for column in rows.description] == ["ROUTE PLAN"]
    return dict(line.split(": ", 1) for (line,) in rows)


class Explaining(EndpointTestCase):
    def test_writes_and_reads(self):
        with connect() as session:
            for how in ({}, {"prepare": True}, {"prepare": True, "binary": True}):
                self.assertEqual(
                    plan(session, "INSERT INTO nowhere VALUES (1)", **how),
                    {"Class": "write", "Reason": "INSERT is not a read", "Goes to": "primary"},
                )
                read = plan(session, "SELECT 1", **how)
                self.assertEqual((read["Class"], read["Reason"], read["Must see"]), ("read", "only reads", "nothing"))
                self.assertEqual({read[name].split(",")[0] for name in NODES}, {"yes"})
                self.assertEqual(read["Goes to"], "standby1 40 %, standby2 40 %, primary 20 %")
            for statement, goes_to, reason in (
                ("SELECT nextval('s')", "primary", "calls the volatile function nextval"),
                ("/* slipstream: standby */ SELECT 1", "standby1 50 %, standby2 50 %", "a comment asks for a standby"),
                ("/* slipstream: primary */ SELECT 1", "primary", "a comment asks for the primary"),
                ("LISTEN x", "primary", "LISTEN may leave state in the session"),
            ):
                told = plan(session, statement)
                self.assertEqual((told["Goes to"], told["Reason"]), (goes_to, reason))
            # Nothing of it was run.
            self.assertEqual(places(session), set(NODES.values()))

    def test_it_says_what_slipstream_route_says(self):
        program = os.environ["SLIPSTREAM_PROGRAM"]
        with connect() as session:
            for statement in ("SELECT 1", "DELETE FROM t", "SELECT now() FOR UPDATE", "BEGIN READ ONLY", "COMMIT", "VACUUM"):
                told = plan(session, statement)
                command = [program, "route", "--dir", os.environ["SLIPSTREAM_SOCKET_DIRECTORY"], statement]
                route = subprocess.run(command, capture_output=True, check=True, text=True).stdout
                self.assertEqual(route.strip(), f"{told['Goes to']}: {told['Reason']}")

    def test_a_read_after_a_write(self):
        with table("n int") as t, connect() as session:
            with paused():
                session.execute(f"INSERT INTO {t} VALUES (1)")
                token = value(session, "SHOW slipstream.token")
                told = plan(session, f"SELECT * FROM {t}")
                self.assertEqual((told["Class"], told["Must see"], told["Goes to"]), ("read", token, "primary 100 %"))
                self.assertEqual({told[name] for name in STANDBYS}, {"no, it has not replayed that"})
                self.assertEqual(places(session), {PRIMARY})
                session.execute("SET slipstream.consistency = 'eventual'")
                told = plan(session, f"SELECT * FROM {t}")
                self.assertEqual(told["Must see"], "nothing (consistency is eventual)")
                self.assertEqual({told[name].split(",")[0] for name in NODES}, {"yes"})
                session.execute("RESET slipstream.consistency")
            eventually("the standbys serve it", lambda: "standby1 40 %" in plan(session, "SELECT 1")["Goes to"])

    def test_what_a_session_has_asked_for(self):
        with connect() as session:
            session.execute("SET slipstream.route = 'primary'")
            told = plan(session, "SELECT 1")
            self.assertEqual((told["Goes to"], told["Reason"]), ("primary", "only reads, but slipstream.route is primary"))
            session.execute("SET slipstream.route = 'standby'")
            self.assertEqual(plan(session, "SELECT 1")["Goes to"], "standby1 50 %, standby2 50 %")
            session.execute("RESET slipstream.route")
            session.execute("LISTEN x")
            self.assertIn("only its connection to the primary has", plan(session, "SELECT 1")["Reason"])

    def test_in_a_transaction(self):
        with connect() as session:
            session.execute("BEGIN")
            told = plan(session, "SELECT 1")
            self.assertEqual((told["Goes to"], told["Reason"]), ("primary", "only reads; the transaction is there"))
            session.execute("ROLLBACK")

    def test_what_is_learned(self):
        with unlogged():
            teach("SELECT count(*) FROM not_there", "select count(*) from not_there")
            with connect() as session:
                told = plan(session, "SELECT count(*) FROM not_there")
                self.assertEqual((told["Goes to"], told["Reason"]), ("primary", "only reads, but a standby has refused it"))

    def test_by_extended_protocol_with_parameters(self):
        async def run():
            session = await asyncpg.connect(host=HOST, port=PORT, user="app", database="app", password=password_of("app"))
            try:
                for _ in range(2):
                    rows = await session.fetch("EXPLAIN (ROUTE) SELECT $1, $2::int", "a", "b")
                    self.assertEqual(rows[0]["ROUTE PLAN"], "Class: read")
            finally:
                await session.close()

        asyncio.run(run())

    def test_what_it_is_not(self):
        with connect() as session:
            for statement in ("EXPLAIN (ROUTE)", "EXPLAIN (ROUTE) SELECT 1; SELECT 2", "EXPLAIN (ROUTE, COSTS off) SELECT 1"):
                with self.assertRaises(errors.SyntaxError):
                    session.execute(statement)


class Notices(EndpointTestCase):
    @contextlib.contextmanager
    def told(self):
        """A session that is told, and what it was told since the last look."""
        with connect() as session:
            notices = []
            session.add_notice_handler(lambda notice: notices.append((notice.message_primary, notice.message_detail)))
            session.execute("SET slipstream.notices = on")

            def look():
                found = notices[:]
                notices.clear()
                return found

            yield session, look

    def test_each_statement_is_told(self):
        with self.told() as (session, look):
            names = {port: name for name, port in NODES.items()}
            for how in ({}, {"prepare": True}):
                for _ in range(10):
                    (port,) = session.execute("SELECT inet_server_port()", **how).fetchone()
                    ((message, detail),) = look()
                    self.assertEqual(message, f"slipstream: ran on {names[port]}: read")
                    self.assertRegex(detail, "Reason: only reads\nMust see: .*\nprimary: yes, weight 1\n")
            session.execute("/* slipstream: primary */ SELECT 1")
            self.assertEqual(look()[0][1], "Reason: a comment asks for the primary\nGoes to: primary")
            with self.assertRaises(errors.UndefinedTable):
                session.execute("/* slipstream: standby */ SELECT * FROM nowhere")
            detail = "Reason: a comment asks for a standby, but a standby has refused it\nGoes to: primary"
            self.assertEqual(look(), [("slipstream: ran on primary: read", detail)])
            with self.assertRaises(errors.UndefinedTable):
                session.execute("DELETE FROM nowhere")
            self.assertEqual([message for message, _ in look()], ["slipstream: ran on primary: write"])

    def test_in_transactions_and_pipelines(self):
        with self.told() as (session, look):
            for statement in ("BEGIN", "SELECT 1", "COMMIT"):
                session.execute(statement)
            self.assertEqual(
                [(message, detail.split("\n")[0]) for message, detail in look()],
                [
                    ("slipstream: ran on primary: begin of a transaction", "Reason: begins a transaction"),
                    ("slipstream: ran on primary: read", "Reason: only reads; the transaction is there"),
                    ("slipstream: ran on primary: end of a transaction", "Reason: ends a transaction; the transaction is there"),
                ],
            )
            with session.pipeline():
                answers = [session.execute("SELECT %s::int", [number]) for number in range(5)]
                self.assertEqual([answer.fetchone() for answer in answers], [(number,) for number in range(5)])
            self.assertTrue(look())

    def test_no_more_when_it_is_off(self):
        with self.told() as (session, look):
            session.execute("SET slipstream.notices = off")
            session.execute("SELECT 1")
            session.execute("RESET slipstream.notices")
            session.execute("SHOW slipstream.token")
            self.assertEqual(look(), [])
        with connect(options="-c slipstream.notices=on") as session:
            notices = []
            session.add_notice_handler(notices.append)
            session.execute("SELECT 1")
            self.assertEqual(len(notices), 1)

    def test_what_is_told_does_not_disturb_the_answer(self):
        with Wire() as wire:
            wire.log_in()
            wire.ask("SET slipstream.notices = on")
            for count in (0, 1, 1000, 200_000):
                wire.send(query(f"SELECT repeat('x', 100) FROM generate_series(1, {count})"))
                kinds = [kind for kind, _ in wire.until()]
                self.assertEqual(kinds, [b"T", *[b"D"] * count, b"C", b"N", b"Z"])


class Off(EndpointTestCase):
    """`routing: off`."""

    def test_everything_runs_on_the_primary(self):
        with connect() as session:
            self.assertEqual(places(session), {PRIMARY})
            session.execute("SET slipstream.route = 'standby'")
            self.assertEqual(places(session), {PRIMARY})
            told = plan(session, "SELECT 1")
            self.assertEqual((told["Goes to"], told["Reason"]), ("primary", "only reads, but routing is off"))
            self.assertEqual(plan(session, "DELETE FROM t")["Reason"], "DELETE is not a read")
            self.assertEqual(session.execute("SHOW slipstream.shadow").fetchall(), [])


class Shadow(EndpointTestCase):
    """`routing: shadow`."""

    def counted(self):
        """What SHOW slipstream.shadow tells: counts by place, class and reason."""
        with connect() as session:
            rows = session.execute("SHOW slipstream.shadow")
            self.assertEqual([column.name for column in rows.description], ["where", "class", "why", "count", "share"])
            return {row[:3]: int(row[3]) for row in rows}

    def setUp(self):
        with connect() as session:
            self.assertEqual(session.execute("RESET slipstream.shadow").statusmessage, "RESET")
        self.assertEqual(self.counted(), {})

    def test_what_would_have_gone_where(self):
        with table("n int") as t:
            with contextlib.ExitStack() as stack:
                # On both workers.
                sessions = [stack.enter_context(connect()) for _ in range(8)]
                for number in range(30):
                    for session in sessions:
                        self.assertEqual(place(session), PRIMARY)
                        session.execute(f"SELECT n FROM {t} WHERE n = %s", [number], prepare=number % 2 == 0)
                with sessions[0].transaction():
                    sessions[0].execute("SELECT 1")
                with paused():
                    sessions[0].execute(f"INSERT INTO {t} VALUES (1)")
                    eventually("it is known where the write is", lambda: value(sessions[0], "SHOW slipstream.token"))
                    for _ in range(10):
                        sessions[0].execute(f"SELECT max(n) FROM {t}")
                told = plan(sessions[1], "SELECT 1")["Goes to"]
                self.assertRegex(told, "^primary, for routing is shadow; otherwise standby1 67 %, primary 33 %$")
            counts = self.counted()
            for what, expected in (
                (("primary", "write", "it is not proven to be a read"), 1),
                (("primary", "begin of a transaction", "it is not proven to be a read"), 1),
                (("primary", "read", "the transaction is there"), 1),
                (("primary", "read", "no standby has replayed what it must see"), 10),
            ):
                self.assertEqual(counts.pop(what), expected, what)
            standby = counts[("standby", "read", "a standby may serve it")]
            self.assertEqual(standby + counts[("primary", "read", "by weight")], 2 * 30 * 8)
            # Two of three, by weight.
            self.assertTrue(abs(standby - 320) <= 10, standby)
            statements = {why: count for (_, kind, why), count in counts.items() if kind == "statement in app"}
            self.assertEqual(set(statements), {"select inet_server_port()", f"select n from {t} where n = ?"})
            self.assertEqual(sum(statements.values()), standby)


def refusals_of(name):
    """How often the standbys' logs say that they refused a statement that names this."""
    count = 0
    for node in STANDBYS:
        with open(f"{os.environ['SLIPSTREAM_SOCKET_DIRECTORY']}/nodes/{node}/server.log", errors="replace") as log:
            count += sum("STATEMENT" in line and name.lower() in line.lower() for line in log)
    return count


@contextlib.contextmanager
def hiding_read_only(session):
    with hiding():
        session.execute("SET default_transaction_read_only = on")
        try:
            yield
        finally:
            session.execute("RESET default_transaction_read_only")


class Kept(EndpointTestCase):
    """Across a restart: the program that runs this restarts in between."""

    def test_1_before(self):
        with direct(user="app") as setup:
            setup.execute("CREATE UNLOGGED TABLE not_there (n int)")
        replayed()
        teach("SELECT count(*) FROM not_there", "select count(*) from not_there")

    def test_2_after(self):
        row = learned()["select count(*) from not_there"]
        before = refusals_of("not_there")
        with connect() as session:
            for _ in range(10):
                session.execute("/* slipstream: standby */ SELECT count(*) FROM not_there")
        self.assertEqual(refusals_of("not_there"), before)
        self.assertEqual(int(learned()["select count(*) from not_there"]["count"]), int(row["count"]) + 10)
        with direct(user="app") as setup:
            setup.execute("DROP TABLE not_there")


if __name__ == "__main__":
    main()
