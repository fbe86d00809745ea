"""Where Python runs without a GIL, shmkit does not switch it on (docs/free-threading.md)."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig

import pytest

WITHOUT_GIL = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
EVERY_MODULE = """
import importlib, pkgutil, sys, sysconfig, shmkit

WITHOUT = sysconfig.get_config_var("Py_GIL_DISABLED")

for module in pkgutil.walk_packages(shmkit.__path__, "shmkit."):
    # Tools beside the library; and what a program starts with.
    if not module.name.startswith("shmkit.cli") and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        assert not WITHOUT or not sys._is_gil_enabled(), module.name
assert not WITHOUT or not {"posix_ipc", "sysv_ipc"} & set(sys.modules)
"""
USE = """
import sys, sysconfig, shmkit

WITHOUT = sysconfig.get_config_var("Py_GIL_DISABLED")
queue, lock, ring, segment = shmkit.Queue(), shmkit.Lock(), shmkit.Ring.create(), shmkit.Segment.create(size=100)
queue.put({"a": [1, 2.5, None]})
assert queue.get() == {"a": [1, 2.5, None]}
with lock:
    ring.send(b"x")
assert not WITHOUT or not sys._is_gil_enabled()
assert not WITHOUT or not {"posix_ipc", "sysv_ipc"} & set(sys.modules)
"""


@pytest.mark.parametrize("program", [EVERY_MODULE, USE], ids=["every module", "use"])
def test_the_gil_stays_off(program: str) -> None:
    """Whatever is imported, and by what most programs do."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not WITHOUT_GIL, reason="this Python has a GIL")
def test_these_tests_run_without_one() -> None:
    """`make test` says so, as bindings that other tests use would switch it on."""
    assert not sys._is_gil_enabled()
