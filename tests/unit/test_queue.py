"""Queues: what is put is got, in order, once; the words and answers are the standard library's."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import queue as stdlib_queue
import threading
import time
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import pytest

import shmkit
from support import Processes, wait_until

from . import queue_children


@pytest.fixture(params=[shmkit.Queue, shmkit.JoinableQueue, shmkit.SimpleQueue])
def kind(request: pytest.FixtureRequest) -> type[shmkit.Queue]:
    made: type[shmkit.Queue] = request.param
    return made


# ------------------------------------------------------------------------------------------------------- in, and out


def test_items_come_out_in_order(kind: type[shmkit.Queue]) -> None:
    """First in, first out, whatever they are."""
    queue = kind()
    items: list[object] = [1, "two", b"three", None, 4.5, ("a", 1), [1, 2], {"k": "v"}, b"x" * 5000, "y" * 70_000]
    for item in items:
        queue.put(item)
    assert [queue.get() for _ in items] == items
    assert queue.empty()


def test_an_array_is_the_receivers_own() -> None:
    """It can be written to, outlives the queue, and is not the array that was put."""
    queue = shmkit.Queue()
    sent = np.arange(100_000.0)
    queue.put(sent)
    got = queue.get()
    queue.close()
    del queue
    sent[:] = 0
    assert got.flags.writeable
    assert (got == np.arange(100_000.0)).all()
    got[:] = 1


def test_many_more_than_a_ring_has_cells() -> None:
    """An unbounded queue grows; nothing waits, nothing is lost, the order stays."""
    queue = shmkit.Queue()
    for number in range(20_000):
        queue.put(number)
    assert queue.qsize() == 20_000
    assert [queue.get() for _ in range(20_000)] == list(range(20_000))
    for number in range(500):
        queue.put(number)
        assert queue.get() == number


def test_batches() -> None:
    """put_many and get_many: all of it, in order; get_many takes what is there, and at least one."""
    queue = shmkit.Queue()
    queue.put_many(range(10))
    queue.put_many(str(number) for number in range(3))
    assert queue.get_many(max_messages_to_get=4) == [0, 1, 2, 3]
    assert queue.get_many() == [4, 5, 6, 7, 8, 9, "0", "1", "2"]
    with pytest.raises(shmkit.Empty):
        queue.get_many(block=False)
    with pytest.raises(shmkit.Empty):
        queue.get_many(timeout=0.01)


def test_a_batch_that_does_not_fit() -> None:
    """Full says how many were put."""
    queue = shmkit.Queue(3)
    with pytest.raises(shmkit.Full) as trouble:
        queue.put_many(range(5), block=False)
    assert trouble.value.sent == 3  # type: ignore[attr-defined]
    assert queue.get_many() == [0, 1, 2]


# ------------------------------------------------------------------------------------------------------ full and empty


@pytest.mark.parametrize("maxsize", [1, 2, 3, 64, 100])
def test_maxsize_is_exact(maxsize: int) -> None:
    """So many items, no more and no less, lap after lap."""
    queue = shmkit.Queue(maxsize)
    for _ in range(5):
        for number in range(maxsize):
            assert not queue.full()
            queue.put(number, block=False)
        assert queue.full()
        assert queue.qsize() == maxsize
        for impatient in ({"block": False}, {"timeout": 0.001}, {"timeout": -1}, {"timeout": 0}):
            with pytest.raises(shmkit.Full):
                queue.put("more", **impatient)  # type: ignore[arg-type]
        with pytest.raises(stdlib_queue.Full):
            queue.put_nowait(np.zeros(10_000))
        assert [queue.get_nowait() for _ in range(maxsize)] == list(range(maxsize))
        assert queue.empty()


def test_empty() -> None:
    """Nothing there: Empty, at once or after the time-out."""
    queue = shmkit.Queue()
    for impatient in ({"block": False}, {"timeout": 0.001}, {"timeout": -1}, {"timeout": 0}):
        with pytest.raises(stdlib_queue.Empty):
            queue.get(**impatient)  # type: ignore[arg-type]
    with pytest.raises(shmkit.Empty):
        queue.get_nowait()


@pytest.mark.parametrize("timeout", ["1", [], float("nan")])
def test_bad_time_outs(timeout: object) -> None:
    """A time-out is a number of seconds."""
    queue = shmkit.Queue(1)
    with pytest.raises((TypeError, ValueError)):
        queue.get(True, timeout)  # type: ignore[arg-type]
    queue.put(1)
    with pytest.raises((TypeError, ValueError)):
        queue.put(1, True, timeout)  # type: ignore[arg-type]


def test_what_a_full_queue_does() -> None:
    """raise, drop_oldest, drop_newest; what is dropped is counted."""
    queue = shmkit.Queue(2, backpressure="raise")
    queue.put(1)
    queue.put(2)
    with pytest.raises(shmkit.Full):
        queue.put(3)
    oldest = shmkit.Queue(2, backpressure="drop_oldest")
    newest = shmkit.Queue(2, backpressure="drop_newest")
    for number in range(5):
        oldest.put(np.full(1000, number))
        newest.put(np.full(1000, number))
    assert [int(array[0]) for array in oldest.get_many()] == [3, 4]
    assert [int(array[0]) for array in newest.get_many()] == [0, 1]
    assert oldest.statistics()["dropped"] == newest.statistics()["dropped"] == 3
    with pytest.raises(ValueError, match="backpressure must be one of"):
        shmkit.Queue(2, backpressure="forget")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="never full"):
        shmkit.Queue(backpressure="raise")


def test_what_is_dropped_counts_as_done() -> None:
    """join does not wait for what nobody can get any more."""
    queue = shmkit.JoinableQueue(2, backpressure="drop_oldest")
    for number in range(6):
        queue.put(number)
    assert queue.get_many() == [4, 5]
    queue.task_done()
    queue.task_done()
    queue.join()
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()


def test_what_is_dropped_after_all_was_declared_done_is_not_counted_again() -> None:
    """Done is never more than was put: a drop does not stand for an item that comes later."""
    queue = shmkit.JoinableQueue(2, backpressure="drop_oldest")
    queue.put_many([0, 1])
    queue.task_done()
    queue.task_done()  # ahead: neither was got
    queue.join()
    queue.put(2)  # 0 is dropped
    assert not queue._join(0), "2 was not declared done"
    assert queue.get_many() == [1, 2]
    queue.task_done()
    queue.join()
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()


def test_what_is_dropped_is_given_back_once() -> None:
    """Blocks of dropped items are free, and others stay theirs: by a large put, and by one that hands a block on."""
    source, queue = shmkit.Queue(), shmkit.Queue(1, backpressure="drop_newest")
    queue.put(0)
    source.put(np.arange(5000))
    kept = source.get()
    for _ in range(5):
        queue.put(np.zeros(5000))
        source.put(np.ones(5000))
        queue.put(source.get())
    assert queue.statistics()["heap"]["blocks_queued"] == 0
    assert (kept == np.arange(5000)).all()
    held = queue.statistics()["heap"]["blocks_held"]
    del kept
    assert queue.statistics()["heap"]["blocks_held"] == held - 1


class ThatFailsToArrive:
    def __reduce__(self) -> tuple[object, ...]:
        return int, ("no number",)


def test_a_batch_loses_nothing_to_an_item_that_fails() -> None:
    """What came before it is returned, the next call says why, and the one after goes on."""
    queue = shmkit.Queue()
    queue.put_many([1, 2, ThatFailsToArrive(), 3])
    assert queue.get_many() == [1, 2]
    with pytest.raises(ValueError, match="invalid literal"):
        queue.get_many()
    assert queue.get_many() == [3]
    queue.put(ThatFailsToArrive())
    with pytest.raises(ValueError, match="invalid literal"):
        queue.get_many()
    with pytest.raises(shmkit.Empty):
        queue.get_many(block=False)


# ----------------------------------------------------------------------------------------------------------- mistakes


def test_what_cannot_be_pickled_raises_in_put() -> None:
    """In the caller; the queue stays as it was."""
    queue = shmkit.Queue(1)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        queue.put(lambda: None)
    assert queue.empty()
    queue.put(1)
    assert queue.get() == 1


def test_closed() -> None:
    """Neither put nor get, but closing again is fine."""
    queue = shmkit.Queue()
    queue.put(1)
    queue.close()
    queue.close()
    for call in (
        lambda: queue.put(1),
        queue.get,
        queue.qsize,
        queue.empty,
        lambda: queue.put_many([1]),
        queue.get_many,
    ):
        with pytest.raises(ValueError, match="is closed"):
            call()
    assert "closed" in repr(queue)
    queue.join_thread()


def test_pickling_outside_of_starting_a_process() -> None:
    """As in the standard library: RuntimeError, with its words."""
    with pytest.raises(RuntimeError, match="should only be shared between processes through inheritance"):
        pickle.dumps(shmkit.Queue())


def test_init_twice() -> None:
    queue = shmkit.Queue()
    with pytest.raises(TypeError, match="called again"):
        queue.__init__()  # type: ignore[misc]
    with pytest.raises(TypeError, match="was not called"):
        shmkit.Queue.__new__(shmkit.Queue).get()


# ------------------------------------------------------------------------------------------------------------ the end


def test_shutdown() -> None:
    """put raises ShutDown at once, get when nothing is left; with immediate nothing is."""
    queue = shmkit.Queue()
    queue.put(1)
    queue.shutdown()
    with pytest.raises(shmkit.ShutDown):
        queue.put(2)
    with pytest.raises(shmkit.ShutDown):
        queue.put(np.zeros(10_000))
    assert queue.get() == 1
    with pytest.raises(shmkit.ShutDown):
        queue.get()
    other = shmkit.JoinableQueue()
    other.put(np.zeros(10_000))
    other.shutdown(immediate=True)
    other.join()
    with pytest.raises(shmkit.ShutDown):
        other.get(block=False)


@pytest.mark.parametrize("what", ["get", "put", "join"])
def test_shutdown_wakes_who_waits(what: str) -> None:
    queue = shmkit.JoinableQueue(1)
    raised: list[BaseException] = []
    if what != "get":
        queue.put(0)

    def wait() -> None:
        try:
            queue.get() if what == "get" else queue.put(1) if what == "put" else queue.join()
        except shmkit.ShutDown as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    queue.shutdown(immediate=True)
    thread.join(30)
    assert not thread.is_alive()
    assert len(raised) == (what != "join")


def test_shutdown_of_a_full_queue() -> None:
    """What is in it can be got, and whoever waits for room is told at once that there will be none."""
    queue = shmkit.Queue(2)
    queue.put_many([0, 1])
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            queue.put(2)
        except shmkit.ShutDown as error:
            raised.append(error)

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    queue.shutdown()
    for thread in threads:
        thread.join(30)
    assert len(raised) == 2
    for block in (True, False):
        with pytest.raises(shmkit.ShutDown):
            queue.put(3, block)
    assert queue.get_many() == [0, 1]


def test_joining(start_method: BaseContext, process: Processes) -> None:
    """join returns when each item was declared done; one declaration too many is refused."""
    queue = shmkit.JoinableQueue()
    queue.put_many(range(10))
    process(queue_children.do_tasks, queue, 10, context=start_method)
    queue.join()
    assert queue.empty()
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()


# ----------------------------------------------------------------------------------------------------------- processes


def test_there_and_back(start_method: BaseContext, process: Processes) -> None:
    """Between parent and child, under every start method; arrays too."""
    requests, answers = shmkit.Queue(), shmkit.Queue()
    child = process(queue_children.echo, requests, answers, context=start_method)
    items: list[object] = [1, "x" * 100_000, {"a": (1, 2)}, b""]
    for item in items:
        requests.put(item)
        assert answers.get(timeout=60) == item
    requests.put(np.arange(50_000))
    assert (answers.get(timeout=60) == np.arange(50_000)).all()
    requests.put(None)
    child.join(60)
    assert child.exitcode == 0


def test_what_was_put_outlives_who_put_it(start_method: BaseContext, process: Processes) -> None:
    queue = shmkit.Queue()
    array = np.arange(30_000)
    child = process(queue_children.put_and_leave, queue, array, context=start_method)
    child.join(60)
    assert (queue.get(timeout=60) == array).all()


def test_a_forked_child_puts_nothing_again(process: Processes) -> None:
    """What the parent put before the fork is in the queue once."""
    queue = shmkit.Queue()
    queue.put_many(range(100))
    child = process(queue_children.put_all, queue, ["child"], context="fork")
    child.join(60)
    assert queue.get_many() == [*range(100), "child"]


def test_received_arrays_survive_a_fork(process: Processes) -> None:
    """A forked child has its parent's arrays, whatever the parent does with them meanwhile."""
    queue, answers, go = shmkit.Queue(), multiprocessing.SimpleQueue(), multiprocessing.Event()
    queue.put(np.full(200_000, 7.0))
    arrays = [queue.get()]

    def child() -> None:
        go.wait(60)
        answers.put(bool((arrays[0] == 7).all()))

    process(child, context="fork")
    arrays.clear()
    for _ in range(20):  # would be in the same memory, if it were free
        queue.put(np.zeros(200_000))
        queue.get()
    go.set()
    assert answers.get()
    answers.close()


def test_threads(process: Processes) -> None:
    """Several producers and consumers in one process: each item once, each producer's in order."""
    queue = shmkit.Queue(10)
    got: list[list[tuple[int, int]]] = [[], []]

    def produce(me: int) -> None:
        for number in range(2000):
            queue.put((me, number))

    def consume(me: int) -> None:
        while (item := queue.get()) is not None:
            got[me].append(item)

    producers = [threading.Thread(target=produce, args=(me,)) for me in range(3)]
    consumers = [threading.Thread(target=consume, args=(me,)) for me in range(2)]
    for thread in producers + consumers:
        thread.start()
    for thread in producers:
        thread.join()
    for _ in consumers:
        queue.put(None)
    for thread in consumers:
        thread.join()
    assert sorted(got[0] + got[1]) == [(me, number) for me in range(3) for number in range(2000)]
    for mine in got:
        for me in range(3):
            numbers = [number for who, number in mine if who == me]
            assert numbers == sorted(numbers)


# -------------------------------------------------------------------------------------------------------------- names


def test_a_system_v_segment_is_none_for_a_queue(name: str) -> None:
    """Refused before anything is made."""
    with pytest.raises(ValueError, match=f"queue '{name}'.*'sysv'"):
        shmkit.Queue.create(name, backing="sysv")
    with pytest.raises(shmkit.SegmentNotFound):
        shmkit.Queue.attach(name, backing="sysv")


def test_by_name(name: str, process: Processes) -> None:
    """Unrelated processes meet at a name; its memory has a limit of its own."""
    with_name = shmkit.Queue.create(name, maxsize=5, capacity="8 MiB")
    assert with_name.name == name
    with pytest.raises(shmkit.SegmentExists):
        shmkit.Queue.create(name)
    program = process.python(
        f"import shmkit; q = shmkit.Queue.attach({name!r}); q.put(('hello', 1)); print(q.statistics()['maxsize'])"
    )
    assert with_name.get(timeout=60) == ("hello", 1)
    output, _ = program.communicate(timeout=60)
    assert output.strip() == "5"
    again = pickle.loads(pickle.dumps(with_name))
    again.put(3)
    assert with_name.get() == 3
    with_name.unlink()
    with pytest.raises(shmkit.SegmentNotFound):
        shmkit.Queue.attach(name)
    with_name.put("still here")
    assert again.get() == "still here"


def test_a_name_of_something_else(name: str) -> None:
    segment = shmkit.Segment.create(name, 4096)
    with pytest.raises(shmkit.LayoutMismatch):
        shmkit.Queue.attach(name)
    segment.unlink()
    with pytest.raises(ValueError, match="no name"):
        shmkit.Queue().unlink()


# ------------------------------------------------------------------------------------------------------------- memory


def test_the_heap_is_exhausted(name: str) -> None:
    """HeapFull, at once where nobody else could free anything; nothing is lost, and it goes on when there is room."""
    queue = shmkit.Queue.create(name, capacity="4 MiB")
    try:
        sent = 0
        with pytest.raises(shmkit.HeapFull, match="its limit is 4 MiB"):
            while True:
                queue.put(np.full(100_000, sent, "f8"))
                sent += 1
        assert 3 <= sent <= 5
        queue.put("small")
        for number in range(sent):
            assert (queue.get() == number).all()
        assert queue.get() == "small"
        queue.put(np.zeros(100_000))
        with pytest.raises(shmkit.RecordTooLarge, match="the limit is 4 MiB"):
            queue.put(np.zeros(1_000_000))
    finally:
        queue.unlink()


def test_steady_traffic_uses_few_blocks() -> None:
    """Blocks are used again while they are warm: thousands of arrays through a queue of depth 8 use at most 16."""
    queue = shmkit.Queue(8)
    for _ in range(300):
        for _ in range(8):
            queue.put(np.zeros(131_072))
        for _ in range(8):
            queue.get()
    assert queue.statistics()["heap"]["resident"] <= 17 << 20


def test_a_receiver_that_keeps_everything() -> None:
    """Each array keeps its own memory; all of it comes back."""
    queue = shmkit.Queue()
    kept = []
    for number in range(2000):
        queue.put(np.full(2000, number))
        kept.append(queue.get())
    assert all((array == number).all() for number, array in enumerate(kept))
    before = queue.statistics()["heap"]["in_use"]
    kept.clear()
    assert queue.statistics()["heap"]["in_use"] < before / 10


def test_an_idle_heap_gives_its_memory_back() -> None:
    queue = shmkit.Queue()
    for _ in range(20):
        queue.put(np.zeros(1_000_000))
    queue.get_many()
    assert queue.statistics()["heap"]["resident"] > 100 << 20
    with pytest.raises(shmkit.Empty):
        queue.get(timeout=4)
    assert queue.statistics()["heap"]["resident"] < 1 << 20


def test_an_array_goes_on_without_a_copy() -> None:
    """What was received can be handed on: the receiver has the very memory, and the sender an empty array."""
    first, second = shmkit.Queue(), shmkit.Queue()
    first.put(np.arange(100_000.0))
    array = first.get()
    where = array.__array_interface__["data"][0]
    second.put(array, move=True)
    assert array.size == 0
    got = second.get()
    assert got.__array_interface__["data"][0] == where
    assert (got == np.arange(100_000.0)).all()
    first.put(second.get() if second.qsize() else got)  # a variable's value: copied
    assert (got == np.arange(100_000.0)).all()
    view = got[5:]
    second.put(got, move=True)  # has a view: copied
    assert (view == np.arange(5, 100_000.0)).all()


def test_statistics() -> None:
    queue = shmkit.Queue(7)
    queue.put(1)
    queue.put(2)
    queue.get()
    said = queue.statistics()
    assert (said["items"], said["put"], said["got"], said["dropped"], said["maxsize"]) == (1, 2, 1, 0, 7)


def memory_of(queue: shmkit.Queue) -> int:
    """The inode of what its heap lies in."""
    return os.fstat(queue.heap.segment.fd).st_ino


def uses(inode: int) -> list[str]:
    """Where this process still has it: mappings, and descriptors."""
    with open("/proc/self/maps") as maps:
        found = [line for line in maps if line.split(None, 5)[4] == str(inode)]
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing is gone
            if os.fstat(int(number)).st_ino == inode:
                found.append(os.readlink(f"/proc/self/fd/{number}"))
    return found


@pytest.mark.parametrize("last", ["queue", "array", "slice", "block"])
def test_the_last_one_out_leaves_nothing(last: str) -> None:
    """With the last queue, array or block of a process its heap goes: no mapping and no descriptor is left."""
    queue: shmkit.Queue | None = shmkit.Queue()
    assert queue is not None
    inode = memory_of(queue)
    queue.put(np.arange(10_000.0))
    array = queue.get()
    kept: dict[str, object] = {
        "queue": queue,
        "array": array,
        "slice": array[100:110],
        "block": queue.heap.allocate(10),
    }
    assert uses(inode)
    del queue
    kept = {last: kept[last]}
    if last != "array":
        del array
    assert uses(inode), f"the {last} has it"
    if last == "array":
        assert (array == np.arange(10_000.0)).all()
        del array
    elif last == "slice":
        assert list(kept[last]) == list(range(100, 110))  # type: ignore[call-overload]
    kept.clear()
    gc.collect()
    assert not uses(inode)


@pytest.mark.parametrize("how", ["ends", "is killed", "unlinked"])
def test_the_last_one_out_takes_the_name(how: str, name: str, process: Processes) -> None:
    """Of a leased queue; that of another one goes when it is unlinked.  Whoever has an array of it is in."""
    queue = shmkit.Queue.create(name, capacity="4 MiB", lifetime=None if how == "unlinked" else "leased")
    inode, path = memory_of(queue), Path("/dev/shm", name)
    spawn = multiprocessing.get_context("spawn")  # a forked child would have this process's queue as well
    come, go = spawn.SimpleQueue(), spawn.Event()
    child = process(queue_children.keep_one, name, come, go, context=spawn)
    queue.put(np.arange(10_000.0))
    assert come.get() == 10_000
    come.close()
    assert path.stat().st_ino == inode
    if how == "unlinked":
        queue.unlink()
        assert not path.exists()
    queue.put("still here")
    assert queue.get(timeout=60) == "still here"
    queue.close()
    del queue
    gc.collect()
    assert not uses(inode), "this process has gone"
    if how != "unlinked":
        assert shmkit.collect() == []
        assert path.exists(), "the child is there"
    if how == "is killed":
        child.kill()
    else:
        go.set()
    child.join(60)
    if how == "is killed":
        assert str(path) in shmkit.collect()
    assert not path.exists()
    with pytest.raises(shmkit.SegmentNotFound):
        shmkit.Queue.attach(name)


def test_a_wait_ends_when_another_thread_closes() -> None:
    queue = shmkit.Queue()
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            queue.get()
        except ValueError as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0)
    queue.close()
    thread.join(30)
    assert not thread.is_alive()
    assert raised
    wait_until(lambda: not thread.is_alive())
