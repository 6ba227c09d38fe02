"""script/bench soak: no growth while clients come, run something, and go, politely or not."""

import os
import random
import statistics
import subprocess
import threading
import time

from claims import BACKENDS, Verdict, note, print_table
from claim_memory import usage
from client import Client

# Between the second fifth and the last one.
LIMIT = 1 << 20
PROTOCOLS = ("simple", "extended", "prepared")
CLIENTS, TURN = 8, 10


def rude(login, until, counts):
    """Clients that leave in the middle of something."""
    generator = random.Random(1)

    def half_a_login(client):
        client.begin()
        client.read()

    def half_a_message(client):
        client.log_in()
        client.send(b"Q\0\0\1\0SELECT")

    def in_a_transaction(client):
        client.log_in()
        client.ask("BEGIN")
        client.ask("SELECT 1")

    def without_reading(client):
        client.log_in()
        client.query("SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
        client.read()

    def while_it_waits(client):
        client.log_in()
        client.query("SELECT pg_sleep(0.05)")

    def with_an_error(client):
        client.log_in()
        client.query("SELECT 1/0")
        try:
            client.until()
        except RuntimeError:
            pass

    def with_settings(client):
        client.log_in()
        client.ask(f"SET application_name = 'soak {generator.randrange(1000000)}'")
        client.ask(f"SELECT {generator.randrange(1000000)}")

    kinds = (
        half_a_login, half_a_message, in_a_transaction, without_reading, while_it_waits, with_an_error, with_settings
    )
    while time.monotonic() < until:
        client = Client(login)
        try:
            generator.choice(kinds)(client)
        finally:
            generator.choice((client.close, client.reset))()
        counts["rude"] += 1
        time.sleep(0.01)


def polite(login, until, counts, failures):
    number = 0
    while (left := until - time.monotonic()) > 1:
        command = ["pgbench", "-n", "-S", "-C", "-M", PROTOCOLS[number % len(PROTOCOLS)], "-c", str(CLIENTS)]
        command += ["-T", str(max(1, int(min(TURN, left))))]
        result = subprocess.run(command, env=login.environment(), capture_output=True, text=True)
        if result.returncode != 0:
            failures.append(result.stdout + result.stderr)
            return
        line = next(line for line in result.stdout.splitlines() if "actually processed" in line)
        counts["polite"] += int(line.split(":")[1].split("/")[0])
        number += 1


def soak(cluster, seconds):
    """RSS every half second, and how many clients there were."""
    login, pid = cluster.endpoint(), cluster.process.pid
    until = time.monotonic() + seconds
    counts, failures, sizes, descriptors = {"polite": 0, "rude": 0}, [], [], []
    threads = [
        threading.Thread(target=polite, args=(login, until, counts, failures)),
        threading.Thread(target=rude, args=(login, until, counts)),
    ]
    for thread in threads:
        thread.start()
    said = time.monotonic()
    while any(thread.is_alive() for thread in threads):
        sizes.append(usage(pid)[0])
        descriptors.append(len(os.listdir(f"/proc/{pid}/fd")))
        if time.monotonic() > said + 30:
            said = time.monotonic()
            note(f"{until - said:.0f} s left: {counts}, RSS {sizes[-1] // 1024} KiB, {descriptors[-1]} descriptors")
        time.sleep(0.5)
        cluster.check()
    if failures:
        raise RuntimeError(f"pgbench failed:\n{failures[0]}")
    return sizes, descriptors, counts


def run(bench):
    seconds = bench.arguments.soak_seconds
    bench.heading(f"Soak: {seconds:.0f} s per loop, {CLIENTS} clients that connect for each transaction, and rude ones")
    rows, verdicts = [], []
    for backend in bench.arguments.backends:
        cluster = bench.cluster(f"soak-{backend}", backend)
        sizes, descriptors, counts = soak(cluster, seconds)
        bench.stop()
        fifth = max(1, len(sizes) // 5)
        parts = [statistics.median(sizes[start * fifth:(start + 1) * fifth]) // 1024 for start in range(5)]
        rows.append([
            BACKENDS[backend], counts["polite"], counts["rude"], sizes[0] // 1024, *(f"{part:.0f}" for part in parts),
            max(descriptors),
        ])
        growth = parts[4] - parts[1]
        verdicts.append(
            Verdict(f"RSS, last fifth − second fifth, KiB, {BACKENDS[backend]}", growth, LIMIT // 1024, digits=0)
        )
    columns = ("loop", "connections", "rude", "RSS before, KiB", "1st fifth", "2nd", "3rd", "4th", "5th", "descriptors, most")
    print_table(columns, rows)
    return verdicts
