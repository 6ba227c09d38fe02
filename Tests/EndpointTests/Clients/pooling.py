"""A server connection that many clients share gives away nothing of one to another, and loses nothing of either.

For an endpoint whose pool has one server connection per node, database and user. Every client has a twin without a pool,
and both must see the same (twins.py). Where a client keeps the only connection to itself, because of state that can't be
had elsewhere, nobody asks for another before that client has given it back. With --direct the tests test themselves.

Covered here: settings in every form, transactional too; roles; parameters of startup, of roles and of databases; reported
parameters; PREPARE; temporary objects; cursors, large objects; LISTEN; advisory locks; sequences; setseed; LOAD; DISCARD.
In pooling_protocol.py: what depends on messages, and queues.
"""

import contextlib
import pathlib
import threading
import time

import twins  # first: it decides where the endpoint is
from twins import SUPERUSER, THROUGH, TwinsTestCase

from endpoint import PID, connect, direct, eventually, main, value

# In a transaction, so that it is the primary that tells.
SETTINGS = """
    BEGIN; SELECT name, setting FROM pg_settings WHERE context IN ('user', 'superuser')
    AND name NOT LIKE 'plpgsql.%' ORDER BY name; COMMIT"""
EVERYTHING = [
    SETTINGS,
    "BEGIN; SELECT session_user, current_user, current_setting('role'), current_schemas(false); COMMIT",
    "BEGIN; SELECT name, statement FROM pg_prepared_statements ORDER BY name; COMMIT",
    "BEGIN; SELECT name, statement, is_holdable FROM pg_cursors ORDER BY name; COMMIT",
    "BEGIN; SELECT relname, relkind FROM pg_class WHERE relnamespace = pg_my_temp_schema() ORDER BY 1; COMMIT",
    "BEGIN; SELECT proname FROM pg_proc WHERE pronamespace = pg_my_temp_schema() ORDER BY 1; COMMIT",
    "BEGIN; SELECT pg_listening_channels(); COMMIT",
    """BEGIN; SELECT classid, objid, objsubid, mode FROM pg_locks WHERE locktype = 'advisory'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1, 2, 3, 4; COMMIT""",
    "SHOW search_path", "SHOW TimeZone", "SELECT '2024-02-29 12:00+00'::timestamptz, '1 day 2 hours'::interval",
    # A connection on which a setting of one's own was ever made says '' where a new one says NULL.
    "SELECT nullif(current_setting('pooling.custom', true), '')",
    "SHOW transaction_isolation", "SHOW transaction_read_only", "SHOW transaction_deferrable",
]
# Where sequences are asked for their last values, who may have taken one keeps the connection.
EVERYTHING_AND_SEQUENCES = [*EVERYTHING, "SELECT lastval()"]

# What a client leaves behind, in one unit after another; asked for by EVERYTHING. What goes wrong is meant to.
SETTING_CASES = {
    "SET": ["SET work_mem = '7MB'"],
    "SET, lower case and comments": ["/* a */ -- b\n set /* c */ \"work_mem\" to '7MB'"],
    "SET SESSION": ["SET SESSION work_mem = 7000"],
    "SET, bad value": ["SET work_mem = '7MB'", "SET work_mem = 'much'"],
    "SET, twice": ["SET work_mem = '7MB'", "SET work_mem = '8MB'"],
    "SET TO DEFAULT": ["SET work_mem = '7MB'", "SET work_mem TO DEFAULT"],
    "RESET": ["SET work_mem = '7MB'", "SET enable_sort = off", "RESET work_mem"],
    "RESET ALL": ["SET work_mem = '7MB'", "SET enable_sort = off", "RESET ALL"],
    "SET and RESET in a transaction": ["SET work_mem = '7MB'", "BEGIN", "RESET work_mem", "ROLLBACK"],
    "RESET ALL, rolled back": ["SET work_mem = '7MB'", "BEGIN", "RESET ALL", "SHOW work_mem", "ROLLBACK"],
    "SET LOCAL": ["BEGIN", "SET LOCAL work_mem = '7MB'", "SHOW work_mem", "COMMIT"],
    "SET LOCAL outside": ["SET LOCAL work_mem = '7MB'"],
    "SET, committed": ["BEGIN", "SET work_mem = '7MB'", "COMMIT"],
    "SET, rolled back": ["SET work_mem = '6MB'", "BEGIN", "SET work_mem = '7MB'", "SHOW work_mem", "ROLLBACK"],
    "SET, failed": ["BEGIN", "SET work_mem = '7MB'", "SELECT 1/0", "COMMIT"],
    "SET, chained": ["BEGIN", "SET work_mem = '7MB'", "COMMIT AND CHAIN", "SET enable_sort = off", "ROLLBACK"],
    "SET, then SET LOCAL": ["BEGIN", "SET work_mem = '7MB'", "SET LOCAL work_mem = '8MB'", "COMMIT"],
    "SET LOCAL, then SET": ["BEGIN", "SET LOCAL work_mem = '8MB'", "SET work_mem = '7MB'", "COMMIT"],
    "SET up to a savepoint": ["BEGIN", "SET work_mem = '5MB'", "SAVEPOINT a", "SET work_mem = '6MB'", "ROLLBACK TO a", "COMMIT"],
    "SET in a released savepoint": ["BEGIN", "SAVEPOINT a", "SET work_mem = '6MB'", "RELEASE a", "COMMIT"],
    "SET in savepoints of one name": [
        "BEGIN", "SAVEPOINT a", "SET work_mem = '5MB'", "SAVEPOINT a", "SET work_mem = '6MB'", "ROLLBACK TO a", "RELEASE a",
        "ROLLBACK TO a", "SET enable_sort = off", "COMMIT"],
    "SET before an error in a savepoint": [
        "BEGIN", "SET work_mem = '5MB'", "SAVEPOINT a", "SET work_mem = '6MB'", "SELECT 1/0", "ROLLBACK TO a", "COMMIT"],
    "SET with others": ["SET work_mem = '7MB'; SELECT 1; SET enable_sort = off"],
    "SET with one that fails": ["SET work_mem = '7MB'; SELECT 1/0"],
    "SET, COMMIT and one that fails": ["BEGIN; SET work_mem = '7MB'; COMMIT; SELECT 1/0"],
    "SET between transactions in one": ["BEGIN; SET work_mem = '7MB'; ROLLBACK; SET enable_sort = off"],
    "SET in a block left open": ["BEGIN; SET work_mem = '7MB'", "COMMIT"],
    "set_config, local": ["SELECT set_config('work_mem', '7MB', true)"],
    "set_config, local, in a transaction": ["BEGIN", "SELECT set_config('work_mem', '7MB', true)", "SHOW work_mem", "COMMIT"],
    "search_path": ['SET search_path = elsewhere, "$user", "a ""name"""'],
    "SET SCHEMA": ["SET SCHEMA 'elsewhere'"],
    "an empty search_path": ["SET search_path = ''"],
    "TIME ZONE": ["SET TIME ZONE 'Europe/Berlin'"],
    "TIME ZONE, interval": ["SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE"],
    "TIME ZONE, number": ["SET TIME ZONE -3.5"],
    "TIME ZONE LOCAL": ["SET TIME ZONE 'Europe/Berlin'", "SET TIME ZONE LOCAL"],
    "DateStyle": ["SET DateStyle = German", "SET IntervalStyle = iso_8601"],
    "DateStyle, in parts": ["SET DateStyle = German", "SET DateStyle = DMY", "SET DateStyle TO 'SQL'"],
    "NAMES": ["SET NAMES 'LATIN1'"],
    "client_encoding": ["SET client_encoding TO latin9"],
    "application_name": ["SET application_name = 'it''s \\ \u00fc'"],
    "standard_conforming_strings": ["SET standard_conforming_strings = off", "SELECT 'a\\\\b'"],
    "standard_conforming_strings, then SET": [
        "SET standard_conforming_strings = off", "SET application_name = 'a\\'; SET work_mem = 77777; --'"],
    "CHARACTERISTICS, READ ONLY": ["SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "INSERT INTO kept VALUES (1)"],
    "CHARACTERISTICS, ISOLATION": ["SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, DEFERRABLE"],
    "default_transaction_isolation": ["SET default_transaction_isolation = 'repeatable read'"],
    "SET TRANSACTION": ["BEGIN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY", "COMMIT"],
    "XML OPTION": ["SET XML OPTION DOCUMENT"],
    "of a driver": ["SET extra_float_digits = 3", "SET bytea_output = escape", "SELECT 0.1::float4, '\\x00'::bytea"],
    "a custom one": ["SET pooling.custom = 'mine'"],
    "a custom one, local": ["BEGIN", "SET LOCAL pooling.custom = 'mine'", "COMMIT"],
    "a custom one, reset": ["SET pooling.custom = 'mine'", "RESET pooling.custom"],
    "SET ROLE": ["SET ROLE pooling_other"],
    "SET ROLE, rolled back": ["BEGIN", "SET ROLE pooling_other", "SELECT current_user", "ROLLBACK"],
    "SET LOCAL ROLE": ["BEGIN", "SET LOCAL ROLE pooling_other", "SELECT current_user", "COMMIT"],
    "SET ROLE NONE": ["SET ROLE pooling_other", "SET ROLE NONE"],
    "RESET ROLE": ["SET ROLE pooling_other", "RESET ROLE"],
    "SET ROLE, refused": ["SET ROLE postgres"],
    "RESET ALL under a role": ["SET ROLE pooling_other", "SET work_mem = '7MB'", "RESET ALL"],
    "a custom one of a role's name": ["SET ROLE pooling_other", "SET role.custom = 'mine'"],
    "nothing": [],
}
SUPERUSER_CASES = {
    "SESSION AUTHORIZATION DEFAULT": ["SET SESSION AUTHORIZATION app", "SET SESSION AUTHORIZATION DEFAULT"],
    "RESET SESSION AUTHORIZATION": ["SET ROLE app", "SET SESSION AUTHORIZATION app", "RESET SESSION AUTHORIZATION"],
    "SESSION AUTHORIZATION, rolled back": ["BEGIN", "SET SESSION AUTHORIZATION app", "ROLLBACK"],
    "superuser's settings": ["SET session_replication_role = replica", "SET log_min_messages = error"],
}

# Settings made by what is no SET: whoever can't tell what they were may keep the server connection.
OTHER_SETTING_CASES = {
    "set_config under a role": ["SET ROLE pooling_other", "SELECT set_config('work_mem', '7MB', false)"],
    "set_config, then RESET": [
        "SELECT set_config('TimeZone', 'Asia/Tokyo', false)", "SET timezone = 'Europe/Berlin'", "RESET timezone"],
    "set_config": ["SELECT set_config('work_mem', '7MB', false)"],
    "set_config, rolled back": ["BEGIN", "SELECT set_config('work_mem', '7MB', false)", "ROLLBACK"],
    "set_config in a subquery": ["SELECT n, (SELECT set_config('work_mem', (n + 4) || 'MB', false)) FROM kept WHERE n < 3"],
    "set_config in UPDATE": ["UPDATE kept SET n = n WHERE set_config('work_mem', '7MB', false) IS NULL"],
    "a function that sets": ["SELECT sets()"],
    "a function that sets, in UPDATE": ["UPDATE kept SET n = n WHERE sets() = 2"],
    "a function that sets for itself": ["SELECT sets_within()"],
    "DO": ["DO $$BEGIN PERFORM set_config('work_mem', '7MB', false); END$$"],
    "DO, SET": ["DO $$BEGIN SET work_mem = '7MB'; END$$"],
    "UPDATE pg_settings": ["UPDATE pg_settings SET setting = '7000' WHERE name = 'work_mem'"],
    "a custom one, set_config": ["SELECT set_config('pooling.custom', 'mine', false)"],
    "set_config of the role": ["SELECT set_config('role', 'pooling_other', false)"],
}

# What can only be kept by keeping the server connection: what leaves it, what shows it, what undoes it.
KEPT_CASES = {
    "PREPARE": (["PREPARE p AS SELECT 42"], ["EXECUTE p"], ["DEALLOCATE p"]),
    "PREPARE with parameters": (["PREPARE p(int) AS SELECT $1 + n FROM kept WHERE n < 3"], ["EXECUTE p(7)"], ["DEALLOCATE ALL"]),
    "PREPARE, rolled back": (["BEGIN", "PREPARE p AS SELECT 42", "ROLLBACK"], ["EXECUTE p"], ["DEALLOCATE p"]),
    "temporary table": (["CREATE TEMP TABLE mine AS SELECT 1 AS n"], ["SELECT * FROM mine"], ["DROP TABLE mine"]),
    "temporary table over another": (
        ["CREATE TEMP TABLE kept AS SELECT 1 AS n"], ["SELECT count(*) FROM kept"], ["DISCARD TEMP"]),
    "temporary table, DELETE ROWS": (
        ["CREATE TEMP TABLE mine (n int) ON COMMIT DELETE ROWS", "BEGIN", "INSERT INTO mine VALUES (1)", "SELECT * FROM mine",
         "COMMIT"], ["SELECT count(*) FROM mine"], ["DISCARD TEMP"]),
    "temporary table, DROP": (
        ["BEGIN", "CREATE TEMP TABLE mine (n int) ON COMMIT DROP", "INSERT INTO mine VALUES (1)", "SELECT * FROM mine", "COMMIT"],
        ["SELECT * FROM mine"], []),
    "temporary table, rolled back": (["BEGIN", "CREATE TEMP TABLE mine (n int)", "ROLLBACK"], ["SELECT * FROM mine"], []),
    "SELECT INTO TEMP": (["SELECT 1 AS n INTO TEMP mine"], ["SELECT * FROM mine"], ["DROP TABLE mine"]),
    "pg_temp": (["CREATE TABLE pg_temp.mine (n int)"], ["SELECT * FROM mine"], ["DROP TABLE mine"]),
    "temporary by search_path": (
        ["SET search_path = pg_temp, public", "CREATE TABLE mine (n int)"], ["SELECT * FROM mine"],
        ["DROP TABLE mine", "RESET search_path"]),
    "temporary view": (["CREATE TEMP VIEW mine AS SELECT 42 AS n"], ["SELECT * FROM mine"], ["DROP VIEW mine"]),
    "temporary sequence": (["CREATE TEMP SEQUENCE mine"], ["SELECT nextval('mine')"], ["DROP SEQUENCE mine"]),
    "temporary function": (
        ["CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 42'"], # Not called: on a connection that ever had a temporary schema the error is another one.
        ["SELECT to_regprocedure('pg_temp.mine()') IS NOT NULL"],
        ["DROP FUNCTION pg_temp.mine()"]),
    "cursor WITH HOLD": (
        ["DECLARE c CURSOR WITH HOLD FOR SELECT n FROM kept ORDER BY n"], ["FETCH 2 FROM c"], ["CLOSE c"]),
    "cursors WITH HOLD, CLOSE ALL": (
        ["BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "DECLARE d CURSOR FOR SELECT 2", "FETCH d", "COMMIT"],
        ["FETCH c", "FETCH d"], ["CLOSE ALL"]),
    "LISTEN": (["LISTEN pooling"], ["SELECT pg_listening_channels()"], ["UNLISTEN pooling"]),
    "LISTEN twice": (["LISTEN pooling", 'LISTEN "an other"'], ["SELECT pg_listening_channels() ORDER BY 1"], ["UNLISTEN *"]),
    "LISTEN, rolled back": (["BEGIN", "LISTEN pooling", "ROLLBACK"], ["SELECT pg_listening_channels()"], []),
    "advisory lock": (["SELECT pg_advisory_lock(7)"], ["SELECT pg_try_advisory_lock(8)"],
                      ["SELECT pg_advisory_unlock(7)", "SELECT pg_advisory_unlock(8)"]),
    "advisory lock, twice": (["SELECT pg_advisory_lock(7), pg_advisory_lock(7)"], ["SELECT 1"], ["SELECT pg_advisory_unlock_all()"]),
    "advisory lock, shared": (["SELECT pg_advisory_lock_shared(1, 2)"], ["SELECT 1"], ["SELECT pg_advisory_unlock_shared(1, 2)"]),
    "advisory lock, tried": (["SELECT pg_try_advisory_lock(7)"], ["SELECT 1"], ["SELECT pg_advisory_unlock(7)"]),
    "advisory lock of a transaction": (
        ["BEGIN", "SELECT pg_advisory_xact_lock(7)", "SELECT pg_advisory_xact_lock_shared(8)", "COMMIT"], ["SELECT 1"], []),
    "advisory lock, taken in a rolled back transaction": (
        ["BEGIN", "SELECT pg_advisory_lock(7)", "ROLLBACK"], ["SELECT 1"], ["SELECT pg_advisory_unlock(7)"]),
    "advisory lock in a function": (
        ["DO $$BEGIN PERFORM pg_advisory_lock(7); END$$"], ["SELECT 1"], ["SELECT pg_advisory_unlock(7)"]),
    "lastval": (["SELECT nextval('numbers')"], ["SELECT lastval()", "SELECT currval('numbers')"], ["DISCARD SEQUENCES"]),
    "setseed": (["SELECT setseed(0.5)"], ["SELECT random()"] * 3, None),
    "SET SEED": (["SET SEED TO 0.5"], ["SELECT random(), random()"], None),
}
KEPT_CASES.update({
    name: (statements, ["SHOW work_mem", "SELECT nullif(current_setting('pooling.custom', true), '')", "SELECT current_user"], ["RESET ALL"])
    for name, statements in OTHER_SETTING_CASES.items()
})
# State that no text tells. Not among them, for it is not found: what a read sets by a view over a volatile function, or by a
# function that is declared STABLE and is not.
HIDDEN_CASES = {
    "currval after INSERT": (["INSERT INTO numbered DEFAULT VALUES"], ["SELECT currval('numbered_n_seq')", "SELECT lastval()"]),
    "a trigger that sets": (["INSERT INTO setting_trigger VALUES (7)"], ["SHOW work_mem"]),
    "a default that sets": (["INSERT INTO setting_default DEFAULT VALUES"], ["SHOW work_mem"]),
    "pg_settings": (["UPDATE pg_settings SET setting = '7000' WHERE name = 'work_mem'"], ["SHOW work_mem"]),
    "a trigger that makes a temporary table": (["INSERT INTO making_trigger VALUES (7)"], ["SELECT * FROM made"]),
    "a trigger that locks": (["INSERT INTO locking_trigger VALUES (7)"], ["SELECT pg_advisory_unlock(7)"]),
}
KEPT_OF_SUPERUSERS = {
    "SESSION AUTHORIZATION": (
        ["SET SESSION AUTHORIZATION app"], ["SELECT session_user, current_user"], ["RESET SESSION AUTHORIZATION"]),
    "SESSION AUTHORIZATION, then ROLE": (
        ["SET SESSION AUTHORIZATION app", "SET ROLE pooling_other"], ["SELECT session_user, current_user"],
        ["RESET ROLE", "RESET SESSION AUTHORIZATION"]),
    "LOAD": (["LOAD 'auto_explain'", "SET auto_explain.log_min_duration = 1000"], ["SHOW auto_explain.log_min_duration"], None),
}


class Settings(TwinsTestCase):
    """Every case of settings, by two clients in turn."""

    def interleave(self, statements, **parameters):
        before, a, b = (self.client(**parameters) for _ in range(3))
        before.do(*EVERYTHING)
        a.do(*statements)
        b.do(*EVERYTHING)
        # B has something of its own, of which A sees nothing.
        b.do("SET enable_hashjoin = off", "SET work_mem = '3MB'")
        a.do(*EVERYTHING)
        before.do(*EVERYTHING)
        b.do(*EVERYTHING)
        after = self.client(**parameters)
        after.do(*EVERYTHING)
        # Again, in a session that has state already; then back to the beginning.
        b.do(*statements)
        a.do(*EVERYTHING)
        b.do(*EVERYTHING)
        b.do("RESET ALL", *EVERYTHING)
        a.do("DISCARD ALL", *EVERYTHING)
        a.close()
        before.do(*EVERYTHING)
        for client in (b, before, after):
            client.close()

    def test_a_client_has_all_settings_of_a_connection_string(self):
        options = {"options": "-c work_mem=9MB -c DateStyle=German -c search_path=elsewhere\\,public",
                   "application_name": "me & you"}
        a, b = self.client(**options), self.client(application_name="other")
        c = self.client(options="-c statement_timeout=1234567 --enable_sort=off -c TimeZone=Asia/Tokyo",
                        client_encoding="latin1")
        for _ in range(3):
            for client in (a, b, c):
                client.do(*EVERYTHING)
        a.do("SET work_mem = '7MB'", "SET enable_sort = off")
        c.do("RESET statement_timeout", *EVERYTHING)
        b.do(*EVERYTHING)
        # What was given at the beginning is what RESET goes back to.
        for client in (a, b, c):
            client.do("RESET work_mem", *EVERYTHING, "RESET ALL", *EVERYTHING, "DISCARD ALL", *EVERYTHING)

    def test_settings_of_a_role_and_a_database_are_those_at_the_beginning(self):
        """Of a client that comes after the change. Who was there before may get them, too: a connection has one default."""
        superuser = self.client(**SUPERUSER)

        def change(what):
            for session, name in ((superuser.through, THROUGH), (superuser.plain, twins.PLAIN)):
                session.execute(what.format(name))

        self.client().do(*EVERYTHING)
        try:
            for size in ("9MB", "10MB"):
                change(f"ALTER ROLE app IN DATABASE {{}} SET work_mem = '{size}'")
                change("ALTER DATABASE {} SET enable_sort = off")
                new, other = self.client(), self.client()
                for client in (new, other, new):
                    client.do(*EVERYTHING)
                new.do("SET work_mem = '3MB'", "RESET work_mem", *EVERYTHING)
                other.do("RESET ALL", *EVERYTHING)
                new.do("DISCARD ALL", *EVERYTHING)
        finally:
            change("ALTER ROLE app IN DATABASE {} RESET ALL")
            change("ALTER DATABASE {} RESET ALL")
        self.client().do(*EVERYTHING)

    def test_a_time_limit_is_its_clients_own(self):
        a, b = self.client(), self.client()
        a.do("SET statement_timeout = '100ms'")
        for _ in range(3):
            b.do("SELECT 1 FROM pg_sleep(0.2)")
            a.do("SELECT 1 FROM pg_sleep(600)")

    def test_an_encoding_is_its_clients_own(self):
        a, b = self.client(client_encoding="latin1"), self.client()
        for _ in range(3):
            a.do("SELECT 'ü', length('ü'), U&'\\00e9'", "SELECT U&'\\20ac'")
            b.do("SELECT 'ü€', length('ü€')")
        a.do("SET NAMES 'UTF8'", "SELECT 'ü€'")
        b.do("SET NAMES 'LATIN9'", "SELECT 'ü€'")
        a.do("SELECT 'ü€'")


def setting_test(statements, **parameters):
    return lambda self: self.interleave(statements, **parameters)


def identifier(name):
    return "test_" + "".join(character if character.isalnum() else "_" for character in name)


for name, statements in SETTING_CASES.items():
    setattr(Settings, identifier(name), setting_test(statements))
for name, statements in SUPERUSER_CASES.items():
    setattr(Settings, identifier(name), setting_test(statements, **SUPERUSER))


class Kept(TwinsTestCase):
    """State that stays where it was made, and goes with its client."""

    def keep(self, leave, show, undo, **parameters):
        witness = self.client(**parameters)
        # random() must not have been seeded by anybody, and is therefore different on both sides.
        seeded = undo is None and "random" in show[0]
        ends = ["close", "vanish", "discard"] + (["undo"] if undo is not None else [])
        for end in ends:
            with self.subTest(end):
                witness.do(*EVERYTHING_AND_SEQUENCES)
                a = self.client(**parameters)
                a.do(*leave, *show, "SELECT 1", "BEGIN", "SELECT n FROM kept WHERE n = 1 FOR UPDATE", "COMMIT", *show)
                if end == "undo":
                    a.do(*undo)
                elif end == "discard":
                    a.do("DISCARD ALL", *([] if seeded else show), "SELECT pg_advisory_unlock_all()", "DISCARD ALL")
                else:
                    getattr(a, end)()
                if end == "undo" or undo is None:
                    # What was undone may not be known to be; and no DISCARD undoes this.
                    a.close()
                b = self.client(**parameters)
                for client in (b, witness):
                    client.do(*EVERYTHING_AND_SEQUENCES)
                    if not seeded:
                        # Two-faced on purpose: what a stranger's statements find is what they find directly.
                        with self.rolled_back(client):
                            client.do(*show)
                b.close()
                a.close()
        if seeded:
            self.assert_unseeded(parameters)

    @contextlib.contextmanager
    def rolled_back(self, client):
        """What is asked for leaves nothing itself."""
        yield
        client.do("SELECT pg_advisory_unlock_all()", "DISCARD ALL")

    def assert_unseeded(self, parameters):
        seen = []
        for _ in range(2):
            with connect(dbname=THROUGH, **parameters) as a:
                a.execute("SELECT setseed(0.5)")
            with connect(dbname=THROUGH, **parameters) as b:
                seen.append(b.execute("BEGIN; SELECT random(); COMMIT") and value(b, "SELECT random()"))
        self.assertNotEqual(*seen)

    def test_a_transaction_keeps_what_is_its_own(self):
        a = self.client()
        a.do("BEGIN", "DECLARE c CURSOR FOR SELECT n FROM kept ORDER BY n", "FETCH 2 FROM c", "SAVEPOINT s", "SELECT 1/0",
             "ROLLBACK TO s", "FETCH 2 FROM c", "SELECT lo_create(4711)", "SELECT lo_open(4711, 393216)",
             "SELECT lowrite(0, '\\x0102')", "SELECT lo_lseek(0, 0, 0)", "SELECT loread(0, 10)", "COMMIT",
             "FETCH c", "SELECT loread(0, 10)", "SELECT lo_get(4711)", "SELECT lo_unlink(4711)", "DISCARD ALL")
        self.client().do(*EVERYTHING_AND_SEQUENCES)

    def test_notifications_reach_who_listens_and_nobody_else(self):
        """Who listens may keep the connection for itself: another one notifies directly."""
        listener = connect(dbname=THROUGH)
        listener.execute("LISTEN pooling")
        with direct(user="app", dbname=THROUGH) as notifier:
            for number in range(3):
                notifier.execute("SELECT pg_notify('pooling', %s)", [str(number)])
        self.assertEqual([notify.payload for notify in listener.notifies(timeout=60, stop_after=3)], ["0", "1", "2"])
        # One's own come before the answer is ready.
        listener.execute("NOTIFY pooling, 'mine'")
        self.assertEqual([notify.payload for notify in listener.notifies(timeout=60, stop_after=1)], ["mine"])
        listener.execute("DISCARD ALL")
        with connect(dbname=THROUGH) as other, direct(user="app", dbname=THROUGH) as notifier:
            notifier.execute("NOTIFY pooling, 'late'")
            for connection in (other, listener):
                value(connection, "SELECT pg_is_in_recovery()")
                self.assertEqual(list(connection.notifies(timeout=0.1)), [])
        listener.close()

    def test_one_who_waits_for_the_connection_gets_it(self):
        """However it becomes free."""
        for end in ("close", "vanish", "DISCARD ALL"):
            with self.subTest(end):
                a, b = connect(dbname=THROUGH), connect(dbname=THROUGH)
                a.execute("CREATE TEMP TABLE mine (n int)")
                a.execute("LISTEN pooling")
                answers = []
                waiting = threading.Thread(target=lambda: answers.append(value(b, "SELECT nextval('numbers') > 0")))
                waiting.start()
                self.assertEqual(value(a, "SELECT 42"), 42)
                if end == "close":
                    a.close()
                elif end == "vanish":
                    twins.vanish(a)
                else:
                    a.execute(end)
                waiting.join()
                self.assertEqual(answers, [True])
                a.close()
                b.close()


def hide(test, everything, leave, show):
    """Another client asks for the connection meanwhile; it may have to wait, and nobody may notice that it did."""
    a, b = test.client(), test.client()
    for client in (a, b):
        client.do("SELECT 1", "BEGIN; SELECT 1; COMMIT")
    a.do(*leave)
    failures = []

    def meanwhile():
        try:
            b.do(*everything, *leave, *leave, *show, "RESET ALL")
        except BaseException as failure:  # noqa: BLE001
            failures.append(failure)

    other = threading.Thread(target=meanwhile)
    other.start()
    # Long enough for the other to come first, if it may.
    other.join(0.3)
    try:
        a.do(*show)
    finally:
        a.close()
        other.join()
        b.close()
    for failure in failures:
        raise failure
    test.client().do(*everything)

    def test_a_default_that_asks_for_the_last_value(self):
        """Whoever made it, on whichever worker or before: no text tells any more that the default asks."""
        made = "CREATE SEQUENCE s; CREATE TABLE t (a int DEFAULT nextval('s'), b int DEFAULT -currval('s'))"
        for maker in ("the first client", "one who was there before"):
            name = f"pooling_defaults_{time.time_ns()}"  # of which nobody knows anything
            with self.subTest(maker), direct() as superuser:
                superuser.execute(f"CREATE DATABASE {name} OWNER app")
                if maker == "one who was there before":
                    with direct(dbname=name, user="app") as before:
                        before.execute(made)
                by_worker = self.client_of_each_worker(name)
                try:
                    if maker == "the first client":
                        by_worker[0].execute(made)
                    for client in by_worker:
                        self.ask_by_default(client, name)
                finally:
                    for client in by_worker:
                        client.close()
                    superuser.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def client_of_each_worker(self, name):
        workers = sum(
            thread.read_text().startswith("worker ") for thread in pathlib.Path(f"/proc/{PID}/task").glob("*/comm"))
        found = {}

        def arrived():
            client = connect(dbname=name)
            if found.setdefault(client.info.backend_pid % 64, client) is not client:
                client.close()
            return len(found) == workers

        eventually("every worker has a client", arrived)
        return list(found.values())

    def ask_by_default(self, first, name):
        number = value(first, "INSERT INTO t DEFAULT VALUES RETURNING a")
        with connect(dbname=name) as second:
            # It waits for the first, which keeps the connection.
            meanwhile = threading.Thread(target=lambda: second.execute("INSERT INTO t DEFAULT VALUES"))
            meanwhile.start()
            meanwhile.join(0.3)
            try:
                self.assertEqual(value(first, "INSERT INTO t (a) VALUES (0) RETURNING b"), -number)
            finally:
                first.close()
                meanwhile.join()


def hidden_test(everything, case):
    return lambda self: hide(self, everything, *case)


# Before anybody asks for sequences, which would keep the connections of all who write.
for name, case in HIDDEN_CASES.items():
    if "currval" not in name:
        setattr(Settings, identifier("hidden " + name), hidden_test(EVERYTHING, case))
    setattr(Kept, identifier("hidden " + name), hidden_test(EVERYTHING_AND_SEQUENCES, case))


def kept_test(case, **parameters):
    return lambda self: self.keep(*case, **parameters)


for name, case in KEPT_CASES.items():
    setattr(Kept, identifier(name), kept_test(case))
for name, case in KEPT_OF_SUPERUSERS.items():
    setattr(Kept, identifier(name), kept_test(case, **SUPERUSER))

if __name__ == "__main__":
    main()
