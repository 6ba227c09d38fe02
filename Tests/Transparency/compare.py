"""Compares what a suite's tests gave directly and through the endpoint.

compare.py SUITE WORK KEPT KNOWN [--differing]

WORK has the directories "direct", "endpoint" and perhaps "again" (directly once more, all tests or only those that
differ). In each are outcomes.jsonl, or results/*.out with one test's output each, or outcomes.tsv.
Writes how tests differ into the directory KEPT. KNOWN is a list of patterns of tests whose difference is meant, each
with its reason in the comments above it. With --differing prints only what differs, one test a line.
Exit status 1 when a test differs and that isn't known.
"""

import difflib
import fnmatch
import json
import pathlib
import re
import sys


def read(side):
    """Outcomes by test, and details by test."""
    outcomes, details = {}, {}
    if (file := side / "outcomes.jsonl").exists():
        for line in file.read_text().splitlines():
            record = json.loads(line)
            outcomes[record["test"]] = record["outcome"]
            details[record["test"]] = f"{record['outcome']}\n{record['details']}\n"
    elif (file := side / "outcomes.tsv").exists():
        for line in file.read_text(errors="replace").splitlines():
            test, _, outcome = line.partition("\t")
            outcomes[test] = details[test] = outcome
    else:
        for file in sorted((side / "results").rglob("*.out")):
            test = str(file.relative_to(side / "results").with_suffix(""))
            outcomes[test] = details[test] = file.read_text(errors="replace")
    return outcomes, details


def read_known(file):
    """Pairs of pattern and reason."""
    known, reason, comment_ended = [], "", True
    for line in file.read_text().splitlines() if file.exists() else []:
        if line.startswith("#"):
            reason = line[1:].strip() if comment_ended else f"{reason} {line[1:].strip()}"
            comment_ended = False
        else:
            comment_ended = True
            if line.strip():
                known.append((line.strip(), reason))
    return known


def matches(test, pattern):
    # Parameters of tests are in brackets, which are no sets of characters here.
    return fnmatch.fnmatchcase(test, pattern.replace("[", "[[]"))


def main():
    suite, work, kept = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    (direct, _), (endpoint, _) = sides = read(work / "direct"), read(work / "endpoint")
    again, details_again = read(work / "again") if (work / "again").exists() else ({}, {})
    if not direct:
        sys.exit(f"{suite}: no test ran")
    differing = [test for test in {**direct, **endpoint} if direct.get(test) != endpoint.get(test)]
    if "--differing" in sys.argv:
        print(*differing, sep="\n")
        sys.exit(1 if differing else 0)

    known = read_known(pathlib.Path(sys.argv[4]))
    wavering, meant, ours = [], [], []
    for test in differing:
        reasons = [reason for pattern, reason in known if matches(test, pattern)]
        if test in again and again[test] != direct.get(test):
            wavering.append(test)
        elif reasons:
            meant.append((test, reasons[0]))
        else:
            ours.append(test)
        texts = [details.get(test, "not run\n").splitlines() for _, details in sides]
        name = re.sub(r"[^\w.,=+-]+", "_", test)[:150]
        differences = difflib.unified_diff(*texts, "direct", "endpoint", n=20, lineterm="")
        (kept / f"{name}.diff").write_text("\n".join(differences) + "\n")

    total = len({**direct, **endpoint})
    width = max((len(test) for test in differing), default=0)
    for heading, tests in (
        ("waver, directly too", [(test, "") for test in wavering]),
        ("differ, as is known", meant),
        ("DIFFER", [(test, "") for test in ours]),
    ):
        if tests:
            print(f"{suite}: {len(tests)} {heading}:")
            for test, reason in tests:
                if len(again.get(test, "")) < 20 and len(direct.get(test, "")) < 20:
                    reason = f"{direct.get(test, 'not run')} / {endpoint.get(test, 'not run')}  {reason}"
                print(f"  {test:{min(width, 90)}}  {reason}".rstrip())
    for pattern, _ in known:
        if not any(matches(test, pattern) for test in differing):
            print(f"{suite}: no longer differs, though known to: {pattern}")
    if ours:
        print(f"{suite}: how they differ is in {kept}")
    print(f"{suite}: {total - len(differing)} of {total} the same")
    sys.exit(1 if ours else 0)


main()
