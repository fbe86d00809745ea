"""A process that closes descriptors which it does not know keeps its ring: only the other end's death it cannot see."""

from __future__ import annotations

import os
import random
import signal
import tempfile
from collections.abc import Callable, Iterator

import pytest

import shmkit
from faults.killing import number_of, receive_next, record, send_next
from support import Processes, wait_until
from support.log import Log

WATCHDOG = 30.0
RECORDS = 2000


@pytest.fixture(params=["anonymous", "named"])
def ring(request: pytest.FixtureRequest, name: str) -> Iterator[shmkit.Ring]:
    with shmkit.Ring.create(None if request.param == "anonymous" else name, 2048, lifetime="leased") as ring:
        yield ring


def lose_descriptors() -> None:
    """What programs do that become daemons: everything above the standard three is closed."""
    os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)


def produce(ring: shmkit.Ring, loses: bool) -> None:
    number, chance = 0, random.Random(1)
    while number < RECORDS:
        if loses and number >= RECORDS // 2:
            lose_descriptors()
            loses = False
        number = send_next(ring, number, chance)
    ring.close()


def consume(ring: shmkit.Ring, loses: bool) -> None:
    number, chance = 0, random.Random(2)
    while number < RECORDS:
        if loses and number >= RECORDS // 3:
            lose_descriptors()
            loses = False
        number = receive_next(ring, number, chance)
    while True:  # the last call of the producer may have been a batch
        try:
            assert number_of(ring.recv(timeout=WATCHDOG)) == number
        except shmkit.EndOfStream:
            break
        number += 1


@pytest.mark.parametrize("who", ["producer", "consumer", "both"])
def test_a_stream_goes_on_when_an_end_closes_all_descriptors(process: Processes, ring: shmkit.Ring, who: str) -> None:
    """In the middle of it, every way of sending and receiving; its end in order is told as ever."""
    children = [
        process(produce, ring, who in ("producer", "both")),
        process(consume, ring, who in ("consumer", "both")),
    ]
    for child in children:
        child.join(WATCHDOG)
        assert child.exitcode == 0


def receives_in_vain(ring: shmkit.Ring) -> None:
    for _ in range(600):  # those who never wait ask the kernel now and then, too
        assert ring.try_recv() is None
    for _ in range(3):
        with pytest.raises(TimeoutError, match="empty"):
            ring.recv(timeout=0.06)


def sends_in_vain(ring: shmkit.Ring) -> None:
    while ring.try_send(bytes(100)):
        pass
    for _ in range(600):
        assert not ring.try_send(bytes(100))
    for _ in range(3):
        with pytest.raises(TimeoutError, match="full"):
            ring.send(bytes(100), timeout=0.06)


IN_VAIN: dict[str, Callable[[shmkit.Ring], None]] = {"consumer": receives_in_vain, "producer": sends_in_vain}


@pytest.mark.parametrize("role", ["producer", "consumer"])
def test_a_death_is_not_seen_without_descriptors_but_time_outs_hold(
    process: Processes, ring: shmkit.Ring, role: str
) -> None:
    """The limit: who cannot ask waits as for a slow one, neither for ever nor with a wrong PeerDied."""
    log = Log()

    def victim() -> None:
        if role == "producer":
            ring.recv(timeout=WATCHDOG)
        else:
            ring.send(b"there", timeout=WATCHDOG)
        signal.pause()

    def survivor() -> None:
        if role == "producer":
            ring.send(b"there", timeout=WATCHDOG)
        else:
            ring.recv(timeout=WATCHDOG)
        lose_descriptors()
        log[0] = 1
        IN_VAIN[role](ring)  # the other end lives …
        log[0] = 2
        wait_until(lambda: log[0] == 3)
        IN_VAIN[role](ring)  # … and has died

    killed, child = process(victim), process(survivor)
    wait_until(lambda: log[0] == 2 or child.exitcode is not None)
    killed.kill()
    killed.join()
    log[0] = 3
    child.join(WATCHDOG)
    assert child.exitcode == 0


@pytest.mark.parametrize("role", ["producer", "consumer"])
def test_an_end_in_order_is_seen_without_descriptors(process: Processes, ring: shmkit.Ring, role: str) -> None:
    """What the ring itself says needs nobody to be asked: EndOfStream, Broken."""
    log = Log()

    def survivor() -> None:
        if role == "consumer":
            ring.recv(timeout=WATCHDOG)
            lose_descriptors()
            log[0] = 1
            with pytest.raises(shmkit.EndOfStream):
                ring.recv(timeout=WATCHDOG)
        else:
            ring.send(b"there", timeout=WATCHDOG)
            lose_descriptors()
            log[0] = 1
            with pytest.raises(shmkit.Broken):
                while True:
                    ring.send(bytes(100), timeout=WATCHDOG)

    child = process(survivor)
    if role == "consumer":
        ring.send(b"there", timeout=WATCHDOG)
    else:
        ring.recv(timeout=WATCHDOG)
    wait_until(lambda: log[0] == 1 or child.exitcode is not None)
    wait_until(lambda: sum(waits(ring)) > 0 or child.exitcode is not None)
    ring.close()
    child.join(WATCHDOG)
    assert child.exitcode == 0


def waits(ring: shmkit.Ring) -> tuple[int, int]:
    now = ring.statistics()
    return now.producer_waits, now.consumer_waits


@pytest.mark.parametrize("role", ["producer", "consumer"])
def test_the_death_of_one_without_descriptors_is_seen(process: Processes, ring: shmkit.Ring, role: str) -> None:
    """Its lease is a mapping: it ends with the process, and not before."""
    log = Log()

    def victim() -> None:
        if role == "producer":
            ring.send(b"there", timeout=WATCHDOG)
        else:
            ring.recv(timeout=WATCHDOG)
        lose_descriptors()
        log[0] = 1
        signal.pause()

    child = process(victim)
    if role == "producer":
        assert ring.recv(timeout=WATCHDOG) == b"there"
    else:
        ring.send(b"there", timeout=WATCHDOG)
    wait_until(lambda: log[0] == 1 or child.exitcode is not None)
    IN_VAIN["consumer" if role == "producer" else "producer"](ring)
    child.kill()
    with pytest.raises(shmkit.PeerDied) as death:
        if role == "producer":
            ring.recv(timeout=WATCHDOG)
        else:
            ring.send(bytes(100), timeout=WATCHDOG)
    assert death.value.pid == child.pid


def test_a_role_cannot_be_taken_without_descriptors_and_the_message_says_what_can(
    process: Processes, ring: shmkit.Ring
) -> None:
    """SegmentError; who attaches to a named ring anew has it all again."""
    ring.send(record(0))

    def child() -> None:
        lose_descriptors()
        for _ in range(3):
            with pytest.raises(shmkit.SegmentError, match="attach to the ring anew"):
                ring.recv(timeout=WATCHDOG)
        if ring.name is not None:
            with shmkit.Ring.attach(ring.name) as again:
                assert number_of(again.recv(timeout=WATCHDOG)) == 0
        ring.close()

    other = process(child)
    other.join(WATCHDOG)
    assert other.exitcode == 0
    assert len(ring) == (1 if ring.name is None else 0)


@pytest.mark.parametrize("role", ["producer", "consumer"])
def test_files_that_come_to_bear_the_numbers_are_left_alone(process: Processes, ring: shmkit.Ring, role: str) -> None:
    """They are neither asked in the ring's stead, nor locked, nor closed."""

    def child() -> None:
        if role == "producer":
            ring.send(record(0))
        else:
            assert number_of(ring.recv(timeout=WATCHDOG)) == 0
        highest = max(map(int, os.listdir("/proc/self/fd")))
        lose_descriptors()
        files = [tempfile.TemporaryFile()]  # noqa: SIM115
        while files[-1].fileno() < highest:
            files.append(tempfile.TemporaryFile())  # noqa: SIM115
        IN_VAIN[role](ring)
        ring.close()
        for number, file in enumerate(files):
            file.write(record(number))
            file.seek(0)
            assert number_of(file.read()) == number
            file.close()

    other = process(child)
    if role == "producer":
        assert number_of(ring.recv(timeout=WATCHDOG)) == 0
    else:
        ring.send(record(0), timeout=WATCHDOG)
    other.join(WATCHDOG)
    assert other.exitcode == 0
