"""Room that somebody was woken for and cannot use: another producer is told of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

import shmkit
from shmkit import _fields
from support import wait_until
from unit.cli_support import removed_at_end

from .test_queue_corrupted import Memory


@pytest.fixture
def queue(name: str) -> Iterator[shmkit.Queue]:
    """It is full with one item."""
    with removed_at_end(name):
        queue = shmkit.Queue.create(name, 1, capacity="4 MiB")
        yield queue
        queue.close()


@pytest.mark.parametrize(
    ("size", "error"), [(1_000_000, shmkit.RecordTooLarge), (100_000, shmkit.HeapFull)], ids=["too large", "no memory"]
)
def test_who_fails_beside_the_room_passes_it_on(
    queue: shmkit.Queue, name: str, size: int, error: type[Exception]
) -> None:
    """Whoever was woken leaves nobody asleep: not the next one either, whom the word at the gate stands for here."""
    kept = []
    with pytest.raises(shmkit.HeapFull):
        while True:
            queue.put(np.zeros(100_000))
            kept.append(queue.get())
    queue.put("small")
    memory = Memory(name)
    failed: list[BaseException] = []

    def put() -> None:
        try:
            queue.put(np.zeros(size))
        except shmkit.ShmkitError as trouble:
            failed.append(trouble)

    def may_sleep() -> bool:
        place, _ = _fields.QUEUE["room_gate"]
        return memory.read(memory.queue + place, "<I") & _fields.GATE_SLEEPER != 0

    try:
        thread = threading.Thread(target=put)
        thread.start()
        wait_until(may_sleep)
        assert queue.get() == "small"
        thread.join(60)
        assert [type(trouble) for trouble in failed] == [error]
        assert not may_sleep()
    finally:
        memory.close()
