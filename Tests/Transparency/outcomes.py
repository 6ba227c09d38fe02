"""A plugin for pytest that writes the outcome of every test to the file $OUTCOMES as soon as it is known.

A run that is ended, or ends itself, has still told what it knew.
"""

import json
import os

_severity = ["passed", "skipped", "xfailed", "xpassed", "failed", "error"]
_seen = {}


def _outcome(report):
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    if report.failed:
        return "failed" if report.when == "call" else "error"
    return report.outcome


def pytest_runtest_logreport(report):
    outcome, details = _seen.get(report.nodeid, ("passed", ""))
    new = _outcome(report)
    if _severity.index(new) > _severity.index(outcome):
        outcome = new
    if report.longrepr:
        details += f"{report.when}: {report.longreprtext}\n"
    _seen[report.nodeid] = outcome, details
    if report.when == "teardown":
        write(report.nodeid, *_seen.pop(report.nodeid))


def pytest_collectreport(report):
    """A module that can't be collected is a test of its own."""
    if report.failed:
        write(report.nodeid, "error", report.longreprtext)


def write(test, outcome, details=""):
    with open(os.environ["OUTCOMES"], "a") as file:
        print(json.dumps({"test": test, "outcome": outcome, "details": details[-20_000:]}), file=file)
