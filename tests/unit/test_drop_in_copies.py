"""A connection that is copied or pickled is one more end, with a descriptor of its own; a closed one is closed."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator
from multiprocessing import connection, reduction, resource_sharer
from typing import Any

import pytest

import shmkit
import shmkit.multiprocessing

COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "in a list": lambda conn: copy.deepcopy([conn])[0],
    "pickle": lambda conn: pickle.loads(pickle.dumps(conn)),
}


class Marked(connection.Connection):
    mark: Any = 0


@pytest.fixture(params=["drop-in", "install"])
def pipe(request: pytest.FixtureRequest) -> Iterator[Callable[..., tuple[Any, Any]]]:
    module = shmkit.multiprocessing if request.param == "drop-in" else multiprocessing
    if request.param == "install":
        shmkit.install()
    yield module.Pipe
    shmkit.uninstall()
    resource_sharer.stop(30)


@pytest.fixture(params=COPIES)
def copied(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return COPIES[request.param]


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("duplex", [False, True])
def test_a_copy_is_one_more_end(pipe: Any, copied: Any, duplex: bool, size: int) -> None:
    """Messages go to whoever receives first; closing one leaves the other, and who listens is told at the last."""
    other, one = pipe(duplex)
    one.send(1)
    assert other.recv() == 1
    again = copied(one)
    assert type(again) is type(one)
    assert (again.readable, again.writable) == (one.readable, one.writable)
    assert again.fileno() != one.fileno()
    assert os.path.sameopenfile(again.fileno(), one.fileno())
    for sender in (again, one, again):
        sender.send(b"x" * size)
        assert other.recv() == b"x" * size
        sender.send_bytes(b"x" * size)
        assert other.recv_bytes() == b"x" * size
    one.close()
    again.send(b"x" * size)
    assert other.recv() == b"x" * size
    if duplex:
        other.send(b"y" * size)
        assert again.recv() == b"y" * size
    again.close()
    with other, pytest.raises(EOFError):
        other.recv()


def test_one_that_others_know(pipe: Any) -> None:
    """Of a list that has it twice a deep copy has the copy twice."""
    other, one = pipe()
    again, same = copy.deepcopy([one, one])
    assert again is same
    for conn in (one, again, other):
        conn.close()


@pytest.mark.parametrize("package", [multiprocessing, shmkit.multiprocessing])
def test_events_and_barriers(package: Any) -> None:
    """A copy is another object for the same; a deep one is made for a child only."""
    event, barrier = package.Event(), shmkit.multiprocessing.Barrier(1)
    again = copy.copy(event)
    assert again is not event
    again.set()
    assert event.is_set()
    event.clear()
    assert not again.wait(0)
    assert copy.copy(barrier).wait(0) == 0
    copy.copy(barrier).abort()
    assert barrier.broken
    for one in (event, barrier):
        with pytest.raises(RuntimeError, match="only be shared between processes through inheritance"):
            copy.deepcopy(one)


def test_one_that_is_closed(pipe: Any, copied: Any) -> None:
    """As the standard library's: another one that is closed; but who starts a child is told."""
    one, other = pipe(False)
    one.close()
    other.close()
    again = copied(one)
    assert again.closed
    assert (again.readable, again.writable) == (True, False)
    with pytest.raises(OSError, match="handle is closed"):
        reduction.ForkingPickler.dumps(one)


def test_one_of_a_derived_class(copied: Any) -> None:
    """It keeps its class, and what that has beside."""
    shmkit.install()
    try:
        reader, writer = os.pipe()
        with Marked(reader, writable=False) as one, open(writer, "wb") as file:
            one.mark = [5]
            again = copied(one)
            file.write(b"\0\0\0\1x")
            file.flush()
            with again:
                assert isinstance(again, Marked)
                assert (again.mark, again.writable) == ([5], False)
                assert again.recv_bytes() == b"x"
                assert (again.mark is one.mark) == (copied is copy.copy)
    finally:
        shmkit.uninstall()
        resource_sharer.stop(30)
