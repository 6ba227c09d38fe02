"""Where the time of the process in the middle goes: samples of perf(1), grouped by what the code is there for."""

import collections
import os
import re
import shutil
import subprocess

from measure import Load, run
from targets import SetupError, stop

TOP, TOP_OWN = 25, 15

# A sample belongs to the first group that matches one of its frames, looked at from the innermost outwards: the kernel's
# helpers count where they were called from.
KERNEL_GROUPS = [
    ("kernel: waking the other side", r"try_to_wake_up|__wake_up|ttwu|sock_def_readable|ep_poll_callback|io_poll_wake"),
    ("kernel: waiting", r"^_*schedule|finish_task_switch|io_cqring_(schedule|wait)|ep_poll$|hrtimer"),
    (
        "kernel: network",
        r"^_*(tcp|ip|ipv4|inet6?|sock|skb|udp|net_rx|napi|bbr|cubictcp|loopback|dev_|neigh|nf_)|process_backlog|_skb"
        r"|sk_(stream|wait|filter)|release_sock|lock_sock|do_softirq",
    ),
]
REST_OF_KERNEL = "kernel: system calls and rings"
OURS, RUNTIME, LIBRARIES, PROGRAM = "Slipstream", "Swift's runtime", "C libraries", "PgBouncer"
OUR_SYMBOL = re.compile(
    r"\$s(7Balancing|8Topology|5Proxy|9ProxyCore|7Reactor|12PostgresWire|13QueryAnalysis)|(creactor|io_uring)_"
)
FRAME = re.compile(r"^\s*[0-9a-f]+ (.*) \(([^()]*(?:\(deleted\))?)\)$")


def check():
    if shutil.which("perf") is None:
        raise SetupError("--profile needs perf (Debian: apt-get install linux-perf)")


def group_of(frames):
    """Of one sample: pairs of symbol and file, innermost first."""
    symbol, file = frames[0]
    if "kernel" in file or file.endswith(".ko") or file == "[vdso]":
        for name, _ in frames:
            for group, pattern in KERNEL_GROUPS:
                if re.search(pattern, name):
                    return group
        return REST_OF_KERNEL
    if "pgbouncer" in file:
        return PROGRAM
    if "slipstream" in file:
        return RUNTIME if re.match(r"_?swift_|\$ss|_ZN?K?L?5?swift", symbol) else OURS
    return LIBRARIES


def stacks(text):
    """The samples of `perf script`: blocks of frames with empty lines between."""
    frames = []
    for line in text.splitlines() + [""]:
        found = FRAME.match(line)
        if found:
            frames.append((found.group(1).split("+0x")[0], found.group(2)))
        elif not line.strip() and frames:
            yield frames
            frames = []


class Profile:
    def __init__(self, target, mode, arguments, scratch):
        self.target = target
        data = os.path.join(scratch, "perf.data")
        delay, span = str(int(arguments.warm_up * 1000)), str(arguments.warm_up + arguments.seconds)
        common = ["-p", str(target.pid), "-D", delay]
        record = subprocess.Popen(
            ["perf", "record", "-q", "-e", "cpu-clock", "-F", "1999", "-g", "-o", data, *common, "--", "sleep", span],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )
        count = subprocess.Popen(
            ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", *common, "--", "sleep", span],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )
        try:
            load = Load(arguments.clients, arguments.seconds, mode, arguments.jobs, arguments.warm_up)
            self.sample = run(target, load, scratch)
            trouble, counts = record.communicate(timeout=30)[1], count.communicate(timeout=30)[1]
        finally:
            stop(record)
            stop(count)
        if record.returncode != 0:
            raise SetupError(f"perf cannot record (see kernel.perf_event_paranoid):\n{trouble}")
        found = re.search(r"^(\d+),.*sys_enter", counts, re.MULTILINE)
        self.system_calls = found and int(found.group(1)) / (self.sample.tps * arguments.seconds)

        script = subprocess.run(
            ["perf", "script", "-i", data, "-F", "ip,sym,dso"], capture_output=True, text=True, errors="replace"
        )
        os.unlink(data)
        self.groups, self.symbols, self.total = collections.Counter(), collections.Counter(), 0
        for frames in stacks(script.stdout):
            group = group_of(frames)
            self.groups[group] += 1
            self.symbols[frames[0][0], group] += 1
            self.total += 1
        if not self.total:
            raise SetupError(f"perf has seen nothing of {target.name}:\n{script.stderr}")


def demangled(names):
    if shutil.which("swift") is None:
        return names
    result = subprocess.run(
        ["swift", "demangle", "--compact", "--simplified"], input="\n".join(names), capture_output=True, text=True
    )
    lines = result.stdout.splitlines()
    return lines if len(lines) == len(names) else names


def report(targets, arguments, mode_for, scratch):
    for mode in arguments.modes:
        profiles = [Profile(target, mode_for(target, mode), arguments, scratch) for target in targets]
        groups = [group for group, _ in KERNEL_GROUPS] + [REST_OF_KERNEL, OURS, RUNTIME, PROGRAM, LIBRARIES]

        def row(name, figures):
            print(f"| {name:32} | " + " | ".join(f"{figure:>20}" for figure in figures) + " |")

        print(f"\nµs of CPU per transaction, {mode}, {arguments.clients} clients (sampling itself costs a little)\n")
        row("", [
            profile.target.name + (" (extended)" if mode_for(profile.target, mode) != mode else "")
            for profile in profiles
        ])
        print("| " + "-" * 32 + " | " + " | ".join("-" * 19 + ":" for _ in profiles) + " |")
        for group in groups:
            row(group, [f"{p.groups[group] / p.total * p.sample.cpu:.2f}" for p in profiles])
        row("all", [f"{profile.sample.cpu:.2f}" for profile in profiles])
        row("system calls per transaction", [
            "unknown" if p.system_calls is None else f"{p.system_calls:.2f}" for p in profiles
        ])

        for profile in profiles:
            title = f"{profile.target.name}, {mode_for(profile.target, mode)}"
            hottest(f"The {TOP} hottest symbols, {title}", profile, profile.symbols.most_common(TOP))
            own = [entry for entry in profile.symbols.most_common() if entry[0][1] in (OURS, RUNTIME)]
            if own:
                hottest(f"The {TOP_OWN} hottest outside the kernel, {title}", profile, own[:TOP_OWN])


def hottest(title, profile, symbols):
    print(f"\n{title}\n")
    names = demangled([symbol for (symbol, _), _ in symbols])
    for name, ((_, group), count) in zip(names, symbols):
        print(f"{100 * count / profile.total:5.1f} %  {group:30}  {name[:100]}")
