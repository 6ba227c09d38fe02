"""Whatever a client says, the endpoint answers as a node does: each case is said to both.

Source: PostgreSQL manual, "Message Flow" and "Message Formats". Cases of which it is known that the answers differ are
skipped, unless SLIPSTREAM_KNOWN_DIFFERENCES is set.
"""

import os
import struct
import unittest

from differential import (
    COPY_DONE,
    FLUSH,
    SYNC,
    Conversation,
    DifferentialTestCase,
    bind,
    close_portal,
    close_statement,
    copy_data,
    copy_fail,
    describe_portal,
    describe_statement,
    execute,
    function_call,
    once,
    parse,
    say,
)
from endpoint import PORT, PRIMARY, connect, eventually, main
from wire import TERMINATE, message, query

ALIVE = say(query("SELECT 'alive'"))
ROW = copy_data(b"901\tcopied\n")
COPY = "COPY kept FROM STDIN"
LARGE = "x" * 70_000
COUNT = say(query("SELECT count(*), min(n), max(n) FROM kept"))

CASES = {}
# Cases in which the endpoint is known not to do as a node does, and why.
DIFFERENT = {}


def case(name, *exchanges, differs=None):
    """What must hold, and what is said."""
    identifier = "test_" + "".join(letter if letter.isalnum() else "_" for letter in name)
    assert identifier not in CASES, name
    CASES[identifier] = exchanges
    if differs:
        DIFFERENT[identifier] = differs



def run(name, *parameters):
    """A prepared statement, executed."""
    return say(bind("", name, *parameters) + execute() + SYNC)


def query_of(length, statement="SELECT 1"):
    """A Query whose message has so many bytes."""
    start = statement + " --"
    return query(start + "p" * (length - len(start) - 6))


def unit_of(length):
    """Parse to Sync in so many bytes."""
    rest = bind("", "") + describe_portal("") + execute() + SYNC
    start = "SELECT 2 --"
    return parse("", start + "p" * (length - len(rest) - len(parse("", start)))) + rest


# MARK: - Simple queries

case("empty queries", say(query("")), say(query(";;")), say(query("  -- nothing")), say(once("") + SYNC))
case("several statements, an error in the middle",
     say(query("SELECT 1; SELECT 1/0; SELECT 3")),
     say(query("INSERT INTO kept VALUES (801); SELECT 1/0; INSERT INTO kept VALUES (802)")),
     say(query("SELECT 1; INSERT INTO kept VALUES (803); SELECT 2")),
     say(query("BEGIN; SELECT 1; SELECT 1/0")), say(query("SELECT 1")), say(query("ROLLBACK")), COUNT)
case("a transaction that begins and ends amid statements",
     say(query("SELECT 1; BEGIN; SELECT 2")), say(query("INSERT INTO kept VALUES (804)")),
     say(query("COMMIT; SELECT 7")),
     say(query("INSERT INTO kept VALUES (805); ROLLBACK; SELECT 8")), COUNT)
case("queries one behind the other",
     say(query("SELECT 1") + query("SELECT 1/0") + query("INSERT INTO kept VALUES (806)") + query("SELECT 2"), count=4),
     COUNT)
case("rows of 300 kB", say(query("SELECT repeat('x', 300000) FROM generate_series(1, 4)")),
     say(once("SELECT repeat('y', 300000) FROM generate_series(1, 4)") + SYNC))
for number in range(2):
    statement = ("SELECT 1, 'two', n FROM kept WHERE n < 4", "INSERT INTO kept VALUES (807) RETURNING n")[number]
    data = query(statement)
    case(f"a query in one byte segments {number}", say(data, cuts=range(1, len(data))))
    data = parse("s", statement) + describe_statement("s") + bind("", "s") + describe_portal("")
    data += execute() + SYNC
    case(f"extended messages in one byte segments {number}", say(data, cuts=range(1, len(data))))
data = query("SELECT 1") + once("SELECT 2") + SYNC + query("SELECT 3")
case("units cut within a message's head", *(say(data, cuts=(at,), count=3) for at in range(12, len(data), 3)))

# MARK: - Units about as long as a buffer

for length in (65_520, 65_535, 65_536, 65_537, 65_541, 70_000, 131_072, 200_000, 1_000_000):
    case(f"a query of {length:07} bytes", say(query_of(length)), ALIVE, say(query_of(length, "SELECT 1/0")),
         say(query_of(length, "INSERT INTO kept VALUES (808)") + query("SELECT 1"), count=2))
    case(f"a unit of {length:07} bytes", say(unit_of(length)), ALIVE,
         say(unit_of(length) + query("SELECT 1") + unit_of(length), count=3))
    case(f"a function call of {length:07} bytes",  # length(text)
         say(function_call(1317, b"x" * (length - len(function_call(1317, b""))))), ALIVE)
    case(f"a parameter of {length:07} bytes", say(once("SELECT length($1::text)", b"x" * length) + SYNC),
         say(once("SELECT $1::text", b"x" * length) + SYNC))
case("units that together fill a buffer", *(
    say(query_of(length) + query("SELECT 1") + once("SELECT 2") + SYNC, count=3)
    for length in range(65_500, 65_537, 4)))
case("a large query that fails halfway", say(query_of(70_000, "SELECT 1; SELECT 1/0; SELECT 2")), ALIVE)
case("a large query with a second behind it, cut",
     *(say(query_of(70_000) + query("SELECT 2"), count=2, cuts=(at,)) for at in (1, 5, 65_535, 65_536, 69_999, 70_001)))
case("a name that a large unit prepares",
     say(parse("n", "SELECT 3 --" + LARGE) + SYNC), run("n"), run("n"),
     say(close_statement("n") + parse("n", "SELECT 4 --" + LARGE) + SYNC), run("n"), run("n"))

for length in (70_000, 650_000):
    case(f"a large unnamed statement in units of their own {length}", *[
        say(parse("", "SELECT 3 --" + "x" * length) + SYNC), say(describe_statement("") + SYNC), run(""), run("")] * 2)
for count in (20_000, 60_000):
    placeholders = ",".join(f"${number}" for number in range(1, count + 1))
    case(f"many parameters {count}",
         say(message(b"P", b"\0SELECT 1 WHERE 1 IN (" + placeholders.encode() + b")\0"
                     + struct.pack("!h", count - 65536 if count > 32767 else count)
                     + struct.pack("!i", 23) * count) + SYNC),
         say(describe_statement("") + SYNC), say(bind("", "", *[b"1"] * 10) + SYNC), ALIVE)
case("statements named by a large query", say(parse("n", "SELECT 3") + parse("m", "SELECT 4") + SYNC),
     say(query("DEALLOCATE n --" + LARGE)), run("n"), run("m"), say(query("EXECUTE m --" + LARGE)), run("m"))
case("a name that a large unit prepares a second time",
     say(parse("n", "SELECT 3") + parse("n", "SELECT 4 --" + LARGE) + SYNC), run("n"),
     say(parse("n", "SELECT 5 --" + LARGE) + SYNC), run("n"))

# MARK: - Prepared statements

case("two names of one text, one of them bound wrongly",
     say(parse("a", "SELECT 1") + parse("b", "SELECT 1") + SYNC),
     *[say(bind("", name, b"1") + SYNC) for name in "abba"],
     *[say(bind("p", name) + bind("q", other, b"1") + bind("", name) + SYNC) for name, other in ("ab", "ba")])
case("one of two names of one text prepared behind a message that fails",
     say(parse("a", "SELECT 1") + SYNC), *[run("a")] * 3,
     *[say(describe_portal("missing") + bind("", "a") + parse("b", "SELECT 1") + SYNC), run("a")] * 4)
case("a statement that another node has to be told of", say(parse("s", "SELECT 1") + SYNC), *[run("s")] * 5)
case("Close of a portal before Bind of a statement that a node lacks",
     say(parse("s", "SELECT 1") + SYNC), *[say(close_portal("x") + bind("", "s") + execute() + SYNC)] * 5)
case("a failing Parse before Bind of a statement that a node lacks",
     say(parse("s", "SELECT 1") + SYNC),
     say(parse("", "SELECT 7") + bind("", "s") + execute() + close_portal("") + bind("", "") + execute() + SYNC),
     *[run("")] * 3)
case("statements described", say(parse("s", "SELECT $1::int, $2::text FROM kept") + describe_statement("s") + SYNC),
     say(describe_statement("s") + SYNC), say(describe_statement("unknown") + SYNC),
     say(parse("", "INSERT INTO kept VALUES ($1)") + describe_statement("") + SYNC), say(describe_statement("") + SYNC))
case("portals described", say(parse("s", "SELECT n, s FROM kept WHERE n < $1") + SYNC),
     say(bind("p", "s", b"3") + describe_portal("p") + execute("p") + describe_portal("p") + SYNC),
     say(describe_portal("p") + SYNC), say(describe_portal("") + SYNC),
     say(bind("", "s", None) + describe_portal("") + SYNC))
case("Close of names that nobody knows", say(close_statement("unknown") + close_portal("unknown") + SYNC),
     say(close_statement("") + close_portal("") + SYNC), say(once("SELECT 1") + close_statement("unknown") + SYNC))
case("Bind of names that nobody knows", run("unknown"), run(""), say(execute("unknown") + SYNC),
     say(parse("s", "SELECT 1") + bind("p", "s") + SYNC), say(execute("p") + SYNC))
case("a name that is taken", say(parse("s", "SELECT 1") + SYNC), say(parse("s", "SELECT 2") + SYNC), *[run("s")] * 4)
case("a name that is taken, behind rows", say(parse("s", "SELECT 1") + SYNC),
     *[say(bind("", "s") + execute() + parse("s", "SELECT 2") + SYNC)] * 4, *[run("s")] * 2)
case("a name whose Parse failed", say(parse("s", "SELEC") + SYNC), run("s"), say(parse("s", "SELECT 2") + SYNC),
     *[run("s")] * 4)
case("a name whose Parse was skipped", say(parse("", "SELEC") + parse("s", "SELECT 1") + SYNC), run("s"),
     say(parse("s", "SELECT 2") + SYNC), *[run("s")] * 4)
case("a name whose Parse was rolled back", say(query("BEGIN")), say(parse("s", "SELECT 2") + SYNC),
     say(query("ROLLBACK")), *[run("s")] * 4)
case("a name anew after Close", say(parse("s", "SELECT 1") + SYNC), run("s"),
     say(close_statement("s") + parse("s", "SELECT 2") + bind("", "s") + execute() + SYNC), *[run("s")] * 4,
     say(close_statement("s") + SYNC), run("s"), say(parse("s", "SELECT 'three'") + SYNC), *[run("s")] * 4)
case("a name closed and taken in a unit that fails", say(parse("s", "SELECT 1") + SYNC),
     say(close_statement("s") + parse("s", "SELECT 1/0") + bind("", "s") + execute() + parse("t", "SELECT 1") + SYNC),
     *[run("s")] * 3, *[run("t")] * 3, say(parse("t", "SELECT 5") + SYNC), *[run("t")] * 3)
case("DEALLOCATE of what was parsed", say(parse("s", "SELECT 1") + SYNC), run("s"), say(query("DEALLOCATE s")),
     *[run("s")] * 4, say(parse("s", "SELECT 5") + SYNC), *[run("s")] * 4)
case("DEALLOCATE ALL and DISCARD ALL",
     say(parse("s", "SELECT 1") + SYNC), say(query("DEALLOCATE ALL")), *[run("s")] * 3,
     say(parse("s", "SELECT 2") + SYNC), *[run("s")] * 3, say(query("DISCARD ALL")), *[run("s")] * 3,
     say(parse("s", "SELECT 3") + SYNC), *[run("s")] * 3)
case("DEALLOCATE by extended messages", say(parse("s", "SELECT 1") + SYNC), say(once("DEALLOCATE s") + SYNC),
     *[run("s")] * 3, say(parse("s", "SELECT 2") + SYNC), *[run("s")] * 3)
MINE = say(query("CREATE TABLE mine (a int)"))
DROP_MINE = say(query("DROP TABLE IF EXISTS mine"))
for name, statement in {
    "DEALLOCATE ALL": query("DEALLOCATE ALL"), "DEALLOCATE": query("DEALLOCATE s"),
    "EXECUTE": query("EXECUTE s"), "EXECUTE by extended messages": once("EXECUTE s") + SYNC,
    "pg_prepared_statements": query("SELECT name FROM pg_prepared_statements ORDER BY name"),
}.items():
    case(f"{name} in a transaction, beside a statement whose table was dropped in it", MINE,
         say(parse("m", "SELECT * FROM mine") + SYNC), say(parse("s", "SELECT 1") + SYNC), say(query("BEGIN")),
         say(query("INSERT INTO mine VALUES (1)")), say(query("DROP TABLE mine")), say(statement), say(statement),
         say(query("SAVEPOINT slipstream")), run("s"), say(query("ROLLBACK TO slipstream")), say(query("COMMIT")),
         run("s"), DROP_MINE)
case("statements in the order in which they were prepared",
     *[say(parse(f"s{number * 7 % 10}", f"SELECT {number}") + SYNC) for number in range(10)],
     *[say(query("SELECT name, statement FROM pg_prepared_statements ORDER BY prepare_time"))] * 2,
     say(close_statement("s7") + parse("s7", "SELECT 'last'") + SYNC), say(query("BEGIN")),
     say(query("SELECT name, statement FROM pg_prepared_statements ORDER BY prepare_time")), say(query("ROLLBACK")))
for statement in ("SELECT set_config('work_mem', '97MB', false)", "SET work_mem = '97MB'", "SELECT 1"):
    case(f"an unnamed statement is used again {statement}", say(once(statement) + SYNC), run(""), run(""),
         say(query("BEGIN")), say(once(statement) + SYNC), run(""), say(query("COMMIT")), run(""))
case("an unnamed statement that sets is used again",
     *[say(once("SELECT set_config('work_mem', '97MB', false)") + SYNC), *[run("")] * 3] * 2)
case("PREPARE, then Bind", say(query("PREPARE s AS SELECT 1")), *[run("s")] * 4, say(parse("s", "SELECT 2") + SYNC),
     say(close_statement("s") + SYNC), say(query("EXECUTE s")))
case("Parse, then EXECUTE", say(parse("s", "SELECT 1") + SYNC), *[say(query("EXECUTE s"))] * 4)
case("Parse, then EXECUTE described before it is bound", say(parse("s", "SELECT 1, 'two'") + SYNC),
     *[say(parse("e", "EXECUTE s") + describe_statement("e") + FLUSH, until=b"Tn"), run("e"),
       say(describe_statement("e") + SYNC), say(close_statement("e") + SYNC)] * 3)
case("an unnamed statement ends with a simple query",
     *[say(parse("", "SELECT 'old'") + SYNC), say(query("SELECT 1")), run("")] * 3)
case("an unnamed statement that writes ends with a simple query",
     say(parse("", "INSERT INTO kept VALUES (809)") + SYNC), say(query("SELECT 1")), run(""))
case("an unnamed statement ends with a failing Parse",
     say(parse("", "SELECT 1") + SYNC), say(parse("", "SELEC") + SYNC), *[run("")] * 3,
     say(once("SELECT 1") + SYNC), say(parse("", "INSER") + SYNC), *[run("")] * 3)
case("an unnamed statement is used again", say(parse("", "SELECT $1::int") + SYNC), *[run("", b"5")] * 5)
case("a plan whose result changes", say(query("CREATE TEMP TABLE mine (a int)")),
     say(parse("s", "SELECT * FROM mine") + bind("", "s") + execute() + SYNC),
     say(query("ALTER TABLE mine ADD b int")), run("s"), run("s"))

# MARK: - Portals

SERIES = parse("", "SELECT n FROM generate_series(1, 5) n")
for begin in ("BEGIN", "BEGIN READ ONLY"):
    case(f"a portal in parts after {begin}", say(query(begin)), say(SERIES + bind("p", "") + execute("p", 2) + SYNC),
         say(execute("p", 2) + SYNC), say(query("SELECT 1")), say(execute("p", 2) + SYNC), say(execute("p", 2) + SYNC),
         say(query("COMMIT")), say(execute("p", 2) + SYNC))
    case(f"two portals in turn after {begin}", say(query(begin)),
         say(parse("s", "SELECT n FROM kept ORDER BY n") + bind("p", "s") + bind("q", "s") + SYNC),
         say(execute("p", 3) + execute("q", 1) + execute("p", 1) + SYNC),
         say(close_portal("p") + execute("q", 30) + SYNC),
         say(execute("p") + SYNC), say(query("ROLLBACK")))
    case(f"a portal that is taken after {begin}", say(query(begin)), say(SERIES + bind("p", "") + bind("p", "") + SYNC),
         say(query("SELECT 1")), say(query("ROLLBACK")))
case("a portal ends with its transaction", say(SERIES + bind("p", "") + execute("p", 2) + execute("p", 2) + SYNC),
     say(execute("p", 2) + SYNC))
case("a row limit within a unit", say(SERIES + bind("", "") + execute("", 2) + execute("", 2) + execute("", 2) + SYNC),
     say(SERIES + bind("", "") + execute("", 5) + SYNC), say(SERIES + bind("", "") + execute("", -1) + SYNC))
case("a writing portal in parts", say(query("BEGIN")),
     say(parse("", "INSERT INTO kept SELECT n FROM generate_series(810, 814) n RETURNING n") + bind("p", "")
         + execute("p", 2) + SYNC), say(execute("p") + SYNC), say(query("COMMIT")), COUNT)
case("a cursor of SQL by Execute", say(query("BEGIN; DECLARE c CURSOR FOR SELECT n FROM generate_series(1, 9) n")),
     say(describe_portal("c") + execute("c", 2) + SYNC), say(query("FETCH 2 FROM c")), say(close_portal("c") + SYNC),
     say(query("FETCH 2 FROM c")), say(query("ROLLBACK")))
case("a cursor beyond its transaction",
     say(query("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT n FROM kept ORDER BY n; COMMIT")),
     *[say(query("FETCH 2 FROM c"))] * 4, say(query("CLOSE c")), say(query("FETCH c")))

# MARK: - Sync and Flush

case("several Syncs at once", say(SYNC * 5, count=5), say(SYNC + query("SELECT 1") + SYNC, count=3),
     say(SYNC + once("SELECT 1") + SYNC + SYNC, count=3))
case("Flush without anything to answer", say(FLUSH * 3 + SYNC + FLUSH + SYNC + FLUSH, count=2), ALIVE)
UNFINISHED = once("INSERT INTO kept VALUES (811)") + once("SELECT 1/0") + once("INSERT INTO kept VALUES (812)")
case("an error without Sync or Flush", say(UNFINISHED, until=b"E"), say(SYNC), ALIVE, COUNT)
case("an error without Sync or Flush, and more", say(UNFINISHED, until=b"E"), say(once("SELECT 1") + SYNC), ALIVE, COUNT)
case("an error without Sync or Flush, in a transaction", say(query("BEGIN")), say(UNFINISHED, until=b"E"),
     say(once("SELECT 1") + SYNC), ALIVE, say(query("ROLLBACK")), COUNT)
case("an error without Sync behind Flush", say(once("SELECT 1") + FLUSH, until=b"C"), say(UNFINISHED, until=b"E"),
     say(SYNC), ALIVE, COUNT)
case("an error of a named statement without Sync or Flush", say(parse("s", "SELECT 7 / (n - $1::int) FROM kept WHERE n = 3") + SYNC),
     *[say(bind("", "s", b"1") + execute() + bind("", "s", b"3") + execute(), until=b"E"), say(SYNC)] * 3)
case("Flush, then the rest", say(once("SELECT 1") + FLUSH, until=b"C"), say(once("SELECT 2") + SYNC), ALIVE)
case("Flush, then Parse in the rest", say(parse("", "SELECT 1") + bind("", "") + execute() + FLUSH, until=b"C"),
     say(parse("", "SELECT 2") + bind("", "") + execute() + SYNC), ALIVE)
case("Flush, then a named Parse in the rest", say(parse("s", "SELECT 1") + FLUSH, until=b"1"),
     say(bind("", "s") + execute() + FLUSH, until=b"C"), say(parse("t", "SELECT 2") + bind("", "t") + execute() + SYNC),
     *[run("s"), run("t")] * 3)
case("Flush, then an error and more", say(once("SELECT 1/0") + FLUSH, until=b"E"), say(once("SELECT 2") + SYNC), ALIVE)
case("Flush, then a large unit", say(once("SELECT 1") + FLUSH, until=b"C"), say(unit_of(100_000)), ALIVE)
case("an error, then messages up to Sync",
     say(parse("", "SELEC") + once("SELECT 1") + describe_statement("x") + close_statement("x") + SYNC), ALIVE,
     say(once("SELECT 1") + once("SELECT 1/0") + once("INSERT INTO kept VALUES (815)") + SYNC), ALIVE,
     say(once("INSERT INTO kept VALUES (816)") + once("SELECT 1/0") + SYNC), COUNT)
case("an error, then a query and Sync", say(parse("", "SELEC") + query("SELECT 1") + SYNC), ALIVE)
case("an error, then a function call and Sync", say(parse("", "SELEC") + function_call(0) + SYNC), ALIVE)
case("an error, then a writing query and Sync", say(parse("", "SELEC") + query("INSERT INTO kept VALUES (817)") + SYNC),
     COUNT)
case("a query behind messages without Sync", say(once("SELECT 1") + query("SELECT 2")),
     say(parse("s", "SELECT 3") + query("SELECT 4")), *[run("s")] * 3)
case("a query behind messages without Sync shares their transaction",
     say(once("INSERT INTO kept VALUES (818)") + query("SELECT 1/0")), COUNT,
     differs="the endpoint puts a Sync between them, which commits")
case("a large query behind messages without Sync", say(once("SELECT 1") + query_of(70_000)), ALIVE,
     say(parse("", "SELEC") + query_of(70_000) + SYNC), ALIVE)
case("units in one transaction",
     say(query("BEGIN") + once("INSERT INTO kept VALUES (819)") + SYNC + query("COMMIT"), count=3), COUNT,
     say(query("BEGIN") + once("SELECT 1/0") + SYNC + once("SELECT 1") + SYNC + query("COMMIT"), count=4), COUNT)

# MARK: - COPY

OPENED = say(query(COPY), until=b"GZ")
OPENED_BY_MESSAGES = say(once(COPY) + SYNC, until=b"GZ")
DIVIDED = say(query("SELECT 1/0"))
case("COPY in", OPENED, say(ROW + ROW + COPY_DONE), COUNT)
case("COPY in that fails by CopyFail", OPENED, say(ROW + copy_fail()), ALIVE, COUNT)
case("COPY in that fails by its data", OPENED, say(copy_data(b"one\n") + ROW + COPY_DONE), ALIVE, COUNT)
case("COPY in that fails before its data", say(query("COPY refusing FROM STDIN")), ALIVE, DIVIDED)
case("COPY in that has failed when its data comes", say(query("COPY refusing FROM STDIN"), until=b"G"),
     say(ROW + COPY_DONE), DIVIDED, ALIVE)
case("COPY in that fails while much data comes", say(query("COPY refusing FROM STDIN"), until=b"G"),
     say(*[copy_data(b"902\tmuch\n" * 20_000)] * 5, COPY_DONE), DIVIDED, ALIVE)
case("COPY in that is not allowed", say(query("COPY unknown FROM STDIN") + ROW + COPY_DONE), ALIVE)
case("COPY in whose data does not wait", say(query(COPY) + ROW + COPY_DONE), ALIVE, COUNT)
case("COPY in whose data and failure do not wait", say(query(COPY) + ROW + copy_fail()), ALIVE, COUNT)
case("COPY in with a query behind it", say(query(COPY) + ROW + COPY_DONE + query("SELECT 1"), count=2), COUNT)
case("COPY in with a query amid it", OPENED, say(ROW + query("SELECT 1")), ALIVE, COUNT)
case("COPY in with Sync and Flush amid it", OPENED, say(ROW + SYNC + FLUSH + ROW + COPY_DONE), ALIVE, COUNT)
case("COPY in twice in one query", say(query(f"{COPY}; SELECT 1; {COPY}; SELECT 2"), until=b"GZ"),
     say(ROW + COPY_DONE + ROW + COPY_DONE), ALIVE, COUNT)
case("COPY in twice in one query, each answered", say(query(f"{COPY}; {COPY}"), until=b"GZ"),
     say(ROW + COPY_DONE, until=b"GZ"), say(ROW + COPY_DONE), ALIVE, COUNT)
case("COPY in twice in one query, whose data does not wait",
     say(query(f"{COPY}; {COPY}") + ROW + COPY_DONE + ROW + COPY_DONE), ALIVE, COUNT)
case("COPY in by a large query", say(query(f"{COPY} --{LARGE}"), until=b"GZ"), say(ROW + COPY_DONE), DIVIDED, COUNT)
case("COPY in by a large query whose data does not wait",
     say(query(f"{COPY} --{LARGE}") + ROW + COPY_DONE), DIVIDED, COUNT)
case("COPY in of much data", OPENED, say(*[copy_data(b"902\tmuch\n" * 20_000)] * 5, COPY_DONE), DIVIDED, COUNT)
case("COPY in of much data that fails at once", OPENED,
     say(copy_data(b"one\n"), *[copy_data(b"902\tmuch\n" * 20_000)] * 5, COPY_DONE), DIVIDED, COUNT)
case("COPY in a transaction", say(query("BEGIN")), OPENED, say(ROW + COPY_DONE), OPENED, say(ROW + copy_fail()),
     say(query("SELECT 1")), say(query("ROLLBACK")), COUNT)
case("COPY in by messages", OPENED_BY_MESSAGES, say(ROW + COPY_DONE + SYNC), DIVIDED, COUNT)
case("COPY in by messages that fails by CopyFail", OPENED_BY_MESSAGES, say(ROW + copy_fail() + SYNC), DIVIDED, COUNT)
case("COPY in by messages that fails by its data", OPENED_BY_MESSAGES,
     say(copy_data(b"one\n") + ROW + COPY_DONE + SYNC), DIVIDED, COUNT)
case("COPY in by messages whose data does not wait", say(once(COPY) + ROW + COPY_DONE + SYNC), ALIVE, COUNT)
case("COPY in by messages and Sync whose data does not wait",
     say(once(COPY) + SYNC + ROW + COPY_DONE + SYNC), ALIVE, COUNT)
case("COPY in by messages whose data does not wait for Flush", say(once(COPY) + FLUSH + ROW + COPY_DONE + SYNC), ALIVE,
     COUNT)
case("COPY in by messages and Flush", say(once(COPY) + FLUSH, until=b"G"), say(ROW + COPY_DONE + SYNC), ALIVE, COUNT)
case("COPY in by messages, more behind it", say(once(COPY) + FLUSH, until=b"G"),
     say(ROW + COPY_DONE + parse("z", "SELECT 1") + bind("", "z") + execute() + SYNC), *[run("z")] * 3)
case("COPY in by messages, a failure and more behind it", say(once(COPY) + FLUSH, until=b"G"),
     say(ROW + copy_fail() + parse("z", "SELECT 1") + bind("", "z") + execute() + SYNC + query("SELECT 2"), count=2),
     run("z"), COUNT)
case("COPY in by messages between names", say(
    parse("k", "SELECT 9") + once(COPY) + SYNC, until=b"GZ"), say(ROW + COPY_DONE + parse("m", "SELECT 8") + SYNC),
     *[run("k"), run("m")] * 3)
case("COPY in by messages with Parse amid it", say(once(COPY) + parse("m", "SELECT 8") + SYNC, until=b"G"),
     say(ROW + COPY_DONE + SYNC), differs="the node ends the connection; the endpoint's session outlives it")
case("COPY in by messages that fails before its data", say(once("COPY refusing FROM STDIN") + SYNC), DIVIDED, ALIVE)
case("COPY in by messages that has failed when its data comes",
     say(once("COPY refusing FROM STDIN") + SYNC, until=b"G"), say(ROW + COPY_DONE + SYNC), DIVIDED, ALIVE,
     differs="when the data is sent before the error was seen, a node says ReadyForQuery twice, the endpoint once")
case("COPY in that has failed when a query comes",
     say(query("COPY refusing FROM STDIN"), until=b"G"), ALIVE, DIVIDED, ALIVE,
     differs="when the query is sent before the error was seen, its answer is taken for a part of the failed COPY's")
case("COPY in by messages that has failed, then its data", say(once("COPY refusing FROM STDIN") + SYNC),
     say(ROW + COPY_DONE + SYNC), DIVIDED, ALIVE)
case("COPY in by messages that fails before its data, large rows", say(once("COPY refusing FROM STDIN") + SYNC),
     say(query("SELECT repeat('x', 300000)")), ALIVE)
case("COPY in by a query behind messages without Sync", say(once("SELECT 1") + query(COPY), until=b"GZ"),
     say(ROW + COPY_DONE), DIVIDED, COUNT)
case("copy messages without COPY", say(ROW + COPY_DONE + copy_fail() + query("SELECT 1")),
     say(ROW + once("SELECT 1") + COPY_DONE + SYNC), ALIVE)
case("COPY out", say(query("COPY kept TO STDOUT")), say(query("COPY (SELECT 1) TO STDOUT; SELECT 2")),
     say(once("COPY kept TO STDOUT") + SYNC), ALIVE)
case("COPY out of much", say(query("COPY (SELECT repeat('x', 100000) FROM generate_series(1, 20)) TO STDOUT")), ALIVE)
case("COPY out that fails", say(query("COPY (SELECT 1/(3 - n) FROM generate_series(1, 5) n) TO STDOUT")), ALIVE,
     say(once("COPY (SELECT 1/(3 - n) FROM generate_series(1, 5) n) TO STDOUT") + SYNC), ALIVE)
case("COPY out, then in", say(query(f"COPY kept TO STDOUT; {COPY}"), until=b"GZ"), say(ROW + COPY_DONE), COUNT)

# MARK: - Function calls

case("function calls", say(function_call(1397, b"-5")), say(function_call(0)), say(function_call(1397)),
     say(function_call(1397, b"five")), say(message(b"F", b"\0")), ALIVE)
case("function calls in a transaction", say(query("BEGIN")), say(function_call(1397, b"-5")), say(function_call(0)),
     say(query("SELECT 1")), say(query("ROLLBACK")))
case("a function call behind messages without Sync", say(once("SELECT 1") + function_call(1397, b"-5")), ALIVE)

# MARK: - Malformed messages

BOUND = parse("", "SELECT 1") + bind("", "")
for name, data in {
    "Query without its end": message(b"Q", b"SELECT 1"),
    "Query with something behind its end": message(b"Q", b"SELECT 1\0x\0"),
    "Query without anything": message(b"Q"),
    "Query in a wrong encoding": message(b"Q", b"SELECT '\xff\xfe'\0"),
    "Parse that ends early": message(b"P", b"a\0SELECT 1\0") + SYNC,
    "Parse without its end": message(b"P", b"a") + SYNC,
    "Parse with something behind its end": message(b"P", b"a\0SELECT 1\0\0\0more") + SYNC,
    "Parse with a count that is not kept": message(b"P", b"a\0SELECT 1\0\0\5") + SYNC,
    "Bind without anything": message(b"B") + SYNC,
    "Bind that ends early": parse("", "SELECT 1") + message(b"B", b"\0") + SYNC,
    "Bind with a length that is not kept": parse("", "SELECT $1::text") + message(
        b"B", b"\0\0" + struct.pack("!hhi", 0, 1, 100) + b"abc") + SYNC,
    "Bind with a negative length": parse("", "SELECT $1::text") + message(
        b"B", b"\0\0" + struct.pack("!hhih", 0, 1, -5, 0)) + SYNC,
    "Bind with too few parameters": once("SELECT $1::text") + SYNC,
    "Bind with something behind its end": parse("", "SELECT 1") + message(b"B", b"\0\0\0\0\0\0\0\0more") + SYNC,
    "Describe of an unknown kind": message(b"D", b"Xa\0") + SYNC,
    "Describe of an unknown kind without a name": message(b"D", b"X\0") + SYNC,
    "Describe without anything": message(b"D") + SYNC,
    "Describe with something behind its end": message(b"D", b"Sa\0more") + SYNC,
    "Close of an unknown kind": message(b"C", b"Xa\0") + SYNC,
    "Close without anything": message(b"C") + SYNC,
    "Execute that ends early": BOUND + message(b"E", b"\0") + SYNC,
    "Execute with something behind its end": BOUND + message(b"E", b"\0\0\0\0\0more") + SYNC,
    "Sync with a body": message(b"S", b"abc"),
    "Flush with a body": message(b"H", b"abc") + SYNC,
}.items():
    case(name, say(data), ALIVE)
    case(name + " in a transaction", say(query("BEGIN")), say(query("INSERT INTO kept VALUES (820)")), say(data),
         say(query("COMMIT")), ALIVE)
case("copy messages of wrong kinds", OPENED, say(parse("", "SELECT 1") + SYNC), ALIVE)
case("a message of no kind", say(b"!" + struct.pack("!i", 4)))
case("a password out of turn", say(message(b"p", b"abc\0")))

# MARK: - The end

case("a client that has said everything", say(query("SELECT pg_sleep(0.1)"), is_last=True))
case("a client that has said several things", say(
    query("INSERT INTO kept VALUES (821)") + once("SELECT 1") + SYNC + query("SELECT 2"), is_last=True))
case("a client that has said half of something", say(query("SELECT 1") + query("SELECT 2")[:-3], is_last=True))
case("a client that leaves amid a transaction", say(query("BEGIN")), say(
    query("INSERT INTO kept VALUES (822)"), is_last=True))
case("a client that leaves amid COPY", OPENED, say(ROW, is_last=True, is_ignored=True))
case("a client that leaves without Sync", say(once("INSERT INTO kept VALUES (823)"), is_last=True))
case("Terminate behind a query", say(query("SELECT 1") + TERMINATE, is_last=True))
case("Terminate behind writes", say(
    query("INSERT INTO kept VALUES (824)") + query("INSERT INTO kept VALUES (825)") + TERMINATE, is_last=True))
case("Terminate without Sync", say(once("INSERT INTO kept VALUES (826)") + TERMINATE, is_last=True))
case("Terminate amid COPY", OPENED, say(ROW + TERMINATE, is_last=True, is_ignored=True))

# MARK: - READ ONLY transactions

SHOWN = say(query("SHOW work_mem"))
for name, within, after in [
    ("a read", ["SELECT count(*) FROM kept"], []),
    ("an error", ["SELECT 1/0", "SELECT 1"], []),
    ("an error after a read", ["SELECT 1", "SELECT 1/0", "SELECT 1"], []),
    ("a write", ["INSERT INTO kept VALUES (827)", "SELECT 1"], []),
    ("an error and a write", ["SELECT 1/0", "INSERT INTO kept VALUES (828)"], []),
    ("what only the primary tells", ["SELECT txid_current() > 0", "SELECT 1"], []),
    ("a view that writes", ["SELECT * FROM kept_writing_view"], []),
    ("SET", ["SET work_mem = '99MB'"], [SHOWN] * 5),
    ("a read and SET", ["SELECT 1", "SET work_mem = '99MB'", "SHOW work_mem"], [SHOWN] * 5),
    ("SET LOCAL", ["SET LOCAL work_mem = '99MB'", "SHOW work_mem"], [SHOWN] * 5),
    ("set_config", ["SELECT set_config('work_mem', '99MB', false)"], [SHOWN] * 5),
    ("a cursor with hold", ["DECLARE c CURSOR WITH HOLD FOR SELECT n FROM kept ORDER BY n"],
     [say(query("FETCH c"))] * 3),
    ("a cursor", ["DECLARE c CURSOR FOR SELECT n FROM kept ORDER BY n", "FETCH 2 FROM c", "CLOSE c"], []),
    ("PREPARE", ["PREPARE pp AS SELECT 1"], [say(query("EXECUTE pp"))] * 3),
    ("a read and PREPARE", ["SELECT 1", "PREPARE pp AS SELECT 1", "EXECUTE pp"], [say(query("EXECUTE pp"))] * 3),
    ("LISTEN", ["LISTEN something"], []),
    ("NOTIFY", ["NOTIFY something"], []),
    ("an advisory lock", ["SELECT pg_advisory_lock(7)"], [say(query("SELECT pg_advisory_unlock(7)"))]),
    ("READ WRITE", ["SET TRANSACTION READ WRITE", "INSERT INTO kept VALUES (829)"], []),
    ("READ WRITE after a read", ["SELECT 1", "SET TRANSACTION READ WRITE"], []),
    ("an isolation level", ["SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1"], []),
    ("a savepoint", ["SAVEPOINT here", "SELECT 1/0", "ROLLBACK TO here", "SELECT 1"], []),
    ("BEGIN again", ["BEGIN", "SELECT 1"], []),
    ("a temporary table", ["CREATE TEMP TABLE mine (n int)", "INSERT INTO mine VALUES (1)"], []),
    ("a lock", ["LOCK TABLE kept IN ACCESS SHARE MODE", "SELECT n FROM kept WHERE n = 1 FOR UPDATE"], []),
    ("a sequence", ["SELECT nextval('kept_numbers')"], []),
    ("COPY out", ["COPY kept TO STDOUT"], []),
    ("COPY in", [COPY], []),
    ("nothing", [], []),
    ("an empty query", ["", "SELECT 1"], []),
    ("a large query", ["SELECT 1 --" + LARGE, "SELECT 2"], []),
    ("EXPLAIN ANALYZE", ["EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT 1"], []),
    ("DO", ["DO $$BEGIN PERFORM 1; END$$", "SELECT 1"], []),
]:
    for end in ("COMMIT", "ROLLBACK"):
        case(f"BEGIN READ ONLY, {name}, {end}", say(query("BEGIN READ ONLY")), *(say(query(one)) for one in within),
             say(query(end)), *after, COUNT,
             differs="only what is committed is repeated on the primary"
             if (name, end) == ("a read and PREPARE", "ROLLBACK") else None)
    case(f"BEGIN READ ONLY by messages, {name}", say(once("BEGIN READ ONLY") + SYNC),
         *(say(once(one) + SYNC) for one in within if one != COPY), say(once("COMMIT") + SYNC), *after, COUNT)
    case(f"BEGIN READ ONLY all at once, {name}", say(
        query("BEGIN READ ONLY"), *(query(one) for one in within if one != COPY), query("COMMIT"),
        count=2 + len([one for one in within if one != COPY])), *after, COUNT)
    case(f"BEGIN READ ONLY in one query, {name}",
         say(query("; ".join(["BEGIN READ ONLY", *(one for one in within if one not in ("", COPY)), "COMMIT"]).replace(
             LARGE + ";", LARGE + "\n;"))), say(query("ROLLBACK")), *after, COUNT)
case("BEGIN READ ONLY, a name", say(query("BEGIN READ ONLY")), say(parse("n", "SELECT 3") + SYNC), say(query("COMMIT")),
     *[run("n")] * 4, say(parse("n", "SELECT 4") + SYNC))
case("BEGIN READ ONLY, a name in a large unit", say(query("BEGIN READ ONLY")),
     say(SERIES + bind("", "") + parse("n", "SELECT 3 --" + LARGE) + SYNC), say(query("COMMIT")), *[run("n")] * 3)
case("BEGIN READ ONLY, a name from before", say(parse("n", "SELECT 3") + SYNC), *[
    say(query("BEGIN READ ONLY")), run("n"), say(close_statement("n") + parse("n", "SELECT 4") + SYNC), run("n"),
    say(query("COMMIT")), run("n")] * 3)
case("BEGIN READ ONLY, a setting up to a savepoint", say(query("BEGIN READ ONLY")), say(query("SELECT 1")),
     say(query("SET work_mem = '98MB'")), say(query("SAVEPOINT here")), say(query("SET work_mem = '99MB'")),
     say(query("ROLLBACK TO here")), SHOWN, say(query("COMMIT")), *[SHOWN] * 5,
     differs="what is repeated on the primary knows no savepoints")
case("BEGIN READ ONLY, a setting, an error, COMMIT", say(query("BEGIN READ ONLY")), say(query("SELECT 1")),
     say(query("SET work_mem = '99MB'")), say(query("SELECT 1/0")), say(query("COMMIT")), *[SHOWN] * 5)
case("BEGIN READ ONLY, a setting and COMMIT in one query", say(query("BEGIN READ ONLY")), say(query("SELECT 1")),
     say(query("SET work_mem = '99MB'; COMMIT")), *[SHOWN] * 5)
case("BEGIN READ ONLY, two settings, one refused", say(query("BEGIN READ ONLY")), say(query("SELECT 1")),
     say(query("SET work_mem = '99MB'; SET work_mem = 'much'")), say(query("ROLLBACK")), *[SHOWN] * 5)
case("BEGIN READ ONLY, DEALLOCATE, ROLLBACK", say(parse("n", "SELECT 3") + SYNC), say(query("BEGIN READ ONLY")),
     run("n"), say(query("DEALLOCATE n")), say(query("ROLLBACK")), *[run("n")] * 4,
     differs="only what is committed is repeated on the primary")
case("BEGIN READ ONLY, COMMIT AND CHAIN", say(query("BEGIN READ ONLY")), say(query("SELECT 1")),
     say(query("COMMIT AND CHAIN")), say(query("SELECT 2")), say(query("INSERT INTO kept VALUES (830)")),
     say(query("ROLLBACK")), COUNT)
case("BEGIN READ ONLY, Flush", say(query("BEGIN READ ONLY")), say(once("SELECT 1") + FLUSH, until=b"C"),
     say(once("SELECT 1/0") + SYNC), say(query("SELECT 1")), say(query("COMMIT")))


class Protocol(DifferentialTestCase):
    def test_writes_before_a_client_vanishes_are_done(self):
        """Not even the answers are waited for."""
        for port in (PRIMARY, PORT):
            with self.subTest("node" if port == PRIMARY else "endpoint"):
                self.reset()
                with Conversation(port) as conversation:
                    conversation.log_in().send(
                        query("INSERT INTO kept SELECT 901 FROM pg_sleep(0.1)") + query("INSERT INTO kept VALUES (902)")
                        + TERMINATE)
                eventually("both are done", lambda: self.kept()[20:] == [(901, None), (902, None)])

    def test_what_a_session_tells_of_its_node(self):
        """Wherever a read runs, the session is one on the primary."""
        with connect() as connection:
            for name, expected in {"transaction_read_only": "off", "in_hot_standby": "off"}.items():
                for question in (f"SHOW {name}", f"SELECT current_setting('{name}')"):
                    answers = {connection.execute(question).fetchone()[0] for _ in range(10)}
                    self.assertEqual(answers, {expected}, question)


for identifier, exchanges in CASES.items():
    def test(self, exchanges=exchanges):
        self.compare((*exchanges, ALIVE))

    if identifier in DIFFERENT and "SLIPSTREAM_KNOWN_DIFFERENCES" not in os.environ:
        test = unittest.skip(DIFFERENT[identifier])(test)
    setattr(Protocol, identifier, test)

if __name__ == "__main__":
    main()
