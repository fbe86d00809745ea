"""shmkit.install() puts the drop-in into the standard library's place, and uninstall() takes it out."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import threading
from collections.abc import Iterator
from multiprocessing import shared_memory, synchronize
from multiprocessing.context import BaseContext
from typing import Any

import pytest

import shmkit
from shmkit.install import installed
from support import Processes, wait_until

OURS = "shmkit.multiprocessing.synchronize"


class Derived(synchronize.Lock):
    """Derived before anything was installed."""

    def __init__(self, *, ctx: Any) -> None:
        super().__init__(ctx=ctx)
        self.own = "own"

    def __getstate__(self) -> Any:
        return super().__getstate__(), self.own

    def __setstate__(self, state: Any) -> None:
        beneath, self.own = state
        super().__setstate__(beneath)


class DerivedByName(synchronize.Event):
    def __init__(self, *, ctx: Any) -> None:
        synchronize.Event.__init__(self, ctx=ctx)


@pytest.fixture(autouse=True)
def _uninstalled() -> Iterator[None]:
    yield
    shmkit.uninstall()
    assert installed() == frozenset()


def test_classes_bound_before_make_ours() -> None:
    bound, method, before = synchronize.Lock, multiprocessing.Lock, multiprocessing.Lock()
    initialise = synchronize.Lock.__init__
    shmkit.install()
    context = multiprocessing.get_context("spawn")
    for made in (bound(ctx=context), method(), context.Lock()):
        assert type(made).__module__ == OURS
        assert isinstance(made, bound)
        with made:
            assert not made.acquire(False)
    with before:
        assert type(before) is bound
    shmkit.uninstall()
    assert synchronize.Lock.__init__ is initialise
    assert type(method()) is bound
    with made:  # what was made meanwhile goes on
        assert not made.acquire(False)


def test_subclasses_derived_before() -> None:
    shmkit.install()
    context = multiprocessing.get_context("spawn")
    made = Derived(ctx=context)
    assert isinstance(made, Derived)
    assert made.own == "own"
    assert type(made._semlock).__module__ == "shmkit.multiprocessing._beneath"
    assert type(made).__name__ == "Derived"
    event = DerivedByName(ctx=context)
    event.set()
    assert event.wait(0)
    shmkit.uninstall()
    assert type(Derived(ctx=context)) is Derived


def test_again_and_again_changes_nothing() -> None:
    path = list(sys.meta_path)
    preparation = multiprocessing.spawn.get_preparation_data
    shmkit.uninstall()
    shmkit.install()
    once = synchronize.Lock.__init__
    shmkit.install()
    shmkit.install(only={"lock"})
    assert synchronize.Lock.__init__ is once
    shmkit.uninstall()
    shmkit.uninstall()
    assert sys.meta_path == path
    assert multiprocessing.spawn.get_preparation_data is preparation
    assert "_shmkit_original_init" not in vars(synchronize.Lock)


def test_only_what_was_chosen() -> None:
    shmkit.install(only={"shared_memory"})
    assert installed() == {"shared_memory"}
    assert type(multiprocessing.Lock()) is synchronize.Lock
    memory = shared_memory.SharedMemory(create=True, size=8)
    assert type(memory).__module__ == "shmkit.multiprocessing.shared_memory"
    memory.close()
    memory.unlink()
    shmkit.install(only="lock")
    assert installed() == {"lock", "shared_memory"}
    assert type(multiprocessing.Lock()).__module__ == OURS


@pytest.mark.parametrize("only", [{"lokc"}, "lokc", ["lock", ""]])
def test_an_unknown_choice_is_refused(only: Any) -> None:
    with pytest.raises(ValueError, match="only takes 'executor', 'lock', "):
        shmkit.install(only=only)
    assert installed() == frozenset()


@pytest.mark.parametrize("only", [5, True, [["lock"]]])
def test_a_choice_of_no_words_is_refused(only: Any) -> None:
    with pytest.raises(TypeError, match=r"only takes words, as in .*: got"):
        shmkit.install(only=only)
    assert installed() == frozenset()


def test_threads_install_and_uninstall() -> None:
    """Whoever comes last, all of it is there, or nothing."""

    def switch() -> None:
        for _ in range(200):
            shmkit.install()
            multiprocessing.Lock()
            shmkit.uninstall()

    threads = [threading.Thread(target=switch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert type(multiprocessing.Lock()) is synchronize.Lock


def report(connection: Any, lock: Any) -> None:
    with lock:
        connection.send((type(multiprocessing.Lock()).__module__, type(lock).__module__))
    if multiprocessing.current_process().name != "grandchild":
        child = multiprocessing.Process(target=report, args=(connection, multiprocessing.Lock()), name="grandchild")
        child.start()
        child.join()


def test_children_and_theirs(start_method: BaseContext, process: Processes) -> None:
    """Under every start method, a fork server that runs already included."""
    if start_method.get_start_method() == "forkserver":
        process(print, context=start_method).join()
    shmkit.install()
    reader, writer = multiprocessing.Pipe(duplex=False)
    with reader, writer:
        process(report, writer, start_method.Lock(), context=start_method)
        for _ in range(2):
            assert reader.poll(60)
            assert reader.recv() == (OURS, OURS)


def hold(lock: Any, held: Any) -> None:
    lock.acquire()
    held.set()
    wait_until(lambda: False)


def test_derived_ones_reach_children(start_method: BaseContext, process: Processes) -> None:
    shmkit.install()
    lock, held = Derived(ctx=start_method), DerivedByName(ctx=start_method)
    child = process(hold, lock, held, context=start_method)
    assert held.wait(60)
    assert not lock.acquire(False)
    child.kill()
    assert lock.acquire(timeout=60)
    lock.release()


def test_pickled_only_for_a_child() -> None:
    shmkit.install()
    with pytest.raises(RuntimeError, match="inheritance"):
        pickle.dumps(Derived(ctx=multiprocessing.get_context("spawn")))
