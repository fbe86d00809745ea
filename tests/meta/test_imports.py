"""What an import brings with it: NumPy, which takes longer than all the rest, only for those who have arrays."""

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
