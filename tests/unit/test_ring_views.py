"""Records read where they lie: views, when they end, and what is kept beyond their end."""

from __future__ import annotations

import gc
import pickle
import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import shmkit
from support import Processes

VIEWS_MOST = 1024


@pytest.fixture
def ring() -> Iterator[shmkit.Ring]:
    with shmkit.Ring.create(capacity=4096) as ring:
        yield ring


# ── what a view shows ───────────────────────────────────────────────────────────────────────────────────────────────


def test_with_gives_the_array_in_the_ring_and_releases_it(ring: shmkit.Ring) -> None:
    """No copy: what the with block has is the ring's memory; room comes back at its end."""
    ring.send(np.arange(6).reshape(2, 3))
    with ring.recv_view(timeout=1.0) as frame:
        assert frame.tolist() == [[0, 1, 2], [3, 4, 5]]
        assert not frame.flags.owndata
        assert ring.free < ring.capacity
    assert ring.free == ring.capacity


def test_bytes_are_viewed_as_a_memoryview(ring: shmkit.Ring) -> None:
    """Of plain bytes, as long as the record."""
    ring.send(b"abc")
    ring.send(b"")
    with ring.recv_view() as inside:
        assert isinstance(inside, memoryview)
        assert (bytes(inside), inside.format) == (b"abc", "B")
    with ring.recv_view() as inside:
        assert bytes(inside) == b""


def test_a_view_shows_its_memory_as_buf_and_as_array(ring: shmkit.Ring) -> None:
    """Bytes are an array of uint8, an array is bytes."""
    ring.send(b"\1\2\3")
    ring.send(np.array([1, 2], "<u2"))
    text, numbers = ring.recv_view(), ring.recv_view()
    assert text.array.tolist() == [1, 2, 3]
    assert text.array.dtype == np.uint8
    assert bytes(numbers.buf) == b"\1\0\2\0"
    assert numbers.array.tolist() == [1, 2]
    assert (numbers.nbytes, len(numbers), bytes(memoryview(text))) == (4, 4, b"\1\2\3")
    assert "4 bytes" in repr(numbers)
    assert "held" in repr(numbers)


def test_a_view_may_be_computed_in(ring: shmkit.Ring) -> None:
    """The memory is the receiver's until the release."""
    ring.send(np.arange(4.0))
    with ring.recv_view() as inside:
        inside *= 2
        assert inside.tolist() == [0, 2, 4, 6]


# ── when a view ends ────────────────────────────────────────────────────────────────────────────────────────────────


def by_release(view: shmkit.RecordView) -> None:
    view.release()


def by_with(view: shmkit.RecordView) -> None:
    with view:
        pass


@pytest.mark.parametrize("end", [by_release, by_with])
def test_a_view_ends_when_it_is_told_to(ring: shmkit.Ring, end: Callable[[shmkit.RecordView], None]) -> None:
    """The record's room is free, the view invalid; ending it again is nothing."""
    ring.send(b"x")
    view = ring.recv_view()
    assert view.valid
    end(view)
    assert not view.valid
    assert "released" in repr(view)
    assert ring.free == ring.capacity
    end(view)
    assert ring.free == ring.capacity


def test_a_view_ends_with_its_last_reference(ring: shmkit.Ring) -> None:
    """Arrays, slices of arrays and memoryviews count as references to it."""
    ring.send(np.arange(10))
    array = ring.recv_view().array
    piece = array[2:4]
    del array
    gc.collect()
    assert ring.free < ring.capacity
    assert piece.tolist() == [2, 3]
    del piece
    assert ring.free == ring.capacity
    ring.send(b"text")
    buffer = ring.recv_view().buf
    assert ring.free < ring.capacity
    del buffer
    assert ring.free == ring.capacity


def test_an_exception_in_the_with_block_releases_too(ring: shmkit.Ring) -> None:
    """The record was received; the exception comes out."""
    ring.send(b"x")
    with pytest.raises(KeyError):
        with ring.recv_view():
            raise KeyError
    assert (len(ring), ring.free) == (0, ring.capacity)


def test_several_views_may_be_held_and_end_in_any_order(ring: shmkit.Ring) -> None:
    """Room comes back in the order of sending: up to the oldest view still held."""
    ring.send_many([bytes([n]) * 8 for n in range(4)])
    first, second, third, fourth = (ring.recv_view() for _ in range(4))
    third.release()
    second.release()
    assert ring.free == ring.capacity - 64
    assert [bytes(view.buf)[0] for view in (first, fourth)] == [0, 3]
    first.release()
    assert ring.free == ring.capacity - 16
    fourth.release()
    assert ring.free == ring.capacity


@pytest.mark.parametrize("seed", range(10))
def test_views_that_end_in_random_order_keep_their_content_until_then(ring: shmkit.Ring, seed: int) -> None:
    """Over many laps, views, copies and batches mixed; what is held is never overwritten."""
    chance = random.Random(seed)
    held: list[tuple[shmkit.RecordView, bytes]] = []
    expected: list[bytes] = []
    number = 0
    for _ in range(600):
        record = number.to_bytes(4, "big") * chance.randrange(0, 60)
        if ring.try_send(record):
            expected.append(record)
            number += 1
        if expected and chance.random() < 0.7:
            record = expected.pop(0)
            if chance.random() < 0.6:
                held.append((ring.recv_view(), record))
            else:
                assert ring.recv() == record
        if held and chance.random() < 0.55:
            view, record = held.pop(chance.randrange(len(held)))
            assert bytes(view.buf) == record
            view.release()
        for view, record in held:
            assert bytes(view.buf) == record
    for view, record in held:
        assert bytes(view.buf) == record
    view = None
    held.clear()
    while expected:
        assert ring.recv() == expected.pop(0)
    assert ring.try_recv() is None  # and past the last pad
    assert ring.free == ring.capacity


def test_no_more_than_1024_views_are_held_at_a_time() -> None:
    """RuntimeError at the next, whose record stays; copies can still be received."""
    with shmkit.Ring.create(capacity="64 KiB") as ring:
        ring.send_many([b"%04d" % n for n in range(VIEWS_MOST + 3)])
        views = [ring.recv_view() for _ in range(VIEWS_MOST)]
        with pytest.raises(RuntimeError, match=r"1024 views are held"):
            ring.recv_view()
        assert ring.recv() == b"1024"
        views[500].release()  # not the oldest: its place is still in use
        with pytest.raises(RuntimeError):
            ring.recv_view()
        views[0].release()
        assert bytes(ring.recv_view().buf) == b"1025"
        del views
        assert ring.recv() == b"1026"
        assert ring.free == ring.capacity


# ── what is kept beyond the end ─────────────────────────────────────────────────────────────────────────────────────


def test_an_array_kept_beyond_the_release_shows_what_comes_next(ring: shmkit.Ring) -> None:
    """It is the ring's memory, and it can be read."""
    ring.send(bytes(100))
    with ring.recv_view() as kept:
        pass
    for n in range(200):
        ring.send(bytes([n]) * 100)
        ring.recv()
        bytes(kept)


def test_a_view_is_void_after_close_and_its_array_stays_readable() -> None:
    """The other end may use the room again; the memory itself stays as long as the array."""
    ring = shmkit.Ring.create(capacity=1024)
    ring.send(np.arange(8))
    view = ring.recv_view()
    array = view.array
    ring.close()
    assert not view.valid
    assert array.shape == (8,)
    array.tobytes()
    view.release()
    del ring, view
    gc.collect()
    array[:] = 5
    assert array.sum() == 40


def test_a_view_keeps_its_ring_alive() -> None:
    """The handle may be dropped: an array of a received record goes on, and its release finds the ring."""
    ring = shmkit.Ring.create(capacity=1024)
    ring.send(np.arange(8))
    array = ring.recv_view().array
    del ring
    gc.collect()
    assert array.tolist() == list(range(8))


def test_a_view_of_an_earlier_session_releases_nothing_of_a_later_one() -> None:
    """Whoever closes and comes back through another handle starts anew; old views are only memory."""
    with shmkit.Ring.create(capacity=1024) as ring:
        again = pickle.loads(pickle.dumps(ring))
        ring.send_many([b"first", b"second"])
        old = ring.recv_view()
        ring.close()
        with again:
            current = again.recv_view()
            assert bytes(current.buf) == b"second"
            free = again.free
            old.release()
            assert again.free == free
            assert current.valid


def test_a_view_outlives_the_first_use_of_the_other_end() -> None:
    """Becoming the producer too changes nothing for what the consumer holds."""
    with shmkit.Ring.create(capacity=1024) as ring:
        with pickle.loads(pickle.dumps(ring)) as again:
            again.send_many([b"a", b"b"])
            view = ring.recv_view()
        ring.send(b"c")
        assert view.valid
        view.release()
        assert ring.recv_many() == [b"b", b"c"]
        assert ring.free == ring.capacity


KEPT_TOO_LONG = """
import gc, random, sys
import numpy as np
import shmkit

chance = random.Random(int(sys.argv[1]))
kept = []
for _ in range(300):
    ring = shmkit.Ring.create(capacity=4096)
    for _ in range(chance.randrange(1, 20)):
        if chance.random() < 0.5:
            ring.try_send(np.arange(chance.randrange(30)))
        else:
            ring.try_send(bytes(chance.randrange(200)))
    slot = ring.reserve((4,), "f8") if chance.random() < 0.5 and ring.free > 2048 else None
    for _ in range(len(ring)):
        view = ring.recv_view()
        kept.append(chance.choice([lambda: view, lambda: view.array, lambda: view.buf])())
        if chance.random() < 0.4:
            view.release()
        if chance.random() < 0.1:
            break
    if slot is not None:
        kept.append(slot.array)
    del slot, view
    if chance.random() < 0.5:
        ring.close()
    del ring
    for thing in chance.sample(kept, len(kept) // 2):
        array = thing.array if hasattr(thing, "valid") else np.asarray(thing)
        array.tobytes()
        array.reshape(-1)[:] = 1
        if hasattr(thing, "release"):
            thing.release()
    chance.shuffle(kept)
    del kept[len(kept) // 3 :]
    gc.collect()
print("alive")
"""


@pytest.mark.parametrize("seed", ["1", "2"])
def test_nothing_that_is_kept_too_long_can_crash(process: Processes, seed: str) -> None:
    """Views, arrays and slots kept after release, after close and after the ring object can be used and dropped."""
    program = process.python(KEPT_TOO_LONG, seed)
    output, _ = program.communicate(timeout=60)
    assert (program.returncode, output) == (0, "alive\n")


POISONED = """
import numpy as np
import shmkit

ring = shmkit.Ring.create(capacity=4096)
ring.send(np.arange(32, dtype="u1"))
with ring.recv_view() as kept:
    assert kept.tolist() == list(range(32))
assert kept.tolist() == [0xDD] * 32, kept
ring.send_many([b"a" * 16, b"b" * 16])
first, second = ring.recv_view(), ring.recv_view()
inner, outer = second.array, first.array
second.release()
assert bytes(inner) == b"b" * 16  # behind a view that is held, nothing is given back yet
first.release()
assert bytes(outer) == bytes(inner) == b"\\xdd" * 16
ring.send(b"c" * 16)
view = ring.recv_view()
last = view.array
ring.close()
assert bytes(last) == b"\\xdd" * 16
print("poisoned")
"""


def test_a_debug_build_poisons_what_is_kept_beyond_its_release(process: Processes, debug_env: dict[str, str]) -> None:
    """0xdd, so that a mistake shows at once."""
    program = process.python(POISONED, env=debug_env)
    output, _ = program.communicate(timeout=60)
    assert (program.returncode, output) == (0, "poisoned\n")
