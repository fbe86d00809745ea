"""Records that prove themselves, and the processes that send and receive them.

Each record carries its stream, its number and a checksum, and its kind, size and content follow from those: a receiver
knows what must come next to the last bit, and says whether what came instead is torn, lost, doubled or out of order.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

import shmkit

WATCHDOG = 60.0
HEADER = struct.Struct("<IIQ")
POOL = random.Random(0).randbytes(1 << 18)

Item = bytes | np.ndarray


@dataclass(frozen=True)
class Plan:
    """One stream: how many records, how large at most, and how its two ends behave."""

    stream: int
    count: int
    most: int
    pauses: bool = False
    seed: int = 0

    def chance(self, who: str) -> random.Random:
        return random.Random(f"{self.seed} {self.stream} {who}")

    def scaled(self, factor: int) -> Plan:
        return replace(self, count=self.count * factor)


# ── records ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def size_of(stream: int, number: int, most: int) -> int:
    """Mostly small, now and then up to the most that there is room for."""
    mixed = zlib.crc32(struct.pack("<II", number, stream))
    small = 16 + mixed % 112
    return 16 + mixed % (most - 15) if mixed >> 8 & 15 == 0 else min(small, most)


def record(stream: int, number: int, most: int) -> Item:
    """Record `number` of the stream: bytes, or an array in C or in Fortran order."""
    size = size_of(stream, number, most)
    start = number * 7919 % (len(POOL) - size) if size < len(POOL) else 0
    body = (POOL[start : start + size - HEADER.size]).ljust(size - HEADER.size, b"\xa5")
    data = HEADER.pack(zlib.crc32(body, number & 0xFFFFFFFF), stream, number) + body
    kind = number % 5
    if kind < 3:
        return data
    array = np.frombuffer(data[: size // 8 * 8], "<u8")
    return array if kind == 3 or len(array) % 2 else array.reshape(2, -1, order="F")


def numbered(got: object) -> tuple[int, int]:
    """What a record says of itself: its stream and its number."""
    if isinstance(got, np.ndarray):
        got = got.tobytes(order="A")
    _, stream, number = HEADER.unpack_from(bytes(got))  # type: ignore[arg-type]
    return stream, number


def check(got: object, stream: int, number: int, most: int) -> None:
    """AssertionError, saying how, unless it is record `number` of the stream, whole."""
    expected = record(stream, number, most)
    if isinstance(expected, np.ndarray):
        if (
            isinstance(got, np.ndarray)
            and (got.shape, got.dtype) == (expected.shape, expected.dtype)
            and got.tobytes(order="A") == expected.tobytes(order="A")
        ):
            return
    elif isinstance(got, (bytes, memoryview)) and got == expected:
        return
    came = numbered(got)
    what = "torn, or of another kind" if came == (stream, number) else f"record {came[1]} of stream {came[0]}"
    raise AssertionError(f"record {number} of stream {stream} should come: got {got!r:.80}, {what}")


# ── ends ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def pause_until(condition: Callable[[], bool]) -> None:
    """A phase without work: until the other end sleeps, but not for long, since it may be in such a phase itself."""
    until = time.monotonic() + 0.05
    while not condition() and time.monotonic() < until:
        time.sleep(0.0005)


def produce(ring: shmkit.Ring, plan: Plan) -> None:
    """Sends the stream in all ways that there are, and closes."""
    chance = plan.chance("producer")
    time.sleep(chance.random() * 0.02)
    number = 0
    while number < plan.count:
        item = record(plan.stream, number, plan.most)
        way = chance.randrange(5)
        if way == 0:
            batch = range(number, min(number + chance.randrange(1, 40), plan.count))
            number += ring.send_many([record(plan.stream, n, plan.most) for n in batch], timeout=WATCHDOG)
            continue
        if way == 1 and isinstance(item, bytes):
            with ring.reserve(len(item) + chance.randrange(8), timeout=WATCHDOG) as room:
                room[: len(item)] = item
                slot = room.obj
                slot.commit(len(item))
        elif way == 2 and isinstance(item, np.ndarray):
            order = "C" if item.flags.c_contiguous else "F"
            with ring.reserve(item.shape, item.dtype, WATCHDOG, order=order) as inside:
                inside[...] = item
        elif way != 3 or not ring.try_send(item):
            ring.send(item, timeout=WATCHDOG)
        number += 1
        if plan.pauses and chance.random() < 0.01:
            slept = ring.statistics().consumer_waits
            pause_until(lambda slept=slept: ring.statistics().consumer_waits > slept)  # type: ignore[misc]
    ring.close()


def received(ring: shmkit.Ring, plan: Plan) -> Iterator[Item | memoryview]:
    """Receives in all ways that there are, until the stream ends; views are held for a while and end in any order."""
    chance = plan.chance("consumer")
    time.sleep(chance.random() * 0.02)
    held: list[tuple[shmkit.RecordView, int]] = []
    place = np.zeros(plan.most, "u1")
    number = 0
    try:
        while True:
            way = chance.randrange(6)
            if way == 0:
                for item in ring.recv_many(chance.choice([None, 3, 20]), timeout=WATCHDOG):
                    yield item
                    number += 1
            elif way == 1 and len(held) < 20:
                view = ring.recv_view(timeout=WATCHDOG)
                with_view = view.buf if number % 5 < 3 else view.array
                yield with_view
                held.append((view, number))
                del view, with_view
                number += 1
            elif way == 2 and number % 5 < 3:
                yield place[: ring.recv_into(place, timeout=WATCHDOG)].tobytes()
                number += 1
            elif way == 3:
                item = ring.try_recv()
                if item is not None:
                    yield item
                    number += 1
            else:
                yield ring.recv(timeout=WATCHDOG)
                number += 1
            # Who waits for a record while holding all the room there is for it waits in vain.
            while held and ((alone := len(ring) == 0) or len(held) > 15 or chance.random() < 0.6):
                view, which = held.pop(chance.randrange(len(held)))
                check(view.buf if which % 5 < 3 else view.array, plan.stream, which, plan.most)
                # Else it ends with its last reference, which may be the receiver's.
                if alone or chance.random() < 0.5:
                    view.release()
                del view
            if plan.pauses and chance.random() < 0.01:
                slept = ring.statistics().producer_waits
                pause_until(lambda slept=slept: ring.statistics().producer_waits > slept)  # type: ignore[misc]
    except shmkit.EndOfStream:
        return


def consume(ring: shmkit.Ring, plan: Plan) -> None:
    """Receives the stream: all of it, once, in order, whole, and then its end."""
    count = -1
    for count, item in enumerate(received(ring, plan)):
        check(item, plan.stream, count, plan.most)
    assert count + 1 == plan.count, f"stream {plan.stream} ended after {count + 1} records of {plan.count}"


def pass_on(source: shmkit.Ring, target: shmkit.Ring) -> None:
    """A stage of a pipeline: arrays are sent on from where they lie in the first ring."""
    with target, contextlib.suppress(shmkit.EndOfStream):
        while True:
            with source.recv_view(timeout=WATCHDOG) as inside:
                target.send(inside, timeout=WATCHDOG)


# ── rows ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def rows(first: int, count: int) -> np.ndarray:
    """Rows of 64 bytes: a number, six times something that follows from it, and their exclusive or."""
    table = np.empty((count, 8), "<u8")
    table[:, 0] = np.arange(first, first + count)
    for column in range(1, 7):
        table[:, column] = table[:, 0] * np.uint64(0x9E3779B97F4A7C15 + column)
    table[:, 7] = np.bitwise_xor.reduce(table[:, :7], axis=1)
    return table


def produce_rows(ring: shmkit.Ring, count: int, seed: int) -> None:
    chance = random.Random(seed)
    sent = 0
    while sent < count:
        batch = min(chance.randrange(1, 3000), count - sent)
        sent += ring.send_many(rows(sent, batch), timeout=WATCHDOG, itemsize=64)
    ring.close()


def consume_rows(ring: shmkit.Ring, count: int, seed: int) -> None:
    chance = random.Random(seed)
    place = np.empty((2000, 8), "<u8")
    got = 0
    while True:
        try:
            now = ring.recv_many_into(place[: chance.randrange(1, 2000)], 64, timeout=WATCHDOG)
        except shmkit.EndOfStream:
            break
        assert (place[:now] == rows(got, now)).all(), f"rows {got} to {got + now} are not what was sent"
        got += now
    assert got == count


# ── several threads at an end ───────────────────────────────────────────────────────────────────────────────────────


def threads(action: Callable[[int], None], count: int) -> None:
    """Runs `action` in so many threads at once; raises what the first that failed has raised."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(action, which) for which in range(count)]:
            future.result()


def produce_in_threads(ring: shmkit.Ring, plan: Plan, count: int) -> None:
    def send(which: int) -> None:
        chance = plan.chance(f"thread {which}")
        numbers = iter(range(plan.count))
        for number in numbers:
            item = record(which, number, plan.most)
            if chance.random() < 0.3:
                more = [record(which, n, plan.most) for n in itertools.islice(numbers, 5)]
                ring.send_many([item, *more], timeout=WATCHDOG)
            elif not (chance.random() < 0.5 and ring.try_send(item)):
                ring.send(item, timeout=WATCHDOG)

    threads(send, count)
    ring.close()


def consume_in_threads(ring: shmkit.Ring, plan: Plan, count: int, streams: int) -> None:
    got: list[list[tuple[int, int]]] = [[] for _ in range(count)]

    def receive(which: int) -> None:
        chance = plan.chance(f"receiving thread {which}")
        while True:
            try:
                if chance.random() < 0.3:
                    with ring.recv_view(timeout=WATCHDOG) as inside:
                        items = [inside if isinstance(inside, np.ndarray) else bytes(inside)]
                        check(items[0], *numbered(items[0]), plan.most)
                        got[which].append(numbered(items[0]))
                    continue
                items = ring.recv_many(7, timeout=WATCHDOG) if chance.random() < 0.5 else [ring.recv(timeout=WATCHDOG)]
            except shmkit.EndOfStream:
                return
            for item in items:
                check(item, *numbered(item), plan.most)
                got[which].append(numbered(item))

    threads(receive, count)
    for each in got:
        for stream in range(streams):
            numbers = [number for of, number in each if of == stream]
            assert numbers == sorted(numbers), f"a thread has received stream {stream} out of order"
    everything = sorted(itertools.chain.from_iterable(got))
    assert everything == [(stream, number) for stream in range(streams) for number in range(plan.count)]
