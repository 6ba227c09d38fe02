"""What one run of pgbench did, and what it cost the process in the middle."""

import glob
import math
import os
import subprocess
import time
from dataclasses import dataclass, field


@dataclass
class Usage:
    """What a process has used so far: seconds of CPU, in all and per thread, and context switches."""

    cpu: float
    threads: dict = field(default_factory=dict)
    voluntary: int = 0
    involuntary: int = 0

    @staticmethod
    def of(pid):
        # The process's CPU clock (clock_getcpuclockid(3)) is the utime and stime of /proc, in nanoseconds instead of
        # hundredths, and counts threads that have ended.
        usage = Usage(cpu=time.clock_gettime((~pid << 3) | 2))
        for task in glob.glob(f"/proc/{pid}/task/*"):
            try:
                with open(f"{task}/schedstat") as file:
                    usage.threads[os.path.basename(task)] = int(file.read().split()[0]) / 1e9
                with open(f"{task}/status") as file:
                    for line in file:
                        if line.startswith("voluntary_ctxt_switches"):
                            usage.voluntary += int(line.split()[1])
                        elif line.startswith("nonvoluntary_ctxt_switches"):
                            usage.involuntary += int(line.split()[1])
            except OSError:
                pass  # The thread has ended.
        return usage


@dataclass
class Sample:
    """One run against one target. Times in microseconds; the costs are per transaction, None without a proxy."""

    tps: float
    p50: float
    p99: float
    cpu: float = None
    worker: float = None
    voluntary: float = None
    involuntary: float = None


def percentile(ordered, fraction):
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))]


def latencies(prefix, since, until):
    """Of all transactions that ended between two times, from pgbench's log, in order of size."""
    result, first = [], None
    for path in glob.glob(prefix + ".*"):
        with open(path) as file:
            for line in file:
                try:
                    _, _, taken, _, seconds, micros = line.split()[:6]
                except ValueError:
                    continue  # Cut off where pgbench was ended.
                end = int(seconds) + int(micros) / 1e6
                first = end if first is None else min(first, end)
                if since <= end < until:
                    result.append(int(taken))
        os.unlink(path)
    if first is None or first >= since or not result:
        raise RuntimeError("pgbench was not under way when measuring began: raise --warm-up, or look whether it runs")
    result.sort()
    return result


@dataclass
class Load:
    """What pgbench does, and for how long it is watched."""

    clients: int
    seconds: float
    mode: str = "simple"
    jobs: int = 1
    warm_up: float = 0.5
    options: tuple = ("-S",)

    # A thousand clients need seconds to log in, and pgbench's time begins before that.
    @property
    def is_large(self):
        return self.clients > 100

    def command(self, log):
        total = math.ceil(self.seconds + self.warm_up + 0.8) + (self.clients // 10 if self.is_large else 0)
        return [
            "pgbench", "-n", *self.options, "-M", self.mode, "-c", str(self.clients), "-j", str(self.jobs),
            "-T", str(total), "--log", "--log-prefix", log,
        ]


def begun(process, prefix, patience):
    """Waits until all clients are connected: then pgbench writes its first lines."""
    deadline = time.monotonic() + patience
    while not any(os.path.getsize(path) for path in glob.glob(prefix + ".*")):
        if process.poll() is not None or time.monotonic() > deadline:
            return
        time.sleep(0.02)


def run(target, load, scratch, usage=Usage.of):
    """Runs pgbench, and looks at the clocks between its start and its end: connecting is not counted."""
    prefix = os.path.join(scratch, "log")
    process = subprocess.Popen(
        load.command(prefix),
        env=target.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        begun(process, prefix, 30 + load.clients / 10)
        time.sleep(load.warm_up)
        before, since = target.pid and usage(target.pid), time.time()
        time.sleep(load.seconds)
        after, until = target.pid and usage(target.pid), time.time()
        was_running = process.poll() is None
        if load.is_large and was_running:
            # What it has not written yet is later than what counts.
            time.sleep(0.5)
            process.terminate()
        output = process.communicate(timeout=60)[0]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    ended_well = was_running and "aborted" not in output if load.is_large else process.returncode == 0
    if not ended_well:
        raise RuntimeError(f"pgbench failed ({target.name}, {load.mode}, {load.clients} clients):\n{output}")

    times = latencies(prefix, since, until)
    count = len(times)
    sample = Sample(count / (until - since), percentile(times, 0.5), percentile(times, 0.99))
    if target.pid:
        sample.cpu = (after.cpu - before.cpu) * 1e6 / count
        # The thread that moves the bytes is the one that works.
        spent = (used - before.threads.get(thread, 0) for thread, used in after.threads.items())
        sample.worker = max(spent) * 1e6 / count
        sample.voluntary = (after.voluntary - before.voluntary) / count
        sample.involuntary = (after.involuntary - before.involuntary) / count
    return sample
