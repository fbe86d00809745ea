"""shmkit.multiprocessing has what multiprocessing has, and shares its state."""

from __future__ import annotations

import importlib
import inspect
import multiprocessing
import os
import pickle
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.context import BaseContext
from typing import Any

import pytest

import shmkit.multiprocessing as ours
from shmkit._replaced import REPLACED
from support import Processes

KINDS = [entry.name for entry in REPLACED if entry.module == "synchronize"]
# Not all that multiprocessing knows by now: joblib adds one of its own when it is imported.
METHODS = ("fork", "spawn", "forkserver")


@pytest.fixture
def start_method_restored() -> Iterator[None]:
    before = multiprocessing.get_start_method(allow_none=True)
    yield
    multiprocessing.set_start_method(before, force=True)


def make(context: Any, kind: str) -> Any:
    return getattr(context, kind)(*([2] if kind == "Barrier" else []))


def test_every_public_name_is_there() -> None:
    """Those of the Python that runs, whichever it is."""
    assert set(ours.__all__) == set(multiprocessing.__all__)
    assert [
        name for name in dir(multiprocessing.context.BaseContext) if not hasattr(ours.context.BaseContext, name)
    ] == []
    for name in ours.__all__:
        assert getattr(ours, name) is not None


@pytest.mark.parametrize(
    "name",
    [
        module.name.removeprefix("multiprocessing.")
        for module in pkgutil.walk_packages(multiprocessing.__path__, "multiprocessing.")
        if "win32" not in module.name
    ],
)
def test_every_submodule_is_there_with_every_name(name: str) -> None:
    theirs = importlib.import_module(f"multiprocessing.{name}")
    mine = importlib.import_module(f"shmkit.multiprocessing.{name}")
    assert [attribute for attribute in dir(theirs) if not hasattr(mine, attribute)] == []
    assert set(getattr(theirs, "__all__", ())) <= set(getattr(mine, "__all__", ()))
    if not any(entry.module == name for entry in REPLACED) and name not in ("context", "sharedctypes"):
        assert mine is theirs


def test_a_missing_name_says_so() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        ours.nonsense  # noqa: B018
    with pytest.raises(AttributeError, match="nonsense"):
        ours.synchronize.nonsense  # noqa: B018


@pytest.mark.parametrize("entry", REPLACED, ids=lambda entry: entry.name)
def test_a_replacement_is_a_subclass_under_the_same_name(entry: Any) -> None:
    """So isinstance() says yes to whoever asks about the standard library's; a function takes the same arguments."""
    theirs = getattr(importlib.import_module(entry.theirs), entry.name)
    mine = getattr(importlib.import_module(f"shmkit.multiprocessing.{entry.module}"), entry.name)
    if not isinstance(theirs, type):
        assert [*inspect.signature(mine).parameters] == [*inspect.signature(theirs).parameters]
        return
    assert issubclass(mine, theirs)
    assert mine is not theirs
    assert mine.__name__ == theirs.__name__


@pytest.mark.parametrize("method", METHODS)
def test_contexts_make_ours_and_are_contexts(method: str) -> None:
    context = ours.get_context(method)
    assert isinstance(context, BaseContext)
    assert context.get_start_method() == method
    assert context.get_context() is context
    assert context.Process is multiprocessing.get_context(method).Process
    for kind in KINDS:
        assert type(make(context, kind)).__module__ == "shmkit.multiprocessing.synchronize"


def test_the_start_method_is_one_for_both(start_method_restored: None) -> None:
    for method in METHODS:
        ours.set_start_method(method, force=True)
        assert multiprocessing.get_start_method() == method
        assert type(multiprocessing.get_context()).__module__ == "multiprocessing.context"
    for method in METHODS:
        multiprocessing.set_start_method(method, force=True)
        assert ours.get_start_method() == method
        assert ours.get_context() is ours.get_context(method)
    with pytest.raises(RuntimeError, match="already been set"):
        ours.set_start_method("spawn")
    with pytest.raises(ValueError, match="cannot find context"):
        ours.get_context("telepathy")


def test_a_context_that_somebody_adds_is_found(start_method_restored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As joblib does when it is imported: it is not shmkit's, and stays what it is."""

    class Added(multiprocessing.context.BaseContext):
        _name = "added"

    added = Added()
    monkeypatch.setitem(multiprocessing.context._concrete_contexts, "added", added)
    assert ours.get_context("added") is added
    ours.set_start_method("added", force=True)
    assert ours.get_context() is added
    assert multiprocessing.get_start_method() == "added"


@pytest.mark.parametrize("kind", KINDS)
def test_pickled_only_for_a_child(kind: str) -> None:
    with pytest.raises(RuntimeError, match="inheritance"):
        pickle.dumps(make(ours.get_context("spawn"), kind))


def meet(lock: Any, condition: Any, event: Any, barrier: Any, semaphore: Any) -> None:
    with lock:
        barrier.wait(30)
    with condition:
        condition.notify()
    assert event.wait(30)
    semaphore.release()


def test_children_of_every_start_method(start_method: BaseContext, process: Processes) -> None:
    """Locks, conditions, events, barriers and semaphores reach them."""
    context = ours.get_context(start_method.get_start_method())
    tools = [context.Lock(), context.Condition(), context.Event(), context.Barrier(2), context.Semaphore(0)]
    child = process(meet, *tools, context=context)
    lock, condition, event, barrier, semaphore = tools
    with condition:
        barrier.wait(30)
        assert condition.wait(30)
    with lock:
        event.set()
    assert semaphore.acquire(timeout=30)
    child.join(30)
    assert child.exitcode == 0


@pytest.mark.parametrize("kind", ["Lock", "Condition", "Event", "Queue", "JoinableQueue", "SimpleQueue"])
def test_what_was_made_for_forks_is_not_sent_to_others(kind: str) -> None:
    made = getattr(ours.get_context("fork"), kind)()
    child = ours.get_context("spawn").Process(target=print, args=(made,))
    with pytest.raises(RuntimeError, match="created in a fork"):
        child.start()


def test_a_condition_on_a_lock_of_the_standard_library() -> None:
    """It then works as theirs does."""
    condition = ours.Condition(multiprocessing.Lock())
    with condition:
        assert condition.wait(0.001) is False
        condition.notify_all()
    with pytest.raises(AssertionError):
        condition.notify()


def test_conditions_show_who_sleeps() -> None:
    condition = ours.Condition()
    assert [condition._sleeping_count.get_value(), condition._woken_count.get_value()] == [0, 0]
    assert condition._wait_semaphore.get_value() == 0
    assert repr(condition) == "<Condition(<RLock(None, 0)>, 0)>"


def test_import_leaves_the_standard_library_alone() -> None:
    code = (
        "import multiprocessing.synchronize as s, sys; before = s.Lock.__init__, list(sys.meta_path)\n"
        "import shmkit.multiprocessing.synchronize\n"
        "assert (s.Lock.__init__, sys.meta_path) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
