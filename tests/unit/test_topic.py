"""Topics: one publisher that never waits; subscribers get each value once and whole, or are told what they lost."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import zlib
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import pytest

import shmkit
from support import Processes, wait_until


@pytest.fixture
def publisher() -> shmkit.Publisher:
    return shmkit.Publisher(slots=4, slot_size="64 KiB")


def test_values_come_in_order_and_once(publisher: shmkit.Publisher) -> None:
    """Whatever they are; each subscriber gets all of them."""
    subscribers = [publisher.subscriber() for _ in range(3)]
    values: list[Any] = [1, "x" * 1000, {"a": [1, 2]}, b"y" * 30_000, None, np.arange(1000.0)]
    for number, value in enumerate(values):
        publisher.publish(value)
        for subscriber in subscribers:
            got = subscriber.recv(timeout=5)
            assert np.array_equal(got, value) if isinstance(value, np.ndarray) else got == value
            assert subscriber.position == number
            with pytest.raises(TimeoutError):
                subscriber.recv(timeout=0)
    assert publisher.published == 6


def test_who_lags_is_told_what_is_lost(publisher: shmkit.Publisher) -> None:
    """The latest slots - 1 values are there; the others are counted."""
    subscriber = publisher.subscriber()
    for number in range(10):
        publisher.publish(number)
    assert subscriber.pending == 3
    assert [subscriber.recv(0) for _ in range(3)] == [7, 8, 9]
    assert subscriber.lost == 7
    assert subscriber.try_recv() is None


def test_the_newest_value(publisher: shmkit.Publisher) -> None:
    """latest() skips what is older, and may be asked again."""
    subscriber = publisher.subscriber()
    with pytest.raises(TimeoutError):
        subscriber.latest()
    for number in range(6):
        publisher.publish(number)
    assert subscriber.latest() == subscriber.latest() == 5
    assert subscriber.lost == 0
    publisher.publish("next")
    assert subscriber.recv(0) == "next"


def test_who_comes_late(publisher: shmkit.Publisher) -> None:
    """Hears what comes, and with replay what is still there."""
    publisher.publish("old")
    late, replaying = publisher.subscriber(), publisher.subscriber(replay=True)
    publisher.publish("new")
    assert late.recv(0) == "new"
    assert [replaying.recv(0), replaying.recv(0)] == ["old", "new"]


def test_in_place(publisher: shmkit.Publisher) -> None:
    """A loan is published when its block ends, given up when that raises, and read-only afterwards."""
    subscriber = publisher.subscriber()
    with publisher.loan((50, 20), "float32") as array:
        array[:] = 7
        with pytest.raises(RuntimeError, match="has a loan"):
            publisher.publish(1)
    got = subscriber.recv(0)
    assert got.shape == (50, 20)
    assert got.dtype == "float32"
    assert (got == 7).all()
    got[:] = 1  # a copy of one's own
    with pytest.raises(ValueError, match="read-only"):
        array[:] = 8
    with pytest.raises(ZeroDivisionError), publisher.loan(10) as array:
        raise ZeroDivisionError
    assert subscriber.try_recv() is None
    publisher.publish("after")
    assert subscriber.recv(0) == "after"


def test_the_end(publisher: shmkit.Publisher) -> None:
    """EndOfStream after the last value; iteration stops there."""
    subscriber, other = publisher.subscriber(), publisher.subscriber()
    publisher.publish(1)
    publisher.publish(2)
    assert subscriber.publisher_alive
    publisher.close()
    publisher.close()
    assert list(subscriber) == [1, 2]
    assert not subscriber.publisher_alive
    assert other.latest() == 2
    with pytest.raises(shmkit.EndOfStream):
        other.recv()
    with pytest.raises(shmkit.Closed):
        publisher.publish(3)


def test_mistakes(name: str, publisher: shmkit.Publisher) -> None:
    with pytest.raises(shmkit.RecordTooLarge, match="slots have 64 KiB"):
        publisher.publish(np.zeros(100_000))
    with pytest.raises(shmkit.RecordTooLarge):
        publisher.loan(10**9).__enter__()
    for bad in ({"slots": 1}, {"slots": 10**9}, {"slot_size": -1}, {"slot_size": "x"}):
        with pytest.raises(ValueError):  # noqa: PT011
            shmkit.Publisher(**bad)
    with pytest.raises(TypeError):
        shmkit.Publisher(slots=2.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Python objects"):
        publisher.loan(3, object).__enter__()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        publisher.publish(lambda: 0)
    publisher.publish("goes on")
    with pytest.raises(TypeError):
        shmkit.Subscriber()
    with pytest.raises(shmkit.SegmentNotFound):
        shmkit.Subscriber.attach(name)
    segment = shmkit.Segment.create(name, 4096)
    with pytest.raises(shmkit.LayoutMismatch):
        shmkit.Subscriber.attach(name)
    segment.unlink()


def test_by_name(name: str, process: Processes) -> None:
    """A publisher that comes back goes on; a second one is refused while there is one."""
    first = shmkit.Publisher.create(name, slots=8, slot_size=1000)
    listener = process.python(
        f"import shmkit; s = shmkit.Subscriber.attach({name!r}, replay=True); print([v for v in s])"
    )
    first.publish("one")
    with pytest.raises(shmkit.RoleTaken):
        code = f"import shmkit; shmkit.Publisher.attach({name!r})"
        program = process.python(code, stderr=-1)
        _, complaints = program.communicate(timeout=60)
        if "RoleTaken" in complaints:
            raise shmkit.RoleTaken(complaints)
    first.close()
    output, _ = listener.communicate(timeout=60)
    assert output.strip() == "['one']"
    second = shmkit.Publisher.create_or_attach(name, slots=8, slot_size=1000)
    subscriber = shmkit.Subscriber.attach(name)
    second.publish("two")
    assert subscriber.recv(5) == "two"
    assert subscriber.position == 1
    with pytest.raises(ValueError, match="exists with 8 slots"):
        second.close()
        shmkit.Publisher.create_or_attach(name, slots=9, slot_size=1000)
    second.unlink()


def listen(subscriber: shmkit.Subscriber, answers: Any) -> None:
    answers.put(list(subscriber))


def test_children(start_method: BaseContext, process: Processes, publisher: shmkit.Publisher) -> None:
    """A subscriber is inherited, or pickled, and goes on where it was."""
    answers = shmkit.Queue()
    subscriber = publisher.subscriber()
    publisher.publish("before")
    child = process(listen, subscriber, answers, context=start_method)
    publisher.publish("after")
    publisher.close()
    child.join(60)
    assert answers.get(timeout=60) == ["before", "after"]


def checked(number: int) -> np.ndarray[Any, Any]:
    value = np.full(2000 + number % 500, number, "u8")
    value[0] = zlib.crc32(value[1:].tobytes())
    return value


def read_all(subscriber: shmkit.Subscriber, answers: Any, slow: bool) -> None:
    got, last = 0, -1
    for value in subscriber:
        assert value[0] == zlib.crc32(value[1:].tobytes()), "torn"
        number = int(value[1])
        assert number > last
        last, got = number, got + 1
        if slow and got % 50 == 0:
            os.sched_yield()
            subscriber.latest()
            last = max(last, subscriber.position)
    answers.put((got, subscriber.lost, last))


def test_nothing_is_torn(process: Processes) -> None:
    """A publisher at full speed, subscribers that cannot keep up: what they get is whole, and the counts add up."""
    publisher = shmkit.Publisher(slots=3, slot_size="32 KiB")
    answers = shmkit.Queue()
    children = [process(read_all, publisher.subscriber(), answers, False) for _ in range(3)]
    count = 5000
    for number in range(count):
        publisher.publish(checked(number))
    publisher.close()
    for child in children:
        child.join(120)
        assert child.exitcode == 0
    for _ in children:
        got, lost, last = answers.get(timeout=10)
        assert got + lost == count
        assert last == count - 1


def publish_for_ever(name: str) -> None:
    publisher = shmkit.Publisher.attach(name)
    number = publisher.published
    while True:
        publisher.publish(checked(number))
        number += 1


def test_killed_publishers(name: str, process: Processes) -> None:
    """The next one goes on: no value is torn, none comes twice, subscribers wait meanwhile."""
    publisher = shmkit.Publisher.create(name, slots=4, slot_size="32 KiB")
    publisher.close()
    subscriber = shmkit.Subscriber.attach(name)
    try:
        last = -1
        for _ in range(20):
            child = process(publish_for_ever, name)
            before = subscriber.position
            wait_until(lambda before=before: subscriber.published > before + 20)  # type: ignore[misc]
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            wait_until(lambda: not subscriber.publisher_alive)
            while (value := subscriber.try_recv()) is not None:
                assert value[0] == zlib.crc32(value[1:].tobytes())
                assert int(value[1]) > last
                last = int(value[1])
        with pytest.raises(TimeoutError):
            subscriber.recv(0.01)
    finally:
        subscriber.unlink()


def test_a_killed_subscriber_is_nobodys_concern(process: Processes, publisher: shmkit.Publisher) -> None:
    children = [process(read_all, publisher.subscriber(), None, False) for _ in range(3)]
    for number in range(200):
        publisher.publish(checked(number))
        if number % 60 == 50:
            children.pop().kill()
    assert publisher.published == 200


def test_a_forked_child_is_no_publisher(process: Processes, publisher: shmkit.Publisher) -> None:
    def publish() -> None:
        with pytest.raises(shmkit.RoleTaken):
            publisher.publish(1)

    child = process(publish, context="fork")
    child.join(60)
    assert child.exitcode == 0
    publisher.publish(2)


def test_a_waiter_is_woken(publisher: shmkit.Publisher) -> None:
    subscriber = publisher.subscriber()
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(subscriber.recv(60)))
    thread.start()
    publisher.publish("now")
    thread.join(60)
    assert got == ["now"]


def test_threads_of_a_publisher_take_turns() -> None:
    """Values of several threads are whole, and each is there once."""
    publisher = shmkit.Publisher(slots=64, slot_size="256 KiB")
    subscriber = publisher.subscriber()
    got: list[int] = []

    def publish(me: int) -> None:
        for _ in range(20):
            publisher.publish(np.full(25_000, me))

    def receive() -> None:
        for value in subscriber:
            assert (value == value[0]).all()
            got.append(int(value[0]))

    receiver = threading.Thread(target=receive)
    threads = [threading.Thread(target=publish, args=(me,)) for me in range(3)]
    for thread in [receiver, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    publisher.close()
    receiver.join(60)
    assert len(got) + subscriber.lost == 60
    assert subscriber.lost or sorted(got) == [0] * 20 + [1] * 20 + [2] * 20


def test_an_array_without_elements_can_be_loaned(name: str) -> None:
    """It needs no memory, and arrives as it is."""
    with shmkit.Publisher.create(name, slots=2, slot_size=64) as publisher:
        subscriber = shmkit.Subscriber.attach(name)
        for shape in (0, (3, 0), (0, 5)):
            with publisher.loan(shape, "int16"):
                pass
            got = subscriber.recv(5.0)
            assert got.dtype == np.int16
            assert got.shape == ((shape,) if isinstance(shape, int) else shape)
        subscriber.close()
        publisher.unlink()


class Named:
    """What pickle makes."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __reduce__(self) -> tuple[Any, ...]:
        return Named, (self.array,)


@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: (a, 1), lambda a: [a[1:], a.T], Named])
def test_a_shared_array_is_published_as_a_copy(wrap: Any, publisher: shmkit.Publisher) -> None:
    """For each of its subscribers, when its publisher has let go of it, too; no reference to it is under way."""
    subscribers = [publisher.subscriber() for _ in range(3)]
    array = shmkit.array(np.arange(12.0).reshape(3, 4))
    publisher.publish(wrap(array))
    assert array.base.references == (0, 0)
    array[:] = -1
    del array
    for subscriber in subscribers:
        got = subscriber.recv(timeout=5)
        found = got.array if isinstance(got, Named) else got[0] if isinstance(got, (tuple, list)) else got
        assert type(found) is np.ndarray
        assert found.ravel()[-1] == 11


@pytest.mark.parametrize("shape", [2.5, (2.5,), ("3",), (3, None)])
def test_a_loans_shape_is_whole_numbers(shape: Any, publisher: shmkit.Publisher) -> None:
    with pytest.raises(TypeError), publisher.loan(shape):
        pass
    with publisher.loan((2, np.int64(3))) as array:
        array[:] = 1
