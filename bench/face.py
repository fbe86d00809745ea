"""Everything that the drop-in offers beside the standard library's, operation by operation: ``python bench/face.py``.

Both are timed in turns, in one process on the same machine, and the median of the ratios is printed: more than 1 says
that the drop-in is faster.  Nothing is to be below 0.95.  Words choose: ``python bench/face.py Lock Queue``.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import multiprocessing.reduction
import multiprocessing.shared_memory
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from operator import add
from statistics import median
from typing import Any

import shmkit.multiprocessing
import shmkit.multiprocessing.connection
import shmkit.multiprocessing.reduction
import shmkit.multiprocessing.shared_memory

ROUNDS = 9
Operation = Callable[[int], None]


def times(*steps: Callable[[], Any]) -> Operation:
    def run(count: int) -> None:
        for _ in range(count):
            for step in steps:
                step()

    return run


def with_(lock: Any) -> Operation:
    def run(count: int) -> None:
        for _ in range(count):
            with lock:
                pass

    return run


def answer(come: Any, go: Any) -> None:
    while come.get() is not None:
        go.put(1)


def hand_over(first: Any, second: Any, stop: Any) -> None:
    while not stop.is_set():
        if first.acquire(timeout=0.1):
            second.release()


def echo(end: Any) -> None:
    while (message := end.recv()) is not None:
        end.send(message)


def set_in_turn(asked: Any, answered: Any, stop: Any) -> None:
    while not stop.is_set():
        if asked.wait(0.1):
            asked.clear()
            answered.set()


def notify_in_turn(condition: Any, turn: Any, stop: Any) -> None:
    while not stop.is_set():
        with condition:
            if condition.wait_for(lambda: turn.value == 1, 0.1):
                turn.value = 0
                condition.notify()


def meet(barrier: Any) -> None:
    try:
        while True:
            barrier.wait()
    except threading.BrokenBarrierError:
        pass


def nothing(*_: Any) -> None:
    pass


def set_(place: Any, index: Any, value: Any) -> Callable[[], None]:
    return lambda: place.__setitem__(index, value)


Rows = Iterator[tuple[str, int, Operation]]


def started(context: Any, kept: ExitStack, target: Any, *args: Any) -> None:
    other = context.Process(target=target, args=args, daemon=True)
    other.start()
    kept.callback(other.join)


def primitives(context: Any, kept: ExitStack) -> Rows:
    for name in ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"):
        lock = getattr(context, name)()
        yield f"{name}: acquire, release", 5000, times(lock.acquire, lock.release)
        yield f"{name}: with", 5000, with_(lock)
        yield f"{name}: made", 100, times(getattr(context, name))
    again = context.RLock()
    kept.enter_context(again)
    yield "RLock: acquire, release, held already", 5000, times(again.acquire, again.release)
    event, barrier, condition = context.Event(), context.Barrier(1), context.Condition()
    yield "Event: set, is_set, clear", 3000, times(event.set, event.is_set, event.clear)
    yield "Event, Barrier: made", 100, times(context.Event, lambda: context.Barrier(2))
    yield "Barrier of one: wait", 1000, times(barrier.wait)

    def notify() -> None:
        with condition:
            condition.notify()
            condition.notify_all()

    yield "Condition: notify, nobody waits", 1000, times(notify)


def between(context: Any, kept: ExitStack) -> Rows:
    """Primitives that another process waits for."""
    stop = context.Event()
    first, second = context.Semaphore(0), context.Semaphore(0)
    started(context, kept, hand_over, first, second, stop)
    kept.callback(stop.set)
    yield "Semaphore: handed over and back", 300, times(first.release, second.acquire)
    asked, answered = context.Event(), context.Event()
    started(context, kept, set_in_turn, asked, answered, stop)
    kept.callback(stop.set)
    yield "Event: set, and back", 300, times(asked.set, answered.wait, answered.clear)
    condition, turn = context.Condition(), context.RawValue("i", 0)
    started(context, kept, notify_in_turn, condition, turn, stop)
    kept.callback(stop.set)

    def notified() -> None:
        with condition:
            turn.value = 1
            condition.notify()
            condition.wait_for(lambda: turn.value == 0)

    yield "Condition: notified, and back", 200, times(notified)
    barrier = context.Barrier(2)
    started(context, kept, meet, barrier)
    kept.callback(barrier.abort)
    yield "Barrier of two: wait", 200, times(barrier.wait)


def values(context: Any) -> Rows:
    value, array = context.Value("i", 0), context.Array("d", 100)

    def count() -> None:
        with value.get_lock():
            value.value += 1

    yield "Value: get", 3000, times(lambda: value.value)
    yield "Value: set", 3000, times(lambda: setattr(value, "value", 1))
    yield "Value: get_lock", 3000, with_(value.get_lock())
    yield "Value: counted with its lock", 3000, times(count)
    yield "Value: made", 100, times(lambda: context.Value("i", 0))
    yield "RawValue: made", 100, times(lambda: context.RawValue("i", 0))
    yield "Array: get, set", 3000, times(lambda: array[3], set_(array, 3, 1.0))
    yield "Array: slices", 1000, times(lambda: array[:50], set_(array, slice(2), [1.0, 2.0]))
    yield "Array: made", 100, times(lambda: context.Array("d", 100))


def queues(context: Any, kept: ExitStack) -> Rows:
    for name in ("Queue", "JoinableQueue", "SimpleQueue"):
        queue = getattr(context, name)()
        yield f"{name}: put, get", 500, times(lambda queue=queue: queue.put(1), queue.get)
        yield f"{name}: empty", 1000, times(queue.empty)
        come, go = getattr(context, name)(), getattr(context, name)()
        started(context, kept, answer, come, go)
        kept.callback(come.put, None)
        yield f"{name}: to another process and back", 300, times(lambda come=come: come.put(1), go.get)
        yield f"{name}: made", 20, times(getattr(context, name))


def connections(package: Any, context: Any, kept: ExitStack) -> Rows:
    wait = package.connection.wait
    for duplex in (False, True):
        receiver, sender = context.Pipe(duplex)
        kept.enter_context(receiver), kept.enter_context(sender)
        which = "two ways" if duplex else "one way"
        yield f"Pipe, {which}: send, recv", 500, times(lambda sender=sender: sender.send(1), receiver.recv)
        yield (
            f"Pipe, {which}: bytes", 500,
            times(lambda sender=sender: sender.send_bytes(b"1" * 100), receiver.recv_bytes)
        )  # fmt: skip
        yield f"Pipe, {which}: poll", 500, times(receiver.poll)
        yield f"Pipe, {which}: wait, nothing there", 300, times(lambda receiver=receiver: wait([receiver], 0))
        yield f"Pipe, {which}: made, closed", 50, times(lambda duplex=duplex: [e.close() for e in context.Pipe(duplex)])
    here, there = context.Pipe()
    started(context, kept, echo, there)
    kept.callback(here.send, None)
    yield "Pipe, two ways: to another process and back", 300, times(lambda: here.send(1), here.recv)
    yield (
        "Pipe, two ways: to another process and back, waited for", 300,
        times(lambda: here.send(1), lambda: wait([here]), here.recv)
    )  # fmt: skip
    listener = kept.enter_context(package.connection.Listener(family="AF_UNIX"))

    def connect() -> None:
        with package.connection.Client(listener.address), listener.accept():
            pass

    yield "Listener, Client: connected", 50, times(connect)
    item = ("text", 1, [1.0] * 10)
    dumps = package.reduction.ForkingPickler.dumps
    yield "reduction: dumps", 1000, times(lambda: dumps(item))


def pools(context: Any, kept: ExitStack) -> Rows:
    pool = kept.enter_context(context.Pool(2))
    pairs = [(number, 1) for number in range(100)]
    yield "Pool: apply", 100, times(lambda: pool.apply(abs, (1,)))
    yield "Pool: apply_async of 100", 5, times(lambda: [r.get() for r in [pool.apply_async(abs, (1,)) for _ in pairs]])
    yield "Pool: map of 100", 5, times(lambda: pool.map(abs, range(100)))
    yield "Pool: map of 100, chunks of one", 5, times(lambda: pool.map(abs, range(100), 1))
    yield "Pool: starmap of 100", 5, times(lambda: pool.starmap(add, pairs))
    yield "Pool: imap of 100", 5, times(lambda: list(pool.imap(abs, range(100))))
    yield "Pool: imap_unordered of 100", 5, times(lambda: list(pool.imap_unordered(abs, range(100))))
    yield "Pool: imap of 100, chunks of ten", 5, times(lambda: list(pool.imap(abs, range(100), 10)))

    def whole() -> None:
        with context.Pool(2) as made:
            made.map(abs, range(10))
            made.close()
            made.join()

    yield "Pool: started, ended", 2, times(whole)


def processes(package: Any) -> Rows:
    for method, count in (("fork", 5), ("forkserver", 2), ("spawn", 1)):
        made = package.get_context(method)

        def child(made: Any = made) -> None:
            process = made.Process(target=nothing)
            process.start()
            process.join()

        yield f"Process, {method}: start, join", count, times(child)


def managers(context: Any, kept: ExitStack) -> Rows:
    manager = kept.enter_context(context.Manager())
    shared, lock, event, queue = manager.dict(), manager.Lock(), manager.Event(), manager.Queue()
    value, numbers, space = manager.Value("i", 0), manager.list(range(10)), manager.Namespace()
    yield "Manager: dict set, get", 100, times(set_(shared, 1, 2), lambda: shared[1])
    yield "Manager: list get, slice", 100, times(lambda: numbers[3], lambda: numbers[:])
    yield "Manager: Value get, set", 100, times(lambda: setattr(value, "value", value.value))
    yield "Manager: Namespace get, set", 100, times(lambda: setattr(space, "x", 1), lambda: space.x)
    yield "Manager: Lock", 100, with_(lock)
    yield "Manager: Event set, clear", 100, times(event.set, event.clear)
    yield "Manager: Queue put, get", 100, times(lambda: queue.put(1), queue.get)
    yield "Manager: dict made", 20, times(manager.dict)


def memory(package: Any, kept: ExitStack) -> Rows:
    module = package.shared_memory
    for size, what in ((100, "100 bytes"), (4096, "a page"), (100_000, "100 kB")):
        zeros = bytes(size)

        def make(size: int = size) -> None:
            block = module.SharedMemory(create=True, size=size)
            block.close()
            block.unlink()

        def fill(size: int = size, zeros: bytes = zeros) -> None:
            block = module.SharedMemory(create=True, size=size)
            block.buf[:size] = zeros
            block.close()
            block.unlink()

        yield f"SharedMemory, {what}: create, unlink", 100, times(make)
        yield f"SharedMemory, {what}: create, fill, unlink", 100, times(fill)
    block = module.SharedMemory(create=True, size=100_000)
    kept.callback(block.unlink)
    kept.callback(block.close)
    yield "SharedMemory: attach, close", 100, times(lambda: module.SharedMemory(block.name).close())

    def make_list() -> None:
        made = module.ShareableList([1, 2.0, "three", b"four", None])
        made.shm.close()
        made.shm.unlink()

    yield "ShareableList: create, unlink", 100, times(make_list)
    numbers = module.ShareableList([1, 2.0, "three", b"four", None])
    kept.callback(numbers.shm.unlink)
    kept.callback(numbers.shm.close)

    def attach_list() -> None:
        found = module.ShareableList(name=numbers.shm.name)
        found.shm.close()

    yield "ShareableList: attach, close", 100, times(attach_list)
    yield "ShareableList: get", 1000, times(lambda: numbers[2])
    yield "ShareableList: set", 1000, times(set_(numbers, 0, 5))
    yield "ShareableList: all of it", 300, times(lambda: list(numbers))


def operations(package: Any, kept: ExitStack) -> Rows:
    """Name, how many times, and the operation."""
    context = package.get_context("fork")
    yield from primitives(context, kept)
    yield from between(context, kept)
    yield from values(context)
    yield from queues(context, kept)
    yield from connections(package, context, kept)
    yield from pools(context, kept)
    yield from processes(package)
    yield from managers(context, kept)
    yield from memory(package, kept)


def timed(operation: Operation, count: int) -> float:
    begun = time.perf_counter()
    operation(count)
    return (time.perf_counter() - begun) / count * 1e6


def main(words: list[str]) -> None:
    print("| operation | the standard library's, µs | the drop-in's, µs | times as fast |\n|---|---:|---:|---:|")
    with ExitStack() as kept:
        both = zip(
            operations(multiprocessing, kept), operations(shmkit.multiprocessing, kept), strict=True
        )  # each is made beside the other
        for (name, count, theirs), (_, _, ours) in both:
            if words and not any(word in name for word in words):
                continue
            ours(1), theirs(1)
            pairs = [(timed(theirs, count), timed(ours, count)) for _ in range(ROUNDS)]
            slow, fast = median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)
            print(f"| {name} | {slow:.2f} | {fast:.2f} | {median(a / b for a, b in pairs):.2f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
