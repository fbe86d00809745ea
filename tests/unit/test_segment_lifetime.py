"""Leased segments go with their last process; what crashes left is collected; a fork changes nothing for the parent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shmkit
from shmkit import Segment
from support import Processes, unique_name, wait_until

HOLD = """
import os, sys, shmkit
segment = shmkit.Segment.{verb}
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(params=["posix", "file", "sysv"])
def place(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """(name, backing) of each backing that has names."""
    full = str(tmp_path / name) if request.param == "file" else name
    yield full, request.param
    shmkit.unlink(full, missing_ok=True, backing=request.param)


def holder(process: Processes, verb: str) -> subprocess.Popen[str]:
    """A program that made, or attached to, a segment and waits for a line, or for its death."""
    program = process.python(HOLD.format(verb=verb), stdin=subprocess.PIPE)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    return program


def exists(place: tuple[str, str]) -> bool:
    try:
        Segment.attach(place[0], backing=place[1], readonly=True).close()
    except shmkit.SegmentNotFound:
        return False
    return True


def leased(place: tuple[str, str], size: int = 100) -> Segment:
    return Segment.create(place[0], size, backing=place[1], lifetime="leased")


def test_a_leased_segment_goes_with_its_last_handle(place: tuple[str, str]) -> None:
    """Name, memory and all that belongs to it."""
    one = leased(place)
    assert one.lifetime == "leased"
    other = Segment.attach(place[0], backing=place[1])
    one.close()
    assert exists(place)
    other.close()
    assert not exists(place)


def test_a_leased_segment_lives_as_long_as_a_view(place: tuple[str, str]) -> None:
    """A view uses it as much as a handle does."""
    segment = leased(place)
    view = segment.ndarray(10, "u1")
    segment.close()
    assert exists(place)
    del view
    assert not exists(place)


def test_a_leased_segment_goes_with_its_last_process(place: tuple[str, str], process: Processes) -> None:
    """The one that made it may leave before."""
    with leased(place) as segment:
        program = holder(process, f"attach({place[0]!r}, backing={place[1]!r})")
        segment.buf[0] = 1
    assert exists(place)
    program.communicate("\n")
    assert program.returncode == 0
    assert not exists(place)


def test_a_leased_segment_goes_at_exit_although_views_are_alive(place: tuple[str, str], process: Processes) -> None:
    """A global array is never deleted in order; the name goes nevertheless, and the array stays readable."""
    code = f"""
import atexit, shmkit
# Runs after shmkit's own handler, which is registered later.
atexit.register(lambda: print(array.sum()))
segment = shmkit.Segment.create({place[0]!r}, 100, backing={place[1]!r}, lifetime="leased")
array = segment.ndarray(100, "u1")
array[:] = 2
cycle = [array]
cycle.append(cycle)
"""
    program = process.python(code)
    assert program.communicate()[0] == "200\n"
    assert program.returncode == 0
    assert not exists(place)


def test_an_exit_leaves_a_leased_segment_to_the_others(place: tuple[str, str], process: Processes) -> None:
    """Who leaves removes the name only as the last."""
    with leased(place) as segment:
        code = (
            f"import shmkit; a = shmkit.Segment.attach({place[0]!r}, backing={place[1]!r}).ndarray(9, 'u1'); a[0] = 3"
        )
        assert process.python(code).wait() == 0
        assert exists(place)
        assert segment.buf[0] == 3


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("first", ["import multiprocessing.util", "pass"])
def test_a_child_that_is_waited_for_at_exit_finds_a_leased_segment(
    name: str, tmp_path: Path, first: str, method: str
) -> None:
    """However late it attaches, and whichever was imported first; then the name goes."""
    program = tmp_path / "program.py"
    program.write_text(
        f"{first}\n"
        "import multiprocessing, shmkit\n"
        "def late(at_its_end, number):\n"
        "    at_its_end.recv()\n"
        "    print(shmkit.Segment.attach(number).size, flush=True)\n"
        "if __name__ == '__main__':\n"
        f"    segment = shmkit.Segment.create({name!r}, 100, lifetime='leased')\n"
        f"    context = multiprocessing.get_context({method!r})\n"
        "    at_its_end, say = context.Pipe(False)\n"
        "    multiprocessing.util.Finalize(None, say.send, (1,), exitpriority=0)\n"  # called before children are joined
        f"    context.Process(target=late, args=(at_its_end, {name!r})).start()\n"
    )
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "100\n", "")
    assert not exists((name, "posix"))


def test_what_a_killed_process_leased_is_collected(place: tuple[str, str], process: Processes) -> None:
    """By name, by whoever makes a segment of that name next."""
    program = holder(process, f"create({place[0]!r}, 100, backing={place[1]!r}, lifetime='leased')")
    program.kill()
    program.wait()
    with leased(place) as segment:
        assert bytes(segment.buf) == bytes(100)
    assert not exists(place)


@pytest.mark.parametrize("backing", ["posix", "sysv"])
def test_collect_removes_what_the_dead_leased_and_nothing_else(
    backing: str, name: str, make_name: Any, process: Processes
) -> None:
    """Named segments stay, and so do leased ones that are in use."""
    dead = holder(process, f"create({name!r}, 100, backing={backing!r}, lifetime='leased')")
    dead.kill()
    dead.wait()
    named, used = make_name(), make_name()
    Segment.create(named, 10, backing=backing).close()
    try:
        with leased((used, backing)):
            # The creates above did it already; asking for it does no harm.
            shmkit.collect()
            assert not exists((name, backing))
            assert exists((named, backing))
            assert exists((used, backing))
    finally:
        shmkit.unlink(named, backing=backing)


def test_a_create_collects(name: str, process: Processes) -> None:
    """A new process's first create looks around, whatever it makes."""
    dead = holder(process, f"create({name!r}, 100, lifetime='leased')")
    dead.kill()
    dead.wait()
    assert process.python("import shmkit; shmkit.Segment.create(None, 10)").wait() == 0
    assert not exists((name, "posix"))


def test_a_segment_left_half_made_is_collected(process: Processes) -> None:
    """Where files have to be made under a name of their own."""
    code = """
import os, shmkit, signal
from shmkit.segment import file
file.NAMELESS = False
def init(mapping, at):
    os.kill(os.getpid(), signal.SIGKILL)
shmkit.Segment._create("x", 100, init=init)
"""
    program = process.python(code)
    assert program.wait() == -signal.SIGKILL
    assert list(Path("/dev/shm").glob(".shmkit-unfinished-*"))
    shmkit.collect()
    assert not list(Path("/dev/shm").glob(".shmkit-unfinished-*"))


def test_a_sysv_segment_left_half_made_is_collected(name: str, process: Processes) -> None:
    """Its creator was killed before it wrote the header: attaching says so, and creating is possible again."""
    code = f"""
import os, shmkit, signal
def init(mapping, at):
    os.kill(os.getpid(), signal.SIGKILL)
shmkit.Segment._create({name!r}, 100, backing="sysv", init=init)
"""
    assert process.python(code).wait() == -signal.SIGKILL
    with pytest.raises(shmkit.NotReady, match="ended before it wrote one"):
        Segment.attach(name, backing="sysv")
    with Segment.create(name, 100, backing="sysv") as segment:
        segment.unlink()


def test_an_anonymous_sysv_segment_goes_with_a_killed_process(process: Processes) -> None:
    """The kernel frees the memory; what else belongs to it is collected."""
    program = holder(process, "create(None, 4000, backing='sysv')")
    assert list(Path("/dev/shm").glob("shmkit.lease.*"))
    program.kill()
    program.wait()
    shmkit.collect()
    assert not list(Path("/dev/shm").glob("shmkit.lease.*"))


def _look_and_leave(segment: Segment) -> None:
    assert segment.buf[0] == 1
    segment.buf[1] = 2
    segment.close()


def test_a_forked_child_takes_nothing_away(place: tuple[str, str], process: Processes) -> None:
    """It shares the memory, and its leaving removes no name."""
    with leased(place) as segment:
        segment.buf[0] = 1
        child = process(_look_and_leave, segment)
        child.join()
        assert child.exitcode == 0
        assert segment.buf[1] == 2
        assert exists(place)


def _wait_for_a_line(segment: Segment, reading: int) -> None:
    os.read(reading, 1)


def test_a_forked_child_keeps_what_its_parent_leaves(place: tuple[str, str], process: Processes) -> None:
    """The kernel's lock is shared by both: the name goes when the last of them has gone."""
    reading, writing = os.pipe()
    segment = leased(place)
    child = process(_wait_for_a_line, segment, reading)
    segment.close()
    assert exists(place)
    os.write(writing, b"x")
    child.join()
    os.close(reading)
    os.close(writing)
    shmkit.collect()
    if place[1] == "file":
        # Files are collected by name.
        leased(place).close()
    assert not exists(place)


def test_another_users_of_a_name_race_for_it_without_harm(name: str, process: Processes) -> None:
    """Eight processes make, find and leave one leased name; each handle is a whole segment of that name or an error."""
    code = f"""
import shmkit, sys
made = found = 0
while made + found < 300:
    try:
        segment = shmkit.Segment.create_or_attach({name!r}, 64, lifetime="leased")
    except shmkit.NotReady:
        continue
    assert segment.size == 64 and segment.buf[0] in (0, 1)
    segment.buf[0] = 1
    segment.close()
    found += 1
"""
    programs = [process.python(code) for _ in range(8)]
    for program in programs:
        assert program.wait() == 0
    assert not exists((name, "posix"))


def test_a_name_is_whole_at_first_sight(process: Processes) -> None:
    """A reader that waits for a name finds it laid out, every time."""
    name = unique_name("whole")
    code = f"""
import shmkit
def init(mapping, at):
    memoryview(mapping)[:] = b"x" * 100000
for turn in range(200):
    shmkit.Segment._create({name!r}, 100000, init=init).unlink()
print("done", flush=True)
"""
    program = process.python(code)
    while program.poll() is None:
        with contextlib.suppress(shmkit.SegmentNotFound), Segment.attach(name, readonly=True) as segment:
            assert bytes(segment.buf) == b"x" * 100000
    assert program.returncode == 0
    wait_until(lambda: not Path("/dev/shm", name).exists())
