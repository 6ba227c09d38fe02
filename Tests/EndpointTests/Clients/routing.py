"""Where statements go, seen from the client: by the port of the node that answers."""

import collections
import time

from psycopg import errors

from endpoint import (
    NODES,
    PRIMARY,
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


def session(**parameters):
    """Prepares nothing by itself: a statement's first Parse goes to the primary."""
    return connect(prepare_threshold=None, **parameters)


class Reads(EndpointTestCase):
    def test_they_spread(self):
        with session() as connection:
            # The choice is by turns, so a session that is alone sees its share exactly.
            share = {port: 20 if port == PRIMARY else 40 for port in ALL}
            eventually("every node gets its share", lambda: collections.Counter(
                place(connection) for _ in range(100)) == share)

    def test_extended_queries_spread_too(self):
        with session() as connection:
            eventually("all nodes answer", lambda: {
                value(connection, "SELECT inet_server_port() + %s::int", 0) for _ in range(30)} == ALL)

    def test_a_read_only_transaction_may_run_on_a_standby_and_stays_there(self):
        with session() as connection:
            def seen():
                seen = set()
                for _ in range(15):
                    connection.execute("BEGIN READ ONLY")
                    where = places(connection, 5)
                    self.assertEqual(len(where), 1)
                    connection.execute("COMMIT")
                    seen |= where
                return seen

            eventually("all nodes have run transactions", lambda: seen() == ALL)

    def test_a_transaction_stays_on_the_primary(self):
        with session() as connection:
            for begin in ("BEGIN", "START TRANSACTION", "BEGIN ISOLATION LEVEL SERIALIZABLE"):
                connection.execute(begin)
                self.assertEqual(places(connection, 10), {PRIMARY})
                connection.execute("ROLLBACK")
            # Nothing was written.
            self.assertNotEqual(places(connection), {PRIMARY})

    def test_a_snapshot_is_one_of_its_transaction(self):
        with table("n int") as t, session() as reader, session() as writer:
            reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            before = value(reader, f"SELECT count(*) FROM {t}")
            for _ in range(10):
                writer.execute(f"INSERT INTO {t} VALUES (1)")
                self.assertEqual(value(reader, f"SELECT count(*) FROM {t}"), before)
            reader.execute("COMMIT")


class Hints(EndpointTestCase):
    """What a comment asks for."""

    def asked(self, connection, comment, count=30):
        return {value(connection, comment.format("SELECT inet_server_port()")) for _ in range(count)}

    def test_a_comment_asks_for_the_primary_or_a_standby(self):
        with session() as connection:
            for comment in ("/* slipstream: primary */ {}", "{} /*slipstream='primary',traceparent='00-1-2-01'*/",
                            "/*application='shop',slipstream='primary'*/ {}"):
                self.assertEqual(self.asked(connection, comment), {PRIMARY}, comment)
            for comment in ("/* slipstream: standby */ {}", "{} /*action='list',slipstream='standby'*/"):
                self.assertEqual(self.asked(connection, comment), ALL - {PRIMARY}, comment)
            for comment in ("/* slipstream: elsewhere */ {}", "/* primary */ {}", "/* notslipstream: primary */ {}"):
                self.assertEqual(self.asked(connection, comment), ALL, comment)

    def test_a_standby_that_was_asked_for_has_what_the_session_wrote(self):
        with table("n int") as t, session() as connection:
            for n in range(100):
                connection.execute(f"INSERT INTO {t} VALUES (%s)", [n])
                self.assertEqual(value(connection, f"/* slipstream: standby */ SELECT count(*) FROM {t}"), n + 1)

    def test_a_comment_makes_no_read_of_a_write(self):
        with table("n int") as t, session() as connection:
            for comment in ("/* slipstream: standby */", "/* slipstream: primary */"):
                connection.execute(f"{comment} INSERT INTO {t} VALUES (1)")
            self.assertEqual(value(connection, f"SELECT count(*) FROM {t}"), 2)


class ToThePrimary(EndpointTestCase):
    def test_what_is_not_a_plain_read(self):
        with direct(user="app") as setup:
            setup.execute("""
                DROP TABLE IF EXISTS target CASCADE; DROP SEQUENCE IF EXISTS numbers CASCADE;
                CREATE TABLE target (n int); INSERT INTO target VALUES (1);
                CREATE SEQUENCE numbers;
                CREATE OR REPLACE FUNCTION writes() RETURNS int LANGUAGE sql VOLATILE AS
                    'INSERT INTO target VALUES (2) RETURNING inet_server_port()';
                """)
        replayed()
        port = "inet_server_port()"
        statements = [
            f"SELECT {port} FROM target LIMIT 1 FOR UPDATE",
            f"SELECT {port} FROM target LIMIT 1 FOR KEY SHARE",
            f"WITH w AS (INSERT INTO target VALUES (3) RETURNING 1) SELECT {port} FROM w",
            f"WITH w AS (DELETE FROM target WHERE n = 3) SELECT {port}",
            "SELECT writes()",
            f"SELECT {port}, nextval('numbers')",
            f"UPDATE target SET n = n RETURNING {port}",
            f"SELECT {port}, set_config('my.setting', 'x', true)",
            f"SELECT {port}, pg_is_in_recovery()",
            f"SELECT {port}, txid_current()",
        ]
        for statement in statements:
            with self.subTest(statement), session() as connection:
                # As many times as any turn could need to come to a standby; each in a session that has not written.
                for _ in range(3):
                    with session() as other:
                        self.assertEqual(other.execute(statement).fetchone()[0], PRIMARY)
                self.assertEqual(connection.execute(statement, None, prepare=True).fetchone()[0], PRIMARY)
        with session() as connection:
            connection.execute("DROP TABLE IF EXISTS selected")
            connection.execute("SELECT inet_server_port() AS port INTO selected")
            self.assertEqual(value(connection, "SELECT port FROM selected"), PRIMARY)
            connection.execute("DROP TABLE selected")
            connection.execute("DROP TABLE target CASCADE; DROP SEQUENCE numbers; DROP FUNCTION writes")

    def test_a_function_made_through_the_endpoint_writes_at_once(self):
        """The functions of a database are read again only now and then: one that is not known counts as a writer."""
        with table("n int") as t, session() as maker:
            for number in range(20):
                name = f"made_{number}"
                maker.execute(f"""CREATE OR REPLACE FUNCTION {name}() RETURNS int LANGUAGE sql VOLATILE
                    AS 'INSERT INTO {t} VALUES ({number}) RETURNING n'""")
                with session() as other:
                    self.assertEqual(value(other, f"SELECT {name}()"), number)
                maker.execute(f"DROP FUNCTION {name}()")
            self.assertEqual(value(maker, f"SELECT count(*) FROM {t}"), 20)


class SessionState(EndpointTestCase):
    def seen(self, connection, count=30):
        """Which nodes answer, and what they say the setting is, both in one statement."""
        return {connection.execute("SELECT inet_server_port(), current_setting('work_mem')").fetchone()
                for _ in range(count)}

    def test_a_setting_holds_on_every_node_and_for_its_session_only(self):
        with session() as connection, session() as other:
            def everywhere(reader, setting):
                """Reads spread, when no write of another test is on its way, and none meets another value."""
                expected = {(port, setting) for port in ALL}

                def seen():
                    found = self.seen(reader)
                    self.assertLessEqual(found, expected)
                    return found == expected

                eventually("reads spread", seen)

            for setting in ("7MB", "8MB"):
                connection.execute(f"SET work_mem = '{setting}'")
                everywhere(connection, setting)
                everywhere(other, "4MB")
            connection.execute("BEGIN")
            connection.execute("SET work_mem = '9MB'")
            connection.execute("ROLLBACK")
            everywhere(connection, "8MB")
            connection.execute("DISCARD ALL")
            eventually("reads spread again", lambda: places(connection) == ALL)
            self.assertEqual({value(connection, "SHOW work_mem") for _ in range(20)}, {"4MB"})

    def test_a_setting_that_standbys_do_not_take_is_no_error(self):
        with session() as connection:
            for setting in ("default_transaction_isolation = 'serializable'", "work_mem = '7MB'", "work_mem = '8MB'"):
                connection.execute(f"SET {setting}")
                self.assertEqual(places(connection), {PRIMARY})
            self.assertEqual(value(connection, "SHOW work_mem"), "8MB")

    def test_state_that_cannot_be_replayed_keeps_the_session_on_the_primary_until_discard_all(self):
        with session() as connection:
            self.assertNotEqual(places(connection), {PRIMARY})
            connection.execute("LISTEN kept_by_routing")
            after = time.monotonic() + 1
            while time.monotonic() < after:
                self.assertEqual(place(connection), PRIMARY)
                time.sleep(0.1)
            connection.execute("DISCARD ALL")
            eventually("reads spread again", lambda: places(connection) == ALL)

    def test_what_lives_in_the_server_session(self):
        with session() as connection:
            connection.execute("CREATE TEMP TABLE mine (n int)")
            connection.execute("INSERT INTO mine VALUES (1)")
            connection.execute("PREPARE p AS SELECT n FROM mine")
            self.assertTrue(value(connection, "SELECT pg_try_advisory_lock(42)"))
            for _ in range(20):
                self.assertEqual(value(connection, "SELECT n FROM mine"), 1)
                self.assertEqual(value(connection, "EXECUTE p"), 1)
            with session() as other:
                self.assertFalse(value(other, "SELECT pg_try_advisory_lock(42)"))
            self.assertTrue(value(connection, "SELECT pg_advisory_unlock(42)"))

    def test_set_local_ends_with_its_transaction(self):
        with session() as connection:
            connection.execute("BEGIN")
            connection.execute("SET LOCAL work_mem = '7MB'")
            self.assertEqual(value(connection, "SHOW work_mem"), "7MB")
            connection.execute("COMMIT")
            self.assertEqual({value(connection, "SHOW work_mem") for _ in range(20)}, {"4MB"})


class SafetyNet(EndpointTestCase):
    """What only a standby refuses, the primary answers; the client sees nothing of it."""

    def test_a_view_over_a_function_that_writes(self):
        with direct(user="app") as setup:
            setup.execute("""
                DROP TABLE IF EXISTS log CASCADE; CREATE TABLE log (n serial);
                CREATE OR REPLACE FUNCTION logged() RETURNS bigint LANGUAGE sql VOLATILE AS
                    'INSERT INTO log DEFAULT VALUES RETURNING n';
                CREATE OR REPLACE VIEW innocent AS SELECT logged() AS n
                """)
        replayed()
        for prepare in (False, True):
            for expected in range(1, 31):
                with session() as connection:
                    number = connection.execute("SELECT n FROM innocent", prepare=prepare).fetchone()[0]
                    self.assertEqual(number, expected + (30 if prepare else 0))
        with direct(user="app") as setup:
            # Every read has written once, and none twice.
            self.assertEqual(value(setup, "SELECT count(*) FROM log"), 60)
            setup.execute("DROP TABLE log CASCADE; DROP VIEW innocent; DROP FUNCTION logged()")


    def test_an_unlogged_table(self):
        with direct(user="app") as setup:
            setup.execute("DROP TABLE IF EXISTS quick; CREATE UNLOGGED TABLE quick AS SELECT 42 AS n")
        replayed()
        with session() as connection:
            for _ in range(30):
                self.assertEqual(value(connection, "SELECT n FROM quick"), 42)
                self.assertEqual(value(connection, "SELECT n + %s FROM quick", 1), 43)
        with direct(user="app") as setup:
            setup.execute("DROP TABLE quick")

    def test_an_error_is_the_primarys(self):
        with session() as connection:
            for _ in range(10):
                with self.assertRaises(errors.UndefinedTable):
                    connection.execute("SELECT * FROM there_is_none")
                with self.assertRaises(errors.DivisionByZero):
                    connection.execute("SELECT 1/0")
                with self.assertRaises(errors.DivisionByZero):
                    # Rows have been sent: no second try, and the error is what the standby said.
                    connection.execute("SELECT 1/(50000 - n) FROM generate_series(1, 100000) n")

    def test_a_table_that_is_not_replayed_yet(self):
        readers = [session() for _ in range(5)]
        with session() as maker:
            for number in range(200):
                name = f"brand_new_{number}"
                maker.execute(f"CREATE TABLE {name} AS SELECT {number} AS n")
                for reader in readers:
                    self.assertEqual(value(reader, f"SELECT n FROM {name}"), number)
                maker.execute(f"DROP TABLE {name}")
        for reader in readers:
            reader.close()

    def test_while_replay_is_paused(self):
        with table("n int") as t, direct("standby1") as one, direct("standby2") as two, session() as connection:
            try:
                for standby in (one, two):
                    standby.execute("SELECT pg_wal_replay_pause()")
                    eventually("replay pauses",
                               lambda: value(standby, "SELECT pg_get_wal_replay_pause_state()") == "paused")
                with session() as maker:
                    maker.execute("CREATE TABLE unseen AS SELECT 7 AS n")
                    maker.execute("CREATE FUNCTION unseen_too() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 8'")
                    maker.execute(f"INSERT INTO {t} VALUES (1)")
                    self.assertEqual(value(maker, f"SELECT count(*) FROM {t}"), 1)
                for _ in range(10):
                    self.assertEqual(value(connection, "SELECT n FROM unseen"), 7)
                for _ in range(10):
                    self.assertEqual(value(connection, "SELECT unseen_too()"), 8)
            finally:
                for standby in (one, two):
                    standby.execute("SELECT pg_wal_replay_resume()")
            connection.execute("DROP TABLE IF EXISTS unseen; DROP FUNCTION IF EXISTS unseen_too()")


if __name__ == "__main__":
    main()
