"""What an import brings with it: each child that is spawned waits for it.  NumPy takes longer than all the rest."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LOCKS = (
    "made = mp.Lock(), mp.RLock(), mp.Semaphore(), mp.BoundedSemaphore(), mp.Event(), mp.Condition(), mp.Barrier(2)\n"
    "with made[0], made[1], made[5]: made[4].set()\n"
)


@pytest.mark.parametrize(
    "code",
    [
        "import shmkit",
        "from shmkit import multiprocessing as mp",
        "from shmkit import multiprocessing as mp\n" + LOCKS,
        "import multiprocessing as mp, shmkit; shmkit.install()\n" + LOCKS,
        "from shmkit.segment import Segment; Segment.create(None, 100)",
    ],
)
def test_no_numpy_for_those_who_have_no_arrays(code: str) -> None:
    code += "\nimport sys; assert 'numpy' not in sys.modules, [name for name in sys.modules if 'shmkit' in name]"
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))


def test_locks_bring_little_with_them() -> None:
    """Nothing but what the standard library's own bring, and what is quickly there: a child may be short."""
    theirs = "import multiprocessing as mp, sys\n" + LOCKS + "print(*sys.modules)"
    ours = "import multiprocessing as mp, sys, shmkit; shmkit.install()\n" + LOCKS + "print(*sys.modules)"
    without, with_it = (
        set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())
        for code in (theirs, ours)
    )
    long = {"_hashlib", "asyncio", "ctypes", "decimal", "fractions", "hashlib", "numpy", "pathlib", "tempfile"}
    assert not long & (with_it - without)
