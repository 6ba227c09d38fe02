"""script/bench: measures the endpoint, beside PgBouncer and beside no proxy at all. See docs/performance.md."""

import argparse
import os
import re
import resource
import shutil
import signal
import statistics
import sys
import tempfile

import claim_allocations
import claim_cpu
import claim_instructions
import claim_latency
import claim_memory
import claim_scaling
import claim_soak
import claim_tls
import hotspots
from claims import BACKENDS, Bench, note, print_table
from measure import Load, run
from targets import SetupError, Target

CLAIMS = {
    "cpu": claim_cpu.run,
    "latency": claim_latency.run,
    "memory": claim_memory.run,
    "allocations": claim_allocations.run,
    "instructions": claim_instructions.run,
    "scaling": claim_scaling.run,
    "tls": claim_tls.run,
    "soak": claim_soak.run,
}
MODES = ("simple", "extended", "prepared")
PEER, DIRECT = "PgBouncer", "direct"
# What is required of CPU time per transaction, as a share of PgBouncer's.
REQUIRED_BACKEND, REQUIRED_MODES, REQUIRED_RATIO = "uring", ("simple", "prepared"), 1.0


def parsed():
    def names(allowed):
        def check(text):
            chosen = text.split(",")
            for name in chosen:
                if name not in allowed:
                    raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(allowed)}")
            return chosen

        return check

    parser = argparse.ArgumentParser(
        prog="script/bench",
        description="Compares the endpoint with PgBouncer and with no proxy at all, on servers of its own.",
        epilog="docs/performance.md says what is measured and how to read it.",
    )
    parser.add_argument(
        "claim", nargs="?", default="compare", choices=["compare", *CLAIMS, "all"],
        help="what to measure; compare (the default) is everything about -S, all is all the others",
    )
    parser.add_argument("--clients", type=int, default=16, help="how many at once (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="threads of pgbench (default: %(default)s)")
    parser.add_argument("--modes", type=names(MODES), help="of " + ",".join(MODES))
    parser.add_argument("--backends", type=names(BACKENDS), default=list(BACKENDS), help="of " + ",".join(BACKENDS))
    parser.add_argument("--seconds", type=float, help="of each run (default: 5; 2 for a claim)")
    parser.add_argument("--rounds", type=int, help="of all runs; medians count (default: 3; 7 for a claim)")
    parser.add_argument("--warm-up", type=float, default=1.5, help="seconds before (default: %(default)s)")
    parser.add_argument("--scale", type=int, default=5, help="of pgbench's tables (default: %(default)s)")
    parser.add_argument("--many", default="16,64", help="clients of cpu, scaling and tls (default: %(default)s)")
    parser.add_argument("--soak", "--soak-seconds", dest="soak_seconds", type=float, default=600, metavar="SECONDS",
                        help="of soak, on each backend (default: %(default)s)")
    parser.add_argument("--record", action="store_true", help="instructions: keep the figures of this run")
    parser.add_argument("--peer", choices=["pgbouncer", "none"], default="pgbouncer", help="what to compare with")
    parser.add_argument("--pgbouncer", action="append", metavar="PROGRAM",
                        help="another PgBouncer to compare with, such as one that can prepare statements (1.21 and later)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a requirement is not met")
    parser.add_argument("--profile", action="store_true", help="say where Slipstream's time goes (perf), no comparison")
    parser.add_argument("--slipstream", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    is_claim = arguments.claim != "compare"
    arguments.modes = arguments.modes or (list(MODES) if is_claim else ["simple", "prepared"])
    arguments.seconds = arguments.seconds or (2 if is_claim else 5)
    arguments.rounds = arguments.rounds or (7 if is_claim else 3)
    arguments.pgbouncer = [os.path.realpath(program) for program in arguments.pgbouncer or []]
    try:
        arguments.many = [int(part) for part in arguments.many.split(",")]
    except ValueError:
        parser.error("--many is a list of numbers, such as 16,64")
    if not all(1 <= clients <= 100 for clients in [arguments.clients, *arguments.many]):
        parser.error("there must be 1 to 100 clients: a node takes 300 connections, and three targets share it")
    if arguments.rounds < 1 or arguments.seconds < 1 or arguments.jobs < 1:
        parser.error("--rounds, --seconds and --jobs must be at least 1")
    return arguments


# MARK: - Measuring


def mode_for(target, mode, peer):
    """What pgbench is told: a PgBouncer that cannot prepare is measured with what comes nearest."""
    return "extended" if target.name == PEER and mode == "prepared" and not peer.prepares else mode


def measure(targets, arguments, peer, scratch):
    """Samples by mode, server and name, in the order of the rounds."""
    samples = {}
    for number in range(arguments.rounds):
        # No target is always the first after the same other one.
        turn = number % len(targets)
        for mode in arguments.modes:
            for target in targets[turn:] + targets[:turn]:
                load = Load(
                    arguments.clients, arguments.seconds, mode_for(target, mode, peer), arguments.jobs, arguments.warm_up
                )
                sample = run(target, load, scratch)
                samples.setdefault((mode, target.server, target.name), []).append(sample)
                cost = f", {sample.cpu:.1f} µs CPU" if sample.cpu else ""
                note(
                    f"round {number + 1}/{arguments.rounds}, {mode}, {target.name} ({target.server}): "
                    f"{sample.tps:.0f} tps{cost}; load {os.getloadavg()[0]:.1f}"
                )
    return samples


def median(samples, attribute):
    values = [getattr(sample, attribute) for sample in samples]
    return None if None in values else statistics.median(values)


def ratio(samples, others, attribute):
    """The median of each round's ratio: both sides of it are from the same minute and the same server."""
    pairs = [(getattr(ours, attribute), getattr(theirs, attribute)) for ours, theirs in zip(samples, others)]
    return None if any(None in pair for pair in pairs) else statistics.median(ours / theirs for ours, theirs in pairs)


# MARK: - Reporting

COLUMNS = ("mode", "server", "target", "tps", "p50 ms", "p99 ms", "CPU µs", "worker µs", "switches", "forced")
RATIOS = ("tps ÷", "p50 ÷", "p99 ÷", "CPU ÷")


def table(samples, targets, modes, peer):
    def figure(value, digits):
        return "" if value is None else f"{value:.{digits}f}"

    rows = [list(COLUMNS) + (list(RATIOS) if peer else [])]
    for mode in modes:
        for target in targets:
            own = samples[mode, target.server, target.name]
            name = target.name
            if mode_for(target, mode, peer) != mode:
                name += " (extended)"
            row = [mode, target.server, name, figure(median(own, "tps"), 0)]
            row += [figure(median(own, key) / 1000, 2) for key in ("p50", "p99")]
            row += [figure(median(own, key), 1) for key in ("cpu", "worker")]
            row += [figure(median(own, key), 3) for key in ("voluntary", "involuntary")]
            if peer:
                theirs = samples[mode, target.server, PEER]
                row += [figure(ratio(own, theirs, key), 2) for key in ("tps", "p50", "p99", "cpu")]
            rows.append(row)
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]

    def line(row):
        cells = (cell.ljust(width) if index < 3 else cell.rjust(width)
                 for index, (cell, width) in enumerate(zip(row, widths)))
        return "| " + " | ".join(cells) + " |"

    rule = ["-" * width if index < 3 else "-" * (width - 1) + ":" for index, width in enumerate(widths)]
    return "\n".join([line(rows[0]), line(rule)] + [line(row) for row in rows[1:]])


def verdicts(samples, arguments, peer):
    """One line per requirement, and whether all are met."""
    lines, met = [], True
    for mode in REQUIRED_MODES:
        server = BACKENDS[REQUIRED_BACKEND]
        own = samples.get((mode, server, f"Slipstream {server}"))
        if own is None:
            continue
        value = ratio(own, samples[mode, server, PEER], "cpu")
        met = met and value <= REQUIRED_RATIO
        instead = "" if mode != "prepared" or peer.prepares else ", which was measured with extended"
        lines.append(
            f"CPU per transaction, {server}, {arguments.clients} clients, {mode}: {value:.2f} × PgBouncer{instead}"
            f" (required ≤ {REQUIRED_RATIO}): {'met' if value <= REQUIRED_RATIO else 'NOT MET'}"
        )
    return lines, met


def serving(bench, arguments):
    """Starts everything that pgbench can be pointed at."""
    clusters = [bench.cluster(backend, backend) for backend in arguments.backends]
    peer = None
    if arguments.pgbouncer:
        nodes = {BACKENDS[cluster.backend]: cluster.direct() for cluster in clusters}
        peer = bench.bouncers(nodes, arguments.clients, programs=arguments.pgbouncer[-1:])[0]
    targets = []
    for cluster in clusters:
        server = BACKENDS[cluster.backend]
        targets.append(Target(DIRECT, server, cluster.direct()))
        if peer:
            targets.append(Target(PEER, server, peer.login(server), peer.process.pid))
        targets.append(Target(f"Slipstream {server}", server, cluster.endpoint(), cluster.process.pid))
    return targets, peer


def profile(arguments, bench, targets, peer):
    print(bench.machine())
    # One PgBouncer is enough: its servers are alike.
    chosen = [target for target in targets if target.pid and (target.name != PEER or target is targets[1])]
    hotspots.report(chosen, arguments, lambda target, mode: mode_for(target, mode, peer), bench.scratch)


def compare(arguments, bench, targets, peer):
    description = bench.machine()
    samples = measure(targets, arguments, peer, bench.scratch)
    print(description)
    print(
        f"pgbench -S, {arguments.clients} clients, scale {arguments.scale}; "
        f"medians of {arguments.rounds} rounds of {arguments.seconds:g} s; ÷: relative to PgBouncer on the same server"
    )
    if peer and not peer.prepares and "prepared" in arguments.modes:
        print(
            f"PgBouncer {peer.version_text} cannot prepare statements in transaction mode (1.21 and later can): "
            "beside prepared stands its extended"
        )
    print("\n" + table(samples, targets, arguments.modes, peer))
    if not peer:
        return True
    lines, met = verdicts(samples, arguments, peer)
    if lines:
        print("\n" + "\n".join(lines))
    return met


def claims(arguments, bench):
    """Measures what was asked for; says at the end what is met."""
    verdicts = []
    for name in CLAIMS if arguments.claim == "all" else [arguments.claim]:
        found = CLAIMS[name](bench)
        bench.stop()
        print("\n" + "\n".join(str(verdict) for verdict in found), flush=True)
        verdicts += found
    missed = [verdict for verdict in verdicts if verdict.is_required and not verdict.is_met]
    if arguments.claim == "all":
        print(f"\n{len(verdicts)} claims, {len(missed)} not met")
        print("\n".join(str(verdict) for verdict in missed))
    return not missed


def main():
    arguments = parsed()

    def interrupted(number, _):
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    # Thousands of clients, on both sides of the proxies.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # The servers may run as another user, who has to get in.
    scratch = tempfile.mkdtemp(prefix="slipstream-bench-")
    os.chmod(scratch, 0o755)
    bench = Bench(arguments, scratch)
    try:
        if arguments.claim != "compare":
            met = claims(arguments, bench)
        elif arguments.profile:
            hotspots.check()
            profile(arguments, bench, *serving(bench, arguments))
            met = True
        else:
            met = compare(arguments, bench, *serving(bench, arguments))
        return 0 if met or not arguments.check else 1
    except (SetupError, RuntimeError) as error:
        note(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        note("Interrupted")
        return 130
    finally:
        # Nobody interrupts the tidying up.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        bench.stop()
        shutil.rmtree(scratch, ignore_errors=True)


sys.exit(main())
