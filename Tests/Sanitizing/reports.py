"""Prints the reports of sanitizers in a directory: reports.py <directory>. Exits with 1 if there is one.

ThreadSanitizer does not see how Swift's tasks are handed from thread to thread: the runtime was not built with it. So what a
task or a dispatch queue did before it resumed another task seems to race with what that does. Data races between two such
stacks are counted, not printed; whatever a worker's thread takes part in is printed.
"""

import pathlib
import re
import sys

HANDED_OVER = re.compile(r"runJobInEstablishedExecutorContext|_dispatch_\w+|invoke_and_release_block")
ACCESS = re.compile(r"\n  (?:Previous |Atomic |)?(?:[Rr]ead|[Ww]rite|[Mm]odifying access|[Aa]ccess)\b.*(?:\n    #.*)+")


def is_hand_over(report):
    if not re.search(r"ThreadSanitizer: (data race|Swift access race)", report):
        return False
    stacks = ACCESS.findall(report)
    return len(stacks) == 2 and all(HANDED_OVER.search(stack) for stack in stacks)


def main():
    dismissed, printed = 0, 0
    for file in sorted(pathlib.Path(sys.argv[1]).iterdir()):
        for report in re.split(r"^=+$", file.read_text(errors="replace"), flags=re.MULTILINE):
            if not re.search(r"(WARNING|ERROR): \w+Sanitizer", report):
                continue
            if is_hand_over(report):
                dismissed += 1
            else:
                printed += 1
                print(report)
    print(f"{printed} reports, and {dismissed} of tasks that were handed over")
    sys.exit(1 if printed else 0)


main()
