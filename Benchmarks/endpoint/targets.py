"""The servers of a benchmark: clusters of one node behind Slipstream, and PgBouncer in front of the same nodes."""

import json
import os
import pwd
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit


class SetupError(Exception):
    pass


@dataclass
class Login:
    host: str
    port: int
    user: str
    password: str
    database: str
    sslmode: str = "disable"

    @staticmethod
    def of(uri):
        parts = urlsplit(uri.strip())
        return Login(
            parts.hostname, parts.port, unquote(parts.username), unquote(parts.password), parts.path.lstrip("/")
        )

    def environment(self):
        return dict(
            os.environ,
            PGHOST=self.host,
            PGPORT=str(self.port),
            PGUSER=self.user,
            PGPASSWORD=self.password,
            PGDATABASE=self.database,
            PGSSLMODE=self.sslmode,
            PGGSSENCMODE="disable",
        )


@dataclass
class Target:
    """Where pgbench connects to, and the process in the middle, if any."""

    name: str
    server: str
    login: Login
    pid: int = None

    def environment(self):
        return self.login.environment()


def stop(process, signals=(signal.SIGTERM, signal.SIGKILL), patience=30):
    """Ends a process of ours, politely first."""
    for number in signals:
        if process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            pass


def tail(path):
    try:
        with open(path, errors="replace") as file:
            return "".join(file.readlines()[-15:])
    except OSError:
        return ""


class Cluster:
    """`slipstream up`: with one node and one worker unless told otherwise.

    `wrapper` is a program and its arguments that runs Slipstream, `settings` a configuration.
    """

    def __init__(
        self, program, directory, backend, log, *, standbys=0, workers=1, settings=None, options=(), wrapper=(),
        environment=None,
    ):
        self.program, self.directory, self.backend, self.log = program, directory, backend, log
        self.standbys, self.workers, self.settings = standbys, workers, settings
        self.options, self.wrapper, self.environment = options, wrapper, environment
        self.process = None

    def start(self):
        command = [*self.wrapper, self.program, "up", "--dir", self.directory, "--port", "0", "--http-port", "0"]
        command += ["--quiet", "--standbys", str(self.standbys), "--workers", str(self.workers), "--io", self.backend]
        command += self.options
        if self.settings is not None:
            path = self.directory + ".yaml"
            with open(path, "w") as file:
                file.writelines(f"{key}: {value}\n" for key, value in self.settings.items())
            command += ["-c", path]
        with open(self.log, "w") as log:
            # A session of its own: the terminal's Ctrl-C is for us, who then stop everything in order.
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=dict(os.environ, **self.environment or {})
            )
        deadline = time.monotonic() + 180
        while True:
            status = subprocess.run(
                [self.program, "status", "--json", "--dir", self.directory], capture_output=True, text=True
            )
            if status.returncode == 0:
                nodes = json.loads(status.stdout)["nodes"]
                if len(nodes) == 1 + self.standbys and all(node["state"] == "up" for node in nodes):
                    break
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SetupError(f"{' '.join(command)} does not serve:\n{tail(self.log)}")
            time.sleep(0.1)
        self.node = next(node["name"] for node in nodes if node["role"] == "primary")

    def check(self):
        """It must not have ended meanwhile."""
        if self.process.poll() is not None:
            raise SetupError(f"slipstream has ended with {self.process.returncode}:\n{tail(self.log)}")

    def worker_threads(self):
        """The threads that move the bytes."""
        threads = []
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{task}/comm") as file:
                if file.read().startswith("worker"):
                    threads.append(int(task))
        return threads

    def login(self, *options):
        uri = subprocess.run(
            [self.program, "url", "--dir", self.directory, *options], capture_output=True, text=True, check=True
        )
        return Login.of(uri.stdout)

    def endpoint(self):
        return self.login()

    def direct(self):
        return self.login("--node", self.node)

    def fill(self, scale):
        direct = self.direct()
        result = subprocess.run(
            ["pgbench", "-i", "-q", "-s", str(scale)], env=direct.environment(), capture_output=True, text=True
        )
        if result.returncode != 0:
            raise SetupError(f"pgbench -i failed:\n{result.stderr}")
        superuser = self.login("--node", self.node, "--superuser")
        subprocess.run(["psql", "-qXc", "CHECKPOINT"], env=superuser.environment(), check=True)

    def stop(self):
        if self.process is None:
            return
        stop(self.process)
        if self.process.returncode == -signal.SIGKILL:
            subprocess.run([self.program, "down", "--dir", self.directory], capture_output=True)


class PgBouncer:
    """In transaction mode, in front of several nodes, one pooled database for each.

    Both sides log in with SCRAM, as Slipstream's do. `certificate` and `key` are files: clients then need TLS.
    """

    def __init__(self, program, directory, pool_size, max_clients=None, certificate=None, key=None, wrapper=()):
        self.program, self.directory, self.pool_size = program, directory, pool_size
        self.max_clients = max_clients or 4 * pool_size + 100
        self.certificate, self.key, self.wrapper = certificate, key, wrapper
        self.process = None
        output = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        found = re.search(r"PgBouncer (\d+)\.(\d+)", output)
        if not found:
            raise SetupError(f"{program} does not tell its version")
        self.version = tuple(int(part) for part in found.groups())

    @property
    def version_text(self):
        return ".".join(str(part) for part in self.version)

    @property
    def name(self):
        return f"PgBouncer {self.version_text}"

    @property
    def prepares(self):
        """Whether it can do protocol-level prepared statements in transaction mode."""
        return self.version >= (1, 21)

    def start(self, nodes):
        """`nodes`: the login of each node, by the name of its database here."""
        os.makedirs(self.directory, mode=0o700)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.nodes = nodes
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "pool_mode": "transaction",
            "auth_type": "scram-sha-256",
            "auth_file": f"{self.directory}/users",
            "default_pool_size": self.pool_size,
            "max_client_conn": self.max_clients,
            "max_db_connections": 0,
            "log_connections": 0,
            "log_disconnections": 0,
            "log_stats": 0,
            "logfile": f"{self.directory}/log",
        }
        if self.certificate:
            settings |= {
                "client_tls_sslmode": "require",
                "client_tls_cert_file": self.certificate,
                "client_tls_key_file": self.key,
            }
        if self.prepares:
            settings["max_prepared_statements"] = 200
        with open(f"{self.directory}/pgbouncer.ini", "w") as file:
            file.write("[databases]\n")
            for name, node in nodes.items():
                file.write(f"{name} = host={node.host} port={node.port} dbname={node.database} user={node.user}")
                file.write(f" password='{node.password}'\n")
            file.write("[pgbouncer]\n")
            file.writelines(f"{key} = {value}\n" for key, value in settings.items())
        with open(f"{self.directory}/users", "w") as file:
            # Each cluster has a role `app` with a password of its own; clients use one of them for all.
            self.user = next(iter(nodes.values()))
            file.write(f'"{self.user.user}" "{self.user.password}"\n')
        options = ["--quiet", f"{self.directory}/pgbouncer.ini"]
        if os.geteuid() == 0:  # which PgBouncer refuses to run as
            account = next(name for name in ("postgres", "nobody") if known(name))
            for path in (self.directory, f"{self.directory}/pgbouncer.ini", f"{self.directory}/users"):
                os.chown(path, pwd.getpwnam(account).pw_uid, -1)
            options[:0] = ["--user", account]
        self.process = subprocess.Popen(
            [*self.wrapper, self.program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise SetupError(f"PgBouncer does not serve:\n{tail(self.directory + '/log')}")
                time.sleep(0.05)

    def login(self, name):
        sslmode = "require" if self.certificate else "disable"
        return Login("127.0.0.1", self.port, self.user.user, self.user.password, name, sslmode)

    def stop(self):
        if self.process is not None:
            # SIGINT waits for the clients, SIGTERM of old versions does not; it holds nothing that is worth the wait.
            stop(self.process, patience=5)


def known(account):
    try:
        pwd.getpwnam(account)
        return True
    except KeyError:
        return False
