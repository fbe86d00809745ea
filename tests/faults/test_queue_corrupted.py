"""Bytes of a queue, a heap or a topic that were overwritten: an error that names it, and never a crash or a hang.

A child of its own scribbles and looks, so that a crash is seen, and an alarm ends a hang.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import shmkit
from support import Processes

WATCHDOG = 60.0
ALARM = 20  # seconds
PAGE = 4096
# Where things are: _heap_layout.h and _topic_layout.h.
LINE = 128
TABLE_AT = 5 * LINE + 272 * 64 + 4096 * 8
TABLE_AT += -TABLE_AT % PAGE
QUEUE, TAIL, HEAD, RINGS = 2 * LINE + 24, LINE, 2 * LINE, 6 * LINE
ALLOWED = (shmkit.ShmkitError, shmkit.Empty, shmkit.Full, ValueError, EOFError, TypeError)


class Memory:
    """The file behind a queue with a name, past its header."""

    def __init__(self, name: str) -> None:
        self.file = os.open(Path("/dev/shm") / name, os.O_RDWR)

    def close(self) -> None:
        os.close(self.file)

    def read(self, at: int, form: str = "<Q") -> int:
        value: int = struct.unpack(form, os.pread(self.file, struct.calcsize(form), PAGE + at))[0]
        return value

    def write(self, at: int, value: int, form: str = "<Q") -> None:
        os.pwrite(self.file, struct.pack(form, value), PAGE + at)

    def entry(self, block: int) -> int:
        return TABLE_AT + 32 * block

    def block(self, block: int) -> int:
        first = self.read(self.entry(block) + 8, "<I")
        class_ = self.read(self.entry(first) + 12, "<H")
        size = (8 + class_ % 8) << (6 + class_ // 8)
        return self.read(self.entry(first) + 16, "<I") * PAGE + (block - first) * size

    @property
    def queue(self) -> int:
        return self.block(self.read(QUEUE))

    @property
    def ring(self) -> int:
        """The block of the ring that head is in."""
        return self.read(self.queue + RINGS + 8 * (self.read(self.queue + HEAD) & 255)) >> 40

    @property
    def cell(self) -> int:
        """That of head; all tests have one ring of so few items that the ticket is small."""
        ring = self.block(self.ring)
        cells = 1 << self.read(ring, "<I")
        return ring + LINE + LINE * ((self.read(self.queue + HEAD) >> 8) % cells)


def call_or_complain(call: Callable[[], object]) -> None:
    try:
        call()
    except ALLOWED as error:
        assert str(error)


def use(queue: shmkit.Queue) -> None:
    """All that one does with a queue."""
    calls: list[Callable[[], object]] = [
        lambda: queue.put(1, timeout=0.01),
        lambda: queue.put(np.arange(500.0), timeout=0.01),
        lambda: queue.get(timeout=0.01),
        lambda: queue.get_many(3, timeout=0.01),
        queue.qsize,
        queue.statistics,
        queue.heap.collect,
        queue.heap.trim,
    ]
    for call in calls * 5:
        call_or_complain(call)


def in_a_child(process: Processes, work: Callable[[], None]) -> None:
    def guarded() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(ALARM)
        work()
        signal.alarm(0)

    child = process(guarded)
    child.join(WATCHDOG)
    assert child.exitcode == 0, "it hung" if child.exitcode == -signal.SIGALRM else child.exitcode


CELL = {"word": 0, "item": 8, "body size": 16, "head": 24}
VALUES = [0, 1, (1 << 64) - 1, 1 << 63, 0x0123456789ABCDEF, 0xFFFF << 40, 5 << 40 | 0xFF << 12]


@pytest.mark.parametrize("most", [0, 5])
@pytest.mark.parametrize(
    "field", ["word", "item", "body size", "head", "tail", "head of queue", "ring", "cells", "most"]
)
def test_a_field_of_a_queue_that_was_overwritten(process: Processes, name: str, field: str, most: int) -> None:
    """Whatever it says, the queue is used to the end, or says that it contradicts itself."""

    def work() -> None:
        for number, value in enumerate(VALUES):
            queue = shmkit.Queue.create(f"{name}{number}", most, capacity="4 MiB")
            queue.put_many([np.arange(200.0), 1, b"x" * 3000])
            memory = Memory(f"{name}{number}")
            where = {
                "tail": memory.queue + TAIL,
                "head of queue": memory.queue + HEAD,
                "ring": memory.queue + RINGS,
                "cells": memory.block(memory.ring),
                "most": memory.queue + 16,
            }
            memory.write(where.get(field, memory.cell + CELL.get(field, 0)), value)
            queue.unlink()
            use(queue)
            queue.close()

    in_a_child(process, work)


@pytest.mark.parametrize("form", ["word", "first", "class", "page", "next"])
def test_an_entry_of_the_heaps_table_that_was_overwritten(process: Processes, name: str, form: str) -> None:
    """Of the block of an item, of the ring and of the queue."""
    at, kind = {"word": (0, "<Q"), "first": (8, "<I"), "class": (12, "<H"), "page": (16, "<I"), "next": (20, "<I")}[
        form
    ]

    def work() -> None:
        names = itertools.count()
        for value in (0, 1, 77, 0xFFFF, 0x7FFFFFFF):
            for which in ("item", "ring", "queue"):
                this = f"{name}{next(names)}"
                queue = shmkit.Queue.create(this, capacity="4 MiB")
                queue.put_many([np.arange(200.0), 1, b"x" * 3000])
                memory = Memory(this)
                block = {
                    "item": memory.read(memory.cell + 8) >> 40,
                    "ring": memory.ring,
                    "queue": memory.read(QUEUE),
                }[which]
                memory.write(memory.entry(block) + at, value & ((1 << 8 * struct.calcsize(kind)) - 1), kind)
                queue.unlink()
                use(queue)
                queue.close()

    in_a_child(process, work)


def test_an_item_that_contradicts_itself_is_an_error_and_the_next_one_comes(name: str) -> None:
    """The error names the queue and says that the item is lost; nothing else is."""
    queue = shmkit.Queue.create(name)
    queue.put_many([np.arange(200.0), "next"])
    memory = Memory(name)
    memory.write(memory.cell + 8, memory.read(memory.cell + 8) | 0xFF << 12)  # the head's size
    memory.close()
    with pytest.raises(shmkit.RecordCorrupt, match=f"{name}.*lost"):
        queue.get(timeout=0)
    assert queue.get(timeout=0) == "next"
    queue.put(5)
    assert queue.get() == 5
    queue.heap.collect()
    assert queue.statistics()["heap"]["blocks_queued"] == 0
    queue.unlink()


@pytest.mark.parametrize("seed", range(6))
def test_random_words_of_a_queue_and_its_heap(process: Processes, name: str, seed: int) -> None:
    """Any word of header, table, queue, ring; any value."""
    chance = random.Random(seed)

    def work() -> None:
        for number in range(25):
            this = f"{name}{number}"
            queue = shmkit.Queue.create(this, chance.choice((0, 5)), capacity="4 MiB")
            queue.put_many([np.arange(200.0), 1, b"x" * 3000])
            memory = Memory(this)
            # Header, classes, table, queue, cells: where they begin, and how many words of each.
            places = [(0, 48), (5 * LINE, 300), (memory.entry(0), 400), (memory.queue, 160), (memory.cell - 320, 800)]
            for _ in range(chance.choice((1, 1, 5))):
                value = chance.choice((0, 1, chance.getrandbits(8), chance.getrandbits(32), chance.getrandbits(64)))
                begin, words = chance.choice(places)
                memory.write(begin + 8 * chance.randrange(words), value)
            queue.unlink()
            use(queue)
            queue.close()

    in_a_child(process, work)


@pytest.mark.parametrize("value", [0, 1, (1 << 64) - 1])
@pytest.mark.parametrize("field", ["word", "head size", "body size"])
@pytest.mark.parametrize("position", [3, 4])
def test_a_slot_of_a_topic_that_was_overwritten(
    process: Processes, name: str, field: str, position: int, value: int
) -> None:
    """One error that names the value, and what comes after it arrives."""

    def work() -> None:
        publisher = shmkit.Publisher.create(name, slots=4, slot_size=1000)
        subscriber = publisher.subscriber(replay=True)
        for number in range(5):
            publisher.publish((number, b"x" * 500))
        memory = Memory(name)
        slot = PAGE + (LINE + 1024) * (position % 4)
        memory.write(slot + {"word": 0, "head size": 8, "body size": 16}[field], value)
        publisher.unlink()
        for number in (2, 3, 4):
            if number == position:
                with pytest.raises(shmkit.RecordCorrupt, match=rf"value {position} |item"):
                    subscriber.recv(0)
            else:
                assert subscriber.recv(0)[0] == number
        if position == 4:
            with pytest.raises(shmkit.RecordCorrupt):
                subscriber.latest()
        publisher.publish("next")
        assert subscriber.recv(0) == "next"
        publisher.close()

    in_a_child(process, work)
