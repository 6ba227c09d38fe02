"""script/bench scaling: one worker and two."""

from claims import Verdict, endpoint_target, figure, median, print_table, ratio, ratios, spread
from measure import Load

# Transactions per second of CPU with two workers, as a share of one worker's.
REQUIRED = 0.9


def run(bench):
    arguments = bench.arguments
    bench.heading("One worker and two")
    print(
        "pgbench -S. With two cores the proxy, pgbench and PostgreSQL share them: more transactions per second can come from "
        "CPU that is idle only. What can be compared is the CPU they cost."
    )
    settings = {"default_pool_size": max(arguments.many)}
    clusters = {workers: bench.cluster(f"workers-{workers}", workers=workers, settings=settings) for workers in (1, 2)}
    runs = {
        (mode, clients, workers): (endpoint_target(str(workers), cluster), Load(clients, arguments.seconds, mode))
        for mode in arguments.modes for clients in arguments.many for workers, cluster in clusters.items()
    }
    samples = bench.rounds(runs)
    bench.stop()
    rows, verdicts = [], []
    for (mode, clients, workers), found in samples.items():
        tps, cpu = median(found, "tps"), median(found, "cpu")
        row = [mode, clients, workers, figure(tps, 0), figure(cpu, 1), figure(tps * cpu / 1e6), figure(1e6 / cpu, 0)]
        if workers == 1:
            rows.append(row + ["", "", ""])
            continue
        one = samples[mode, clients, 1]
        share = 1 / ratio(found, one, "cpu")
        rows.append(row + [figure(ratio(found, one, "tps")), figure(share), figure(100 * spread(ratios(found, one, "cpu")), 0)])
        verdicts.append(
            Verdict(
                f"Transactions per second of CPU, two workers ÷ one, {mode}, {clients} clients", share, REQUIRED, at_least=True
            )
        )
    print_table(
        ("mode", "clients", "workers", "tps", "CPU µs", "cores used", "tps per core", "tps ÷", "tps per core ÷", "± %"),
        rows, left=1,
    )
    return verdicts
