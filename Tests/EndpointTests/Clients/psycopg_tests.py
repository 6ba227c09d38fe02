"""psycopg 3: what an application does with its sessions."""

import datetime
import decimal
import threading
import uuid

import psycopg
from psycopg import errors, pq
from psycopg.types.json import Jsonb

from endpoint import (
    NODES,
    PRIMARY,
    EndpointTestCase,
    connect,
    direct,
    eventually,
    main,
    places,
    table,
    value,
)


class Transactions(EndpointTestCase):
    def test_commit_rollback_and_savepoints(self):
        with table("n int") as t, connect(autocommit=False) as connection:
            connection.execute(f"INSERT INTO {t} VALUES (1)")
            self.assertEqual(connection.info.transaction_status, pq.TransactionStatus.INTRANS)
            connection.rollback()
            with connection.transaction():
                connection.execute(f"INSERT INTO {t} VALUES (2)")
                with self.assertRaises(errors.DivisionByZero), connection.transaction():
                    connection.execute(f"INSERT INTO {t} VALUES (3)")
                    connection.execute("SELECT 1/0")
                with connection.transaction():
                    connection.execute(f"INSERT INTO {t} VALUES (4)")
                with connection.transaction() as savepoint:
                    connection.execute(f"INSERT INTO {t} VALUES (5)")
                    raise psycopg.Rollback(savepoint)
            rows = connection.execute(f"SELECT n FROM {t} ORDER BY n").fetchall()
            self.assertEqual(rows, [(2,), (4,)])

    def test_a_failed_transaction_refuses_everything_until_its_end(self):
        with connect(autocommit=False) as connection:
            with self.assertRaises(errors.UndefinedTable):
                connection.execute("SELECT * FROM there_is_none")
            self.assertEqual(connection.info.transaction_status, pq.TransactionStatus.INERROR)
            with self.assertRaises(errors.InFailedSqlTransaction):
                connection.execute("SELECT 1")
            connection.rollback()
            self.assertEqual(value(connection, "SELECT 2"), 2)

    def test_autocommit_can_be_changed(self):
        with table("n int") as t, connect(autocommit=False) as connection:
            connection.execute(f"INSERT INTO {t} VALUES (1)")
            connection.commit()
            connection.autocommit = True
            connection.execute(f"INSERT INTO {t} VALUES (2)")
            with connect() as other:
                # A write sees the primary, where a read might see a standby that is not there yet.
                self.assertEqual(other.execute(f"UPDATE {t} SET n = n").rowcount, 2)

    def test_isolation_and_read_only_belong_to_the_transaction(self):
        with connect(autocommit=False) as connection:
            connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            self.assertEqual(value(connection, "SHOW transaction_isolation"), "serializable")
            connection.commit()
            connection.isolation_level = None
            connection.read_only = True
            with self.assertRaises(errors.ReadOnlySqlTransaction):
                connection.execute("CREATE TABLE never (n int)")
            connection.rollback()


class Cursors(EndpointTestCase):
    def test_server_side_cursors(self):
        with connect(autocommit=False) as connection:
            with connection.cursor("numbers") as cursor:
                cursor.itersize = 7
                cursor.execute("SELECT * FROM generate_series(1, 1000)")
                self.assertEqual(sum(row[0] for row in cursor), 500500)
            with connection.cursor("there_and_back", scrollable=True) as cursor:
                cursor.execute("SELECT * FROM generate_series(1, 10)")
                cursor.scroll(5)
                self.assertEqual(cursor.fetchone(), (6,))
                cursor.scroll(-3)
                self.assertEqual(cursor.fetchone(), (4,))

    def test_a_held_cursor_outlives_its_transaction(self):
        with connect(autocommit=False) as connection:
            cursor = connection.cursor("held", withhold=True)
            cursor.execute("SELECT * FROM generate_series(1, 100)")
            connection.commit()
            self.assertEqual(value(connection, "SELECT 1"), 1)
            self.assertEqual(len(cursor.fetchmany(60)), 60)
            connection.commit()
            self.assertEqual(len(cursor.fetchall()), 40)
            cursor.close()


class Copying(EndpointTestCase):
    def test_in_and_out(self):
        rows = [(n, f"text {n}\twith a tab", None if n % 3 else n / 7) for n in range(20_000)]
        with table("n int, s text, f float8") as t, connect() as connection, connection.cursor() as cursor:
            with cursor.copy(f"COPY {t} FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            self.assertEqual(cursor.rowcount, len(rows))
            with cursor.copy(f"COPY (SELECT * FROM {t} ORDER BY n) TO STDOUT") as copy:
                copy.set_types(["int4", "text", "float8"])
                self.assertEqual(list(copy.rows()), rows)
            with cursor.copy(f"COPY {t} TO STDOUT (FORMAT binary)") as copy:
                self.assertEqual(b"".join(bytes(part) for part in copy)[:11], b"PGCOPY\n\xff\r\n\0")

    def test_in_while_statements_alternate(self):
        with table("n int") as t, connect() as connection, connection.cursor() as cursor:
            for n in range(100):
                with cursor.copy(f"COPY {t} FROM STDIN") as copy:
                    copy.write(f"{n}\n")
                self.assertEqual(value(connection, f"SELECT count(*) FROM {t}"), n + 1)

    def test_bad_data_is_an_error_and_nothing_more(self):
        with table("n int") as t, connect() as connection, connection.cursor() as cursor:
            for size in (1, 50_000):
                with self.assertRaises(errors.InvalidTextRepresentation):
                    with cursor.copy(f"COPY {t} FROM STDIN") as copy:
                        copy.write(b"no number\n" * size)
                self.assertEqual(value(connection, f"SELECT count(*) FROM {t}"), 0)

    def test_statements_longer_than_a_buffer(self):
        padding = f"/* {'long ' * 40_000} */"
        with table("n int, s text") as t, connect() as connection, connection.cursor() as cursor:
            for n in range(5):
                with cursor.copy(f"{padding} COPY {t} FROM STDIN") as copy:
                    for part in range(100):
                        copy.write(f"{n}\t{'x' * 5_000}\n")
                rows = connection.execute(f"SELECT * FROM {t} {padding}").fetchall()
                self.assertEqual(len(rows), 100 * (n + 1))
                with cursor.copy(f"COPY {t} TO STDOUT {padding}") as copy:
                    self.assertEqual(len(list(copy.rows())), 100 * (n + 1))
                with self.assertRaises(errors.InvalidTextRepresentation):
                    with cursor.copy(f"{padding} COPY {t} FROM STDIN") as copy:
                        copy.write(b"no number\tx\n" * 10_000)
                self.assertEqual(value(connection, f"SELECT %s::int {padding}", n), n)
                self.assertEqual(len(value(connection, "SELECT repeat('y', 200000)")), 200_000)

    def test_a_statement_that_fails_before_copying(self):
        with connect() as connection, connection.cursor() as cursor:
            for direction in ("FROM STDIN", "TO STDOUT"):
                with self.assertRaises(errors.UndefinedTable):
                    with cursor.copy(f"COPY there_is_none {direction}") as copy:
                        copy.read() if direction == "TO STDOUT" else copy.write(b"x")
                self.assertEqual(value(connection, "SELECT 1"), 1)

    def test_the_client_aborts(self):
        with table("n int") as t, connect() as connection, connection.cursor() as cursor:
            with self.assertRaises(KeyError):
                with cursor.copy(f"COPY {t} FROM STDIN") as copy:
                    copy.write(b"1\n2\n")
                    raise KeyError("changed its mind")
            self.assertEqual(value(connection, f"SELECT count(*) FROM {t}"), 0)

    def test_the_client_has_seen_enough(self):
        with connect() as connection, connection.cursor() as cursor:
            # psycopg then cancels the statement and throws away what is under way.
            with self.assertRaises(KeyError):
                with cursor.copy("COPY (SELECT * FROM generate_series(1, 10000000)) TO STDOUT") as copy:
                    self.assertEqual(bytes(copy.read())[:2], b"1\n")
                    raise KeyError("enough")
            self.assertEqual(value(connection, "SELECT 1"), 1)


class Pipelines(EndpointTestCase):
    def test_five_hundred_statements(self):
        with table("n int") as t, connect() as connection:
            with connection.pipeline():
                cursors = []
                for n in range(250):
                    connection.execute(f"INSERT INTO {t} VALUES (%s)", [n])
                    cursors.append(connection.execute(f"SELECT count(*), max(n) FROM {t}"))
            for n, cursor in enumerate(cursors):
                self.assertEqual(cursor.fetchone(), (n + 1, n))

    def test_reads_only(self):
        with connect() as connection:
            with connection.pipeline():
                cursors = [connection.execute("SELECT %s::int", [n]) for n in range(500)]
            self.assertEqual([cursor.fetchone()[0] for cursor in cursors], list(range(500)))

    def test_an_error_spoils_what_follows_up_to_the_sync(self):
        with table("n int") as t, connect() as connection:
            with self.assertRaises(errors.DivisionByZero), connection.pipeline() as pipeline:
                connection.execute(f"INSERT INTO {t} VALUES (1)")
                pipeline.sync()
                connection.execute(f"INSERT INTO {t} VALUES (2)")
                connection.execute("SELECT 1/0")
                connection.execute(f"INSERT INTO {t} VALUES (3)")
            self.assertEqual(connection.execute(f"SELECT n FROM {t}").fetchall(), [(1,)])
            with connection.pipeline():
                cursor = connection.execute("SELECT 7")
            self.assertEqual(cursor.fetchone(), (7,))

    def test_fetching_in_the_middle(self):
        with connect() as connection, connection.pipeline():
            for n in range(50):
                cursor = connection.execute("SELECT %s::int", [n])
                other = connection.execute("SELECT %s::text", [str(n)])
                self.assertEqual(cursor.fetchone(), (n,))
                self.assertEqual(other.fetchone(), (str(n),))


class PreparedStatements(EndpointTestCase):
    def test_they_spread_over_the_nodes(self):
        with connect(prepare_threshold=0) as connection:
            seen = set()
            for n in range(100):
                row = connection.execute("SELECT inet_server_port(), %s::int, %s::text", [n, "x" * n]).fetchone()
                self.assertEqual(row[1:], (n, "x" * n))
                seen.add(row[0])
            self.assertEqual(seen, set(NODES.values()))

    def test_many_and_replaced(self):
        with connect(prepare_threshold=0) as connection:
            connection.prepared_max = 20
            for n in range(300):
                self.assertEqual(value(connection, f"SELECT %s::int + {n % 50}", n), n + n % 50)

    def test_deallocate_and_discard(self):
        for reset in (b"DEALLOCATE ALL", b"DEALLOCATE p", b"DISCARD ALL"):
            with self.subTest(reset), connect() as connection:
                raw = connection.pgconn
                for _ in range(3):
                    self.assertEqual(raw.prepare(b"p", b"SELECT $1::int * 2").status, pq.ExecStatus.COMMAND_OK)
                    for n in range(20):
                        result = raw.exec_prepared(b"p", [str(n).encode()])
                        self.assertEqual(result.get_value(0, 0), str(2 * n).encode())
                    self.assertEqual(raw.exec_(reset).status, pq.ExecStatus.COMMAND_OK)
                    for _ in range(5):
                        result = raw.exec_prepared(b"p", [b"1"])
                        self.assertEqual(result.error_field(pq.DiagnosticField.SQLSTATE), b"26000")

    def test_discard_all_ends_the_state_of_the_session(self):
        with connect(prepare_threshold=None) as connection:
            connection.execute("SET application_name = 'elsewhere'")
            connection.execute("CREATE TEMP TABLE mine AS SELECT 1 AS n")
            self.assertEqual(places(connection), {PRIMARY})
            connection.execute("DISCARD ALL")
            with self.assertRaises(errors.UndefinedTable):
                connection.execute("SELECT * FROM mine")
            self.assertNotEqual(value(connection, "SHOW application_name"), "elsewhere")
            eventually("reads spread again", lambda: places(connection) == set(NODES.values()))

    def test_a_changed_table_is_noticed(self):
        with table("n int") as t, connect(prepare_threshold=0) as connection:
            connection.execute(f"INSERT INTO {t} VALUES (1)")
            for _ in range(5):
                self.assertEqual(connection.execute(f"SELECT * FROM {t}").fetchone(), (1,))
            with direct() as other:
                other.execute(f"ALTER TABLE {t} ALTER n TYPE text")
            # What PostgreSQL says of it directly is what is said here.
            with self.assertRaises(errors.FeatureNotSupported) as caught:
                for _ in range(50):
                    connection.execute(f"SELECT * FROM {t}")
            self.assertIn("cached plan must not change result type", str(caught.exception))


class Everything(EndpointTestCase):
    def test_types_in_text_and_binary(self):
        strings = [["a", 'q"uo"te'], ["{}", "NULL"]]
        values = [
            2**31 - 1, -(2**62), 1.5, float("inf"), decimal.Decimal("123456789.123456789"), True, None,
            b"\0\x01\xff" * 1000, "ünï\u20ac𝄞", uuid.UUID(int=7), datetime.date(1582, 10, 15),
            datetime.datetime(2024, 2, 29, 12, 34, 56, 789, datetime.timezone.utc), datetime.timedelta(days=-3, seconds=5),
            [1, None, 3], strings, [b"\0", b"\xff"],
        ]
        with connect() as connection:
            for binary in (False, True):
                for item in values:
                    with self.subTest(item, binary=binary), connection.cursor(binary=binary) as cursor:
                        form = "%b" if binary else "%s"
                        cast = "::text[]" if item == strings else "::text" if item is None else ""
                        cursor.execute(f"SELECT {form}{cast}", [item])
                        self.assertEqual(cursor.fetchone()[0], item)
                document = {"a": [1, 2.5, None, {"b": "\u20ac"}], "long": "x" * 100_000}
                self.assertEqual(connection.execute("SELECT %s", [Jsonb(document)]).fetchone()[0], document)

    def test_cancel(self):
        with connect() as connection:
            for query in ("SELECT pg_sleep(600)", "SELECT pg_sleep(600) FROM pg_sleep(0)", "DO $$BEGIN PERFORM pg_sleep(600); END$$"):
                with self.subTest(query):
                    timer = threading.Timer(0.2, connection.cancel_safe)
                    timer.start()
                    with self.assertRaises(errors.QueryCanceled):
                        connection.execute(query)
                    timer.join()
                    self.assertEqual(value(connection, "SELECT 1"), 1)

    def test_listen_and_notify(self):
        with connect() as listener, connect() as sender:
            listener.execute("LISTEN news")
            for n in range(20):
                sender.execute("SELECT pg_notify('news', %s)", [f"number {n}"])
            sender.execute("NOTIFY news, 'last'")
            received = [notify.payload for notify in listener.notifies(timeout=60, stop_after=21)]
            self.assertEqual(received, [f"number {n}" for n in range(20)] + ["last"])
            listener.execute("UNLISTEN *")
            self.assertEqual(value(listener, "SELECT 1"), 1)

    def test_notices_reach_the_client(self):
        with connect() as connection:
            notices = []
            connection.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary))
            connection.execute("DO $$BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END$$")
            connection.execute("DROP TABLE IF EXISTS there_is_none")
            self.assertEqual(notices, ["one", "two", 'table "there_is_none" does not exist, skipping'])

    def test_errors_are_those_of_the_server(self):
        statements = [
            "SELEC 1", "SELECT * FROM there_is_none", "SELECT nocolumn FROM pg_class", "SELECT 1/0", "SELECT 'x'::int",
            "SELECT no_function(1)", "SELECT * FROM pg_authid", "INSERT INTO there_is_none VALUES (1)", "ROLLBACK TO x",
            "SELECT ''::json", "SELECT 10::numeric(1)", "SELECT repeat('x', 2000000000)", "CREATE TABLE pg_catalog.x (n int)",
            "DO $$BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'ZZ123', DETAIL = 'd', HINT = 'h'; END$$",
            "EXECUTE there_is_none", "FETCH there_is_none", "SET no_setting = 1", "SHOW no_setting", "SELECT 1 UNION SELECT 'a'",
            "VACUUM there_is_none", "SELECT $1", "SELECT E'\\xff'", "BEGIN; SELECT 1/0; COMMIT",
            "SELECT 1; SELECT 1/0", "LOCK TABLE pg_class", "SELECT currval('x')", "SELECT lastval()", "CREATE DATABASE app",
            "SET TRANSACTION SNAPSHOT 'x'", "GRANT postgres TO app", "COMMENT ON TABLE nothing IS 'x'",
            "SELECT CASE WHEN random() >= 0 THEN 1/0 END",
        ]

        def outcome(connection, statement, extended):
            raw = connection.pgconn
            result = raw.exec_params(statement.encode(), None) if extended else raw.exec_(statement.encode())
            fields = [field for field in pq.DiagnosticField if field.name not in ("SOURCE_LINE", "SOURCE_FILE")]
            answer = [(field.name, result.error_field(field)) for field in fields]
            raw.exec_(b"ROLLBACK")
            return result.status, answer, raw.transaction_status

        with connect() as through, direct(user="app") as past:
            for statement in statements:
                for extended in (False, True):
                    with self.subTest(statement, extended=extended):
                        expected = outcome(past, statement, extended)
                        self.assertEqual(expected[0], pq.ExecStatus.FATAL_ERROR)
                        self.assertEqual(outcome(through, statement, extended), expected)

    def test_parameters_of_the_session(self):
        with connect(options="-c statement_timeout=1234567 -c DateStyle=German", application_name="me & you") as connection:
            for _ in range(15):
                self.assertEqual(value(connection, "SELECT current_setting('statement_timeout')"), "1234567ms")
                self.assertEqual(value(connection, "SELECT '2024-02-29'::date::text"), "29.02.2024")
                self.assertEqual(value(connection, "SELECT current_setting('application_name')"), "me & you")
            with direct() as past:
                names = ("server_version", "server_encoding", "integer_datetimes", "standard_conforming_strings",
                         "is_superuser", "in_hot_standby")
                for name in names:
                    if name != "is_superuser":
                        self.assertEqual(connection.info.parameter_status(name), past.info.parameter_status(name))
                self.assertEqual(connection.info.parameter_status("is_superuser"), "off")
            connection.execute("SET client_encoding = latin1")
            self.assertEqual(connection.info.parameter_status("client_encoding"), "LATIN1")

    def test_statement_timeout_is_the_servers(self):
        with connect(options="-c statement_timeout=50") as connection:
            for _ in range(6):
                with self.assertRaises(errors.QueryCanceled) as caught:
                    connection.execute("SELECT pg_sleep(600)")
                self.assertIn("statement timeout", str(caught.exception))

    def test_several_statements_in_one_message(self):
        with table("n int") as t, connect() as connection:
            cursor = connection.execute(f"INSERT INTO {t} VALUES (1); SELECT 2; UPDATE {t} SET n = 3; SELECT n FROM {t}")
            results = []
            while True:
                results.append((cursor.statusmessage, cursor.fetchall() if cursor.description else None))
                if not cursor.nextset():
                    break
            self.assertEqual(results, [
                ("INSERT 0 1", None), ("SELECT 1", [(2,)]), ("UPDATE 1", None), ("SELECT 1", [(3,)]),
            ])
            self.assertEqual(connection.execute("").pgresult.status, pq.ExecStatus.EMPTY_QUERY)

    def test_large_values_and_many_rows(self):
        with table("b bytea") as t, connect() as connection:
            for size in (65_530, 65_536, 131_072, 5_000_000):
                data = bytes(range(256)) * (size // 256 + 1)
                self.assertEqual(value(connection, "SELECT %b::bytea", data), data)
                connection.execute(f"INSERT INTO {t} VALUES (%b)", [data])
                self.assertEqual(value(connection, f"SELECT b FROM {t} ORDER BY length(b) DESC LIMIT 1"), data)
                connection.execute(f"SELECT '{'y' * size}', length(b) FROM {t}").fetchall()
            rows = connection.execute("SELECT n, repeat('x', n % 2000) FROM generate_series(1, 20000) n").fetchall()
            self.assertEqual([(n, len(text)) for n, text in rows], [(n, n % 2000) for n in range(1, 20001)])


if __name__ == "__main__":
    main()
