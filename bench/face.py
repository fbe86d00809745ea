"""Everything that the drop-in offers beside the standard library's, operation by operation: ``python bench/face.py``.

Both are timed in turns, in one process on the same machine, and the median of the ratios is printed: more than 1 says
that the drop-in is faster.  Nothing is to be below 0.95.  Words choose: ``python bench/face.py Lock Queue``.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.shared_memory
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from statistics import median
from typing import Any

import shmkit.multiprocessing
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


def nothing() -> None:
    pass


def set_(place: Any, index: Any, value: Any) -> Callable[[], None]:
    return lambda: place.__setitem__(index, value)


def operations(package: Any, kept: ExitStack) -> Iterator[tuple[str, int, Operation]]:
    """Name, how many times, and the operation."""
    context = package.get_context("fork")
    for name in ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"):
        lock = getattr(context, name)()
        yield f"{name}: acquire, release", 5000, times(lock.acquire, lock.release)
        yield f"{name}: with", 5000, with_(lock)
        yield f"{name}: made", 100, times(getattr(context, name))
    event, barrier = context.Event(), context.Barrier(1)
    yield "Event: set, is_set, clear", 3000, times(event.set, event.is_set, event.clear)
    yield "Barrier of one: wait", 1000, times(barrier.wait)
    first, second, stop = context.Semaphore(0), context.Semaphore(0), context.Event()
    other = context.Process(target=hand_over, args=(first, second, stop), daemon=True)
    other.start()
    kept.callback(other.join)
    kept.callback(stop.set)
    yield "Semaphore: handed over and back", 300, times(first.release, second.acquire)
    value, array = context.Value("i", 0), context.Array("d", 100)
    yield "Value: get", 3000, times(lambda: value.value)
    yield "Value: set", 3000, times(lambda: setattr(value, "value", 1))
    yield "Value: get_lock", 3000, with_(value.get_lock())
    yield "Array: get, set", 3000, times(lambda: array[3], set_(array, 3, 1.0))
    for name in ("Queue", "JoinableQueue", "SimpleQueue"):
        queue = getattr(context, name)()
        yield f"{name}: put, get", 500, times(lambda queue=queue: queue.put(1), queue.get)
        come, go = getattr(context, name)(), getattr(context, name)()
        echo = context.Process(target=answer, args=(come, go), daemon=True)
        echo.start()
        kept.callback(echo.join)
        kept.callback(come.put, None)
        yield f"{name}: to another process and back", 300, times(lambda come=come: come.put(1), go.get)
    pool = kept.enter_context(context.Pool(2))
    yield "Pool: apply", 100, times(lambda: pool.apply(abs, (1,)))
    yield "Pool: map of 100", 5, times(lambda: pool.map(abs, range(100)))
    yield "Pool: imap of 100", 5, times(lambda: list(pool.imap(abs, range(100))))
    for method, count in (("fork", 5), ("forkserver", 2), ("spawn", 1)):
        made = package.get_context(method)

        def child(made: Any = made) -> None:
            process = made.Process(target=nothing)
            process.start()
            process.join()

        yield f"Process, {method}: start, join", count, times(child)
    manager = kept.enter_context(context.Manager())
    shared, lock = manager.dict(), manager.Lock()
    queue = manager.Queue()
    yield "Manager: dict set, get", 100, times(set_(shared, 1, 2), lambda: shared[1])
    yield "Manager: Lock", 100, with_(lock)
    yield "Manager: Queue put, get", 100, times(lambda: queue.put(1), queue.get)
    memory = package.shared_memory

    def make() -> None:
        block = memory.SharedMemory(create=True, size=100_000)
        block.close()
        block.unlink()

    yield "SharedMemory: create, unlink", 50, times(make)
    block = memory.SharedMemory(create=True, size=100_000)
    kept.callback(block.unlink)
    kept.callback(block.close)
    yield "SharedMemory: attach, close", 50, times(lambda: memory.SharedMemory(block.name).close())
    numbers = memory.ShareableList([1, 2.0, "three"])
    kept.callback(numbers.shm.unlink)
    kept.callback(numbers.shm.close)
    yield "ShareableList: get", 1000, times(lambda: numbers[2])
    yield "ShareableList: set", 1000, times(set_(numbers, 0, 5))


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
