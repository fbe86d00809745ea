"""``make conformance``: all of it, for this interpreter; prints the table of all interpreters that were asked so far.

    python -I tests/conformance [--readme]

--readme puts the table into README.md.  The counts are kept in build/conformance, a file for each interpreter.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conformance.comparing import METHODS, PRIMITIVES, USERS, all_of, missing
from conformance.substitutes import EXECUTOR, FACES
from support import REPOSITORY

NAMES = {"drop-in": "shmkit.multiprocessing", "install": "shmkit.install()", EXECUTOR: "shmkit.Executor"}
KEPT = REPOSITORY / "build" / "conformance"
COLUMNS = ("tests", "with shmkit's classes", "passed", "failed", "excepted", "skipped")
BEGIN, END = "<!-- conformance: begin -->\n", "<!-- conformance: end -->\n"


def measure() -> bool:
    """Runs everything and keeps the counts; whether all is as it has to be."""
    rows, fine = [], True
    runs: list[tuple[str, str, tuple[str, ...], tuple[str, ...]]] = [
        ("lock_suite", "threads", (), ("shmkit",)),
        *(("mp_suite", method, (*PRIMITIVES, *USERS), ("shmkit",)) for method in METHODS),
        *(("mp_suite", method, (), FACES) for method in METHODS),
        *(("futures_suite", method, (), (EXECUTOR, "install")) for method in METHODS),
    ]
    for suite, method, patterns, classes in runs:
        if why := missing(suite):
            print(f"skipped: {why}")
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
    rows.sort(key=lambda row: order.get(row[0].split(",")[0], -1))
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{platform.python_version()}.json").write_text(json.dumps(rows))
    return fine


def table() -> str:
    lines = ["| Python | |" + "".join(f" {column} |" for column in COLUMNS), "|---|---|" + "---:|" * len(COLUMNS)]
    for kept in sorted(KEPT.glob("*.json"), key=lambda path: [int(part) for part in path.stem.split(".")[:2]]):
        for how, *counts in json.loads(kept.read_text()):
            lines.append(f"| {kept.stem} | {how} |" + "".join(f" {count} |" for count in counts))
    return "\n".join(lines) + "\n"


def write_readme() -> None:
    readme = REPOSITORY / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    readme.write_text(before + BEGIN + table() + END + rest.split(END)[1])


if __name__ == "__main__":
    fine = measure()
    print(table())
    if "--readme" in sys.argv[1:]:
        write_readme()
    sys.exit(not fine)
