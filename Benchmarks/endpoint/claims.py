"""What the modes of script/bench share: servers that are tidied away, runs in turn, tables, verdicts."""

import os
import platform
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass, field

from measure import run
from targets import Cluster, PgBouncer, Target

BACKENDS = {"uring": "io_uring", "epoll": "epoll"}


def note(text):
    print(text, file=sys.stderr, flush=True)


@dataclass
class Verdict:
    """One claim: a figure, and the most (or the least) that it may be."""

    claim: str
    value: float
    limit: float
    at_least: bool = False
    # For what is told, but not required.
    is_required: bool = True
    digits: int = 2

    @property
    def is_met(self):
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self):
        word = "met" if self.is_met else "NOT MET" if self.is_required else "not met (told, not required)"
        sign = "≥" if self.at_least else "≤"
        return f"{self.claim}: {self.value:.{self.digits}f} ({sign} {self.limit:g}): {word}"


def figure(value, digits=2):
    return "" if value is None else f"{value:.{digits}f}"


def print_table(columns, rows, left=1):
    """`left`: how many columns hold words."""
    rows = [list(columns), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]

    def line(row):
        cells = (cell.ljust(width) if index < left else cell.rjust(width)
                 for index, (cell, width) in enumerate(zip(row, widths)))
        return "| " + " | ".join(cells) + " |"

    rule = ["-" * width if index < left else "-" * (width - 1) + ":" for index, width in enumerate(widths)]
    print("\n".join(["", line(rows[0]), line(rule), *(line(row) for row in rows[1:])]), flush=True)


def spread(values):
    """How noisy: half of the distance between the quartiles, as a share of the median."""
    if len(values) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / 2 / middle if middle else 0.0


@dataclass
class Bench:
    """Makes servers below `scratch` and ends them."""

    arguments: object
    scratch: str
    clusters: list = field(default_factory=list)
    peers: list = field(default_factory=list)
    # How many peers there have been.
    started: int = 0

    # MARK: - Servers

    def path(self, name):
        return os.path.join(self.scratch, name)

    def cluster(self, name, backend="uring", fill=True, program=None, **options):
        note(f"Starting Slipstream ({name})")
        directory = self.path(name)
        program = program or self.arguments.slipstream
        cluster = Cluster(program, directory, backend, directory + ".log", **options)
        self.clusters.append(cluster)
        cluster.start()
        if fill:
            cluster.fill(self.arguments.scale)
        return cluster

    def bouncers(self, nodes, pool_size, programs=None, **options):
        """Every PgBouncer there is, the installed one first."""
        started = []
        for program in programs or self.arguments.pgbouncer:
            self.started += 1
            directory = self.path(f"pgbouncer-{self.started}")
            peer = PgBouncer(program, directory, pool_size, **options)
            self.peers.append(peer)
            peer.start(nodes)
            started.append(peer)
        return started

    def stop(self):
        """Ends what was started since the last time."""
        for peer in self.peers:
            peer.stop()
        for cluster in self.clusters:
            cluster.stop()
        self.clusters, self.peers = [], []

    # MARK: - Measuring

    def rounds(self, runs, rounds=None):
        """Runs all in turn, several times, each time beginning with the next one.

        `runs`: by a key, the target and its load. Returns samples by key, in the order of the rounds.
        """
        rounds = rounds or self.arguments.rounds
        samples, keys = {key: [] for key in runs}, list(runs)
        for number in range(rounds):
            turn = number % len(keys)
            for key in keys[turn:] + keys[:turn]:
                target, load = runs[key]
                sample = run(target, load, self.scratch)
                samples[key].append(sample)
                cost = f", {sample.cpu:.1f} µs CPU" if sample.cpu else ""
                note(
                    f"round {number + 1}/{rounds}, {' '.join(str(part) for part in key)}: {sample.tps:.0f} tps{cost}, "
                    f"p99 {sample.p99 / 1000:.2f} ms; load {os.getloadavg()[0]:.1f}"
                )
        for cluster in self.clusters:
            cluster.check()
        return samples

    # MARK: - Telling

    def heading(self, title):
        print(f"\n## {title}\n\n{self.machine()}", flush=True)

    def machine(self):
        with open("/proc/cpuinfo") as file:
            found = re.search(r"^model name\s*:\s*(.*)$", file.read(), re.MULTILINE)
        model = f" ({found.group(1)})" if found else ""
        text = subprocess.run(["postgres", "--version"], capture_output=True, text=True).stdout
        parts = [f"{os.cpu_count()} cores{model}", f"Linux {platform.release()}"]
        parts.append(f"PostgreSQL {re.search(r'[0-9.]+', text).group()}")
        parts += [PgBouncer(program, "", 1).name for program in self.arguments.pgbouncer]
        return ", ".join(parts) + f"; load average {os.getloadavg()[0]:.1f}"


def median(samples, attribute):
    values = [getattr(sample, attribute) for sample in samples]
    return None if None in values else statistics.median(values)


def ratios(samples, others, attribute):
    """Each round's ratio: both sides of it are from the same minute and the same server."""
    return [getattr(ours, attribute) / getattr(theirs, attribute) for ours, theirs in zip(samples, others)]


def ratio(samples, others, attribute):
    return statistics.median(ratios(samples, others, attribute))


def endpoint_target(name, cluster):
    return Target(name, cluster.backend, cluster.endpoint(), cluster.process.pid)


def peer_target(peer, database="app"):
    return Target(peer.name, database, peer.login(database), peer.process.pid)


def peer_mode(peer, mode):
    """What pgbench is told: a PgBouncer that cannot prepare is measured with what comes nearest."""
    return "extended" if mode == "prepared" and not peer.prepares else mode
