"""Who may come in, and what the others are told."""

import statistics
import threading
import time

import psycopg
from psycopg import sql

from endpoint import (
    SOCKET_DIRECTORY,
    EndpointTestCase,
    connect,
    direct,
    main,
    value,
)
from wire import GSS_REQUEST, SSL_REQUEST, Wire, fields, message, startup


def refusal(**parameters):
    """What a connection attempt is answered: the SQLSTATE is libpq's business, so by hand."""
    with Wire() as wire:
        try:
            wire.log_in(**parameters)
        except PermissionError as error:
            return error.args[0]
    raise AssertionError(f"let in: {parameters}")


class Roles(EndpointTestCase):
    def setUp(self):
        self.roles = []

    def tearDown(self):
        with connect(user="postgres") as connection:
            for role in self.roles:
                connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
        super().tearDown()

    def make(self, role, password, options="LOGIN"):
        """Through the endpoint, like everything here."""
        self.roles.append(role)
        with connect(user="postgres") as connection:
            connection.execute(sql.SQL("CREATE ROLE {} {} PASSWORD {}").format(
                sql.Identifier(role), sql.SQL(options), sql.Literal(password)))

    def test_the_right_password(self):
        for parameters in ({}, {"host": SOCKET_DIRECTORY}, {"sslmode": "prefer", "gssencmode": "prefer"}):
            with self.subTest(parameters), connect(**parameters) as connection:
                self.assertEqual(value(connection, "SELECT current_user || '@' || current_database()"), "app@app")

    def test_the_superuser(self):
        with connect(user="postgres", dbname="postgres") as connection:
            self.assertEqual(connection.info.parameter_status("is_superuser"), "on")
            self.assertGreater(value(connection, "SELECT count(*) FROM pg_authid"), 0)

    def test_a_wrong_password_and_an_unknown_user_are_told_the_same(self):
        wrong = refusal(user="app", password="wrong")
        self.assertEqual(wrong["C"], "28P01")
        self.assertEqual(wrong["S"], "FATAL")
        self.assertEqual(wrong["M"], 'password authentication failed for user "app"')
        unknown = refusal(user="nobody_has_this_name", password="wrong")
        self.assertEqual({**unknown, "M": unknown["M"].replace("nobody_has_this_name", "app")}, wrong)

    def test_a_wrong_password_and_an_unknown_user_take_the_same_time(self):
        def median(user):
            times = []
            for _ in range(50):
                began = time.perf_counter()
                refusal(user=user, password="wrong")
                times.append(time.perf_counter() - began)
            return statistics.median(times)

        # Machines stutter: the best of some tries counts, and a real difference stays.
        for _ in range(5):
            known, unknown = median("app"), median("nobody_has_this_name")
            if max(known, unknown) < 2 * min(known, unknown):
                return
        self.fail(f"a wrong password takes {known} s, an unknown user {unknown} s")

    def test_the_exchange_tells_nobody_which_roles_exist(self):
        """Salt and iterations of a role that does not exist stay the same, too."""

        def challenge(user):
            with Wire() as wire:
                wire.send(startup(user=user, database="app"))
                wire.read()
                first = b"n,,n=,r=abc"
                wire.send(message(b"p", b"SCRAM-SHA-256\0" + len(first).to_bytes(4, "big") + first))
                text = wire.read()[1][4:].decode()
                attributes = dict(part.split("=", 1) for part in text.split(","))
                return attributes["s"], attributes["i"], len(attributes["r"])

        unknown = challenge("nobody_has_this_name")
        self.assertEqual(challenge("nobody_has_this_name"), unknown)
        self.assertNotEqual(challenge("nobody_else")[0], unknown[0])
        known = challenge("app")
        self.assertEqual(challenge("app"), known)
        self.assertEqual((len(known[0]), known[1:]), (len(unknown[0]), unknown[1:]))

    def test_a_new_role_can_log_in_at_once(self):
        for number in range(10):
            self.make(f"newcomer{number}", f"secret {number} ü'\"\\")
            with connect(user=f"newcomer{number}", password=f"secret {number} ü'\"\\") as connection:
                # On every node: the first reads may meet a standby that has not replayed the role.
                for _ in range(10):
                    self.assertEqual(value(connection, "SELECT current_user"), f"newcomer{number}")

    def test_a_new_password_counts_at_once(self):
        self.make("changing", "first")
        before = "first"
        for number in range(10):
            after = f"password {number}"
            with connect(user="postgres") as connection:
                connection.execute(f"ALTER ROLE changing PASSWORD '{after}'")
            self.assertEqual(refusal(user="changing", password=before)["C"], "28P01")
            with connect(user="changing", password=after) as connection:
                for _ in range(5):
                    self.assertEqual(value(connection, "SELECT current_user"), "changing")
            before = after

    def test_a_session_survives_a_change_of_its_password(self):
        """As long as its pool has connections, which the change itself does not close."""
        self.make("changing", "first")
        with connect(user="changing", password="first") as session, direct() as past:
            # More than the nodes, so that each pool of this worker has a connection.
            for _ in range(20):
                self.assertEqual(value(session, "SELECT 1"), 1)
            session.execute("BEGIN; SELECT 1; COMMIT")
            process = value(past, "SELECT array_agg(pid) FROM pg_stat_activity WHERE usename = 'changing'")
            past.execute("ALTER ROLE changing PASSWORD 'second'")
            self.assertEqual(refusal(user="changing", password="first")["C"], "28P01")
            with connect(user="changing", password="second") as newcomer:
                for _ in range(20):
                    self.assertEqual(value(session, "SELECT current_user"), "changing")
                    session.execute("BEGIN")
                    self.assertIn(value(session, "SELECT pg_backend_pid()"), process)
                    session.execute("COMMIT")
                    self.assertEqual(value(newcomer, "SELECT current_user"), "changing")

    def test_roles_that_may_not_log_in(self):
        self.make("group_only", "secret", "NOLOGIN")
        answer = refusal(user="group_only", password="secret")
        self.assertEqual((answer["C"], answer["M"]), ("28000", 'role "group_only" is not permitted to log in'))
        self.assertEqual(refusal(user="group_only", password="wrong")["C"], "28P01")
        self.make("expired", "secret", "LOGIN VALID UNTIL '2001-01-01'")
        self.assertEqual(refusal(user="expired", password="secret")["C"], "28P01")
        with connect(user="postgres") as connection:
            connection.execute("CREATE ROLE without_password LOGIN")
            self.roles.append("without_password")
        self.assertEqual(refusal(user="without_password", password="x")["C"], "28P01")

    def test_limits_of_a_role_are_the_servers(self):
        """A limit counts server connections: clients share them, and wait for each other, but never exceed it."""
        self.make("only_one", "secret", "LOGIN CONNECTION LIMIT 1")
        with connect(user="only_one", password="secret") as first, direct() as past:
            self.assertEqual(value(first, "SELECT current_user"), "only_one")
            self.make("none_at_all", "secret", "LOGIN CONNECTION LIMIT 0")
            self.assertEqual(refusal(user="none_at_all", password="secret")["C"], "53300")
            # Another worker has no connection to share: there the server's own words are passed on.
            try:
                second = connect(user="only_one", password="secret")
            except psycopg.OperationalError as error:
                self.assertIn('too many connections for role "only_one"', str(error))
            else:
                with second:
                    for _ in range(10):
                        for session in (first, second):
                            self.assertGreater(value(session, "SELECT txid_current()"), 0)
            self.assertLessEqual(value(past, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'only_one'"), 1)

    def test_an_unknown_database(self):
        answer = refusal(database="there_is_none")
        self.assertEqual((answer["C"], answer["M"]), ("3D000", 'database "there_is_none" does not exist'))

    def test_a_wrong_password_tells_nothing_of_the_database(self):
        self.assertEqual(refusal(database="there_is_none", password="wrong")["C"], "28P01")

    def test_a_new_database_can_be_used_at_once(self):
        with connect(user="postgres", dbname="postgres") as maker:
            maker.execute("DROP DATABASE IF EXISTS fresh")
            maker.execute("CREATE DATABASE fresh")
            with connect(dbname="fresh") as connection:
                for _ in range(10):
                    self.assertEqual(value(connection, "SELECT current_database()"), "fresh")
            maker.execute("DROP DATABASE fresh WITH (FORCE)")


class Startup(EndpointTestCase):
    def test_replication_is_refused_clearly(self):
        for kind in ("true", "database", "on"):
            with Wire() as wire:
                wire.send(startup(user="postgres", database="app", replication=kind))
                (answer,) = wire.rest()
                self.assertEqual(answer[0], b"E")
                self.assertEqual(fields(answer[1])["C"], "0A000")
                self.assertIn("replication connections are not served", fields(answer[1])["M"])

    def test_encryption_is_declined(self):
        with self.assertRaises(psycopg.OperationalError) as caught:
            connect(sslmode="require")
        self.assertIn("server does not support SSL, but SSL was required", str(caught.exception))
        with Wire() as wire:
            for request in (GSS_REQUEST, SSL_REQUEST):
                wire.send(request)
                self.assertEqual(wire.exactly(1), b"N")
            wire.log_in()
            self.assertEqual(wire.ask("SELECT 1"), [[b"1"]])

    def test_a_bad_setting_is_refused_as_by_the_server(self):
        messages = []
        for make in (connect, lambda **parameters: direct(user="app", **parameters)):
            with self.assertRaises(psycopg.OperationalError) as caught:
                make(options="-c no_such_setting=1")
            messages.append(str(caught.exception).split("FATAL:")[-1].strip())
        self.assertEqual(messages[0], messages[1])
        self.assertIn("no_such_setting", messages[0])

    def test_many_at_once(self):
        failures = []

        def come_and_go():
            try:
                for _ in range(10):
                    with connect() as connection:
                        self.assertEqual(value(connection, "SELECT 1"), 1)
            except Exception as error:  # noqa: BLE001
                failures.append(repr(error))

        threads = [threading.Thread(target=come_and_go) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])


if __name__ == "__main__":
    main()
