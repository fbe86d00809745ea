"""Libraries that have derived from the standard library's classes, and pickle them in ways of their own, go on."""

from __future__ import annotations

import copyreg
import io
import multiprocessing
import pickle
from collections.abc import Iterator
from multiprocessing import connection, queues, resource_sharer, synchronize
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest

import shmkit
import shmkit.multiprocessing as shmkit_multiprocessing
from support import Processes
from unit.test_run import python

JOBS = """
import sys
{first}
import joblib, numpy as np
{then}

def work(array):
    return float(array.sum())

if __name__ == "__main__":
    with joblib.parallel_config(backend=sys.argv[1], n_jobs=2):
        print(joblib.Parallel()(joblib.delayed(work)(np.full(size, 2.0)) for size in (1, 2, 300_000)))
    from joblib.externals.loky import get_reusable_executor
    print(list(get_reusable_executor(2).map(abs, [-1, 2, -3])))
    get_reusable_executor().shutdown()
"""
INSTALL = "import shmkit; shmkit.install()"


class Thorough(queues.Queue):  # type: ignore[type-arg]
    """Pickled by what the standard library's is made of, as loky's."""

    def __init__(self, *, ctx: Any) -> None:
        super().__init__(ctx=ctx)
        self.own = "own"

    def __getstate__(self) -> Any:
        return super().__getstate__(), self._rlock, self.own  # type: ignore[attr-defined]

    def __setstate__(self, state: Any) -> None:
        own, self._lock_too, self.own = state
        super().__setstate__(own)


class Modest(queues.Queue):  # type: ignore[type-arg]
    """Has other words, and nothing else."""

    def __init__(self, *, ctx: Any) -> None:
        super().__init__(ctx=ctx)

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(("modest", obj), block, timeout)


@pytest.fixture(autouse=True)
def _uninstalled() -> Iterator[None]:
    yield
    shmkit.uninstall()


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
@pytest.mark.parametrize(
    ("first", "then", "words"),
    [("", "", ["-m", "shmkit", "run"]), (INSTALL, "", []), ("", INSTALL, [])],
    ids=["run", "installed before", "installed after"],
)
def test_joblib(tmp_path: Path, backend: str, first: str, then: str, words: list[str]) -> None:
    program = tmp_path / "jobs.py"
    program.write_text(JOBS.format(first=first, then=then))
    done = python(*words, program, backend)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[2.0, 4.0, 600000.0]", "[1, 2, 3]"]


def _answer(given: Any, taken: Any) -> None:
    taken.put(given.get(timeout=30))
    taken.close()
    taken.join_thread()


@pytest.mark.parametrize("kind", [Thorough, Modest])
def test_a_derived_queue(start_method: BaseContext, process: Processes, kind: Any) -> None:
    """One that counts on a lock and a thread keeps them; one that does not is ours; both reach children."""
    shmkit.install()
    there, back = kind(ctx=start_method), kind(ctx=start_method)
    assert isinstance(there, kind)
    assert hasattr(there, "_queue") == (kind is Modest)
    child = start_method.Process(target=_answer, args=(there, back))
    child.start()
    there.put([1, "two"])
    found = back.get(timeout=30)
    child.join(30)
    assert child.exitcode == 0
    assert found == ([1, "two"] if kind is Thorough else ("modest", ("modest", [1, "two"])))
    for queue in (there, back):
        queue.close()
        queue.join_thread()


class Ringing(synchronize.Event):
    """Has words of its own, and something beside."""

    rings = 0

    def is_set(self) -> bool:
        return self.rings > 0 and super().is_set()

    def set(self) -> None:
        self.rings += 1
        super().set()

    def clear(self) -> None:
        self.rings = -1
        super().clear()

    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(timeout) and self.rings > 0


def _ring(event: Ringing, other: Ringing) -> None:
    assert event.wait(30)
    assert event.rings == 1  # it went along
    other.set()
    assert other.rings == 1


@pytest.mark.parametrize("installs", [False, True])
def test_a_derived_event(start_method: BaseContext, process: Processes, installs: bool) -> None:
    """Its own methods are called, and by them those of what it is derived from; what it has reaches children."""
    if installs:
        shmkit.install()
    event, other = Ringing(ctx=start_method), Ringing(ctx=start_method)
    assert hasattr(event, "_ours") == installs
    event.set()
    assert event.is_set()
    assert repr(event) in (object.__repr__(event), f"<Ringing at {id(event):#x} set>")
    child = start_method.Process(target=_ring, args=(event, other))
    child.start()
    assert not other.wait(30)  # nobody has rung here
    child.join(30)
    assert child.exitcode == 0
    other.rings = 1
    assert other.wait(0)
    event.clear()
    assert event.rings == -1
    event.rings = 1
    assert not event.is_set()


class QueueByName(queues.Queue):  # type: ignore[type-arg]
    def __init__(self, ctx: Any) -> None:
        queues.Queue.__init__(self, ctx=ctx)

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        queues.Queue.put(self, ("named", obj), block, timeout)


class JoinableByName(queues.JoinableQueue):  # type: ignore[type-arg]
    def __init__(self, ctx: Any) -> None:
        queues.JoinableQueue.__init__(self, ctx=ctx)

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        queues.JoinableQueue.put(self, ("named", obj), block, timeout)


class EventByName(synchronize.Event):
    def __init__(self, ctx: Any) -> None:
        synchronize.Event.__init__(self, ctx=ctx)

    def set(self) -> None:
        synchronize.Event.set(self)


_Base = synchronize.Condition


class ConditionByName(_Base):
    def __init__(self, ctx: Any) -> None:
        _Base.__init__(self, ctx=ctx)

    def wait(self, timeout: float | None = None) -> bool:
        return _Base.wait(self, timeout)


class OnlyItsInit(queues.Queue):  # type: ignore[type-arg]
    def __init__(self, ctx: Any) -> None:
        queues.Queue.__init__(self, ctx=ctx)

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(("named", obj), block, timeout)


def test_a_derived_class_that_calls_by_name_is_left(start_method: BaseContext) -> None:
    """`Queue.put(self, …)` goes to the standard library's, and so it is that; `super()` and `__init__` go anywhere."""
    shmkit.install()
    for kind in (QueueByName, JoinableByName, OnlyItsInit):
        queue: Any = kind(start_method)
        assert hasattr(queue, "_queue") == (kind is OnlyItsInit)
        queue.put(3)
        assert queue.get(timeout=30) == ("named", 3)
        queue.close()
        queue.join_thread()
    event = EventByName(start_method)
    event.set()
    assert event.wait(30)
    condition = ConditionByName(start_method)
    with condition:
        assert not condition.wait(0)
    assert not [made for made in (event, condition) if type(made).__mro__[2].__module__.startswith("shmkit")]


def test_the_usual_ones_are_ours() -> None:
    shmkit.install()
    for made in (multiprocessing.Queue(), multiprocessing.JoinableQueue(), multiprocessing.SimpleQueue()):
        assert type(made).__module__ == "shmkit.multiprocessing.queues"
        made.close()


class Exact(pickle.Pickler):
    """Knows the standard library's connections, by their class and no other."""

    dispatch_table = copyreg.dispatch_table.copy()
    dispatch_table[connection.Connection] = lambda conn: (str, ("of the standard library",))


@pytest.mark.parametrize("duplex", [False, True])
def test_any_pickler_hands_a_connection_on(duplex: bool) -> None:
    """As a ForkingPickler does."""
    reader, writer = shmkit_multiprocessing.Pipe(duplex)
    text = io.BytesIO()
    Exact(text).dump(writer)
    for other in (pickle.loads(text.getvalue()), pickle.loads(pickle.dumps(writer))):
        assert type(other) is type(writer)
        with other:
            other.send(("small", bytes(100_000)))
            assert reader.recv() == ("small", bytes(100_000))
    reader.close()
    writer.close()
    resource_sharer.stop(30)


def test_a_class_that_is_only_named_alike_is_left() -> None:
    """Whether something is counted on is asked of each class once, and answered of that class."""
    shmkit.install()
    again = type("Thorough", (queues.Queue,), {})
    queue = again(ctx=multiprocessing.get_context())
    assert hasattr(queue, "_queue")
    queue.close()
