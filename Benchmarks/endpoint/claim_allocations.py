"""script/bench allocations: what the threads that move the bytes allocate per transaction. How: allocations.c."""

import os
import shutil
import struct
import subprocess

import measure
from claims import BACKENDS, Verdict, endpoint_target, figure, print_table
from targets import SetupError

# Some are made by the clock, not by transactions: a snapshot of the topology, a timer.
LIMIT = 0.001
SLOT, CAPACITY = struct.Struct("=4Q"), 1024
SCRIPTS = {
    # What applications do beside single reads: transactions, and statements in pipelines.
    "transaction": "BEGIN;\nSELECT 1;\nSELECT abalance FROM pgbench_accounts WHERE aid = 1;\nCOMMIT;\n",
    "write": "UPDATE pgbench_branches SET bbalance = bbalance WHERE bid = 0;\n",
    "pipeline": "\\startpipeline\n" + "SELECT 1;\n" * 5 + "\\endpipeline\n",
}


def compiled(bench):
    compiler = shutil.which("cc") or shutil.which("clang") or shutil.which("gcc")
    if compiler is None:
        raise SetupError("counting allocations needs a C compiler")
    library = bench.path("allocations.so")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "allocations.c")
    subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


class Counts:
    """What the threads have allocated so far: calls, bytes and frees."""

    def __init__(self, path):
        with open(path, "rb") as file:
            data = file.read()
        self.threads = {}
        for index in range(CAPACITY):
            thread, *figures = SLOT.unpack_from(data, 8 + index * SLOT.size)
            if thread:
                self.threads[thread] = figures


class Watched:
    """A target whose allocations are read with the clocks."""

    def __init__(self, target, path, threads):
        self.target, self.path, self.threads = target, path, threads
        self.readings = []

    def read(self, pid):
        counts = Counts(self.path)
        missing = [thread for thread in self.threads if thread not in counts.threads]
        if missing:
            raise SetupError("the allocations of the workers are not counted")
        self.readings.append([sum(counts.threads[thread][kind] for thread in self.threads) for kind in range(3)])
        return measure.Usage.of(pid)


def loads(bench):
    """By name: a load."""
    seconds = bench.arguments.seconds
    found = {}
    for mode in bench.arguments.modes:
        for clients in (1, 16):
            found[f"-S, {mode}, {clients} clients"] = measure.Load(clients, seconds, mode)
    for name, text in SCRIPTS.items():
        path = bench.path(f"{name}.sql")
        with open(path, "w") as file:
            file.write(text)
        for mode in bench.arguments.modes:
            if name != "pipeline" or mode != "simple":
                found[f"{name}, {mode}, 16 clients"] = measure.Load(16, seconds, mode, options=("-f", path))
    return found


def run(bench):
    bench.heading("Heap allocations of the worker per transaction")
    library = compiled(bench)
    rows, verdicts = [], []
    for backend in bench.arguments.backends:
        table = bench.path(f"allocations-{backend}")
        with open(table, "wb") as file:
            file.truncate(8 + CAPACITY * SLOT.size)
        program = os.path.realpath(bench.arguments.slipstream)
        environment = {"LD_PRELOAD": library, "BENCH_ALLOCATIONS": table, "BENCH_PROGRAM": program}
        cluster = bench.cluster(f"counted-{backend}", backend, program=program, environment=environment)
        target = endpoint_target(BACKENDS[backend], cluster)
        for name, load in loads(bench).items():
            watched = Watched(target, table, cluster.worker_threads())
            sample = measure.run(target, load, bench.scratch, usage=watched.read)
            before, after = watched.readings
            count = sample.tps * load.seconds
            each = [(late - early) / count for early, late in zip(before, after)]
            rows.append([BACKENDS[backend], name, f"{count:.0f}", after[0] - before[0], *(figure(one, 4) for one in each)])
            verdicts.append(Verdict(f"Allocations per transaction, {BACKENDS[backend]}, {name}", each[0], LIMIT, digits=4))
        cluster.check()
        bench.stop()
    print_table(
        ("loop", "load", "transactions", "allocations", "per transaction", "bytes", "frees"), rows, left=2
    )
    return verdicts
