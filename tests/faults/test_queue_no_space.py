"""A named queue whose /dev/shm is really full: exceptions that say so, waits that end, no SIGBUS and nothing lost.

Each program has a /dev/shm of its own, of 4 MiB (``test_segment_space.py``).
"""

from __future__ import annotations

from faults.test_segment_space import run_small
from support import Processes

MORE = """
import errno, gc, time
import numpy as np
from pathlib import Path

FILLER = Path("/dev/shm/filler")

def fill():
    '''Leaves no page to anybody.'''
    with FILLER.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC

def free():
    place = os.statvfs("/dev/shm")
    return place.f_bavail * place.f_frsize

def array(number, length=20_000):
    return np.full(length, number, "f8")

def refused(put):
    '''The HeapFull that it raises.'''
    try:
        put()
    except shmkit.HeapFull as error:
        assert error.errno == errno.ENOSPC and "No space left" in str(error), error
        return True
    return False

def reap(pid):
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, status  # -7: SIGBUS

def fork(work):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(60)
            work()
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid
signal.alarm(90)
"""


def run(process: Processes, code: str) -> None:
    assert run_small(process, MORE + code + "\nprint('fine')").splitlines() == ["fine"]


def test_nothing_is_made_where_nothing_fits(process: Processes) -> None:
    """Making a queue raises NoSpace and leaves no name; with room again it is made."""
    run(
        process,
        """
fill()
try:
    shmkit.Queue.create("full")
except shmkit.NoSpace as error:
    assert "full" in str(error), error
else:
    raise AssertionError("it was made")
assert os.listdir("/dev/shm") == ["filler"]
FILLER.unlink()
queue = shmkit.Queue.create("full")
queue.put(array(1))
assert (queue.get() == 1).all()
queue.unlink()
""",
    )


def test_what_does_not_fit_is_refused_and_nothing_is_lost(process: Processes) -> None:
    """Alone, a put raises at once, time-out or not; all that was put comes, again and again; then all is given back."""
    run(
        process,
        """
before = free()
queue = shmkit.Queue.create("small", capacity="64 MiB")
for lap in range(3):
    put = 0
    while not refused(lambda: queue.put(array(put), timeout=(0, 10, None)[lap])):
        put += 1
    assert put >= 15, put
    assert refused(lambda: queue.put_many([array(1), array(2)]))
    assert [int(one[0]) for one in (queue.get(timeout=0) for _ in range(put))] == list(range(put))
    assert queue.empty()
    assert queue.statistics()["heap"]["blocks_queued"] == 0
queue.unlink()
queue.close()
del queue
gc.collect()
assert free() == before, (free(), before)
""",
    )


def test_a_queue_that_cannot_grow_keeps_what_it_has(process: Processes) -> None:
    """Small items need cells, which need memory: what was refused is not there, the others are, in order."""
    run(
        process,
        """
queue = shmkit.Queue.create("cells", capacity="64 MiB")
fill()
for lap in range(3):
    put = 0
    while not refused(lambda: queue.put((put, b"x" * 40))):
        put += 1
    assert put >= 10
    assert refused(lambda: queue.put(b"more", block=False))
    assert [number for number, _ in queue.get_many(put + 1)] == list(range(put))
FILLER.unlink()
queue.put_many(range(10_000))
assert queue.get_many(10_001) == list(range(10_000))
queue.unlink()
""",
    )


def test_pages_that_were_given_back_are_asked_for_again(process: Processes) -> None:
    """And not written to unasked: somebody else has the room by now, and that is no SIGBUS."""
    run(
        process,
        """
queue = shmkit.Queue.create("trimmed", capacity="64 MiB")
sizes = (60, 100, 400, 2_000, 9_000, 40_000, 100_000)
for size in sizes:
    queue.put(array(size, size))
    assert queue.get().sum() == size * size
assert queue.heap.trim() > 0
fill()
met = {False: 0, True: 0}
for lap in range(20):
    for size in sizes:
        if refused(lambda: queue.put(array(size, size), timeout=0)):
            met[True] += 1
            continue
        met[False] += 1
        got = queue.get(timeout=0)
        assert len(got) == size and (got == size).all()
        got[:] = 7
assert met[True], "it never was full"
FILLER.unlink()
for size in sizes:
    queue.put(array(size, size))
    assert queue.get().sum() == size * size
queue.unlink()
""",
    )


def test_producers_wait_until_there_is_room(process: Processes) -> None:
    """Others have the heap, so they may wait: for a consumer that lets go, and for a stranger's file that goes."""
    run(
        process,
        """
queue = shmkit.Queue.create("waits", capacity="64 MiB")
each = 60

def produce(me):
    mine = shmkit.Queue.attach("waits")
    for number in range(each):
        mine.put((me, number, array(number, (500, 5_000, 20_000, 60_000)[number % 4])), timeout=60)

def asleep(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "SZ"

fill()
pids = [fork(lambda me=me: produce(me)) for me in range(2)]
got = []
for _ in range(6):
    while not all(map(asleep, pids)):  # for want of room: nobody gets, and nobody frees
        time.sleep(0.001)
    FILLER.unlink()
    got.append(queue.get(timeout=60))
    got.append(queue.get(timeout=60))
    fill()
kept = got[-3:]
FILLER.unlink()
while len(got) < 2 * each:
    got.append(queue.get(timeout=60))
    _, number, one = got[-1]
    assert (one == number).all() and len(one) == (500, 5_000, 20_000, 60_000)[number % 4]
    got[-1] = got[-1][:2]
    del one
for pid in pids:
    reap(pid)
assert all((one == number).all() for _, number, one in kept)
for me in range(2):
    assert [item[1] for item in got if item[0] == me] == list(range(each))
assert queue.empty()
queue.unlink()
""",
    )
