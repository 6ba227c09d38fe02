"""Clients that do everything twice: through the endpoint, and directly on the primary. What PostgreSQL does is right.

Each side has a database of its own, so that locks, notifications and tables of the two never meet.
"""

import faulthandler
import json
import os
import sys

# Checks the tests themselves: what they expect of a pool must be what a server of one's own gives.
DIRECT = "--direct" in sys.argv
if DIRECT:
    sys.argv.remove("--direct")
    os.environ["PGPORT"] = str(json.loads(os.environ["SLIPSTREAM_NODES"])["primary"])

import psycopg  # noqa: E402

from endpoint import EndpointTestCase, connect, direct, eventually, replayed  # noqa: E402

THROUGH, PLAIN = "pooling_through", "pooling_plain"
SUPERUSER = {"user": "postgres"}
HANG = 120
PARAMETERS = [
    "application_name", "client_encoding", "DateStyle", "IntervalStyle", "TimeZone", "is_superuser",
    "session_authorization", "standard_conforming_strings", "integer_datetimes", "server_encoding", "server_version",
    "default_transaction_read_only", "in_hot_standby",
]


def outcome(connection, statement, parameters=None, **options):
    """What a client can see of one execution, as it is compared."""
    notices = []
    handler = lambda diagnostic: notices.append((diagnostic.severity, diagnostic.message_primary))  # noqa: E731
    connection.add_notice_handler(handler)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters, **options)
            results = []
            while True:
                columns = cursor.description and [(column.name, column.type_code) for column in cursor.description]
                # As bytes: what they mean to Python is its own affair.
                result = cursor.pgresult
                rows = [[result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]
                results.append((cursor.statusmessage, columns, rows))
                if not cursor.nextset():
                    break
    except psycopg.Error as error:
        results = [(error.sqlstate, error.diag.message_primary)]
    finally:
        connection.remove_notice_handler(handler)
    reported = {name: connection.info.parameter_status(name) for name in PARAMETERS}
    return results, notices, connection.info.transaction_status.name, reported


class Client:
    """One application on each side."""

    def __init__(self, case, **parameters):
        self.case = case
        # What is prepared is said by the tests. By itself psycopg would, after some repetitions, execute statements that a
        # DISCARD ALL in a test has dropped; one that nobody knows may have done anything, and its client keeps its server.
        parameters = {"prepare_threshold": 1_000_000, **parameters}
        self.through = connect(**{"dbname": THROUGH, **parameters})
        self.plain = direct(**{"user": "app", "dbname": PLAIN, **parameters})
        case.assertEqual(self.reported(self.through), self.reported(self.plain))

    def reported(self, connection):
        return {name: connection.info.parameter_status(name) for name in PARAMETERS}

    def do(self, *statements, parameters=None, **options):
        """Each statement on both sides. Fails when anything differs."""
        for statement in statements:
            expected = outcome(self.plain, statement, parameters, **options)
            found = outcome(self.through, statement, parameters, **options)
            self.case.assertEqual(found, expected, f"after: {statement}")

    def close(self):
        for connection in (self.through, self.plain):
            connection.close()

    def vanish(self):
        """Without a word."""
        for connection in (self.through, self.plain):
            if not connection.closed:
                vanish(connection)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def vanish(connection):
    """The socket goes without Terminate."""
    descriptor = connection.fileno()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, descriptor)
    os.close(null)
    connection.close()


class TwinsTestCase(EndpointTestCase):
    """The table `kept` has the numbers 1 to 20 in both databases; `other` is a role that app is a member of."""

    @classmethod
    def setUpClass(cls):
        with direct() as superuser:
            for name in (THROUGH, PLAIN):
                superuser.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            superuser.execute("DROP ROLE IF EXISTS pooling_other")
            superuser.execute("CREATE ROLE pooling_other; GRANT pooling_other TO app")
            for name in (THROUGH, PLAIN):
                superuser.execute(f"CREATE DATABASE {name} OWNER app")
        for name in (THROUGH, PLAIN):
            with direct(user="app", dbname=name) as connection:
                connection.execute("""
                    CREATE TABLE kept (n int); INSERT INTO kept SELECT generate_series(1, 20);
                    CREATE SCHEMA elsewhere; CREATE SEQUENCE numbers;
                    CREATE FUNCTION sets() RETURNS int LANGUAGE plpgsql AS
                        $$BEGIN PERFORM set_config('work_mem', '11MB', false); RETURN 1; END$$;
                    CREATE FUNCTION sets_within() RETURNS text LANGUAGE sql SET work_mem = '12MB' AS
                        $$SELECT current_setting('work_mem')$$;
                    CREATE FUNCTION sets_stably() RETURNS int STABLE LANGUAGE plpgsql AS
                        $$BEGIN PERFORM set_config('work_mem', '13MB', false); RETURN 1; END$$;
                    CREATE FUNCTION on_insert() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
                        IF TG_ARGV[0] = 'set' THEN PERFORM set_config('work_mem', '14MB', false);
                        ELSIF TG_ARGV[0] = 'make' THEN CREATE TEMP TABLE IF NOT EXISTS made AS SELECT 42 AS n;
                        ELSE PERFORM pg_advisory_lock(7);
                        END IF;
                        RETURN NEW; END$$;
                    CREATE TABLE numbered (n serial); CREATE TABLE setting_trigger (n int);
                    CREATE TABLE making_trigger (n int); CREATE TABLE locking_trigger (n int);
                    CREATE TRIGGER t BEFORE INSERT ON setting_trigger FOR EACH ROW EXECUTE FUNCTION on_insert('set');
                    CREATE TRIGGER t BEFORE INSERT ON making_trigger FOR EACH ROW EXECUTE FUNCTION on_insert('make');
                    CREATE TRIGGER t BEFORE INSERT ON locking_trigger FOR EACH ROW EXECUTE FUNCTION on_insert('lock');
                    CREATE TABLE setting_default (n int DEFAULT sets()); CREATE VIEW setting_view AS SELECT sets();
                    """)
        replayed()

    @classmethod
    def tearDownClass(cls):
        def drop():
            with direct() as superuser:
                for name in (THROUGH, PLAIN):
                    superuser.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
                superuser.execute("DROP ROLE IF EXISTS pooling_other")
            return True

        eventually("everything is dropped", drop)

    def setUp(self):
        # Whatever waits for a connection that never comes back must be seen as a failure.
        faulthandler.dump_traceback_later(HANG, exit=True, file=sys.__stderr__)
        self.clients = []

    def tearDown(self):
        for client in self.clients:
            client.close()
        super().tearDown()
        faulthandler.cancel_dump_traceback_later()

    def client(self, **parameters):
        client = Client(self, **parameters)
        self.clients.append(client)
        return client
