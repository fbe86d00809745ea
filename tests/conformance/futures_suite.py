"""The process-pool parts of ``test.test_concurrent_futures``, for one start method.

They are run with ``shmkit.Executor`` in the place of ``ProcessPoolExecutor``, the programs within that they start
included, or with the standard library's own, whose queues are shmkit's under ``install()``.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import sys
import unittest
from concurrent import futures
from typing import Any

from conformance import substitutes

substitutes.install()

if substitutes.face() == substitutes.EXECUTOR:
    from test.support import script_helper

    import shmkit

    class ProcessPoolExecutor(shmkit.Executor):
        """Under the name that the tests put into programs."""

        def __init__(self, *args: Any, **options: Any) -> None:
            with open(os.environ[substitutes.COUNT], "ab") as count:
                count.write(b".")
            super().__init__(*args, **options)

    futures.ProcessPoolExecutor = ProcessPoolExecutor  # type: ignore[misc, assignment]
    _assert_python_ok = script_helper.assert_python_ok

    def assert_python_ok(*args: str, **options: Any) -> Any:
        # The programs are run without PYTHONPATH.
        ours = f"import sys; sys.path[:0] = {sys.path!r}; from shmkit import Executor as ProcessPoolExecutor"
        theirs = "from concurrent.futures import ProcessPoolExecutor"
        return _assert_python_ok(*(word.replace(theirs, ours) for word in args), **options)

    script_helper.assert_python_ok = assert_python_ok

_tests = importlib.import_module("test.test_concurrent_futures")
_names = [found.name for found in pkgutil.iter_modules(getattr(_tests, "__path__", ()))]
_modules = [
    _tests,
    *(importlib.import_module(f"{_tests.__name__}.{name}") for name in _names if name.startswith("test_")),
]

_kind = re.compile("ProcessPool" + os.environ[substitutes.METHOD].capitalize() + "(?!server)")
for _module in _modules:
    for _name, _value in vars(_module).items():
        if isinstance(_value, type) and issubclass(_value, unittest.TestCase) and _kind.match(_name):
            globals()[_name] = _value
