"""Other packages' processes under install(), whichever is imported first, and under ``shmkit run``: as without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# First this, then what is tried: `before` and `after` are where the other's import stands.
PROGRAM = """
import sys
when = sys.argv[1]
if when == "before":
    import shmkit
    shmkit.install()
{imports}
if when == "after":
    import shmkit
    shmkit.install()

{functions}

if __name__ == "__main__":
    from shmkit.install import installed
    assert installed()
{main}
    print("fine")
"""

LOKY = """
    import multiprocessing
    for context in ("loky", "spawn"):  # it warns of fork
        with loky.ProcessPoolExecutor(2, context=loky.backend.get_context(context)) as executor:
            assert list(executor.map(double, range(20))) == list(range(0, 40, 2))
            one, other = multiprocessing.Pipe()
            assert executor.submit(answer, other).result() == "done"
            assert one.recv() == (1, b"x" * 100_000)
            one.close()
            other.close()
            assert executor.submit(total, np.ones(300_000)).result() == 300_000
    executor = loky.get_reusable_executor(2)
    try:
        executor.submit(die).result()
    except loky.process_executor.TerminatedWorkerError:
        pass
    else:
        raise AssertionError
    executor = loky.get_reusable_executor(2)
    assert executor.submit(double, 4).result() == 8
    executor.shutdown(kill_workers=True)
"""

FUNCTIONS = """
def double(number):
    return 2 * number

def total(array):
    return float(array.sum())

def answer(connection):
    connection.send((1, b"x" * 100_000))
    return "done"

def die():
    os.kill(os.getpid(), 9)

def pass_on(calls, results, lock, connection):
    with lock:
        results.put(calls.get())
        connection.send("sent")
"""

# Of a fork of the standard library: all its own.
A_FORK = """
    for method in ("fork", "spawn"):
        context = mp.get_context(method)
        calls, results, lock = context.Queue(), context.Queue(), context.Lock()
        receiver, sender = context.Pipe(False)
        child = context.Process(target=pass_on, args=(calls, results, lock, sender))
        child.start()
        calls.put([1] * 50_000)
        assert results.get() == [1] * 50_000
        assert receiver.recv() == "sent"
        child.join()
        assert child.exitcode == 0
        assert not [
            made for made in (calls, lock, receiver)
            if any(kind.__module__.startswith(("shmkit", "multiprocessing.")) for kind in type(made).__mro__)
        ]
        with context.Pool(2) as pool:
            assert pool.map(double, range(20)) == list(range(0, 40, 2))
    import multiprocessing
    assert type(multiprocessing.Lock()).__module__ == "shmkit.multiprocessing.synchronize"
"""


def runs(tmp_path: Path, when: str, imports: str, main: str) -> None:
    path = tmp_path / "the_program.py"
    path.write_text(PROGRAM.format(imports=imports, functions=FUNCTIONS, main=main))
    how = ["-m", "shmkit", "run"] if when == "run" else []
    argv = [sys.executable, *how, str(path), when]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=110)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


@pytest.mark.parametrize("when", ["before", "after", "run"])
def test_loky(tmp_path: Path, when: str) -> None:
    """By itself: a connection among the arguments, and a worker that is killed."""
    runs(tmp_path, when, "import os, loky, numpy as np", LOKY)


@pytest.mark.parametrize("when", ["before", "after", "run"])
@pytest.mark.parametrize("fork", ["multiprocess", "billiard"])
def test_forks_of_the_standard_library_are_left_undisturbed(tmp_path: Path, fork: str, when: str) -> None:
    """They have modules and classes of their own, and pickle by their own: nothing in them is shmkit's."""
    runs(tmp_path, when, f"import os, {fork} as mp", A_FORK)
