"""RWLock: many readers or one writer, among threads and processes that nobody kills."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext

import pytest

import shmkit
from support import Processes, wait_until


def fresh() -> shmkit.RWLock:
    """One in a segment of its own, which goes with the test."""
    return shmkit.RWLock.create_at(shmkit.Segment.create(size=2048))


def elsewhere(action: object, *args: object, **kwargs: object) -> object:
    """What the call returns in another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(action, *args, **kwargs).result(timeout=30)  # type: ignore[arg-type]


@contextmanager
def waiting(lock: shmkit.RWLock, side: str, says: str) -> Iterator[threading.Thread]:
    """A thread that acquires the side and releases it; goes on when the lock's repr `says` that it waits."""

    def body() -> None:
        with getattr(lock, side):
            pass

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    wait_until(lambda: says in repr(lock))
    yield thread
    thread.join(30)
    assert not thread.is_alive()


# --- who gets in -----------------------------------------------------------------------------------------------------


def test_readers_share_it() -> None:
    """Any number hold it for reading, and no one for writing meanwhile."""
    lock = fresh()
    with lock.read, lock.read:
        assert elsewhere(lock.read.acquire, block=False) is True
        assert lock.readers == 3
        assert lock.write.acquire(block=False) is False
        assert lock.write.acquire(timeout=0.01) is False
        assert lock.writer_pid is None
        lock.read.release()
    assert lock.readers == 0
    assert not lock.locked()


def test_a_writer_is_alone() -> None:
    """Nobody else holds it, either way, while one writes."""
    lock = fresh()
    with lock.write:
        assert lock.locked()
        assert lock.writer_pid is not None
        for side in (lock.read, lock.write):
            assert elsewhere(side.acquire, block=False) is False
            assert elsewhere(side.acquire, timeout=0.01) is False
        assert lock.readers == 0
    assert not lock.locked()
    assert lock.writer_pid is None
    assert lock.read.acquire() is True
    lock.read.release()


def test_a_try_in_vain_leaves_nothing_behind() -> None:
    """A writer that does not get in, after trying, waiting and many tries, holds nobody up."""
    lock = fresh()
    with lock.read:
        for _ in range(200):
            assert not lock.write.acquire(block=False)
        assert not lock.write.acquire(timeout=0.01)
        assert lock.read.acquire(block=False)
        lock.read.release()
    with lock.write:
        pass


@pytest.mark.parametrize("side", ["read", "write"])
def test_the_thread_that_writes_is_refused(side: str) -> None:
    """It would wait for itself; it is told so, and goes on holding what it held."""
    lock = fresh()
    with lock.write:
        with pytest.raises(RuntimeError, match="by this very thread"):
            getattr(lock, side).acquire()
        with pytest.raises(RuntimeError, match="by this very thread"):
            getattr(lock, side).acquire(block=False)
        assert lock.writer_pid is not None
    with getattr(lock, side):
        pass


def test_a_waiting_writer_holds_up_new_readers() -> None:
    """Or a stream of readers would keep it out for ever."""
    lock = fresh()
    lock.read.acquire()
    with waiting(lock, "write", "awaited by"):
        assert lock.read.acquire(block=False) is False
        lock.read.release()


def test_readers_that_wait_get_in_before_the_next_writer() -> None:
    """A writer that leaves lets in all who wanted to read; the writer behind it waits for them."""
    lock = fresh()
    order: list[str] = []
    leave = threading.Event()
    lock.write.acquire()

    def read() -> None:
        with lock.read:
            order.append("read")
            leave.wait(30)

    def write() -> None:
        with lock.write:
            order.append("write")

    readers = [threading.Thread(target=read) for _ in range(3)]
    writer = threading.Thread(target=write)
    cell = lock.segment.mapping
    at = cell.payload_at + lock.offset + 128 + 8

    def wanting() -> int:
        """how many wait to read, as the layout draws it"""
        return int.from_bytes(bytes(lock.segment.buf[at - cell.payload_at :][2:4]), "little")

    writer.start()
    for thread in readers:
        thread.start()
    wait_until(lambda: wanting() == 3)
    lock.write.release()
    wait_until(lambda: order.count("read") == 3)
    leave.set()
    for thread in [*readers, writer]:
        thread.join(30)
    assert sorted(order) == ["read"] * 3 + ["write"]


def test_whoever_waits_is_woken() -> None:
    """Readers by the writer that leaves, writers by the last reader that does."""
    lock = fresh()
    lock.write.acquire()
    with ThreadPoolExecutor(3) as pool:
        reading = [pool.submit(lock.read.acquire, timeout=30) for _ in range(3)]
        lock.write.release()
        assert [future.result(30) for future in reading] == [True] * 3
    assert lock.readers == 3
    for _ in range(2):
        lock.read.release()
    with waiting(lock, "write", "awaited by"):
        lock.read.release()


# --- releasing -------------------------------------------------------------------------------------------------------


def test_only_what_is_held_can_be_released() -> None:
    """NotOwner, which is a RuntimeError, says which side is not held."""
    lock = fresh()
    for side, what in (("read", "reading"), ("write", "writing")):
        with pytest.raises(shmkit.NotOwner, match=what):
            getattr(lock, side).release()
    with lock.read, pytest.raises(RuntimeError, match="writing"):
        lock.write.release()
    with lock.write, pytest.raises(RuntimeError, match="reading"):
        lock.read.release()
    with pytest.raises(shmkit.NotOwner, match="not inherited"):
        lock.recover()


@pytest.mark.parametrize("side", ["read", "write"])
def test_another_thread_may_release(side: str) -> None:
    """It is the process that holds it."""
    lock = fresh()
    getattr(lock, side).acquire()
    elsewhere(getattr(lock, side).release)
    assert not lock.locked()


def as_child(lock: shmkit.RWLock, said: Connection) -> None:
    for side in ("read", "write"):
        with pytest.raises(shmkit.NotOwner):
            getattr(lock, side).release()
    said.send((lock.readers, lock.read.acquire(block=False), lock.write.acquire(block=False)))


@pytest.mark.parametrize(("side", "seen"), [("read", (1, True, False)), ("write", (0, False, False))])
def test_a_forked_child_does_not_hold_what_its_parent_does(
    process: Processes, side: str, seen: tuple[object, ...]
) -> None:
    """It cannot release it, and gets in only where any other process does."""
    lock = fresh()
    import multiprocessing

    hear, say = multiprocessing.Pipe(duplex=False)
    with getattr(lock, side), hear, say:
        child = process(as_child, lock, say)
        assert hear.poll(30)
        assert hear.recv() == seen
        child.join(30)
        assert child.exitcode == 0
    with lock.write:  # what the child held went with it
        pass


def hold(lock: shmkit.RWLock, said: Connection) -> None:
    """Reads, if that can be had at once, until told to release; then goes on living until told to end."""
    got = lock.read.acquire(block=False)
    said.send(got)
    if said.recv() == "release" and got:
        lock.read.release()
    said.send(None)
    said.recv()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_more_processes_than_entries_read_one_at_a_time(process: Processes) -> None:
    """The 65th takes the write side to read; once some of the others have ended it is a reader as all are."""
    lock = fresh()
    import multiprocessing

    ends = []
    for _ in range(64):
        here, there = multiprocessing.Pipe()
        process(hold, lock, there)
        there.close()
        ends.append(here)
    assert [end.recv() for end in ends] == [True] * 64
    assert lock.readers == 64
    assert lock.read.acquire(block=False) is False
    for end in ends:
        end.send("release")
        end.recv()
    for _ in range(3):
        assert lock.read.acquire(timeout=30)
        assert lock.readers == 0
        assert lock.writer_pid is not None
        assert elsewhere(lock.read.acquire, block=False) is False
        lock.read.release()
        assert not lock.locked()
    process.end()
    for end in ends:
        end.close()
    with lock.read:
        assert lock.readers == 1
        assert lock.writer_pid is None


# --- names, places, pickles ------------------------------------------------------------------------------------------


def anonymous() -> None:
    locks = [shmkit.RWLock() for _ in range(3)]
    assert len({lock.offset for lock in locks}) == 3
    with locks[0].write, locks[1].write, locks[2].read:
        assert locks[0].name is None
    with pytest.raises(ValueError, match="no name"):
        locks[0].unlink()
    with pytest.raises(TypeError, match="called again"):
        locks[0].__init__()  # type: ignore[misc]


def test_anonymous_ones_share_a_segment(process: Processes) -> None:
    """Each with a place of its own; in a child, since the segment stays with the process."""
    child = process(anonymous)
    child.join(30)
    assert child.exitcode == 0


def test_by_name(name: str) -> None:
    """create, attach and create_or_attach find the same lock; the policy is part of it."""
    with pytest.raises(TypeError, match="needs a name"):
        shmkit.RWLock.create(None)  # type: ignore[arg-type]
    made = shmkit.RWLock.create(name, on_owner_death="recover")
    with pytest.raises(shmkit.SegmentExists):
        shmkit.RWLock.create(name)
    found = shmkit.RWLock.attach(name)
    again = shmkit.RWLock.create_or_attach(name, on_owner_death="recover")
    with pytest.raises(ValueError, match="another on_owner_death"):
        shmkit.RWLock.create_or_attach(name)
    with pytest.raises(shmkit.LayoutMismatch, match="kind of a Lock"):
        shmkit.Lock.attach(name)
    with made.read, found.read:
        assert again.readers == 2
        assert not again.write.acquire(block=False)
    assert made.name == name
    made.unlink()


def test_at_an_offset() -> None:
    """It stands where it is put, and only there."""
    segment = shmkit.Segment.create(size=4096)
    made = shmkit.RWLock.create_at(segment, 128)
    found = shmkit.RWLock.attach_at(segment, 128)
    with made.write:
        assert found.writer_pid is not None
    assert (made.offset, made.nbytes, made.name) == (128, 9 * 128, None)
    with pytest.raises(shmkit.LayoutMismatch, match="kind of a RWLock"):
        shmkit.RWLock.attach_at(segment, 0)
    with pytest.raises(ValueError, match="bytes"):
        shmkit.RWLock.create_at(segment, 4096 - 128)
    with pytest.raises(ValueError, match="multiple of 8"):
        shmkit.RWLock.create_at(segment, 4)
    segment.buf[132] = 77
    with pytest.raises(shmkit.LayoutMismatch, match="policy"):
        shmkit.RWLock.attach_at(segment, 128)


def use(lock: shmkit.RWLock, side: object, said: Connection) -> None:
    assert isinstance(side, type(lock.read))
    with side:
        said.send(lock.readers)
        said.recv()


def test_it_travels_to_children(process: Processes, start_method: BaseContext) -> None:
    """As does either side of it, under every start method."""
    lock = fresh()
    here, there = start_method.Pipe()
    with here, there:
        process(use, lock, lock.read, there, context=start_method)
        assert here.poll(60)
        assert here.recv() == 1
        assert lock.readers == 1
        assert not lock.write.acquire(block=False)
        here.send(None)
        with lock.write:
            assert lock.readers == 0


def test_a_pickle_is_the_same_lock() -> None:
    """Within a process too; two handles of one process are one holder."""
    lock = fresh()
    twin, writing = pickle.loads(pickle.dumps((lock, lock.write)))
    lock.read.acquire()
    twin.read.release()
    with writing:
        assert lock.writer_pid is not None


# --- the rest --------------------------------------------------------------------------------------------------------


def test_what_it_says_of_itself(name: str) -> None:
    """Whether it is held, by how many, and by whom."""
    lock = fresh()
    assert repr(lock).startswith("<unlocked shmkit.RWLock at 0x")
    with lock.read, lock.read:
        assert repr(lock).startswith("<locked shmkit.RWLock readers=2 at 0x")
    with lock.write:
        assert f"writer={lock.writer_pid}" in repr(lock)
        assert repr(lock.write).startswith("<the write side of <locked")
        assert repr(lock.read).startswith("<the read side of <locked")
    named = shmkit.RWLock.create(name)
    assert repr(name) in repr(named)
    named.unlink()
    named.close()
    assert repr(named).startswith("<closed")


def test_closed() -> None:
    """A closed handle says so, whatever is asked of it; close may be called again."""
    lock = fresh()
    read, write = lock.read, lock.write
    lock.close()
    lock.close()
    assert lock.closed
    for call in (read.acquire, write.acquire, read.release, write.release, lock.locked, lock.recover):
        with pytest.raises(shmkit.Closed):
            call()
    with pytest.raises(shmkit.Closed), read:
        pass
    with pytest.raises(shmkit.Closed):
        pickle.dumps(lock)


def test_close_ends_the_wait_of_a_thread() -> None:
    """It leaves nothing behind: another handle gets both sides."""
    lock = fresh()
    twin = pickle.loads(pickle.dumps(lock))
    twin.read.acquire()
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(lock.write.acquire)
        wait_until(lambda: "awaited by" in repr(twin))
        lock.close()
        with pytest.raises(shmkit.Closed):
            waits.result(30)
    assert twin.read.acquire(block=False)
    twin.read.release()
    twin.read.release()
    with twin.write:
        pass


def test_bad_arguments() -> None:
    """Are refused before anything happens."""
    lock = fresh()
    with pytest.raises(ValueError, match="on_owner_death"):
        shmkit.RWLock(on_owner_death="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nan"):
        lock.write.acquire(timeout=float("nan"))
    with pytest.raises(TypeError):
        lock.read.acquire(timeout="1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"RWLock\.read"):
        type(lock.read)()
    with pytest.raises(TypeError, match=r"RWLock\.write"):
        type(lock.write)()
    assert not lock.locked()


@pytest.mark.parametrize("threads", [2, 6])
def test_threads_never_meet_where_they_must_not(threads: int) -> None:
    """What a writer changes in two steps no reader sees between them."""
    lock = fresh()
    state = [0, 0]

    def body(number: int) -> None:
        for step in range(400):
            if (step + number) % 4 == 0:
                with lock.write:
                    state[0] += 1
                    state[1] += 1
            else:
                with lock.read:
                    first, second = state[0], state[1]
                assert first == second

    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(body, number) for number in range(threads)]:
            future.result(100)
    assert state == [threads * 100] * 2
    assert not lock.locked()
