"""Signals in every wait of the drop-in: a handler that returns lets it go on, and SIGINT comes out of it."""

from __future__ import annotations

import pytest

from faults.test_drop_in_environment import FACES, run

# A timer's signals, whose first two handlers return; the third is interrupted by SIGINT.
PROGRAM = """
import multiprocessing, signal
handled = []
def handle(number, frame):
    handled.append(number)
    if len(handled) == 3:
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGALRM, handle)
signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupted(name, wait):
    handled.clear()
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        found = wait()
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError(f"{name} ended with {found!r}")
    assert len(handled) == 3, name

def held(kind):
    one = getattr(mp, kind)()
    thread = threading.Thread(target=one.acquire)
    thread.start()
    thread.join()
    return one

def in_condition(wait):
    condition = mp.Condition()
    with condition:
        interrupted("Condition", lambda: getattr(condition, wait[0])(*wait[1:]))
        assert condition._lock._semlock._is_mine()  # it is held again, whatever came out
        condition.notify()
"""

LOCKS = """
for kind in ("Lock", "RLock", "Semaphore", "BoundedSemaphore"):
    one = held(kind)
    interrupted(kind, one.acquire)
    interrupted(kind, one.__enter__)
    assert not one.acquire(False)
for wait in (("wait",), ("wait", 60), ("wait_for", bool)): in_condition(wait)
event, barrier = mp.Event(), mp.Barrier(2)
interrupted("Event", event.wait)
interrupted("Event", lambda: event.wait(60))
interrupted("Barrier", barrier.wait)
print("fine")
"""

TRAFFIC = """
from multiprocessing.connection import wait
empty, full, joined, simple = mp.Queue(), mp.Queue(1), mp.JoinableQueue(), mp.SimpleQueue()
full.put(1)
joined.put(1)
for name, call in (
    ("get", empty.get), ("get", lambda: empty.get(timeout=60)), ("put", lambda: full.put(2)),
    ("put", lambda: full.put(2, timeout=60)), ("join", joined.join), ("simple get", simple.get),
): interrupted(name, call)
empty.put(3), simple.put(4)
assert (empty.get(), full.get(), joined.get(), simple.get()) == (3, 1, 1, 4)  # nothing was lost or added
for receiver, sender in (mp.Pipe(), mp.Pipe(False)):
    for name, call in (
        ("recv", receiver.recv), ("recv_bytes", receiver.recv_bytes), ("poll", lambda: receiver.poll(None)),
        ("poll", lambda: receiver.poll(60)), ("wait", lambda: wait([receiver])), ("wait", lambda: wait([receiver], 60)),
    ): interrupted(name, call)
    sender.send("still there")
    assert receiver.recv() == "still there"
    def fill():
        while True: sender.send_bytes(b"x" * 5000)
    interrupted("send_bytes", fill)
print("fine")
"""

WORKERS = """
context = multiprocessing.get_context("fork") if mp is multiprocessing else mp.get_context("fork")
gate = context.Event()
def blocked(number):
    gate.wait(60)
    return number
with context.Pool(1) as pool:
    one, several, iterator = pool.apply_async(blocked, (1,)), pool.map_async(blocked, [1, 2]), pool.imap(blocked, [3])
    for name, call in (
        ("get", one.get), ("get", lambda: several.get(60)), ("wait", several.wait), ("next", iterator.next),
        ("next", lambda: iterator.next(60)),
    ): interrupted(name, call)
    process = context.Process(target=blocked, args=(1,))
    process.start()
    interrupted("join", process.join)
    gate.set()
    process.join()
    assert (one.get(60), several.get(60), iterator.next(60)) == (1, [1, 2], 3)
gate.clear()
with shmkit.Executor(1, multiprocessing.get_context("fork")) as executor:
    future = executor.submit(blocked, 5)
    interrupted("result", future.result)
    interrupted("map", lambda: list(executor.map(blocked, [6])))
    gate.set()
    assert future.result(60) == 5
print("fine")
"""


@pytest.mark.parametrize("what", [LOCKS, TRAFFIC, WORKERS], ids=["locks", "traffic", "workers"])
@pytest.mark.parametrize("face", FACES)
def test_signals_in_every_wait(face: str, what: str) -> None:
    run(face, "import shmkit\n" + PROGRAM + what)
