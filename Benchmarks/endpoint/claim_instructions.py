"""script/bench instructions: what a transaction costs in instructions outside the kernel (valgrind's callgrind).

One client, so that every transaction takes the same way. valgrind does not know io_uring: the loop is epoll's, whose
own part is small. The figures are kept in instructions.json beside this file.
"""

import glob
import json
import os
import re
import shutil
import subprocess

from claims import Verdict, note, print_table
from targets import SetupError

FEW, MANY, RUNS = 300, 1300, 5
TOLERANCE = 0.05
RECORD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "instructions.json")


def callgrind(bench, name):
    output = bench.path(f"callgrind-{name}")
    os.makedirs(output)
    os.chmod(output, 0o777)
    return output, ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}/out", "--separate-threads=yes"]


def control(pid, option):
    result = subprocess.run(["callgrind_control", option, str(pid)], capture_output=True, text=True, timeout=60)
    if "OK" not in result.stdout:
        raise SetupError(f"callgrind_control {option}: {result.stdout}{result.stderr}")


def counted(output, pid, login, mode, transactions):
    """Instructions by thread while pgbench runs."""
    control(pid, "-z")
    command = ["pgbench", "-n", "-S", "-M", mode, "-c", "1", "-t", str(transactions)]
    subprocess.run(command, env=login.environment(), check=True, capture_output=True, timeout=300)
    for path in glob.glob(f"{output}/out.*"):
        os.unlink(path)
    control(pid, "-d")
    totals = {}
    for path in glob.glob(f"{output}/out.*-*"):
        with open(path) as file:
            found = re.findall(r"^totals: (\d+)", file.read(), re.MULTILINE)
        totals[path.rsplit("-", 1)[1]] = sum(int(value) for value in found)
    if not totals:
        raise SetupError("callgrind has written nothing")
    return totals


def per_transaction(output, pid, login, mode):
    # What comes and goes with a connection is in both.
    few, many = (counted(output, pid, login, mode, count) for count in (FEW, MANY))
    worker = max(many, key=many.get)
    return (many[worker] - few[worker]) / (MANY - FEW)


def stripped(bench):
    """valgrind stumbles over the debugging information."""
    program = bench.path("slipstream")
    subprocess.run(["strip", "--strip-debug", "-o", program, bench.arguments.slipstream], check=True)
    return program


def run(bench):
    for program in ("valgrind", "callgrind_control", "strip"):
        if shutil.which(program) is None:
            raise SetupError(f"counting instructions needs {program} (Debian: apt-get install valgrind binutils)")
    bench.heading("Instructions per transaction, outside the kernel, one client, epoll")
    output, wrapper = callgrind(bench, "slipstream")
    cluster = bench.cluster("counted", "epoll", program=stripped(bench), wrapper=wrapper)
    measured = {"Slipstream": {}}
    # What is done once is over then.
    counted(output, cluster.process.pid, cluster.endpoint(), "simple", FEW)
    for mode in bench.arguments.modes:
        note(f"Slipstream, {mode}")
        figures = [per_transaction(output, cluster.process.pid, cluster.endpoint(), mode) for _ in range(RUNS)]
        note(", ".join(f"{value:.0f}" for value in figures))
        # The shortest way: a message that arrived in two parts took more.
        measured["Slipstream"][mode] = min(figures)
    cluster.check()
    bench.stop()

    with open(RECORD) as file:
        recorded = json.load(file)
    rows = [[name, *(f"{figures.get(mode, 0):.0f}" for mode in bench.arguments.modes)] for name, figures in measured.items()]
    rows.append(["recorded", *(f"{recorded.get(mode, 0):.0f}" for mode in bench.arguments.modes)])
    print_table(("target", *bench.arguments.modes), rows)
    ours = measured["Slipstream"]
    if bench.arguments.record:
        with open(RECORD, "w") as file:
            json.dump(recorded | {mode: round(value) for mode, value in ours.items()}, file, indent=4)
            file.write("\n")
        return []
    return [
        Verdict(f"Instructions per transaction ÷ recorded, {mode}", value / recorded[mode], 1 + TOLERANCE)
        for mode, value in ours.items()
    ]

