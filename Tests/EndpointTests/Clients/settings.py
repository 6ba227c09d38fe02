"""What a session asks of the endpoint: SET, RESET and SHOW of slipstream.*, which no server sees."""

import asyncio
import contextlib
import random
import threading
import time

import asyncpg
import psycopg
from psycopg import errors

from endpoint import (
    HOST,
    NODES,
    PORT,
    PRIMARY,
    EndpointTestCase,
    connect,
    eventually,
    main,
    password_of,
    places,
    places_of_new_sessions,
    replayed,
    table,
    value,
)
from freshness import PAIRS, SEED, SITUATIONS, paused
from wire import Wire

EVERYWHERE = set(NODES.values())
STANDBYS = EVERYWHERE - {PRIMARY}
DEFAULTS = {"consistency": "session", "key": "", "max_staleness": "0", "notices": "off", "report_token": "off", "route": "auto", "token": ""}


def shown(connection, name):
    return value(connection, f"SHOW slipstream.{name}")


class Settings(EndpointTestCase):
    def test_defaults(self):
        with connect() as session:
            for name, default in DEFAULTS.items():
                self.assertEqual(shown(session, name), default)

    def test_set_and_reset(self):
        with connect() as session:
            for text in ("SET slipstream.key = 'a''b'", "set slipstream.KEY to 'a''b';", "SET SESSION slipstream.key='a''b'"):
                self.assertEqual(session.execute(text).statusmessage, "SET")
                self.assertEqual(shown(session, "key"), "a'b")
                self.assertEqual(session.execute("RESET slipstream.key").statusmessage, "RESET")
                self.assertEqual(shown(session, "key"), "")
            session.execute("SET slipstream.max_staleness = '1.5s'")
            self.assertEqual(shown(session, "max_staleness"), "1500ms")
            session.execute("SET slipstream.max_staleness TO DEFAULT")
            self.assertEqual(shown(session, "max_staleness"), "0")

    def test_by_extended_protocol(self):
        async def run():
            session = await asyncpg.connect(host=HOST, port=PORT, user="app", database="app", password=password_of("app"))
            try:
                for _ in range(3):
                    for text, expected in (("SET slipstream.key = 'k'", "k"), ("RESET slipstream.key", "")):
                        statement = await session.prepare(text)
                        self.assertEqual(await statement.fetch(), [])
                        self.assertEqual(await session.fetchval("SHOW slipstream.key"), expected)
                with self.assertRaisesRegex(asyncpg.PostgresError, "unrecognized configuration parameter"):
                    await session.fetchval("SHOW slipstream.nothing")
                async with session.transaction():
                    self.assertEqual(await session.fetchval("SHOW slipstream.key"), "")
                self.assertEqual(await session.fetchval("SELECT $1::int", 7), 7)
            finally:
                await session.close()

        asyncio.run(run())
        with connect() as session:
            session.execute("SET slipstream.key = 'k'", prepare=True)
            for _ in range(3):
                self.assertEqual(session.execute("SHOW slipstream.key", prepare=True, binary=True).fetchone(), ("k",))
            with session.pipeline():
                answers = [session.execute(text) for text in ("SET slipstream.key = 'l'", "SHOW slipstream.key")]
                self.assertEqual(answers[1].fetchone(), ("l",))
                answers = [session.execute(text) for text in ("SELECT 1", "SET slipstream.key = 'm'", "SELECT 'm'")]
                self.assertEqual(answers[2].fetchone(), ("m",))
            self.assertEqual(shown(session, "key"), "m")

    def test_what_is_wrong_is_told_and_changes_nothing(self):
        with connect() as session:
            session.execute("SET slipstream.key = 'k'")
            for text, error in (
                ("SET slipstream.nothing = 1", errors.UndefinedObject),
                ("SHOW slipstream.nothing", errors.UndefinedObject),
                ("SET slipstream.consistency = 'perfect'", errors.InvalidParameterValue),
                ("SET slipstream.max_staleness = 'soon'", errors.InvalidParameterValue),
                ("SET slipstream.token = 'x'", errors.InvalidParameterValue),
                (f"SET slipstream.key = '{'k' * 256}'", errors.InvalidParameterValue),
            ):
                for prepare in (False, True):
                    with self.subTest(text, prepare=prepare), self.assertRaises(error):
                        session.execute(text, prepare=prepare)
            self.assertEqual({name: shown(session, name) for name in DEFAULTS}, {**DEFAULTS, "key": "k"})

    def test_transactions(self):
        with connect() as session, table("n int") as t:
            def key_after(*statements):
                session.execute("SET slipstream.key = 'before'")
                for statement in statements:
                    session.execute(statement)
                return shown(session, "key")

            change = "SET slipstream.key = 'in it'"
            for write in ("SELECT 1", f"INSERT INTO {t} VALUES (1)"):
                self.assertEqual(key_after("BEGIN", write, change, "COMMIT"), "in it")
                self.assertEqual(key_after("BEGIN", write, change, "ROLLBACK"), "before")
                self.assertEqual(key_after("BEGIN", write, "SET LOCAL slipstream.key = 'in it'"), "in it")
                session.execute("COMMIT")
                self.assertEqual(shown(session, "key"), "before")
            session.execute("BEGIN")
            with self.assertRaises(errors.DivisionByZero):
                session.execute("SELECT 1/0")
            for statement in (change, "SHOW slipstream.key"):
                with self.assertRaises(errors.InFailedSqlTransaction):
                    session.execute(statement)
            session.execute("ROLLBACK")
            self.assertEqual(shown(session, "key"), "before")

    def test_what_resets_everything_resets_them(self):
        with connect() as session:
            for reset in ("RESET ALL", "DISCARD ALL"):
                session.execute("SET slipstream.key = 'k'")
                session.execute(reset)
                self.assertEqual(shown(session, "key"), "")

    def test_with_the_connection(self):
        for options in ("-c slipstream.key=k", "-cslipstream.key=k -c work_mem=5MB", r"--slipstream.key=k\ l --work-mem=5MB"):
            with self.subTest(options), connect(options=options) as session:
                self.assertEqual(shown(session, "key")[0], "k")
                if "work" in options:
                    self.assertEqual(value(session, "SHOW work_mem"), "5MB")
                with self.assertRaises(errors.UndefinedObject):
                    session.execute("SELECT current_setting('slipstream.key')")
        with self.assertRaisesRegex(psycopg.OperationalError, "invalid value for parameter"):
            connect(options="-c slipstream.consistency=perfect")

    def test_in_other_ways(self):
        with connect() as session:
            for text, parameters in (
                ("SELECT set_config('slipstream.key', %s, false)", ["k"]),
                ("SELECT 1; SET slipstream.key = 'k'", None),
                ("SET \"slipstream\".\"KEY\" = 'k'", None),
                ("SET \"slipstream.key\" TO k", None),
            ):
                with self.subTest(text):
                    session.execute("RESET slipstream.key")
                    session.execute(text, parameters)
                    self.assertEqual(shown(session, "key"), "k")

    def test_nobody_else_has_them(self):
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(connect())
            first.execute("SET slipstream.key = 'mine'")
            first.execute("SELECT set_config('slipstream.route', 'primary', false)")
            for _ in range(30):
                other = stack.enter_context(connect())
                self.assertEqual(shown(other, "key"), "")
                self.assertIn(value(other, "SELECT current_setting('slipstream.route', true)"), (None, ""))
                self.assertEqual(places(first, 3), {PRIMARY})


class Effects(EndpointTestCase):
    def test_route(self):
        with connect() as session:
            session.execute("SET slipstream.route = 'primary'")
            self.assertEqual(places(session), {PRIMARY})
            session.execute("SET slipstream.route = 'standby'")
            # What it has read on the primary the standbys have soon.
            eventually("only the standbys serve it", lambda: places(session) == STANDBYS)
            session.execute("RESET slipstream.route")
            eventually("all nodes serve it", lambda: places(session) == EVERYWHERE)

    def test_consistency(self):
        with table("n int") as t, connect() as session, paused():
            session.execute(f"INSERT INTO {t} VALUES (1)")
            self.assertEqual(places(session), {PRIMARY})
            session.execute("SET slipstream.consistency = 'eventual'")
            self.assertEqual(places(session), EVERYWHERE)
            session.execute(f"INSERT INTO {t} VALUES (1)")
            session.execute("SET slipstream.consistency = 'session'")
            self.assertEqual(places(session), {PRIMARY})
            self.assertEqual(places_of_new_sessions(), EVERYWHERE)
            self.assertEqual(places_of_new_sessions(10, "SET slipstream.consistency = 'global'"), {PRIMARY})

    def test_key(self):
        with table("n int") as t, connect() as writer, paused():
            writer.execute("SET slipstream.key = 'user:42'")
            writer.execute(f"INSERT INTO {t} VALUES (1)")
            options = "-c slipstream.consistency=key -c slipstream.key=user:"
            self.assertEqual(places_of_new_sessions(options=options + "42"), {PRIMARY})
            self.assertEqual(places_of_new_sessions(options=options + "43"), EVERYWHERE)

    def test_who_has_the_key_reads_what_was_written(self):
        for situation in SITUATIONS:
            with self.subTest(situation.__name__, seed=SEED), table("k int, n int") as t, contextlib.ExitStack() as stack:
                keys = range(4)
                sessions = {key: [stack.enter_context(connect()) for _ in range(4)] for key in keys}
                for key in keys:
                    sessions[key][0].execute(f"INSERT INTO {t} VALUES (%s, -1)", [key])
                    for session in sessions[key]:
                        session.execute("SET slipstream.consistency = 'key'")
                        session.execute(f"SET slipstream.key = 'user:{key}'")
                with situation():
                    for number in range(PAIRS):
                        key = random.choice(keys)
                        writer, reader = random.sample(sessions[key], 2)
                        writer.execute(f"UPDATE {t} SET n = %s WHERE k = %s", [number, key])
                        self.assertEqual(value(reader, f"SELECT n FROM {t} WHERE k = %s", key), number)


    def test_max_staleness(self):
        with table("n int") as t, connect() as session:
            session.execute("SET slipstream.consistency = 'eventual'")
            session.execute("SET slipstream.max_staleness = '400ms'")
            hinted = "/* slipstream: max_staleness=400ms */ SELECT inet_server_port()"
            with paused():
                with connect() as writer:
                    writer.execute(f"INSERT INTO {t} VALUES (1)")
                time.sleep(0.6)
                self.assertEqual(places(session), {PRIMARY})
                session.execute("RESET slipstream.max_staleness")
                self.assertEqual(places(session), EVERYWHERE)
                self.assertEqual({value(session, hinted) for _ in range(30)}, {PRIMARY})
                for form in ("max_staleness=nonsense", "max_staleness%3D0.4s'", "max_staleness: 400 ms"):
                    text = f"SELECT inet_server_port() /*slipstream='{form}*/"
                    self.assertEqual({value(session, text) for _ in range(10)}, {PRIMARY}, form)
            replayed()
            session.execute("SET slipstream.max_staleness = '400ms'")
            eventually("the standbys serve it", lambda: places(session) == EVERYWHERE)
            self.assertEqual(eventually("and by hint", lambda: {value(session, hinted) for _ in range(30)} == EVERYWHERE), True)


class Tokens(EndpointTestCase):
    def test_who_has_the_token_sees_the_write(self):
        with table("n int") as t, connect() as writer:
            with paused():
                writer.execute(f"INSERT INTO {t} VALUES (1)")
                token = shown(writer, "token")
                self.assertRegex(token, r"^\d+:[0-9A-F]+/[0-9A-F]+$")
                self.assertEqual(places_of_new_sessions(10, f"SET slipstream.token = '{token}'"), {PRIMARY})
                self.assertEqual(places_of_new_sessions(), EVERYWHERE)
                with connect(options=f"-c slipstream.token={token}") as reader:
                    self.assertEqual(places(reader), {PRIMARY})
                    self.assertEqual(shown(reader, "token"), token)
            replayed()
            with connect() as reader:
                reader.execute(f"SET slipstream.token = '{token}'")
                eventually("the standbys serve it", lambda: places(reader) == EVERYWHERE)

    def test_tokens_carry_what_was_written_from_session_to_session(self):
        for situation in SITUATIONS:
            with self.subTest(situation.__name__), table("n int") as t, connect() as writer, connect() as reader:
                writer.execute(f"INSERT INTO {t} VALUES (-1)")
                with situation():
                    for number in range(PAIRS // 4):
                        writer.execute(f"UPDATE {t} SET n = %s", [number])
                        reader.execute(f"SET slipstream.token = '{shown(writer, 'token')}'")
                        self.assertEqual(value(reader, f"SELECT n FROM {t}"), number)

    def test_one_of_an_older_timeline_is_safe(self):
        """What was on it and survived is behind the first probe of the new one."""
        with connect() as session:
            session.execute("SET slipstream.token = '1:FFFFFFFF/FFFFFFFF'")
            self.assertEqual(places(session), {PRIMARY})

    def test_one_of_the_future_is_waited_for_and_can_be_cancelled(self):
        with connect() as session:
            timer = threading.Timer(0.3, session.cancel)
            timer.start()
            with self.assertRaises(errors.QueryCanceled):
                session.execute("SET slipstream.token = '4294967295:0/1'")
            timer.join()
            self.assertEqual(value(session, "SELECT 1"), 1)

    def test_the_client_is_told_when_it_asks(self):
        with table("n int") as t, connect() as session:
            session.execute("SET slipstream.report_token = on")
            seen = set()

            def told():
                session.execute("SELECT 1")
                token = session.pgconn.parameter_status(b"slipstream.token")
                return token not in seen and token

            for number in range(5):
                session.execute(f"INSERT INTO {t} VALUES (1)")
                token = eventually("a token is told", told)
                seen.add(token)
                self.assertEqual(token.decode(), shown(session, "token"))


if __name__ == "__main__":
    main()
