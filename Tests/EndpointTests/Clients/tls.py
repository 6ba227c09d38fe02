"""TLS between clients and the endpoint, and between the endpoint and its nodes.

The endpoint's certificate is `live.crt` in SLIPSTREAM_CERTIFICATES, which tests exchange; it reaches the nodes with
`verify-full`.
"""

import contextlib
import hashlib
import os
import random
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import psycopg

from endpoint import (
    HOST,
    NODES,
    PID,
    PORT,
    PRIMARY,
    SOCKET_DIRECTORY,
    EndpointTestCase,
    connect,
    descriptors,
    direct,
    eventually,
    main,
    place,
    places,
    resident_bytes,
    value,
)
from wire import GSS_REQUEST, SSL_REQUEST, Closed, Wire, fields, message, startup

CERTIFICATES = os.environ["SLIPSTREAM_CERTIFICATES"]
AUTHORITY = CERTIFICATES + "/ca.crt"
LOG = SOCKET_DIRECTORY + "/slipstream.log"
MEGABYTE = 1 << 20


def certificate(name):
    return f"{CERTIFICATES}/{name}.crt"


def use_on_node(node, name):
    """Gives a node a certificate, and has all connections of the endpoint made anew."""
    data = f"{SOCKET_DIRECTORY}/nodes/{node}/data"
    owner = os.stat(data)
    for kind in ("crt", "key"):
        target = f"{data}/server.{kind}"
        shutil.copy(f"{CERTIFICATES}/{name}.{kind}", target)
        os.chmod(target, 0o600)
        os.chown(target, owner.st_uid, owner.st_gid)
    with direct(node) as connection:
        connection.execute("ALTER SYSTEM SET ssl = on")
        value(connection, "SELECT pg_reload_conf()")

    def shown():
        with direct(node, sslmode="require"):
            pem = ssl_certificate_of_node(node)
            with open(certificate(name)) as file:
                return "".join(pem.split()) in "".join(file.read().split())

    eventually(f"{node} shows {name}", lambda: attempt_ssl(shown))
    with direct(node) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")


def attempt_ssl(action):
    try:
        return action()
    except (psycopg.OperationalError, OSError):
        return None


def ssl_certificate_of_node(node):
    return certificate_shown("127.0.0.1", NODES[node])


def certificate_shown(host, port):
    """The PEM of the certificate a server shows after SSLRequest."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, port)) as plain:
        plain.settimeout(60)
        plain.sendall(SSL_REQUEST)
        assert plain.recv(1) == b"S"
        with context.wrap_socket(plain) as secured:
            return ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True))


def setUpModule():
    for node in NODES:
        use_on_node(node, "server")
    eventually("every node is reached", lambda: attempt_ssl(lambda: everywhere()))


def everywhere():
    with connect() as connection:
        return places(connection) == set(NODES.values())


def context(*, verify=True, protocols=("postgresql",)):
    made = ssl.create_default_context(cafile=AUTHORITY)
    if not verify:
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if protocols:
        made.set_alpn_protocols(list(protocols))
    return made


class SecuredWire(Wire):
    """The protocol by hand, over TLS: after SSLRequest, or `direct`."""

    def __init__(self, *, direct=False, protocols=("postgresql",), request=SSL_REQUEST, maximum=None, step=None):
        super().__init__(step)
        made = context(protocols=protocols)
        if maximum:
            made.maximum_version = maximum
        if not direct:
            self.socket.sendall(request)
            assert self.exactly(1) == b"S"
        self.socket = made.wrap_socket(self.socket, server_hostname="localhost")

    def stop_sending(self):
        # Says close_notify and waits for the other's; an error only means that there is something to be read before.
        with contextlib.suppress(ssl.SSLError):
            self.socket = self.socket.unwrap()


class DribblingWire(Wire):
    """TLS whose records are sent a few bytes at a time, each in a segment of its own."""

    def __init__(self, step):
        super().__init__()
        self.socket.sendall(SSL_REQUEST)
        assert self.exactly(1) == b"S"
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context().wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.step_size = step
        self.repeat(self.tls.do_handshake)

    def flush(self):
        data = self.outgoing.read()
        for start in range(0, len(data), self.step_size):
            self.socket.sendall(data[start:start + self.step_size])

    def repeat(self, action):
        while True:
            try:
                result = action()
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                data = self.socket.recv(7)
                if not data:
                    raise Closed from None
                self.incoming.write(data)

    def send(self, data):
        self.repeat(lambda: self.tls.write(data))

    def exactly(self, count):
        if not hasattr(self, "tls"):
            return super().exactly(count)
        data = b""
        while len(data) < count:
            data += self.repeat(lambda: self.tls.read(count - len(data)))
        return data


class Modes(EndpointTestCase):
    def test_every_mode_of_libpq(self):
        for mode in ("allow", "prefer", "require", "verify-ca", "verify-full"):
            for binding in ("disable", "prefer", "require"):
                if mode == "allow" and binding == "require":
                    continue
                with self.subTest(mode=mode, binding=binding), connect(
                    sslmode=mode, sslrootcert=AUTHORITY, channel_binding=binding
                ) as connection:
                    self.assertEqual(connection.pgconn.ssl_in_use, mode != "allow")
                    self.assertEqual(value(connection, "SELECT 6 * 7"), 42)
        with connect(sslmode="verify-full", sslrootcert=AUTHORITY, host="localhost") as connection:
            self.assertEqual(value(connection, "SELECT 1"), 1)

    def test_without_tls_as_before(self):
        with connect(sslmode="disable") as connection:
            self.assertFalse(connection.pgconn.ssl_in_use)
            self.assertEqual(value(connection, "SELECT 1"), 1)
        with self.assertRaisesRegex(psycopg.OperationalError, "channel binding required"):
            connect(sslmode="disable", channel_binding="require")

    def test_the_unix_socket_is_not_encrypted(self):
        with connect(host=SOCKET_DIRECTORY, sslmode="prefer") as connection:
            self.assertFalse(connection.pgconn.ssl_in_use)

    def test_another_authority_is_noticed_by_the_client(self):
        with self.assertRaisesRegex(psycopg.OperationalError, "certificate verify failed"):
            connect(sslmode="verify-ca", sslrootcert=certificate("otherca"))

    def test_a_wrong_password_is_refused(self):
        for binding in ("disable", "require"):
            with self.assertRaisesRegex(psycopg.OperationalError, "password authentication failed"):
                connect(sslmode="require", password="wrong", channel_binding=binding)

    def test_clients_certificates(self):
        def present(name):
            # libpq wants a key nobody else can read.
            key = f"{CERTIFICATES}/{name}.private"
            shutil.copy(f"{CERTIFICATES}/{name}.key", key)
            os.chmod(key, 0o600)
            return connect(sslmode="verify-full", sslrootcert=AUTHORITY, sslcert=certificate(name), sslkey=key)

        with present("client") as connection:
            self.assertEqual(value(connection, "SELECT 1"), 1)
        with self.assertRaises(psycopg.OperationalError):
            present("stranger")

    def test_direct_tls(self):
        if psycopg.pq.version() >= 170000:
            with connect(sslmode="require", sslnegotiation="direct") as connection:
                self.assertTrue(connection.pgconn.ssl_in_use)
        with SecuredWire(direct=True).log_in() as wire:
            self.assertEqual(wire.socket.selected_alpn_protocol(), "postgresql")
            self.assertEqual(wire.ask("SELECT 42"), [[b"42"]])
        for protocols in ((), ("http/1.1",)):
            with self.subTest(protocols=protocols), self.assertRaises((OSError, Closed, AssertionError)):
                with SecuredWire(direct=True, protocols=protocols) as wire:
                    wire.send(startup(user="app", database="app"))
                    wire.read()
        # Behind an SSLRequest it may be left out, but must not be another.
        with SecuredWire(protocols=()).log_in() as wire:
            self.assertEqual(wire.ask("SELECT 42"), [[b"42"]])
        with self.assertRaises(OSError):
            SecuredWire(protocols=("h2",))

    def test_old_versions_are_refused(self):
        with SecuredWire(maximum=ssl.TLSVersion.TLSv1_2).log_in() as wire:
            self.assertEqual(wire.socket.version(), "TLSv1.2")
            self.assertEqual(wire.ask("SELECT 42"), [[b"42"]])
        made = subprocess.run(
            ["openssl", "s_client", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-starttls", "postgres",
             "-connect", f"{HOST}:{PORT}"],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        )
        self.assertNotEqual(made.returncode, 0)

    def test_cancelling(self):
        with connect(sslmode="require") as connection:
            timer = threading.Timer(0.5, connection.cancel_safe)
            timer.start()
            with self.assertRaises(psycopg.errors.QueryCanceled):
                connection.execute("SELECT pg_sleep(60)")
            timer.join()
            self.assertEqual(value(connection, "SELECT 1"), 1)


class SomebodyInTheMiddle(EndpointTestCase):
    def test_bytes_behind_the_request_end_the_connection(self):
        for more in (b"\0", startup(user="app", database="app"), b"\x16\x03\x01"):
            with Wire() as wire:
                wire.send(SSL_REQUEST + more)
                kind, body = wire.read()
                self.assertEqual((kind, fields(body)["C"]), (b"E", "08P01"))
                self.assertEqual(wire.rest(), [])

    def test_between_the_answer_and_the_handshake_there_is_only_tls(self):
        for data in (startup(user="app", database="app"), b"Q\0\0\0\x04", bytes(5), SSL_REQUEST):
            with Wire() as wire:
                wire.send(SSL_REQUEST)
                self.assertEqual(wire.exactly(1), b"S")
                wire.send(data)
                # An alert of TLS at most, and nothing of PostgreSQL's protocol.
                try:
                    rest = wire.socket.recv(1000)
                except ConnectionError:
                    rest = b""
                self.assertTrue(rest == b"" or rest[0] == 0x15, rest)

    def test_a_client_that_was_denied_the_offer_of_channel_binding(self):
        with SecuredWire() as wire:
            wire.send(startup(user="app", database="app"))
            kind, body = wire.read()
            self.assertEqual(body[4:], b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
            first = b"y,,n=,r=abcdefghijkl"
            wire.send(message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first))
            kind, body = wire.read()
            self.assertEqual((kind, fields(body)["C"]), (b"E", "28000"))
            self.assertEqual(fields(body)["M"], "SCRAM channel binding negotiation error")

    def test_encryption_is_asked_for_once(self):
        for request in (SSL_REQUEST, GSS_REQUEST):
            with SecuredWire() as wire:
                wire.send(request)
                kind, body = wire.read()
                self.assertEqual((kind, fields(body)["C"]), (b"E", "0A000"))


class Bytes(EndpointTestCase):
    def test_records_in_pieces(self):
        for step in (1, 3):
            with DribblingWire(step) as wire:
                wire.log_in()
                self.assertEqual(wire.ask("SELECT 'a', repeat('b', 3000)"), [[b"a", b"b" * 3000]])

    def test_many_records_in_one_read(self):
        with SecuredWire().log_in() as wire:
            count = 2000
            for number in range(count):
                wire.socket.write(message(b"Q", f"SELECT {number}".encode() + b"\0"))
            for number in range(count):
                values = [body[-len(str(number)):] for kind, body in wire.until() if kind == b"D"]
                self.assertEqual(values, [str(number).encode()])

    def test_values_of_every_size(self):
        seed = int(os.environ.get("SLIPSTREAM_SEED", random.randrange(1 << 32)))
        generator = random.Random(seed)
        sizes = [0, 1, 16383, 16384, 16385, 65535, 65536, 65537, 1 << 20]
        sizes += [generator.randrange(300_000) for _ in range(100)]
        with connect(sslmode="require") as connection:
            for size in sizes:
                text = f"{size % 10}" * size
                with self.subTest(size=size, seed=seed):
                    self.assertEqual(value(connection, "SELECT %s::text", text), text)
                    self.assertEqual(value(connection, "SELECT repeat(%s, %s)", str(size % 10), size), text)

    def test_keys_are_updated(self):
        """OpenSSL's client does that when it is told "K", and asks for the same in return."""
        client = subprocess.Popen(
            ["openssl", "s_client", "-starttls", "postgres", "-connect", f"{HOST}:{PORT}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
        )
        said = bytearray()
        parts = iter(lambda: client.stdout.read(1000), b"")
        reader = threading.Thread(target=lambda: [said.extend(part) for part in parts])
        reader.start()
        try:
            client.stdin.write(startup(user="app", database="app"))
            eventually("it offers a mechanism", lambda: b"SCRAM-SHA-256-PLUS\0" in said)
            for number in range(1, 4):
                client.stdin.write(b"K\n")
                eventually("the key is updated", lambda: said.count(b"KEYUPDATE") == number)
            client.stdin.write(message(b"p", b"ROT13\0" + struct.pack("!i", 0)))
            eventually("it refuses", lambda: b"client selected an invalid SASL authentication mechanism" in said)
        finally:
            client.kill()
            client.wait()
            reader.join()
            client.stdin.close()
            client.stdout.close()

    def test_pipelines(self):
        sizes = range(0, 100_000, 500)
        with connect(sslmode="require") as connection:
            with connection.pipeline():
                cursors = [connection.execute("SELECT repeat(%s, %s)", ("x", size)) for size in sizes]
            for number, cursor in zip(sizes, cursors):
                self.assertEqual(len(cursor.fetchone()[0]), number)

    def test_a_huge_copy_both_ways_in_constant_memory(self):
        line = b"0123456789" * 100 + b"\n"
        count = 200_000
        expected = hashlib.md5()
        with connect(sslmode="require") as connection:
            connection.execute("DROP TABLE IF EXISTS huge_tls; CREATE UNLOGGED TABLE huge_tls (s text)")
            before = resident_bytes()
            highest = before
            with connection.cursor() as cursor:
                with cursor.copy("COPY huge_tls FROM STDIN") as copy:
                    for number in range(0, count, 1000):
                        copy.write(line * 1000)
                        expected.update(line * 1000)
                        highest = max(highest, resident_bytes())
                received = hashlib.md5()
                size = 0
                with cursor.copy("COPY huge_tls TO STDOUT") as copy:
                    for data in copy:
                        received.update(data)
                        size += len(data)
                        if size % (100 * len(line)) == 0:
                            highest = max(highest, resident_bytes())
            connection.execute("DROP TABLE huge_tls")
        self.assertEqual(size, count * len(line))
        self.assertEqual(received.digest(), expected.digest())
        self.assertLess(highest - before, 30 * MEGABYTE)

    def test_a_client_that_does_not_read_holds_back_its_server(self):
        with SecuredWire().log_in() as wire:
            before = resident_bytes()
            wire.send(message(b"Q", b"SELECT repeat('x', 1000) FROM generate_series(1, 100000)\0"))
            time.sleep(2)
            self.assertLess(resident_bytes() - before, 30 * MEGABYTE)
            self.assertEqual(sum(kind == b"D" for kind, _ in wire.until()), 100_000)


class Connections(EndpointTestCase):
    def test_plain_and_encrypted_side_by_side(self):
        failures = []

        def work(mode):
            try:
                for _ in range(5):
                    with connect(sslmode=mode) as connection:
                        for number in range(100):
                            assert value(connection, "SELECT %s::int", number) == number
                            text = value(connection, "SELECT repeat(%s, 50000)", mode[0])
                            assert text == mode[0] * 50000
            except Exception as error:  # noqa: BLE001
                failures.append(repr(error))

        threads = [threading.Thread(target=work, args=(mode,)) for mode in ["disable", "require"] * 6]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def test_handshakes_that_end_early_leave_nothing(self):
        hello = ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
        hello = hello.read()
        with connect():
            pass
        before = descriptors()
        generator = random.Random(1)
        for _ in range(200):
            wire = Wire()
            with contextlib.suppress(OSError, Closed):
                if generator.random() < 0.5:
                    wire.send(SSL_REQUEST)
                    wire.exactly(1)
                wire.send(hello[:generator.randrange(1, len(hello) + 1)])
                if generator.random() < 0.3:
                    wire.send(generator.randbytes(100))
            if generator.random() < 0.5:
                wire.reset()
            else:
                wire.close()
        eventually("descriptors are given back", lambda: descriptors() <= before + 2)

    def test_a_close_notify_ends_the_session(self):
        wire = SecuredWire().log_in()
        wire.ask("SELECT txid_current()")
        # Says close_notify and waits for the endpoint's: the socket below is in plaintext again, and closed by the endpoint.
        plain = wire.socket.unwrap()
        self.assertEqual(plain.recv(1), b"")
        plain.close()

    def test_idle_connections_are_light(self):
        count = 100
        with connect(sslmode="require") as first:
            value(first, "SELECT 1")
            before = resident_bytes()
            others = [SecuredWire() for _ in range(count)]
            for other in others:
                other.send(startup(user="app", database="app"))
                other.read()
            each = (resident_bytes() - before) / count
            for other in others:
                other.close()
        self.assertLess(each, 100_000)


class Reload(EndpointTestCase):
    def shown(self):
        return "".join(certificate_shown(HOST, PORT).split())

    def stored(self, name):
        with open(certificate(name)) as file:
            return "".join(file.read().split())

    def install(self, name):
        for kind in ("crt", "key"):
            shutil.copy(f"{CERTIFICATES}/{name}.{kind}", f"{CERTIFICATES}/live.{kind}")

    def tearDown(self):
        self.install("server")
        os.kill(PID, signal.SIGHUP)
        eventually("the first certificate is back", lambda: self.shown() in self.stored("server"))
        super().tearDown()

    def test_a_new_certificate_is_for_new_connections(self):
        self.assertIn(self.shown(), self.stored("server"))
        with SecuredWire().log_in() as wire:
            old = wire.socket.getpeercert(binary_form=True)
            self.install("newserver")
            os.kill(PID, signal.SIGHUP)
            eventually("the new certificate is shown", lambda: self.shown() in self.stored("newserver"))
            # Every worker, and a login that is bound to the new certificate.
            for _ in range(20):
                self.assertIn(self.shown(), self.stored("newserver"))
                with connect(sslmode="verify-full", sslrootcert=AUTHORITY, channel_binding="require") as connection:
                    self.assertEqual(value(connection, "SELECT 1"), 1)
            self.assertEqual(wire.ask("SELECT 42"), [[b"42"]])
            self.assertEqual(wire.socket.getpeercert(binary_form=True), old)

    def test_a_broken_certificate_changes_nothing(self):
        def complaints():
            with open(LOG) as file:
                return file.read().count("the certificates stay as they are")

        with connect(sslmode="require") as session:
            for breakage in ("not a certificate", "the key of another", "none"):
                with self.subTest(breakage):
                    self.install("server")
                    if breakage == "none":
                        os.remove(CERTIFICATES + "/live.crt")
                    elif breakage == "the key of another":
                        shutil.copy(CERTIFICATES + "/client.key", CERTIFICATES + "/live.key")
                    else:
                        with open(CERTIFICATES + "/live.crt", "w") as file:
                            file.write("garbage\n")
                    before = complaints()
                    os.kill(PID, signal.SIGHUP)
                    eventually("it says so", lambda: complaints() > before)
                    self.assertIn(self.shown(), self.stored("server"))
                    self.assertEqual(value(session, "SELECT 1"), 1)

    def test_certificates_change_under_load(self):
        over = threading.Event()
        failures = []

        def work():
            try:
                while not over.is_set():
                    with connect(sslmode="verify-full", sslrootcert=AUTHORITY, channel_binding="require") as connection:
                        for _ in range(5):
                            value(connection, "SELECT repeat('x', 10000)")
            except Exception as error:  # noqa: BLE001
                failures.append(repr(error))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(40):
            self.install("newserver" if number % 2 else "server")
            os.kill(PID, signal.SIGHUP)
            time.sleep(0.05)
        over.set()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])


class Nodes(EndpointTestCase):
    def test_the_way_to_the_nodes_is_encrypted(self):
        with connect(application_name="to the nodes") as connection:
            for _ in range(30):
                place(connection)
            connection.execute("SELECT txid_current()")
            for node in NODES:
                with direct(node) as server:
                    rows = server.execute("""
                        SELECT s.ssl, s.version FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
                        WHERE a.usename = 'app' AND a.application_name = 'to the nodes'
                        """).fetchall()
                self.assertTrue(rows and all(row == (True, "TLSv1.3") for row in rows), f"{node}: {rows}")

    def test_cancelling_on_a_node(self):
        with connect(sslmode="disable") as connection:
            for _ in range(5):
                timer = threading.Timer(0.3, connection.cancel)
                timer.start()
                with self.assertRaises(psycopg.errors.QueryCanceled):
                    connection.execute("SELECT pg_sleep(60)")
                timer.join()

    def test_a_node_with_the_wrong_certificate_takes_no_reads(self):
        wrong = "standby1"
        try:
            use_on_node(wrong, "elsewhere")
            for _ in range(3):
                with connect() as connection:
                    self.assertNotIn(NODES[wrong], places(connection))
            with open(LOG) as file:
                self.assertIn(
                    f"no TLS with node {wrong}: the server's certificate is for \"elsewhere.example\" (and 1 more), "
                    "not for host \"127.0.0.1\"",
                    file.read(),
                )
        finally:
            use_on_node(wrong, "server")
        eventually("it takes reads again", everywhere)

    def test_a_primary_with_the_wrong_certificate_takes_no_writes(self):
        for name in ("elsewhere", "stranger"):
            try:
                use_on_node("primary", name)
                # A Parse alone would go to the primary.
                with connect(prepare_threshold=None) as connection:
                    self.assertNotIn(PRIMARY, places(connection))
                    with self.assertRaises(psycopg.OperationalError) as caught:
                        connection.execute("CREATE TABLE never (n int)")
                    self.assertIn("no primary is available", str(caught.exception))
            finally:
                use_on_node("primary", "server")
            eventually("the primary is reached again", everywhere)


if __name__ == "__main__":
    main()
