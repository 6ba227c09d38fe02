"""script/bench cpu: CPU time of the proxy's process per transaction."""

from claims import (
    BACKENDS, Verdict, endpoint_target, figure, median, peer_mode, peer_target, print_table, ratio, ratios, spread,
)
from measure import Load

TARGETS = {
    "uring": {"simple": 0.75, "extended": 0.70, "prepared": 0.70},
    "epoll": {"simple": 1.0, "extended": 1.0, "prepared": 1.0},
}
THREE_NODES = 1.10
COLUMNS = (
    "mode", "clients", "target", "tps", "p50 ms", "p99 ms", "CPU µs", "switches", "forced", "peer", "CPU ÷", "± %", "tps ÷",
)


def compared(own, runs, samples):
    """A table of all runs, and the verdicts. `own`: the names of our targets, with their limits by mode."""
    rows, verdicts = [], []
    for (mode, clients, name), found in samples.items():
        row = [
            mode, clients, name, figure(median(found, "tps"), 0), figure(median(found, "p50") / 1000),
            figure(median(found, "p99") / 1000), figure(median(found, "cpu"), 1),
            figure(median(found, "voluntary"), 3), figure(median(found, "involuntary"), 3),
        ]
        if name not in own:
            sent = runs[mode, clients, name][1].mode
            rows.append(row[:2] + [name if sent == mode else f"{name} ({sent})"] + row[3:] + ["", "", "", ""])
            continue
        for other, (_, load) in runs.items():
            if other[:2] != (mode, clients) or other[2] in own:
                continue
            cpu = ratio(found, samples[other], "cpu")
            noise = 100 * spread(ratios(found, samples[other], "cpu"))
            peer = other[2] if load.mode == mode else f"{other[2]} ({load.mode})"
            rows.append(row + [peer, figure(cpu), figure(noise, 0), figure(ratio(found, samples[other], "tps"))])
            row = [mode, clients, name] + [""] * 6
            verdicts.append(
                Verdict(f"CPU per transaction, {name}, {mode}, {clients} clients, ÷ {peer}", cpu, own[name][mode])
            )
    print_table(COLUMNS, rows, left=3)
    return verdicts


def run(bench):
    arguments = bench.arguments
    bench.heading("CPU time per transaction")
    print(
        f"pgbench -S, one worker, one node; medians of {arguments.rounds} rounds of {arguments.seconds:g} s, all targets in "
        "turn; ± is half the distance between the quartiles of the rounds' ratios"
    )
    pool = max(arguments.many)
    verdicts = []
    for backend in arguments.backends:
        cluster = bench.cluster(backend, backend, settings={"default_pool_size": pool})
        peers = bench.bouncers({"app": cluster.direct()}, pool)
        name = f"Slipstream {BACKENDS[backend]}"
        runs = {}
        for mode in arguments.modes:
            for clients in arguments.many:
                for peer in peers:
                    load = Load(clients, arguments.seconds, peer_mode(peer, mode))
                    runs[mode, clients, peer.name] = (peer_target(peer), load)
                load = Load(clients, arguments.seconds, mode)
                runs[mode, clients, name] = (endpoint_target(name, cluster), load)
        verdicts += compared({name: TARGETS[backend]}, runs, bench.rounds(runs))
        bench.stop()
    return verdicts + routing(bench)


def routing(bench):
    """What it costs to choose among three nodes."""
    arguments = bench.arguments
    settings = {"default_pool_size": max(arguments.many)}
    names = {"one node": 0, "three nodes": 2}
    clusters = {
        name: bench.cluster(name.replace(" ", "-"), standbys=standbys, settings=settings) for name, standbys in names.items()
    }
    runs = {
        (mode, clients, name): (endpoint_target(name, cluster), Load(clients, arguments.seconds, mode))
        for mode in arguments.modes for clients in arguments.many for name, cluster in clusters.items()
    }
    samples = bench.rounds(runs)
    bench.stop()
    rows, verdicts = [], []
    for mode in arguments.modes:
        for clients in arguments.many:
            one, three = (samples[mode, clients, name] for name in names)
            cost = ratio(three, one, "cpu")
            noise = 100 * spread(ratios(three, one, "cpu"))
            rows.append(
                [mode, clients, figure(median(one, "cpu"), 1), figure(median(three, "cpu"), 1), figure(cost), figure(noise, 0)]
                + [figure(median(one, "worker"), 1), figure(median(three, "worker"), 1), figure(ratio(three, one, "worker"))]
            )
            verdicts.append(
                Verdict(f"CPU per transaction, three nodes ÷ one, {mode}, {clients} clients", cost, THREE_NODES)
            )
    columns = ("mode", "clients", "one node, CPU µs", "three nodes, CPU µs", "÷", "± %")
    # The rest of the process asks the nodes how they are, whatever the clients do.
    print_table((*columns, "one, worker µs", "three, worker µs", "÷ "), rows, left=2)
    return verdicts
