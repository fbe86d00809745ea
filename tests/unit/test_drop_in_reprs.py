"""What everything in the drop-in looks like, in each state: as in the standard library, but for its module."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# A process of its own: what the standard library's values and barriers stand in stays for as long as that lives.
PROGRAM = r"""
import os, re, sys, threading
if sys.argv[1] == "drop-in":
    from shmkit import multiprocessing as mp
    from shmkit.multiprocessing import connection, managers, pool, shared_memory, sharedctypes
else:
    import multiprocessing as mp
    if sys.argv[1] == "install":
        import shmkit
        shmkit.install()
    from multiprocessing import connection, managers, pool, shared_memory, sharedctypes

def show(what, one):
    text = re.sub(r"0x[0-9a-f]+", "0x…", f"{one!r} {one}".replace("shmkit.multi", "multi").replace(NAME, "NAME"))
    print(what, re.sub(r"\b(pid|parent)=\d+|owner=\d+", r"\1", text))

def beside(what, call, *shown):
    def run():
        call()
        for one in shown: show(what + ", in a thread", one)
    thread = threading.Thread(target=run, name="beside")
    thread.start()
    thread.join()

NAME = f"shmkit_reprs_{os.getpid()}"
lock, recursive = mp.Lock(), mp.RLock()
semaphore, bounded = mp.Semaphore(3), mp.BoundedSemaphore(2)
locks = lock, recursive, semaphore, bounded
for one in locks: show("free", one)
for one in locks: one.acquire()
for one in locks: show("held", one)
beside("held elsewhere", int, *locks)
for one in locks: one.release()
beside("held by a thread", lambda: [one.acquire() for one in locks], *locks)
for one in locks: show("held by a thread", one)
def hold(held, go, *locks):
    for one in locks: one.acquire()
    held.set()
    go.wait(60)
context = mp.get_context("fork")
held, go, locks = mp.Event(), mp.Event(), (mp.Lock(), mp.RLock(), mp.Semaphore(1))
child = context.Process(target=hold, args=(held, go, *locks))
child.start()
held.wait(60)
for one in locks: show("held by a process", one)
go.set()
child.join()
show("Process", child)
for condition in (mp.Condition(), mp.Condition(mp.Lock())):
    show("free", condition)
    with condition: show("held", condition)
    def wait():
        with condition: condition.wait(60)
    thread = threading.Thread(target=wait)
    thread.start()
    while condition._sleeping_count.get_value() == 0: pass
    with condition:
        show("awaited", condition)
        condition.notify()
    thread.join()
event = mp.Event()
show("unset", event)
event.set()
show("set", event)
barrier = mp.Barrier(2)
show("nobody", barrier)
def come():
    try: barrier.wait(60)
    except threading.BrokenBarrierError: pass
thread = threading.Thread(target=come)
thread.start()
while barrier.n_waiting == 0: pass
show("one waits", barrier)
barrier.abort()
thread.join()
show("broken", barrier)
for one in (mp.Queue(), mp.Queue(3), mp.JoinableQueue(), mp.SimpleQueue()):
    show("empty", one)
    if hasattr(one, "close"): one.close()
    show("closed", one)
for end in (*mp.Pipe(), *mp.Pipe(False)):
    show("open", end)
    end.close()
    show("closed", end)
workers = pool.Pool(1, context=context)
show("running", workers)
workers.close()
show("closed", workers)
workers.join()
workers = context.Pool(2)
workers.terminate()
show("terminated", workers)
workers.join()
memory = shared_memory.SharedMemory(NAME, create=True, size=8)
for state in ("open", "closed"):
    show(state, memory)
    memory.close()
memory.unlink()
items = shared_memory.ShareableList([1, "a", b"b", None, 1.5], name=NAME)
show("list", items)
items.shm.close()
items.shm.unlink()
for one in (mp.Value("i", 7), mp.Array("i", 3), mp.Value("i", lock=False), sharedctypes.Value("d"), mp.Array("c", 3)):
    show("shared", one)
with mp.Manager() as manager:
    for kind in ("Lock", "RLock", "Condition", "Queue", "JoinableQueue", "Event", "list"):
        show("managed", getattr(manager, kind)())
for method in (None, "fork", "spawn", "forkserver"): show("context", mp.get_context(method))
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
def test_reprs(face: str) -> None:
    assert shown(face) == shown("stdlib")
