"""Where primitives stand: anonymous ones in shared segments, named ones in their own, others at an offset."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmkit
from shmkit import Segment
from support import Processes, wait_until

Make = Callable[..., Any]
KINDS: dict[str, type[Any]] = {
    "Lock": shmkit.Lock,
    "RLock": shmkit.RLock,
    "Semaphore": shmkit.Semaphore,
    "BoundedSemaphore": shmkit.BoundedSemaphore,
    "Event": shmkit.Event,
    "Condition": shmkit.Condition,
}
BYTES = {"Condition": 128 + 9 * 128}
MAGIC = {"Lock": b"lock", "RLock": b"rlck", "Semaphore": b"sema", "BoundedSemaphore": b"sema", "Event": b"evnt"}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


def use(primitive: Any) -> None:
    """Something that only works if all its words are there."""
    if isinstance(primitive, shmkit.Event):
        primitive.set()
        assert primitive.wait(1)
        primitive.clear()
    else:
        assert primitive.acquire(timeout=30)
        primitive.release()


def same(one: Any, other: Any) -> bool:
    """Whether what happens to one happens to the other."""
    if isinstance(one, shmkit.Event):
        one.set()
        seen = other.is_set()
        one.clear()
        return bool(seen and not other.is_set())
    one.acquire()
    taken: list[bool] = []
    thread = threading.Thread(target=lambda: taken.append(other.acquire(False)))
    thread.start()
    thread.join()
    one.release()
    return taken == [False]


@pytest.fixture(params=["posix", "sysv", "file", "leased"])
def named(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> dict[str, Any]:
    """What to create a named one with."""
    return {
        "posix": {"name": name},
        "sysv": {"name": name, "backing": "sysv"},
        "file": {"name": str(tmp_path / name), "backing": "file"},
        "leased": {"name": name, "lifetime": "leased"},
    }[request.param]


def found_by(named: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in named.items() if key != "lifetime"}


# ── with a name ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_name_is_created_attached_and_unlinked(kind: Any, named: dict[str, Any]) -> None:
    """In every backing; SegmentExists, SegmentNotFound; who is attached goes on."""
    with pytest.raises(shmkit.SegmentNotFound):
        kind.attach(**found_by(named))
    made = kind.create(**named)
    assert type(made) is kind
    assert (made.name, made.offset) == (named["name"], 0)
    assert made.nbytes == BYTES.get(kind.__name__, 128)
    with pytest.raises(shmkit.SegmentExists):
        kind.create(**named)
    found = kind.attach(**found_by(named))
    assert type(found) is kind
    assert same(made, found)
    assert same(found, kind.create_or_attach(**named))
    assert same(made, pickle.loads(pickle.dumps(found)))
    made.unlink()
    with pytest.raises(shmkit.SegmentNotFound):
        kind.attach(**found_by(named))
    assert same(found, made)


def test_create_or_attach_creates(kind: Any, named: dict[str, Any]) -> None:
    """What is not there yet."""
    made = kind.create_or_attach(**named)
    use(made)
    assert same(made, kind.attach(**found_by(named)))
    made.unlink()
    made.close()
    assert made.closed


ATTACH = """
import sys, shmkit
kind, name, backing = sys.argv[1:]
it = getattr(shmkit, kind).attach(name, backing=backing or None)
if kind == "Event":
    it.set()
else:
    it.acquire()
print("done", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("backing", ["", "sysv", "file"])
@pytest.mark.parametrize("which", KINDS)
def test_an_unrelated_program_attaches_by_name(
    which: str, backing: str, name: str, tmp_path: Path, process: Processes
) -> None:
    """And its death is noticed there, whatever the backing."""
    if backing == "file":
        name = str(tmp_path / name)
    made = KINDS[which].create(name, backing=backing or None)
    program = process.python(ATTACH, which, name, backing, stdin=-1)
    assert program.stdout is not None
    assert program.stdout.readline() == "done\n"
    if which == "Event":
        assert made.is_set()
    else:
        assert not made.acquire(True, 0.01)
        program.kill()
        program.wait()
        if "Semaphore" not in which:
            with pytest.raises(shmkit.OwnerDied):
                made.acquire()
            made.recover()
            made.release()
    made.unlink()


def test_create_needs_a_name(kind: Any) -> None:
    """And says what makes one without."""
    with pytest.raises(TypeError, match=rf"{kind.__name__}\(\) makes an anonymous one"):
        kind.create(None)


def test_many_create_or_attach_at_once_and_get_one(name: str, process: Processes) -> None:
    """Whoever comes first makes it; names that come and go are no trouble."""
    with Segment.create(None, 8) as counter:

        def child() -> None:
            for _ in range(50):
                lock = shmkit.Lock.create_or_attach(name)
                with lock:
                    counter.buf[0] += 1
                    counter.buf[0] -= 1

        children = [process(child) for _ in range(3)]
        for one in children:
            one.join(60)
            assert one.exitcode == 0
        assert counter.buf[0] == 0
    shmkit.unlink(name)


# ── at an offset ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["memfd", "posix", "sysv", "file", "raw posix", "raw file"])
def segment(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> Iterator[Segment]:
    """One of each backing, of four kilobytes, full of rubbish."""
    arguments: dict[str, Any] = {
        "memfd": {"name": None},
        "posix": {"name": name},
        "sysv": {"name": name, "backing": "sysv"},
        "file": {"name": tmp_path / name, "backing": "file"},
        "raw posix": {"name": name, "raw": True},
        "raw file": {"name": tmp_path / name, "backing": "file", "raw": True},
    }[request.param]
    segment = Segment.create(size=4096, **arguments)
    segment.buf[:] = bytes(range(256)) * 16
    yield segment
    segment.unlink(missing_ok=True)
    segment.close()


@pytest.mark.parametrize("offset", [0, 8, 128, 1000])
def test_a_place_in_a_segment_of_ones_own(kind: Any, segment: Segment, offset: int) -> None:
    """What stood there is overwritten, and nothing beside it."""
    before = bytes(segment.buf)
    made = kind.create_at(segment, offset)
    assert (made.name, made.offset, made.segment) == (None if offset else segment.name, offset, segment)
    found = kind.attach_at(segment, offset)
    assert same(made, found)
    assert same(found, pickle.loads(pickle.dumps(made)))
    end = offset + made.nbytes
    assert bytes(segment.buf[:offset]) == before[:offset]
    assert bytes(segment.buf[end:]) == before[end:]


def test_the_next_one_at_a_place_is_as_new(segment: Segment) -> None:
    """Whatever state the old one was in."""
    shmkit.Semaphore.create_at(segment, 0, 9).acquire()
    lock = shmkit.Lock.create_at(segment, 0)
    assert not lock.locked()
    lock.acquire()
    assert shmkit.Event.create_at(segment, 0).is_set() is False
    with pytest.raises(shmkit.LayoutMismatch):
        shmkit.Lock.attach_at(segment, 0)


def test_another_kind_at_the_place_is_told(segment: Segment) -> None:
    """LayoutMismatch, with what was expected, what was found, and where."""
    for at, (which, made) in enumerate(KINDS.items()):
        made.create_at(segment, 8 * at)
        for other, wanted in KINDS.items():
            if MAGIC.get(which) == MAGIC.get(other) or {which, other} == {"RLock", "Condition"}:
                continue
            with pytest.raises(
                shmkit.LayoutMismatch, match=rf"the kind of a {other} is '\w+': got '\w+' \(({other}|the anon)"
            ):
                wanted.attach_at(segment, 8 * at)
    segment.buf[:] = bytes(4096)
    for which, wanted in KINDS.items():
        with pytest.raises(shmkit.LayoutMismatch, match=rf"the kind of a {which} is '\w+': got 0x0 \("):
            wanted.attach_at(segment, 16)


def test_another_kind_under_the_name_is_told(name: str) -> None:
    """Of primitive, and of segment."""
    lock = shmkit.Lock.create(name)
    with pytest.raises(shmkit.LayoutMismatch, match=f"the kind of a Semaphore is.*Semaphore '{name}'"):
        shmkit.Semaphore.attach(name)
    with pytest.raises(shmkit.LayoutMismatch, match="a Condition has 1280 bytes: got 128"):
        shmkit.Condition.attach(name)
    lock.unlink()
    with Segment.create(name, 128) as other:
        with pytest.raises(shmkit.LayoutMismatch):
            shmkit.Lock.attach(name)
        other.unlink()


@pytest.mark.parametrize("offset", [-8, -1, 1, 4, 12, 4096, 4104, 2**62, 2**70])
def test_a_place_is_within_the_segment_on_a_multiple_of_eight(kind: Any, segment: Segment, offset: int) -> None:
    """ValueError; nothing is written."""
    before = bytes(segment.buf)
    for place in (kind.create_at, kind.attach_at):
        with pytest.raises(ValueError, match=rf"multiple of 8 within its segment: got offset {offset} in 4096 bytes"):
            place(segment, offset)
    assert bytes(segment.buf) == before


def test_a_place_has_room(kind: Any, segment: Segment) -> None:
    """ValueError where one is made, LayoutMismatch where one is looked for; the last place that fits does."""
    nbytes = BYTES.get(kind.__name__, 128)
    with pytest.raises(ValueError, match=f"has {nbytes} bytes: got offset {4096 - nbytes + 8} in 4096"):
        kind.create_at(segment, 4096 - nbytes + 8)
    with pytest.raises(shmkit.LayoutMismatch, match=f"{nbytes} bytes: got {nbytes - 8}"):
        kind.attach_at(segment, 4096 - nbytes + 8)
    use(kind.create_at(segment, 4096 - nbytes))


def test_owners_have_room() -> None:
    """Or the semaphore with undo is none: its cell is checked before any of them is looked at."""
    segment = Segment.create(None, 256)
    with pytest.raises(ValueError, match="a Semaphore has 264 bytes"):
        shmkit.Semaphore.create_at(segment, 0, 17, undo=True)
    shmkit.Semaphore.create_at(segment, 0, 16, undo=True)
    for owners, maximum in [(17, 17), (15, 16), (4097, 4097), (2**32 - 1, 2**32 - 1), (0, 2**31)]:
        segment.buf[8:12] = maximum.to_bytes(4, "little")
        segment.buf[20:24] = owners.to_bytes(4, "little")
        with pytest.raises(shmkit.LayoutMismatch):
            shmkit.Semaphore.attach_at(segment, 0)


def test_an_unknown_policy_is_refused() -> None:
    """A lock made by a version that knows more."""
    segment = Segment.create(None, 128)
    shmkit.Lock.create_at(segment)
    segment.buf[4] = 7
    with pytest.raises(shmkit.LayoutMismatch, match="policy must be one that is known: got 7"):
        shmkit.Lock.attach_at(segment)


def test_a_cell_caught_half_made_is_none(name: str, process: Processes) -> None:
    """Its kind is stored last: whoever finds it finds all of it."""
    segment = Segment.create(name, 4096)

    def remake() -> None:
        while True:
            shmkit.Semaphore.create_at(segment, 0, 7, undo=True)
            shmkit.Semaphore.create_at(segment, 0, 2**31 - 1)

    process(remake)
    found = 0

    def enough() -> bool:
        nonlocal found
        for _ in range(200):
            try:
                one = shmkit.Semaphore.attach_at(segment, 0)
            except shmkit.LayoutMismatch as error:
                assert "the kind of a Semaphore" in str(error) or "as many owners" in str(error)
                continue
            found += 1
            assert one.get_value() in (7, 2**31 - 1, 0)
        return found > 500

    wait_until(enough)
    segment.unlink()


def test_a_readonly_segment_is_refused(kind: Any, name: str) -> None:
    """Its words must be written, by who only waits, too."""
    with Segment.create(name, 4096) as segment:
        kind.create_at(segment, 0)
        with Segment.attach(name, readonly=True) as reader:
            with pytest.raises(ValueError, match="attached for reading only"):
                kind.create_at(reader, 0)
            with pytest.raises(shmkit.SegmentError, match="attached for reading only"):
                kind.attach_at(reader, 0)
        segment.unlink()


@pytest.mark.parametrize("wrong", [None, "name", b"1234" * 100, 1])
def test_a_place_is_in_a_segment(kind: Any, wrong: Any) -> None:
    """Nothing else."""
    for place in (kind.create_at, kind.attach_at):
        with pytest.raises(TypeError, match=r"a primitive is placed in a shmkit\.Segment"):
            place(wrong)


def test_a_closed_segment_takes_none(kind: Any) -> None:
    """But one that was placed before goes on."""
    segment = Segment.create(None, 4096)
    made = kind.create_at(segment)
    segment.close()
    use(made)
    with pytest.raises(shmkit.Closed):
        kind.create_at(segment, 2048)


def test_a_raw_sysv_segment_takes_none(kind: Any, name: str) -> None:
    """It has no file that the kernel could be asked through; the error says so."""
    segment = Segment.create(name, 4096, backing="sysv", raw=True)
    with pytest.raises(shmkit.SegmentError, match="no file that the kernel could be asked through"):
        kind.create_at(segment)
    segment.unlink()


def test_a_place_has_no_name_to_remove(kind: Any) -> None:
    """ValueError: the name is the segment's."""
    segment = Segment.create(None, 4096)
    for primitive in (kind.create_at(segment, 8), kind()):
        with pytest.raises(ValueError, match="has no name of its own to remove"):
            primitive.unlink()


# ── without a name ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_thousand_locks_share_one_segment() -> None:
    """128 bytes each, no file, a descriptor or two for all."""
    files = set(os.listdir("/dev/shm"))
    descriptors = len(os.listdir("/proc/self/fd"))
    locks = [shmkit.Lock() for _ in range(1000)]
    assert all(lock.nbytes == 128 for lock in locks)
    assert len({id(lock.segment) for lock in locks}) <= 2
    assert set(os.listdir("/dev/shm")) == files
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2
    places = {(id(lock.segment), lock.offset) for lock in locks}
    assert len(places) == 1000
    for lock in locks:
        assert lock.acquire(False)


def test_large_ones_have_segments_of_their_own() -> None:
    """A semaphore with thousands of owners does not crowd the others out."""
    large = shmkit.Semaphore(4096, undo=True)
    assert large.segment is not shmkit.Lock().segment
    assert large.segment.size == large.nbytes
    use(large)


def test_rooms_are_used_again() -> None:
    """As long as nobody else can know of them: five thousand locks, one after the other, take one segment."""
    kept = shmkit.Lock()
    segments = set()
    for _ in range(5000):
        segments.add(id(shmkit.Lock().segment))
    assert len(segments | {id(kept.segment)}) <= 2


def place_of(lock: Any) -> tuple[int, int]:
    """Segment and offset, without asking for the offset, which would count as knowing: where its word changes."""
    lock.acquire()
    held = bytes(lock.segment.buf)
    lock.release()
    free = bytes(lock.segment.buf)
    return id(lock.segment), next(at for at in range(0, len(held), 8) if held[at : at + 8] != free[at : at + 8])


def test_a_room_that_nobody_knows_of_goes_to_the_next() -> None:
    """It is as new."""
    one = shmkit.Lock()
    place = place_of(one)
    one.acquire()
    del one
    other = shmkit.Lock()
    assert not other.locked()
    assert place_of(other) == place


def known_by_pickle(lock: Any) -> object:
    return pickle.dumps(lock)


def known_by_fork(lock: Any) -> object:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return os.waitpid(pid, 0)


def known_by_offset(lock: Any) -> object:
    return type(lock).attach_at(lock.segment, lock.offset)


@pytest.mark.parametrize("known", [known_by_pickle, known_by_fork, known_by_offset])
def test_a_room_that_somebody_may_know_of_stays_as_it_is(known: Callable[[Any], object]) -> None:
    """Whoever comes with the pickle, or in the child, or at the offset, finds the lock that was there."""
    one = shmkit.Lock()
    place = place_of(one)
    kept = known(one)
    one.acquire()
    segment = one.segment
    del one
    gc.collect()
    others = [shmkit.Lock() for _ in range(20)]
    assert place not in [place_of(other) for other in others]
    found = pickle.loads(kept) if isinstance(kept, bytes) else kept
    if isinstance(found, shmkit.Lock):
        assert found.locked()
        assert found.owner_pid == os.getpid()
        found.release()
    assert segment.size


def test_a_childs_new_ones_are_its_own(process: Processes) -> None:
    """They stand in no segment of its parent's."""
    mine = shmkit.Lock()
    with Segment.create(None, 8) as said:

        def child() -> None:
            new = shmkit.Lock()
            assert new.segment is not mine.segment
            assert new.segment.mapping is not mine.segment.mapping
            new.acquire()
            assert not mine.locked()
            del new
            said.buf[0] = 1

        done = process(child)
        done.join(30)
        assert said.buf[0] == 1


def test_anonymous_ones_go_with_their_segment() -> None:
    """When the last of them went, nothing is left (the fixture looks, too)."""
    locks = [shmkit.Lock() for _ in range(2500)]
    segments = {id(lock.segment): lock.segment.fd for lock in locks}
    assert len(segments) >= 3
    first = locks[1200].segment.fd
    inode = os.fstat(first).st_ino
    del locks
    gc.collect()
    shmkit.trim()

    def gone() -> bool:
        try:
            return os.fstat(first).st_ino != inode
        except OSError:
            return True

    wait_until(gone)
