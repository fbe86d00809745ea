"""``shmkit run`` runs a program as Python would, with install() in all of its processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support import wait_until

PROGRAM = """
import multiprocessing as mp, os, sys

class Own:
    pass

def work(lock, own):
    with lock:
        print(type(own).__name__, type(mp.Lock()).__module__, flush=True)

if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    print(sys.argv[1:], os.path.basename(sys.argv[0]), __name__, sys.path[0] == here)
    mp.set_start_method(sys.argv[1])
    lock = mp.Lock()
    child = mp.Process(target=work, args=(lock, Own()))
    child.start()
    child.join()
    exec(sys.argv[2])
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "the_program.py"
    path.write_text(PROGRAM)
    return path


def python(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=False, cwd=cwd)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_script_and_its_children(program: Path, method: str) -> None:
    done = python("-m", "shmkit", "run", program, method, "pass", "--stats", "-m")
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"{[method, 'pass', '--stats', '-m']} the_program.py __main__ True",
        "Own shmkit.multiprocessing.synchronize",
    ]


def test_a_module(program: Path) -> None:
    done = python("-m", "shmkit", "run", "-m", "the_program", "spawn", "sys.exit(4)", cwd=program.parent)
    assert (done.returncode, done.stderr) == (4, "")
    assert done.stdout.splitlines()[1] == "Own shmkit.multiprocessing.synchronize"


def test_a_folder_with_a_main(program: Path) -> None:
    (program.parent / "__main__.py").write_text("import sys; print(__name__, sys.argv[1:])")
    assert python("-m", "shmkit", "run", program.parent, "a").stdout == "__main__ ['a']\n"


@pytest.mark.parametrize("code", ["1 / 0", "sys.exit('no')", "sys.exit(7)", "import nowhere", "raise KeyError('ä')"])
def test_it_ends_as_python_has_it_end(program: Path, code: str) -> None:
    """Exit status, and traceback to the letter."""
    theirs = python(program, "fork", code)
    ours = python("-m", "shmkit", "run", program, "fork", code)
    assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr)


def test_stats(program: Path) -> None:
    """Over all processes."""
    done = python("-m", "shmkit", "run", "--stats", program, "spawn", "mp.Event()")
    assert done.returncode == 0
    lines = [line.split() for line in done.stderr.splitlines()]
    assert ["2", "Lock"] in lines
    assert ["1", "Event"] in lines


def test_only(program: Path) -> None:
    done = python("-m", "shmkit", "run", "--only", "shared_memory", program, "fork", "pass")
    assert done.stdout.splitlines()[1] == "Own multiprocessing.synchronize"
    done = python("-m", "shmkit", "run", "--only", "lokc", program, "fork", "pass")
    assert (done.returncode, done.stdout) == (2, "")
    assert "got 'lokc'" in done.stderr


@pytest.mark.parametrize("words", [["nowhere.py"], []])
def test_nothing_to_run(words: list[str]) -> None:
    done = python("-m", "shmkit", "run", *words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_who_outlives_the_run_goes_on_uncounted(tmp_path: Path) -> None:
    """The counters have gone by then."""
    late = tmp_path / "late.py"
    late.write_text(
        "import os, sys\n"
        "sys.stdin.read()\n"  # ends with the run
        "import shmkit.multiprocessing as mp\n"
        "queue = mp.Queue(); queue.put(7); print(queue.get(), mp.Lock().acquire())\n"
    )
    first = tmp_path / "first.py"
    first.write_text(
        "import os, subprocess, sys\n"
        "ends, keeps = os.pipe()\n"
        "os.set_inheritable(keeps, False)\n"
        "said = open(sys.argv[2], 'w')\n"
        "subprocess.Popen([sys.executable, sys.argv[1]], stdin=ends, stdout=said, stderr=said)\n"
    )
    said = tmp_path / "said"
    done = python("-m", "shmkit", "run", "--stats", first, late, said)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: said.read_text().endswith("\n"))
    assert said.read_text() == "7 True\n"
