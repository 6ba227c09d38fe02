"""script/bench tls: CPU time per transaction when clients use TLS."""

import os
import pwd
import subprocess

import claim_cpu
from claims import BACKENDS, endpoint_target, note, peer_mode, peer_target
from measure import Load
from targets import SetupError, known

LIMIT = 1.0


def certificate(bench):
    """A certificate for localhost and its key, readable for PgBouncer."""
    files = bench.path("server.crt"), bench.path("server.key")
    result = subprocess.run(
        [
            "openssl", "req", "-new", "-x509", "-days", "2", "-nodes", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost", "-out", files[0], "-keyout", files[1],
        ],
        capture_output=True, text=True,
    )
    if result.returncode != 0:
        raise SetupError(f"openssl makes no certificate:\n{result.stderr}")
    os.chmod(files[1], 0o600)
    theirs = bench.path("pgbouncer.key")
    with open(files[1]) as source, open(theirs, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as copy:
        copy.write(source.read())
    if os.geteuid() == 0:
        account = next(name for name in ("postgres", "nobody") if known(name))
        os.chown(theirs, pwd.getpwnam(account).pw_uid, -1)
    return *files, theirs


def run(bench):
    arguments = bench.arguments
    bench.heading("TLS with clients")
    usage = subprocess.run([arguments.slipstream, "up", "--help"], capture_output=True, text=True).stdout
    if "--tls-cert" not in usage:
        note("slipstream up has no --tls-cert: nothing to measure")
        return []
    print(f"pgbench -S, one worker, one node; medians of {arguments.rounds} rounds of {arguments.seconds:g} s, all in turn")
    file, key, their_key = certificate(bench)
    pool, verdicts = max(arguments.many), []
    for backend in arguments.backends:
        cluster = bench.cluster(
            f"tls-{backend}", backend, settings={"default_pool_size": pool}, options=("--tls-cert", file, "--tls-key", key)
        )
        peers = bench.bouncers({"app": cluster.direct()}, pool, certificate=file, key=their_key)
        name = f"Slipstream {BACKENDS[backend]}"
        target = endpoint_target(name, cluster)
        target.login.sslmode = "require"
        runs = {}
        for mode in arguments.modes:
            for clients in arguments.many:
                for peer in peers:
                    load = Load(clients, arguments.seconds, peer_mode(peer, mode))
                    runs[mode, clients, peer.name] = (peer_target(peer), load)
                runs[mode, clients, name] = (target, Load(clients, arguments.seconds, mode))
        limits = {name: {mode: LIMIT for mode in arguments.modes}}
        verdicts += claim_cpu.compared(limits, runs, bench.rounds(runs))
        bench.stop()
    return verdicts
