"""script/bench latency: transactions per second and their latency; and fairness when clients wait for a connection."""

from claims import BACKENDS, Verdict, endpoint_target, figure, median, peer_target, print_table, ratio, ratios, spread
from measure import Load

CLIENTS = (1, 16, 64, 256)
WAITING, SMALL_POOL, FAIRNESS = 2000, 20, 2.0
COLUMNS = ("clients", "target", "tps", "p50 ms", "p99 ms", "p99 ÷ p50", "peer", "tps ÷", "± %", "p50 ÷", "p99 ÷", "± %")


def told(samples, own):
    rows = []
    for (clients, name), found in samples.items():
        p50, p99 = median(found, "p50") / 1000, median(found, "p99") / 1000
        row = [clients, name, figure(median(found, "tps"), 0), figure(p50), figure(p99), figure(p99 / p50)]
        if name != own:
            rows.append(row + [""] * 6)
            continue
        for other, theirs in samples.items():
            if other[0] == clients and other[1] != own:
                cells = [other[1]]
                for key in ("tps", "p50", "p99"):
                    cells.append(figure(ratio(found, theirs, key)))
                    if key != "p50":
                        cells.append(figure(100 * spread(ratios(found, theirs, key)), 0))
                rows.append(row + cells)
                row = [clients, name, "", "", "", ""]
    print_table(COLUMNS, rows, left=2)


def run(bench):
    arguments = bench.arguments
    bench.heading("Throughput and latency")
    print(
        f"pgbench -S, simple; medians of {arguments.rounds} rounds of {arguments.seconds:g} s, all targets in turn; pools of 64"
    )
    verdicts = []
    for backend in arguments.backends:
        cluster = bench.cluster(backend, backend, settings={"default_pool_size": 64})
        peers = bench.bouncers({"app": cluster.direct()}, 64, max_clients=1000)
        own = f"Slipstream {BACKENDS[backend]}"
        runs = {}
        for clients in CLIENTS:
            load = Load(clients, arguments.seconds)
            runs |= {(clients, peer.name): (peer_target(peer), load) for peer in peers}
            runs[clients, own] = (endpoint_target(own, cluster), load)
        samples = bench.rounds(runs)
        bench.stop()
        told(samples, own)
        for clients in CLIENTS:
            for peer in peers:
                ours, theirs = samples[clients, own], samples[clients, peer.name]
                name = f"{own}, {clients} clients, ÷ {peer.name}"
                verdicts.append(Verdict(f"Transactions per second, {name}", ratio(ours, theirs, "tps"), 1.0, at_least=True))
                verdicts.append(Verdict(f"p99, {name}", ratio(ours, theirs, "p99"), 1.0))
    return verdicts + fairness(bench)


def fairness(bench):
    """Many more clients than connections: everybody's wait should be about the same."""
    arguments = bench.arguments
    cluster = bench.cluster("waiting", settings={"default_pool_size": SMALL_POOL})
    peers = bench.bouncers({"app": cluster.direct()}, SMALL_POOL, max_clients=WAITING + 100)
    load = Load(WAITING, max(arguments.seconds, 4), warm_up=2)
    own = "Slipstream io_uring"
    runs = {(WAITING, peer.name): (peer_target(peer), load) for peer in peers}
    runs[WAITING, own] = (endpoint_target(own, cluster), load)
    samples = bench.rounds(runs, min(arguments.rounds, 3))
    bench.stop()
    told(samples, own)
    found = samples[WAITING, own]
    share = sorted(sample.p99 / sample.p50 for sample in found)[len(found) // 2]
    return [Verdict(f"p99 ÷ p50, {WAITING} clients on a pool of {SMALL_POOL}", share, FAIRNESS)]
