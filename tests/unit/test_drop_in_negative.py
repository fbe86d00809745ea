"""Time-outs below zero: those of the standard library that are none at all, here too."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# A process of its own: what the standard library's barriers stand in stays for as long as that lives.
PROGRAM = """
import queue, sys, threading
if sys.argv[1] == "drop-in":
    from shmkit import multiprocessing as mp
    from shmkit.multiprocessing.connection import wait
else:
    import multiprocessing as mp
    from multiprocessing.connection import wait
    if sys.argv[1] == "install":
        import shmkit
        shmkit.install()

def show(what, call):
    try:
        found = repr(call())
    except Exception as error:
        kinds = (queue.Full, queue.Empty, threading.BrokenBarrierError, mp.TimeoutError, AssertionError, ValueError)
        found = next(kind.__name__ for kind in kinds if isinstance(error, kind))
    print(what, found)

def blocked(number):
    gate.wait(60)

for timeout in (-1, -0.5, -1e9):
    for kind in ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"):
        one = getattr(mp, kind)()
        show(kind, lambda: one.acquire(timeout=timeout))
        if kind not in ("RLock", "Condition"): show(kind, lambda: one.acquire(True, timeout))
        else:
            thread = threading.Thread(target=show, args=(kind, lambda: one.acquire(True, timeout)))
            thread.start()
            thread.join()
    condition = mp.Condition()
    with condition:
        show("Condition.wait", lambda: condition.wait(timeout))
        show("Condition.wait_for", lambda: condition.wait_for(bool, timeout))
        show("Condition.wait_for", lambda: condition.wait_for(lambda: 7, timeout))
    event = mp.Event()
    show("Event.wait", lambda: event.wait(timeout))
    event.set()
    show("Event.wait", lambda: event.wait(timeout))
    barrier = mp.Barrier(2)
    show("Barrier.wait", lambda: barrier.wait(timeout))
    one = mp.Queue(1)
    show("Queue.get", lambda: one.get(timeout=timeout))
    show("Queue.put", lambda: one.put(1, timeout=timeout))
    show("Queue.put", lambda: one.put(2, timeout=timeout))
    one.get(timeout=60)
    receiver, sender = mp.Pipe()
    show("poll", lambda: receiver.poll(timeout))
    show("wait", lambda: wait([receiver], timeout))
    sender.send(1)
    show("poll", lambda: receiver.poll(timeout))
    show("wait", lambda: len(wait([receiver], timeout)))
context = mp.get_context("fork")
gate = context.Event()
with context.Pool(1) as pool, context.Manager() as manager:
    results = pool.apply_async(blocked, (1,)), pool.map_async(blocked, [1])
    iterators = pool.imap(blocked, [1]), pool.imap_unordered(blocked, [1])
    items = manager.Queue(1)
    for timeout in (-1, -0.5, -1e9):
        for result in results:
            show("get", lambda: result.get(timeout))
            show("wait", lambda: result.wait(timeout))
        for iterator in iterators: show("next", lambda: iterator.next(timeout))
        show("managed get", lambda: items.get(timeout=timeout))
    items.put(1)
    show("managed put", lambda: items.put(1, timeout=-1))
    gate.set()
process = context.Process(target=int)
process.start()
process.join()
show("join", lambda: process.join(-1))
"""


def shown(face: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, face],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=dict(os.environ),
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("face", ["drop-in", "install"])
def test_negative_time_outs(face: str) -> None:
    assert shown(face) == shown("stdlib")
