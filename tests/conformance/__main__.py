"""``make conformance``: all of it, for this interpreter; prints the table of all interpreters that were asked so far.

    python -I tests/conformance [--readme]

--readme puts the table into README.md.  The counts are kept in build/conformance, a file for each interpreter.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conformance.comparing import METHODS, PRIMITIVES, QUEUED, SUITES, USERS, all_of, missing
from conformance.substitutes import EXECUTOR, FACES, QUEUES
from support import REPOSITORY

NAMES = {
    "drop-in": "shmkit.multiprocessing",
    "install": "shmkit.install()",
    EXECUTOR: "shmkit.Executor",
    QUEUES: "shmkit.Queue",
}
KEPT = REPOSITORY / "build" / "conformance"
COLUMNS = ("tests", "with shmkit's classes", "passed", "failed", "excepted", "skipped")
BEGIN, END = "<!-- conformance: begin -->\n", "<!-- conformance: end -->\n"


def measure() -> bool:
    """Runs everything and keeps the counts; whether all is as it has to be."""
    rows: list[list[str | int]] = []
    absent: list[str] = []
    fine = True
    runs: list[tuple[str, str, tuple[str, ...], tuple[str, ...]]] = [
        ("lock_suite", "threads", (), ("shmkit",)),
        *(("mp_suite", method, (*PRIMITIVES, *USERS), ("shmkit",)) for method in METHODS),
        *(("mp_suite", method, tuple(QUEUED), (QUEUES,)) for method in METHODS),
        *(("mp_suite", method, (), FACES) for method in METHODS),
        *(("futures_suite", method, (), (EXECUTOR, "install")) for method in METHODS),
    ]
    for suite, method, patterns, classes in runs:
        if why := missing(suite):
            print(f"skipped: {why}")
            if SUITES[suite] not in absent:
                absent.append(SUITES[suite])
            continue
        for whose, report in all_of(suite, "fork" if method == "threads" else method, classes, patterns).items():
            part = ", concurrent.futures" if suite == "futures_suite" else ""
            how = f"{NAMES[whose]}{part}, {method}" if whose in NAMES else method
            print(f"Python {platform.python_version()}, {how}: {report}", flush=True)
            for test, reason in report.wrong.items():
                fine = False
                print(f"  {test}: {reason}", flush=True)
            counts = [report.counts[what] for what in COLUMNS[2:]]
            rows.append([how, sum(report.counts.values()), report.touching, *counts])
    order = {name: place for place, name in enumerate(NAMES.values())}
    rows.sort(key=lambda row: order.get(str(row[0]).split(",")[0], -1))
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{platform.python_version()}.json").write_text(json.dumps({"rows": rows, "absent": absent}))
    return fine


def kept() -> dict[str, Any]:
    """The counts of each interpreter that was asked so far, and which suites it was installed without."""
    files = sorted(KEPT.glob("*.json"), key=lambda path: [int(part) for part in path.stem.split(".")[:2]])
    return {path.stem: json.loads(path.read_text()) for path in files}


def table(kept: Mapping[str, Any]) -> str:
    """What the page says of them; why rows are not there, below."""
    lines = ["| Python | |" + "".join(f" {column} |" for column in COLUMNS), "|---|---|" + "---:|" * len(COLUMNS)]
    without: dict[str, list[str]] = {}
    for python, found in kept.items():
        for how, *counts in found["rows"]:
            lines.append(f"| {python} | {how} |" + "".join(f" {count} |" for count in counts))
        for suite in found["absent"]:
            without.setdefault(suite, []).append(python)
    for suite, pythons in without.items():
        were, them = ("was", "it") if len(pythons) == 1 else ("were", "them")
        which = " and ".join(pythons)
        lines += ["", f"Python {which} {were} installed without `{suite}`: it has no rows for {them}."]
    return "\n".join(lines) + "\n"


def with_table(page: str, kept: Mapping[str, Any]) -> str:
    before, rest = page.split(BEGIN)
    return before + BEGIN + table(kept) + END + rest.split(END)[1]


if __name__ == "__main__":
    fine = measure()
    print(table(kept()))
    if "--readme" in sys.argv[1:]:
        readme = REPOSITORY / "README.md"
        readme.write_text(with_table(readme.read_text(), kept()))
    sys.exit(not fine)
