"""What the drop-in says to wrong arguments: exceptions of the standard library's types, in its user's words."""

from __future__ import annotations

import multiprocessing
import threading
from multiprocessing import shared_memory
from typing import Any

import pytest

import shmkit
import shmkit.multiprocessing as ours
from shmkit.multiprocessing.shared_memory import SharedMemory


@pytest.fixture(params=["stdlib", "drop-in"])
def package(request: pytest.FixtureRequest) -> Any:
    return multiprocessing if request.param == "stdlib" else ours


@pytest.fixture(params=["stdlib", "drop-in"])
def memory(request: pytest.FixtureRequest) -> Any:
    return shared_memory.SharedMemory if request.param == "stdlib" else SharedMemory


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("name", ["a/b", "", "x" * 300], ids=["slash", "empty", "long"])
def test_names_that_are_none(memory: Any, name: str, create: bool) -> None:
    with pytest.raises(OSError):  # noqa: PT011  (the standard library's words are the C library's)
        memory(name, create, 8)


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("name", [5, b"x", 1.5, ["x"]])
def test_names_that_are_not_text(memory: Any, name: Any, create: bool) -> None:
    with pytest.raises(TypeError):
        memory(name, create, 8)


def test_a_name_with_a_slash_before_it(memory: Any, name: str) -> None:
    """It is what it was called, and the same memory as without."""
    made = memory(f"/{name}", create=True, size=8)
    assert made.name == f"/{name}"
    assert made.buf is not None
    made.buf[0] = 7
    with shmkit.Segment.attach(name, raw=True) as other:
        assert other.buf[0] == 7
    again = memory(made.name)
    assert (again.name, again.buf[0]) == (made.name, 7)
    again.close()
    made.close()
    made.unlink()


@pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore"])
def test_numbers_of_permits(package: Any, kind: str) -> None:
    make = getattr(package, kind)
    for value, error in ((2**31, OverflowError), (2**70, OverflowError), (-1, OSError), (1.5, TypeError)):
        with pytest.raises(error):
            make(value)


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_sizes_of_queues(package: Any, kind: str) -> None:
    make = getattr(package, kind)
    for value, error in ((1.5, TypeError), ("1", TypeError), (2**31, OverflowError), (2**40, OverflowError)):
        with pytest.raises(error):
            make(value)


def test_a_number_of_workers_is_whole() -> None:
    with pytest.raises(TypeError):
        shmkit.Executor(1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("parties", [0, -1])
def test_a_barrier_that_nobody_passes(parties: int) -> None:
    """Made where this Python makes one; who waits waits for ever, or until it breaks."""
    try:
        threading.Barrier(parties)
    except ValueError:
        with pytest.raises(ValueError, match="parties"):
            ours.Barrier(parties)
        return
    barrier = ours.Barrier(parties)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (parties, 0, False)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(0.001)
    assert barrier.broken
