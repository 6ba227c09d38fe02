"""script/bench memory: what an idle client costs, and that large values cost nothing."""

import struct
import time

from claims import Verdict, figure, print_table, note
from client import CHUNK, Client, message

IDLE = 5000
POOL = 20
# A value's text has at most 1 GB - 1 in PostgreSQL, with everything else that is in its message.
VALUE = 900_000_000
COPY_ROWS, COPY_ROW = 2_000_000, 1000
# What a stream of bytes may add: the buffers that are on their way.
STREAM_LIMIT = 4 << 20


def usage(pid):
    """RSS, PSS and USS in bytes."""
    found = {}
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            fields = line.split()
            if len(fields) == 3:
                found[fields[0].rstrip(":")] = int(fields[1]) * 1024
    return found["Rss"], found["Pss"], found["Private_Clean"] + found["Private_Dirty"]


def reset_peak(pid):
    with open(f"/proc/{pid}/clear_refs", "w") as file:
        file.write("5")


def peak(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def idle(name, pid, login):
    """What the process has without clients, and with many that have asked something once."""
    with_one = Client(login).log_in()
    with_one.ask("SELECT 1")
    before = usage(pid)
    note(f"Connecting {IDLE} clients to {name}")
    clients = []
    try:
        for _ in range(IDLE):
            clients.append(Client(login).log_in())
            clients[-1].ask("SELECT 1")
        time.sleep(1)
        after = usage(pid)
        for client in clients[::50]:
            client.ask("SELECT 1")
    finally:
        for client in clients:
            client.close()
        with_one.close()
    return before, after


def upload(client):
    """A parameter of this size, to the server."""
    client.send(message(b"P", b"\0SELECT length($1)\0" + struct.pack("!hi", 1, 25)))
    client.send(b"B" + struct.pack("!i", 4 + 2 + 2 + 2 + 4 + VALUE + 2) + b"\0\0" + struct.pack("!hhi", 0, 1, VALUE))
    part = b"x" * CHUNK
    for start in range(0, VALUE, CHUNK):
        client.send(part[:VALUE - start])
    client.send(struct.pack("!h", 0) + message(b"E", b"\0" + struct.pack("!i", 0)) + message(b"S"))
    client.skip()
    return VALUE


def copy_in(client):
    client.ask("CREATE TEMP TABLE copied (line text)")
    client.query("COPY copied FROM STDIN WHERE false")
    client.until(b"G")
    row = message(b"d", b"x" * COPY_ROW + b"\n")
    rows = CHUNK // len(row)
    for _ in range(COPY_ROWS // rows):
        client.send(row * rows)
    client.send(message(b"c"))
    client.skip()
    return COPY_ROWS // rows * rows * len(row)


def result(client, pause=None):
    client.query(f"SELECT repeat('x', {VALUE})")
    return client.skip(pause)


def copy_out(client):
    client.query(f"COPY (SELECT repeat('x', {COPY_ROW}) FROM generate_series(1, {COPY_ROWS})) TO STDOUT")
    return client.skip()


STREAMS = {
    "result": result,
    "result, read late": lambda client: result(client, lambda: time.sleep(1)),
    "parameter": upload,
    "COPY TO STDOUT": copy_out,
    "COPY FROM STDIN": copy_in,
}


def stream(pid, login, action):
    """How much more memory there was at most, bytes that went through, and seconds."""
    client = Client(login).log_in()
    try:
        client.ask("SELECT 1")
        before = usage(pid)[0]
        reset_peak(pid)
        started = time.monotonic()
        count = action(client)
        seconds = time.monotonic() - started
        return peak(pid) - before, count, seconds
    finally:
        client.close()


def run(bench):
    bench.heading("Memory")
    backends = bench.arguments.backends
    clusters = {backend: bench.cluster(backend, backend, settings={"default_pool_size": POOL}) for backend in backends}
    peers = bench.bouncers({"app": clusters[backends[0]].direct()}, POOL, max_clients=IDLE + 100)
    targets = [(peer.name, peer.process.pid, peer.login("app")) for peer in peers]
    targets += [(f"Slipstream {name}", cluster.process.pid, cluster.endpoint()) for name, cluster in clusters.items()]
    return idle_clients(bench, targets, peers) + streams(bench, targets)


def idle_clients(bench, targets, peers):
    print(f"\n{IDLE} clients that have logged in and asked once, pool of {POOL}; KiB")
    rows, found = [], {}
    for name, pid, login in targets:
        before, after = idle(name, pid, login)
        each = [(late - early) / 1024 / IDLE for early, late in zip(before, after)]
        found[name] = each, after
        rows.append(
            [name, before[0] // 1024, after[0] // 1024, *(figure(value) for value in each), figure(after[0] / 1024 / IDLE)]
        )
    columns = ("target", "RSS, one client", f"RSS, {IDLE}", "RSS each", "PSS each", "USS each", "whole process ÷ clients")
    print_table(columns, rows)
    verdicts = []
    for name, (each, after) in found.items():
        for peer in peers:
            if name == peer.name or name.startswith("PgBouncer"):
                continue
            theirs = found[peer.name]
            for kind, index in (("RSS", 0), ("PSS", 1), ("USS", 2)):
                verdicts.append(
                    Verdict(f"{kind} per idle client, {name} ÷ {peer.name}", each[index] / theirs[0][index], 1.0)
                )
            verdicts.append(
                Verdict(
                    f"RSS of the whole process with {IDLE} idle clients, {name} ÷ {peer.name}",
                    after[0] / theirs[1][0], 1.0, is_required=False,
                )
            )
    return verdicts


def streams(bench, targets):
    print(f"\nOne value of {VALUE / 1e6:.0f} MB, and COPY of {COPY_ROWS * COPY_ROW / 1e9:.0f} GB: the most memory in addition")
    rows, verdicts = [], []
    for what, action in STREAMS.items():
        for name, pid, login in targets:
            note(f"{what}, {name}")
            more, count, seconds = stream(pid, login, action)
            rows.append([what, name, f"{more / 1024:.0f}", f"{count / 1e6:.0f}", f"{count / 1e6 / seconds:.0f}"])
            if not name.startswith("PgBouncer"):
                verdicts.append(Verdict(f"KiB more, {what}, {name}", more / 1024, STREAM_LIMIT / 1024, digits=0))
    print_table(("what", "target", "KiB more", "MB", "MB/s"), rows, left=2)
    for cluster in bench.clusters:
        cluster.check()
    bench.stop()
    return verdicts
