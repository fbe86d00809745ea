"""Runs one of the suites, and writes what came of each test, a line of JSON each, as it goes.

    python -m conformance.runner SUITE RESULTS SECONDS [PATTERN…]

SUITE is a module of this folder.  A PATTERN, as of fnmatch, chooses tests by ``Class.test``; without any, all run.
What RESULTS says already is not run again, and what comes is added to it: a test that takes SECONDS ends the run, with
all stacks on stderr, and the next run begins behind it.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import signal
import sys
import time
import unittest
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, TextIO

from conformance.substitutes import COUNT


def id_of(test: unittest.TestCase) -> str:
    """``Class.test``; of what is set up for many tests, what unittest says."""
    return ".".join(test.id().split(".")[-2:]) if hasattr(test, "_testMethodName") else test.id()


class Results(unittest.TestResult):
    def __init__(self, lines: TextIO, seconds: float) -> None:
        super().__init__()
        self.lines = lines
        self.seconds = seconds
        self.seen = 0
        self.kind: type | None = None
        self.shared = 0

    def note(self, test: unittest.TestCase, **what: object) -> None:
        print(json.dumps({"test": id_of(test), **what}), file=self.lines, flush=True)

    def constructed(self) -> int:
        return os.stat(os.environ[COUNT]).st_size

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().startTest(test)
        self.before = self.constructed()
        if type(test) is not self.kind:
            # What was made since the last test ended is of this class's set-up: all of its tests use it.  (Before the
            # first test there is also what the module's set-up makes, and nobody uses.)
            self.shared = self.before - self.seen if self.kind else 0
            self.kind = type(test)
        self.began = time.monotonic()
        self.outcome: dict[str, object] = {"outcome": "passed"}
        self.note(test, outcome="started")
        faulthandler.dump_traceback_later(self.seconds, exit=True)

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        faulthandler.cancel_dump_traceback_later()
        took = round(time.monotonic() - self.began, 2)
        self.seen = self.constructed()
        self.note(test, **self.outcome, made=self.shared + self.seen - self.before, seconds=took)
        super().stopTest(test)

    def put(self, test: unittest.TestCase, outcome: str, why: str) -> None:
        if hasattr(test, "_testMethodName"):
            self.outcome = {"outcome": outcome, "why": why}
        else:  # a module's or a class's set-up, outside of any test
            self.note(test, outcome=outcome, why=why, made=0)

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802
        self.put(test, "failed", self._exc_info_to_string(err, test))

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        self.put(test, "failed", self._exc_info_to_string(err, test))

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
        if err is not None:
            self.put(test, "failed", self._exc_info_to_string(err, subtest))

    def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
        self.put(test, "skipped", reason)

    def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802
        self.put(test, "failed", "was expected to fail")


def tests_of(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_of(test)
        else:
            yield test


def main(name: str, results: str, seconds: str, *patterns: str) -> None:
    from support.processes import die_with_parent  # children that import this file as their __main__ need it not

    die_with_parent()
    # Whoever starts a program in the background has it ignore Ctrl-C, which the tests send to themselves.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    module = importlib.import_module(f"conformance.{name}")
    tests = tests_of(unittest.defaultTestLoader.loadTestsFromModule(module))
    chosen = [test for test in tests if any(fnmatchcase(id_of(test), pattern) for pattern in patterns or "*")]
    with open(results, "a+") as lines:
        lines.seek(0)
        done = {json.loads(line).get("test") for line in lines}
        chosen = [test for test in chosen if id_of(test) not in done]
        unittest.TestSuite(chosen).run(Results(lines, float(seconds)))
        print(json.dumps({"finished": len(chosen)}), file=lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
