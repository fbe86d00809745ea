"""An item of a gibibyte: as a pickle, in one piece, and as bytes."""

from __future__ import annotations

from typing import Any

import pytest

import shmkit
from shmkit.segment import room
from support import Processes

SIZE = 1 << 30
WATCHDOG = 120.0


class Giant:
    """What only a pickle can say; its bytes stand in the pickle, as a bytes object has no buffer to lend."""

    def __init__(self, body: bytes) -> None:
        self.body = body


def take(queue: Any, results: Any) -> None:
    item = queue.get(timeout=WATCHDOG)
    body = item if isinstance(item, bytes) else item.body
    results.put((type(item).__name__, len(body), body[:3], body[SIZE // 2 : SIZE // 2 + 3], body[-3:]))


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["pickle", "bytes"])
def test_a_gibibyte_goes_through(process: Processes, kind: str) -> None:
    """And its memory comes back."""
    if (room.free_bytes("/dev/shm") or 0) < 8 * SIZE:
        pytest.skip("less than 8 GiB of memory are free")
    queue, results = shmkit.Queue(), shmkit.Queue()
    child = process(take, queue, results)
    body = b"abc" + bytes(SIZE // 2 - 3) + b"def" + bytes(SIZE // 2 - 6) + b"ghi"
    queue.put(Giant(body) if kind == "pickle" else body, timeout=WATCHDOG)
    name = "Giant" if kind == "pickle" else "bytes"
    assert results.get(timeout=WATCHDOG) == (name, SIZE, b"abc", b"def", b"ghi")
    child.join(WATCHDOG)
    queue.heap.trim()
    found = queue.heap.statistics()
    assert found["in_use"] < SIZE
    assert found["resident"] < SIZE
