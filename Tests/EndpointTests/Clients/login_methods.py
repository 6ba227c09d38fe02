"""Rules of who may come in and how, with a configuration file (see EndpointTests+Rules.swift)."""

import os
import random
import socket
import subprocess
import time

import psycopg
from psycopg import sql

from endpoint import (
    HOST,
    PORT,
    SOCKET_DIRECTORY,
    EndpointTestCase,
    connect,
    direct,
    eventually,
    main,
    replayed,
    value,
)

MD5 = ("hashed", "trusted_hash", "clear_hash")
SCRAM = ("modern", "trusted", "trusted_bare", "clear", "prepared", "elsewhere", "banned", "only_app")
UNICODE = "pass wörd \u00bd\u2168 \u00e9"


def refused(**parameters):
    """What libpq says."""
    try:
        connect(**{"connect_timeout": 20, **parameters}).close()
    except psycopg.OperationalError as error:
        return str(error)
    raise AssertionError(f"let in: {parameters}")


def psql(user, password, host=HOST, database="app"):
    environment = {**os.environ, "PGPASSWORD": password, "PGPASSFILE": "/dev/null"}
    return subprocess.run(
        ["psql", "-XAtw", "-h", host, "-p", str(PORT), "-U", user, "-d", database, "-c", "SELECT current_user"],
        env=environment, capture_output=True, text=True, timeout=60, check=False)


class Methods(EndpointTestCase):
    @classmethod
    def setUpClass(cls):
        with direct() as primary:
            for encryption, roles in (("md5", MD5), ("scram-sha-256", SCRAM)):
                primary.execute(f"SET password_encryption = '{encryption}'")
                for role in roles:
                    primary.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                        sql.Identifier(role), sql.Literal(UNICODE)))
        replayed()

    @classmethod
    def tearDownClass(cls):
        with direct() as primary:
            for role in MD5 + SCRAM:
                primary.execute(f"DROP ROLE {role}")

    def let_in(self, user, password=UNICODE, **parameters):
        with connect(user=user, password=password, **parameters) as connection:
            # On every node.
            for _ in range(6):
                self.assertEqual(value(connection, "SELECT current_user"), user)

    def test_a_stored_md5_hash_lets_in_by_md5(self):
        self.let_in("hashed")
        outcome = psql("hashed", UNICODE)
        self.assertEqual((outcome.returncode, outcome.stdout), (0, "hashed\n"), outcome.stderr)
        for wrong in ("wrong", "", UNICODE + "x"):
            self.assertNotEqual(psql("hashed", wrong).returncode, 0)
        self.assertIn('password authentication failed for user "hashed"', refused(user="hashed", password="wrong"))

    def test_md5_uses_scram_where_the_password_is_stored_so(self):
        with connect(require_auth="scram-sha-256") if psycopg.pq.version() >= 160000 else connect() as connection:
            self.assertEqual(value(connection, "SELECT current_user"), "app")

    def test_scram_only(self):
        self.let_in("modern")
        self.assertIn('password authentication failed for user "modern"', refused(user="modern", password="wrong"))

    def test_the_password_itself(self):
        for role in ("clear", "clear_hash"):
            with self.subTest(role):
                self.let_in(role)
                outcome = psql(role, UNICODE)
                self.assertEqual((outcome.returncode, outcome.stdout), (0, f"{role}\n"), outcome.stderr)
                wrong = f'password authentication failed for user "{role}"'
                self.assertIn(wrong, psql(role, "wrong").stderr)
                self.assertIn(wrong, refused(user=role, password="wrong"))
        # In compatible form it is the same password (SASLprep), as PostgreSQL sees it.
        self.let_in("clear", UNICODE.replace("\u00bd", "1\u20442").replace("\u2168", "IX").replace("\u00e9", "e\u0301"))
        self.assertIn("failed for user", refused(user="clear_nobody", password="x"))

    def test_passwords_are_prepared_as_by_the_server(self):
        """The server makes the verifier, the endpoint compares the password as it was typed with it."""
        seed = int(os.environ.get("SLIPSTREAM_SEED") or random.randrange(2**32))
        generator = random.Random(seed)
        ranges = [
            (0x20, 0x7E), (0xA0, 0x17F), (0x2000, 0x206F), (0x2150, 0x218B), (0x5D0, 0x5EA), (0x621, 0x64A),
            # Hangul without the archaic letters, which Foundation composes wrongly.
            (0x300, 0x36F), (0xFB00, 0xFDFF), (0xFE00, 0xFEFF), (0xE000, 0xE010), (0x1F600, 0x1F610), (0x378, 0x37F),
            (0x1100, 0x1112), (0x1161, 0x1175), (0x11A8, 0x11C2), (0xAC00, 0xAC20),
            (0x3000, 0x30FF), (0x1D400, 0x1D430), (0x7F, 0x9F), (0xFF00, 0xFFEF),
        ]
        with direct() as primary:
            for _ in range(120):
                chosen = generator.choices(ranges, k=generator.randint(1, 3))
                password = "".join(
                    chr(generator.randint(*generator.choice(chosen))) for _ in range(generator.randint(1, 8)))
                primary.execute(sql.SQL("ALTER ROLE prepared PASSWORD {}").format(sql.Literal(password)))
                with self.subTest(seed=seed, password=password.encode("unicode_escape")):
                    with connect(user="prepared", password=password) as connection:
                        self.assertEqual(value(connection, "SELECT current_user /* slipstream: primary */"), "prepared")

    def test_trust(self):
        self.let_in("trusted", password="whatever")
        self.let_in("trusted_hash", password=None)
        self.assertIn(
            'there is no password to log in to a node with as user "trusted_bare"',
            refused(user="trusted_bare", password=UNICODE))

    def test_the_socket_has_rules_of_its_own(self):
        self.let_in("trusted", password="whatever", host=SOCKET_DIRECTORY)
        self.assertIn(
            'pg_hba.conf rejects connection for host "[local]", user "app", database "app", no encryption',
            refused(host=SOCKET_DIRECTORY))

    def test_reject(self):
        self.assertIn(
            'pg_hba.conf rejects connection for host "127.0.0.1", user "banned", database "app", no encryption',
            refused(user="banned", password=UNICODE))

    def test_addresses(self):
        words = 'no pg_hba.conf entry for host "127.0.0.1", user "elsewhere", database "app", no encryption'
        self.assertIn(words, refused(user="elsewhere", password=UNICODE))
        try:
            socket.create_connection(("::1", PORT)).close()
        except OSError:
            self.skipTest("there is no IPv6 here")
        self.let_in("elsewhere", host="::1")
        self.assertIn('host "::1"', refused(user="modern", host="::1", password=UNICODE))

    def test_databases(self):
        self.let_in("only_app")
        self.assertIn(
            'no pg_hba.conf entry for host "127.0.0.1", user "only_app", database "postgres"',
            refused(user="only_app", password=UNICODE, dbname="postgres"))

    def test_an_unknown_user_is_asked_like_a_known_one(self):
        # Its rule is md5, and new passwords are hashed for SCRAM.
        self.assertIn('password authentication failed for user "nobody"', refused(user="nobody", password="x"))


class Limits(EndpointTestCase):
    """max_unauthenticated is 4."""

    def test_clients_that_never_log_in(self):
        silent = [socket.create_connection((HOST, PORT)) for _ in range(4)]
        try:
            time.sleep(0.2)
            for mode in ("disable", "prefer"):
                words = refused(sslmode=mode)
                self.assertIn("too many clients that have not logged in yet (max_unauthenticated is 4)", words)
            silent += [socket.create_connection((HOST, PORT)) for _ in range(4)]
            time.sleep(0.2)
            with socket.create_connection((HOST, PORT)) as extra:
                extra.settimeout(10)
                self.assertEqual(extra.recv(1), b"")
        finally:
            for one in silent:
                one.close()

        def served():
            try:
                connect().close()
            except psycopg.OperationalError:
                return False
            return True

        eventually("clients are served again", served, within=10)

    def test_those_who_are_logged_in_do_not_count(self):
        sessions = [connect() for _ in range(12)]
        for session in sessions:
            self.assertEqual(value(session, "SELECT 1"), 1)
            session.close()


if __name__ == "__main__":
    main()
