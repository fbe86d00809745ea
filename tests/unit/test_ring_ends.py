"""How ends are taken, closed and left, what the other end is told, and how a successor goes on."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext

import pytest

import shmkit
from support import Processes, wait_until
from unit import ring_children

WATCHDOG = ring_children.WATCHDOG

EVERY_CALL: dict[str, Callable[[shmkit.Ring], object]] = {
    "send": lambda ring: ring.send(b"x"),
    "try_send": lambda ring: ring.try_send(b"x"),
    "send_many": lambda ring: ring.send_many([b"x"]),
    "rows": lambda ring: ring.send_many(b"x", itemsize=1),
    "reserve": lambda ring: ring.reserve(1),
    "reserve an array": lambda ring: ring.reserve((1,), "u1"),
    "recv": lambda ring: ring.recv(),
    "try_recv": lambda ring: ring.try_recv(),
    "recv_into": lambda ring: ring.recv_into(bytearray(1)),
    "recv_many": lambda ring: ring.recv_many(),
    "recv_many_into": lambda ring: ring.recv_many_into(bytearray(1), 1),
    "recv_view": lambda ring: ring.recv_view(),
    "peek": lambda ring: ring.peek(),
    "next": next,
}


def another(ring: shmkit.Ring) -> shmkit.Ring:
    """A handle of its own on the same ring."""
    handle: shmkit.Ring = pickle.loads(pickle.dumps(ring))
    return handle


@pytest.fixture
def ends() -> Iterator[tuple[shmkit.Ring, shmkit.Ring]]:
    """Two handles on one ring: for a producer and a consumer."""
    with shmkit.Ring.create(capacity=1024) as producer, another(producer) as consumer:
        yield producer, consumer


# ── this end ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("call", EVERY_CALL)
@pytest.mark.parametrize("used", [True, False])
def test_a_closed_ring_refuses_every_call(name: str, call: str, used: bool) -> None:
    """Closed, a ValueError, which names the ring."""
    ring = shmkit.Ring.create(name, 1024, lifetime="leased")
    if used:
        ring.send(b"x")
        ring.peek()
    ring.close()
    with pytest.raises(shmkit.Closed, match=name) as caught:
        EVERY_CALL[call](ring)
    assert isinstance(caught.value, ValueError)


def test_close_may_be_repeated() -> None:
    """It is idempotent, in the with statement too."""
    with shmkit.Ring.create(capacity=1024) as ring:
        ring.send(b"x")
        ring.close()
        assert ring.closed
        ring.close()
    ring.close()


def test_a_closed_ring_still_says_who_it_was(name: str) -> None:
    """Name, capacity and repr; the counters are no longer there to be read."""
    ring = shmkit.Ring.create(name, 1024, lifetime="leased")
    ring.close()
    assert (ring.name, ring.capacity, ring.closed, bool(ring)) == (name, 1024, True, True)
    assert name in repr(ring)
    for ask in (len, shmkit.Ring.statistics, lambda ring: ring.free):
        with pytest.raises(shmkit.Closed):
            ask(ring)


def test_close_gives_the_memory_back_though_the_handle_lives() -> None:
    """Mapping and descriptor go at once, unless a view still shows the memory."""

    def held() -> list[str]:
        paths = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        descriptors = [os.readlink(path) for path in paths if os.path.lexists(path)]
        with open("/proc/self/maps") as maps:
            return [text for text in [*descriptors, *maps] if "memfd:shmkit" in text]

    shmkit.trim()
    before = len(held())
    ring = shmkit.Ring.create(capacity="1 MiB")
    ring.send(b"kept")
    view = ring.recv_view()
    kept = view.buf
    ring.close()
    assert len(bytes(kept)) == 4
    assert len(held()) > before
    del view, kept
    shmkit.trim()
    assert len(held()) == before
    assert ring.closed


# ── whose end it is ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_end_is_taken_at_first_use(ends: tuple[shmkit.Ring, shmkit.Ring]) -> None:
    """And by one handle at a time; RoleTaken names ring, role and process."""
    producer, consumer = ends
    assert producer.statistics().producer_pid is None
    producer.send(b"x")
    with pytest.raises(shmkit.RoleTaken, match=rf"ring has a producer already: process {os.getpid()}"):
        consumer.send(b"y")
    assert consumer.recv() == b"x"
    with pytest.raises(shmkit.RoleTaken, match="consumer"):
        producer.try_recv()
    consumer.close()
    producer.send(b"z")
    assert producer.recv() == b"z"


@pytest.mark.parametrize("call", EVERY_CALL)
def test_every_call_takes_its_end_or_is_refused(name: str, call: str) -> None:
    """RoleTaken from all that send, or all that receive, while another process has that end."""
    with (
        shmkit.Ring.create(name, 1024, lifetime="leased", role="producer") as producer,
        shmkit.Ring.attach(name, role="consumer"),
        shmkit.Ring.attach(name) as third,
    ):
        with pytest.raises(shmkit.RoleTaken, match=name):
            EVERY_CALL[call](third)
        producer.send(b"undisturbed")
        assert len(third) == 1


@pytest.mark.parametrize("role", ["producer", "consumer"])
def test_a_role_may_be_taken_at_once(name: str, role: str) -> None:
    """By create, attach and create_or_attach; the other side then knows who there is before anything is sent."""
    with shmkit.Ring.create(name, 1024, lifetime="leased") as ring:
        assert ring.statistics()[-2:] == (None, None)
        for take in (shmkit.Ring.attach, lambda name, role: shmkit.Ring.create_or_attach(name, 1024, role=role)):
            with take(name, role=role):
                now = ring.statistics()
                assert (now.producer_pid, now.consumer_pid) == (
                    (os.getpid(), None) if role == "producer" else (None, os.getpid())
                )
                with pytest.raises(shmkit.RoleTaken):
                    shmkit.Ring.attach(name, role=role)
    with shmkit.Ring.create(name, 1024, lifetime="leased", role=role) as ring:
        assert os.getpid() in ring.statistics()[-2:]


@pytest.mark.parametrize("role", ["sender", "", 1, b"producer", True, ["producer"]])
def test_a_role_of_another_name_is_refused_before_anything_is_made(name: str, role: object) -> None:
    """ValueError that shows it; no segment is left behind."""
    with pytest.raises((ValueError, TypeError), match="role"):
        shmkit.Ring.create(name, 1024, role=role)
    with pytest.raises((ValueError, TypeError), match="role"):
        shmkit.Ring.create_or_attach(name, 1024, role=role)
    with pytest.raises(shmkit.SegmentNotFound):
        shmkit.Ring.attach(name)


# ── what the other end is told ──────────────────────────────────────────────────────────────────────────────────────


def by_close(ring: shmkit.Ring) -> None:
    ring.close()


def by_with(ring: shmkit.Ring) -> None:
    with ring:
        pass


@pytest.mark.parametrize("leave", [by_close, by_with])
def test_the_stream_ends_after_the_last_record(
    ends: tuple[shmkit.Ring, shmkit.Ring], leave: Callable[[shmkit.Ring], None]
) -> None:
    """EndOfStream, an EOFError, when the producer has closed and everything is received; again and again."""
    producer, consumer = ends
    producer.send_many([b"a", b"b"])
    leave(producer)
    assert [consumer.recv(), consumer.try_recv()] == [b"a", b"b"]
    for call in ("recv", "try_recv", "recv_into", "recv_many", "recv_many_into", "recv_view", "peek"):
        with pytest.raises(shmkit.EndOfStream, match="everything is received") as caught:
            EVERY_CALL[call](consumer)
        assert isinstance(caught.value, EOFError)


def test_the_stream_ends_when_the_last_reference_to_the_handle_goes() -> None:
    """A dropped handle is a closed one."""
    producer = shmkit.Ring.create(capacity=1024)
    with another(producer) as consumer:
        producer.send(b"a")
        del producer
        gc.collect()
        assert consumer.recv() == b"a"
        with pytest.raises(shmkit.EndOfStream):
            consumer.recv()


def test_iteration_ends_with_the_stream(ends: tuple[shmkit.Ring, shmkit.Ring]) -> None:
    """The for loop is the whole of a consumer."""
    producer, consumer = ends
    producer.send_many([b"a", b"b", b"c"])
    producer.close()
    assert list(consumer) == [b"a", b"b", b"c"]
    assert list(consumer) == []


def test_a_stream_without_records_ends_too(ends: tuple[shmkit.Ring, shmkit.Ring]) -> None:
    """Who came and left without sending has ended the stream; who never came has not."""
    producer, consumer = ends
    with pytest.raises(TimeoutError):
        consumer.recv(timeout=0)
    producer.send_many([])
    producer.close()
    assert list(consumer) == []


def test_a_waiting_consumer_is_told(process: Processes) -> None:
    """The close wakes it."""
    with shmkit.Ring.create(capacity=1024) as ring:

        def wait() -> None:
            with pytest.raises(shmkit.EndOfStream):
                ring.recv(timeout=WATCHDOG)

        child = process(wait)
        wait_until(lambda: ring.statistics().consumer_waits > 0)
        with another(ring) as producer:
            producer.send_many([])
        child.join(WATCHDOG)
        assert child.exitcode == 0


def test_a_process_that_ends_in_order_has_closed(start_method: BaseContext, process: Processes) -> None:
    """Whatever the start method, and without a close() in the child: EndOfStream, after all that it sent."""
    with shmkit.Ring.create(capacity=4096) as ring:
        items = [bytes([n]) * 10 for n in range(50)]
        process(ring_children.send_all, ring, items, context=start_method)
        assert [ring.recv(timeout=WATCHDOG) for _ in items] == items
        with pytest.raises(shmkit.EndOfStream):
            ring.recv(timeout=WATCHDOG)


def test_a_process_that_fails_has_closed_too(process: Processes) -> None:
    """An exception that ends it is an end in order: what it meant to send is another matter."""
    with shmkit.Ring.create(capacity=1024) as ring:
        child = process(ring_children.send_and_fail, ring, [b"a"])
        assert list(ring) == [b"a"]
        child.join(WATCHDOG)
        assert child.exitcode == 3


def test_a_process_that_vanishes_has_died(start_method: BaseContext, process: Processes) -> None:
    """PeerDied with its pid, after all that it sent; and again at every call until somebody else comes."""
    with shmkit.Ring.create(capacity=4096) as ring:
        child = process(ring_children.send_and_vanish, ring, [b"a", b"b"], context=start_method)
        assert [ring.recv(timeout=WATCHDOG), ring.recv(timeout=WATCHDOG)] == [b"a", b"b"]
        for call in ("recv", "recv_into", "recv_many", "recv_many_into", "recv_view", "next"):
            with pytest.raises(shmkit.PeerDied, match=rf"producer, process {child.pid}, has died") as caught:
                EVERY_CALL[call](ring)
            assert caught.value.pid == child.pid


def test_who_never_waits_is_told_of_a_death_too(process: Processes) -> None:
    """try_recv, peek, try_send and calls with a time-out of 0 ask the kernel now and then."""

    def until_told(call: Callable[[], object]) -> shmkit.PeerDied:
        def told() -> shmkit.PeerDied | None:
            try:
                for _ in range(100):
                    with contextlib.suppress(TimeoutError):
                        call()
            except shmkit.PeerDied as death:
                return death
            return None

        return wait_until(told)

    with shmkit.Ring.create(capacity=1024) as ring:
        child = process(ring_children.send_and_vanish, ring, [])
        child.join()
        process(ring_children.send_and_vanish, ring, [b"x"]).join()
        assert ring.recv() == b"x"
        for call in (ring.try_recv, ring.peek, lambda: ring.recv(timeout=0), lambda: ring.recv_view(timeout=0)):
            assert until_told(call).pid > 0
    with shmkit.Ring.create(capacity=1024) as ring:
        ring.send(b"x")
        child = process(lambda: (ring.recv(), os._exit(0)))
        child.join()
        for call in (lambda: ring.try_send(bytes(300)), lambda: ring.send(bytes(300), timeout=0)):
            assert until_told(call).pid == child.pid


def test_a_full_ring_whose_consumer_has_closed_is_broken(ends: tuple[shmkit.Ring, shmkit.Ring]) -> None:
    """As long as there is room, sending goes on; then Broken, a BrokenPipeError, at once."""
    producer, consumer = ends
    producer.send(b"x")
    consumer.recv()
    consumer.close()
    while producer.free > 400:
        assert producer.try_send(bytes(100))
    big = bytes(500)
    for call in (
        lambda: producer.send(big),
        lambda: producer.send(big, timeout=0),
        lambda: producer.try_send(big),
        lambda: producer.send_many([big]),
        lambda: producer.send_many(big, itemsize=500),
        lambda: producer.reserve(500),
    ):
        with pytest.raises(shmkit.Broken, match="full and its consumer has closed") as caught:
            call()
        assert isinstance(caught.value, BrokenPipeError)
        assert not isinstance(caught.value, shmkit.PeerDied)


def test_send_many_says_how_many_got_through_before_it_broke(ends: tuple[shmkit.Ring, shmkit.Ring]) -> None:
    """Broken.sent, as with TimeoutError."""
    producer, consumer = ends
    consumer.peek()
    consumer.close()
    with pytest.raises(shmkit.Broken) as caught:
        producer.send_many([bytes(120)] * 20)
    assert caught.value.sent == 8  # type: ignore[attr-defined]
    with another(producer) as successor:
        assert len(successor.recv_many()) == 8


def test_a_waiting_producer_is_told(process: Processes) -> None:
    """The consumer's close wakes it."""
    with shmkit.Ring.create(capacity=1024) as ring:
        ring.send(bytes(800))
        with another(ring) as producer:
            ring.close()

            def wait() -> None:
                with pytest.raises(shmkit.Broken):
                    producer.send(bytes(800), timeout=WATCHDOG)

            child = process(wait)
            wait_until(lambda: producer.statistics().producer_waits > 0)
            with another(producer) as consumer:
                consumer.peek()
            child.join(WATCHDOG)
            assert child.exitcode == 0


# ── successors ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_successor_of_a_producer_goes_on(process: Processes, start_method: BaseContext) -> None:
    """After EndOfStream, and after PeerDied: the consumer receives again."""
    with shmkit.Ring.create(capacity=1024) as ring:
        for target, told in [
            (ring_children.send_all, shmkit.EndOfStream),
            (ring_children.send_and_vanish, shmkit.PeerDied),
            (ring_children.send_all, shmkit.EndOfStream),
        ]:
            items = [bytes(n) for n in range(100)]
            process(target, ring, items, context=start_method)
            received = []
            while len(received) < len(items):
                # Until the successor comes, the one before is gone.
                with contextlib.suppress(shmkit.EndOfStream, shmkit.PeerDied):
                    received.append(ring.recv(timeout=WATCHDOG))
            assert received == items
            with pytest.raises(told):
                ring.recv(timeout=WATCHDOG)


def test_a_successor_of_a_consumer_goes_on_where_it_left(process: Processes) -> None:
    """What the first one has received is gone, what it has not is there; the producer notices nothing."""
    with shmkit.Ring.create(capacity=1024) as ring, another(ring) as producer:
        producer.send_many([b"%d" % n for n in range(10)])
        for first in range(0, 9, 3):
            process(ring_children.receive, ring, 3).join(WATCHDOG)
            producer.send(b"%d" % (first // 3 + 10))
        assert ring.recv_many() == [b"9", b"10", b"11", b"12"]
        assert (ring.statistics().sent, ring.statistics().received) == (13, 13)


def test_what_views_held_at_a_close_is_received() -> None:
    """A close gives it back: a successor starts behind it."""
    with shmkit.Ring.create(capacity=1024) as producer:
        producer.send_many([b"a", b"b", b"c"])
        with another(producer) as consumer:
            first, second = consumer.recv_view(), consumer.recv_view()
        assert not first.valid
        assert not second.valid
        assert producer.recv_many() == [b"c"]
        assert producer.free == 1024


def test_counters_survive_a_takeover_while_views_are_held(process: Processes) -> None:
    """Records that the consumer holds are counted once, whoever becomes the producer meanwhile."""
    with shmkit.Ring.create(capacity=1024) as ring:
        process(ring_children.send_and_vanish, ring, [b"a", b"b", b"c", b"d", b"e"]).join(WATCHDOG)
        held = [ring.recv_view(), ring.recv_view()]
        process(ring_children.send_all, ring, [b"f"]).join(WATCHDOG)
        assert (len(ring), ring.statistics().sent, ring.statistics().received) == (4, 6, 2)
        del held
        assert ring.recv_many() == [b"c", b"d", b"e", b"f"]
        assert (len(ring), ring.statistics().sent, ring.statistics().received) == (0, 6, 6)
