"""Random conversations, said to a node and through the endpoint, whose answers are compared.

--seed N, or SLIPSTREAM_SEED, begins with another one; --count N says how many there are. A
failing conversation's seed is printed: `fuzzing.py --seed N --count 1` says it again.
"""

import argparse
import os
import random
import sys
import unittest

from differential import (
    FLUSH,
    SYNC,
    DifferentialTestCase,
    Exchange,
    bind,
    close_portal,
    close_statement,
    describe_portal,
    describe_statement,
    execute,
    once,
    parse,
)
from wire import query

READS = [
    "", "SELECT 1", "VALUES (1), (2)", "TABLE kept LIMIT 1", "SELECT n, s FROM kept WHERE n < 5 ORDER BY n",
    "SELECT * FROM kept ORDER BY n, s LIMIT 3", "SELECT count(*) FROM kept", "SELECT max(n) FROM kept_view",
    "SELECT n FROM generate_series(1, 50) n", "SELECT repeat('z', {size})", "SELECT pg_sleep(0.001)",
    "SELECT current_database() IS NOT NULL", "SELECT $1::text", "SELECT $1::int + 1", "SELECT s FROM kept WHERE n = $1",
    "SELECT 1/0", "SELEC", "SELECT * FROM nowhere", "SELECT 1; SELECT 2",
]
STATEMENTS = READS + [
    "INSERT INTO kept VALUES ({number}, 'n')", "UPDATE kept SET s = s || 'y' WHERE n = {number}",
    "DELETE FROM kept WHERE n = {number}", "SELECT * FROM kept ORDER BY n, s FOR UPDATE",
    "WITH x AS (INSERT INTO kept VALUES ({number}, 'c') RETURNING n) SELECT count(*) FROM x",
    "SELECT * FROM kept_writing_view", "SELECT kept_same({number})", "SELECT nextval('kept_numbers')",
    "SELECT currval('kept_numbers')", "SELECT lastval()", "SET work_mem = '{number}kB'", "SHOW work_mem",
    "CREATE TEMP TABLE IF NOT EXISTS mine_{number} (n int)",
]
QUERIES = STATEMENTS + [
    "BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE", "START TRANSACTION", "COMMIT", "END", "ROLLBACK", "ABORT",
    "SAVEPOINT a", "ROLLBACK TO a", "BEGIN; SELECT 1", "SELECT 1; BEGIN; SELECT 2", "COMMIT; SELECT 7",
    "SELECT 1; SELECT 1/0; SELECT 2",
    "INSERT INTO kept VALUES (900, 'm'); SELECT 1/0", "DEALLOCATE ALL", "DEALLOCATE s1", "DISCARD ALL",
    "PREPARE q1 AS SELECT 5", "EXECUTE q1", "DECLARE c1 CURSOR FOR SELECT n FROM generate_series(1, 9) n",
    "FETCH 2 FROM c1", "CLOSE c1", "/* x */ SELECT /* y /* z */ */ 3", "SELECT 'a' \"Z\" WHERE 1 = $1",
    "TRUNCATE kept; INSERT INTO kept SELECT n, 't' FROM generate_series(1, 20) n", "LOCK TABLE kept",
    "COPY kept TO STDOUT", "COPY (SELECT 1) TO STDOUT", "EXPLAIN (COSTS off) SELECT 1",
    "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) INSERT INTO kept VALUES (5, 'e')",
    "DO $$BEGIN PERFORM 1; END$$",
    "RESET ALL", "RESET work_mem",
]
# Small ones, and those about as long as a buffer.
SIZES = [3, 7, 100, 65_520, 65_535, 65_536, 65_537, 70_000, 131_072, 200_000]


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        # A session that has written or set something stays on the primary: half of them only read, on all nodes.
        only_reads = self.random.random() < 0.5
        self.statements, self.queries = (READS, READS) if only_reads else (STATEMENTS, QUERIES)

    def conversation(self, length=25):
        return [self.exchange() for _ in range(length)]

    def exchange(self):
        choose = self.random
        parts, count = [], 0
        for _ in range(choose.choice([1, 1, 1, 2, 3, 6])):
            kind = choose.random()
            if kind < 0.35:
                parts.append(query(self.statement(self.queries)))
                count += 1
            elif kind < 0.40:
                syncs = choose.randint(1, 3)
                parts.append(SYNC * syncs)
                count += syncs
            else:
                self.has_unnamed = False
                parts += [self.message() for _ in range(choose.choice([1, 2, 3, 5, 8]))]
                if choose.random() < 0.5:
                    parts.append(once(self.statement(self.statements)))
                parts.append(SYNC)
                count += 1
        data = b"".join(parts)
        cuts = () if choose.random() < 0.5 else tuple(
            sorted(choose.randrange(len(data) + 1) for _ in range(choose.randint(1, 4))))
        return Exchange(data, count=count, cuts=cuts)

    def message(self):
        choose = self.random
        kind = choose.random()
        name, portal = choose.choice(["", "", "s1", "s2", "s3"]), choose.choice(["", "", "p1", "p2"])
        if kind < 0.25:
            self.has_unnamed = self.has_unnamed or not name
            return parse(name, self.statement(self.statements))
        # An unnamed statement from before a Parse that was skipped is a known difference.
        if not name and not self.has_unnamed:
            name = "s1"
        if kind < 0.5:
            large = b"1" * choose.choice(SIZES) if choose.random() < 0.2 else b"9"
            return bind(portal, name, *choose.choice([(), (), (b"5",), (b"abc",), (None,), (large,)]))
        if kind < 0.75:
            # Never an unnamed portal that something else has left: in an aborted transaction PostgreSQL 15 crashes
            # there.
            return execute(portal or "p1", choose.choice([0, 0, 1, 2]))
        if kind < 0.85:
            return describe_statement(name) if choose.random() < 0.5 else describe_portal(portal)
        if kind < 0.93:
            return close_statement(name) if choose.random() < 0.5 else close_portal(portal)
        return FLUSH

    def statement(self, statements):
        choose = self.random
        text = choose.choice(statements).format(size=choose.choice(SIZES), number=choose.randint(64, 999))
        if text and choose.random() < 0.04:
            text += " --" + "p" * max(0, choose.choice(SIZES) - len(text) - choose.choice([3, 8, 9, 10, 11]))
        return text


class Fuzzing(DifferentialTestCase):
    def test_random_conversations(self):
        for seed in range(options.seed, options.seed + options.count):
            with self.subTest(seed=seed):
                self.compare(Generator(seed).conversation(), times=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seed", type=int, default=int(os.environ.get("SLIPSTREAM_SEED") or 20261123))
    parser.add_argument("--count", type=int, default=60)
    options = parser.parse_args()
    print(f"seeds {options.seed} to {options.seed + options.count - 1}", flush=True)
    program = unittest.main(argv=sys.argv[:1], verbosity=2, exit=False)
    sys.exit(0 if program.result.wasSuccessful() and program.result.testsRun > 0 else 1)
