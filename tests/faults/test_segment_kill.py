"""SIGKILL while segments are made, found, closed and unlinked: nothing half made is seen, nothing is left for good."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import sysv_ipc

import shmkit
from shmkit import Segment
from shmkit.segment import file, sysv
from support import Processes, die_with_parent, unique_name, wait_until

SIZE = 5000
BACKINGS = ["posix", "file", "sysv"]


def pattern(mapping: object, at: int) -> None:
    """Formats a new segment: whoever sees another byte has seen it half made."""
    memoryview(mapping)[:] = b"x" * SIZE  # type: ignore[arg-type]


def work(names: list[str], backing: str, seed: int, nameless: bool) -> None:
    """Makes, finds, leaves and unlinks segments of these names, for ever."""
    file.NAMELESS = nameless
    chance = random.Random(seed)
    held: list[Segment] = []
    while True:
        name = chance.choice(names)
        step = chance.randrange(5)
        with contextlib.suppress(shmkit.SegmentError):
            if step in (0, 1):
                lifetime = "leased" if step else "named"
                held.append(Segment._create(name, SIZE, backing=backing, lifetime=lifetime, init=pattern))
            elif step == 2:
                held.append(Segment.attach(name, backing=backing))
                assert bytes(held[-1].buf) == b"x" * SIZE
            elif step == 3 and held:
                held.pop(chance.randrange(len(held))).close()
            elif held:
                chance.choice(held).unlink(missing_ok=True)


@pytest.fixture
def names(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[list[str]]:
    backing = request.getfixturevalue("backing")
    names = [unique_name("kill") for _ in range(3)]
    if backing == "file":
        names = [str(tmp_path / name) for name in names]
    yield names
    for name in names:
        with contextlib.suppress(shmkit.SegmentError):
            shmkit.unlink(name, missing_ok=True, backing=backing)


def own_files(folder: str = "/dev/shm") -> list[str]:
    return [name for name in os.listdir(folder) if "shmkit" in name]


def check_what_is_left(names: list[str], backing: str) -> None:
    """Every name is a whole segment or none; the leased ones are gone after the next create."""
    for name in names:

        def is_named(name: str = name) -> bool:
            # Dead and leased, or dead and half made, is what a create takes over.  Whoever reads the maps of a dead
            # process at this moment (another test may) keeps its memory for as long, and so its lease.
            with contextlib.suppress(shmkit.SegmentExists):
                Segment._create(name, SIZE, backing=backing, init=pattern).close()
            with Segment.attach(name, backing=backing) as segment:
                assert bytes(segment.buf) == b"x" * SIZE
                return segment.lifetime == "named"

        wait_until(is_named, what="a dead process's lease ends")
        shmkit.unlink(name, backing=backing)
    shmkit.collect()


@pytest.mark.parametrize("backing", BACKINGS)
@pytest.mark.parametrize("nameless", [True, False], ids=["unnamed-files", "temporary-names"])
def test_sigkill_at_any_instant_leaves_nothing(
    backing: str, nameless: bool, names: list[str], tmp_path: Path, process: Processes
) -> None:
    """Two processes work on the same names; both are killed at random instants, again and again."""
    if backing == "sysv" and not nameless:
        pytest.skip("SysV segments are no files")
    chance = random.Random(f"{backing} {nameless}")
    before = set(own_files())
    for trial in range(40):
        children = [process(work, names, backing, trial * 2 + number, nameless) for number in range(2)]
        delay = chance.random() * 0.03
        for child in children:
            child.join(delay)
        for child in children:
            assert child.pid is not None
            # A child that ended by itself has seen something half made.
            assert child.exitcode is None
            os.kill(child.pid, signal.SIGKILL)
        for child in children:
            child.join()
        check_what_is_left(names, backing)
        assert set(own_files()) == before
        shmkit.collect(tmp_path)
        assert not os.listdir(tmp_path)


POINTS = ["file.make", "file.link", "file.linked", "file.leave", "file.leave.unlink"]
LIVE = """
import shmkit
from shmkit.segment import file
file.NAMELESS = {nameless}
segment = shmkit.Segment.create({name!r}, 5000, backing={backing!r}, lifetime="leased")
other = shmkit.Segment.attach({name!r}, backing={backing!r})
other.close()
segment.close()
"""


@pytest.mark.parametrize("backing", BACKINGS)
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("nameless", [True, False], ids=["unnamed-files", "temporary-names"])
def test_sigkill_at_each_failpoint_leaves_nothing(
    backing: str,
    point: str,
    skip: int,
    nameless: bool,
    names: list[str],
    debug_env: dict[str, str],
    process: Processes,
) -> None:
    """Made, named, half given up: whatever is left goes with the next create."""
    env = {**debug_env, "SHMKIT_FAILPOINT": f"{point}:{skip}"}
    program = process.python(LIVE.format(name=names[0], backing=backing, nameless=nameless), env=env)
    assert program.wait() in (0, -signal.SIGKILL)
    assert program.returncode == -signal.SIGKILL or skip == 1 or backing == "sysv"
    check_what_is_left(names, backing)
    assert not own_files()


def test_a_killed_reader_takes_nothing_away(process: Processes) -> None:
    """Nor does it keep a named segment from its owner."""
    name = unique_name("reader")
    with Segment.create(name, SIZE) as segment:
        for _ in range(20):
            child = process(_read_for_ever, name)
            child.join(0.005)
            child.kill()
            child.join()
        segment.buf[0] = 1
        with Segment.attach(name) as again:
            assert again.buf[0] == 1
        segment.unlink()
    assert name not in os.listdir("/dev/shm")


def _read_for_ever(name: str) -> None:
    while True:
        with Segment.attach(name) as segment:
            assert segment.size == SIZE


def _receive(data: list[bytes]) -> None:
    import pickle

    for text in data:
        pickle.loads(text)


def test_a_killed_receiver_frees_what_it_received(process: Processes) -> None:
    """Anonymous memory is the kernel's business: it goes with whoever has it, however that ends."""
    import pickle

    for _ in range(10):
        arrays = [shmkit.full(1000, 1.0) for _ in range(20)]
        data = [pickle.dumps(array) for array in arrays]
        child = process(_receive, data)
        child.join(0.005)
        child.kill()
        child.join()
        assert all(array.sum() == 1000.0 for array in arrays)
        del arrays
    from shmkit import _map

    _map.forget_references()


def test_all_killed_leaves_no_anonymous_memory(process: Processes) -> None:
    """Creator and receivers: no file, no SysV segment, no byte."""
    code = """
import os, shmkit, signal
for number in range(3):
    os.fork()
kept = [shmkit.zeros(10**5), shmkit.Segment.create(None, 10**5), shmkit.Segment.create(None, 10**5, backing="sysv")]
os.write(1, b"ready\\n")
signal.pause()
"""
    program = process.python(code, preexec_fn=_new_group)
    assert program.stdout is not None
    for _ in range(8):
        assert program.stdout.readline() == "ready\n"
    os.killpg(program.pid, signal.SIGKILL)
    program.wait()
    # Killed is not dead yet: the grandchildren end in their own time.
    wait_until(lambda: (shmkit.collect(), not own_files())[1])
    assert not [entry for entry in sysv.entries() if entry.creator_pid == program.pid]


def _new_group() -> None:
    os.setpgid(0, 0)
    die_with_parent()


def test_a_stranger_with_our_names_is_left_alone(tmp_path: Path) -> None:
    """Files that only look like ours, and SysV memory of others, survive every collection."""
    strangers = [Path("/dev/shm", name) for name in ("shmkit.lease.zzz", unique_name("stranger"))]
    memory = sysv_ipc.SharedMemory(None, sysv_ipc.IPC_CREX, size=10, init_character=b"\0")
    try:
        for path in strangers:
            path.write_bytes(b"not a segment " * 400)
        shmkit.collect()
        assert all(path.exists() for path in strangers)
        assert memory.number_attached == 1
    finally:
        memory.detach()
        memory.remove()
        for path in strangers:
            path.unlink()
