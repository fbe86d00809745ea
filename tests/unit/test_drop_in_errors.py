"""What the drop-in says to wrong arguments: exceptions of the standard library's types, in its user's words."""

from __future__ import annotations

import multiprocessing
import re
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


def test_messages_have_the_users_words() -> None:
    lock, recursive, bounded = ours.Lock(), ours.RLock(), ours.BoundedSemaphore(1)
    for call, words in (
        (lock.release, "the anonymous Lock was released too often"),
        (recursive.release, "the anonymous RLock was released by a thread that does not hold it"),
        (bounded.release, "the anonymous BoundedSemaphore was released too often"),
    ):
        with pytest.raises((ValueError, AssertionError), match=words):
            call()
    semaphore = ours.Semaphore(2**31 - 1)
    for made in (lock, recursive, bounded, semaphore):
        assert "Beneath" not in repr(made._semlock)
        assert f"shmkit.{type(made).__name__}" in repr(made._semlock)
    with pytest.raises(ValueError, match="the anonymous Semaphore was released too often"):
        semaphore.release()


@pytest.mark.parametrize("installed", [False, True])
def test_a_pool_that_is_not_made_leaves_nothing_to_say(
    installed: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", unraisable.append)
    if installed:
        shmkit.install(only={"pool"})
    try:
        with pytest.raises(TypeError, match="foo"):
            (multiprocessing if installed else ours).Pool(1, foo=5)  # type: ignore[call-arg]
    finally:
        shmkit.uninstall()
    assert unraisable == []
    assert capfd.readouterr() == ("", "")


def without_addresses(text: str) -> str:
    return re.sub(r"(0x|owner=)[0-9a-f]+", r"\1…", text)


def test_what_managers_objects_look_like() -> None:
    """str() of a proxy is what the object in the server says of itself."""

    def shown(manager: Any) -> list[str]:
        lock, recursive = manager.Lock(), manager.RLock()
        made = [lock, recursive, manager.Condition(), manager.Queue(), manager.JoinableQueue(), manager.Event()]
        texts = [str(one) for one in made]
        lock.acquire()
        recursive.acquire()
        return [without_addresses(text) for text in (*texts, str(lock), str(recursive))]

    with multiprocessing.Manager() as theirs, ours.Manager() as mine:
        assert shown(mine) == shown(theirs)


def fail() -> None:
    raise LookupError("nothing there")


def test_an_initializer_that_fails_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with shmkit.Executor(1, initializer=fail) as executor:
        with pytest.raises(Exception, match="initializer fail raised LookupError: nothing there") as caught:
            executor.submit(int).result(60)
        assert type(caught.value).__name__ == "BrokenProcessPool"
        with pytest.raises(Exception, match="initializer fail raised LookupError"):
            executor.submit(int)
    capfd.readouterr()


def test_an_unknown_choice_is_shown_as_it_was_given() -> None:
    with pytest.raises(ValueError, match="got b'lock'"):
        shmkit.install(only=b"lock")  # type: ignore[arg-type]
