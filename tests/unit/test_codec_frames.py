"""DataFrames and Arrow tables in items of queues: their columns stand outside of the pickle."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit._codec import decode, encode

ROWS = 20_000


def inside(array: np.ndarray[Any, Any], body: bytearray | None) -> bool:
    """Whether an array lies in a body."""
    assert body is not None
    return np.shares_memory(array, np.frombuffer(body, np.uint8))


def test_a_data_frame() -> None:
    """Arrives equal, with its index, names and dtypes; numbers lie in the body, and can be written to."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"x": np.arange(ROWS) * 0.5, "y": np.arange(ROWS), "name": [f"row {n}" for n in range(ROWS)]},
        index=pandas.date_range("2020-01-01", periods=ROWS, freq="min"),
    )
    head, body = encode({"frame": frame, "number": 3})
    found = decode(head, body)["frame"]
    pandas.testing.assert_frame_equal(found, frame)
    assert inside(found["x"].to_numpy(), body)
    assert inside(found["y"].to_numpy(), body)
    found.loc[found.index[0], "x"] = 7.0
    assert frame["x"].iloc[0] == 0


def test_a_series_and_an_index() -> None:
    pandas = pytest.importorskip("pandas")
    series = pandas.Series(np.arange(ROWS, dtype="f4"), name="values")
    head, body = encode((series, series.index, pandas.Categorical(["a", "b", "a"])))
    found, index, categories = decode(head, body)
    pandas.testing.assert_series_equal(found, series)
    assert index.equals(series.index)
    assert list(categories) == ["a", "b", "a"]
    assert inside(found.to_numpy(), body)


def test_an_arrow_table() -> None:
    """Its buffers are those of the body, which live as long as it does; nobody can write to them through Arrow."""
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"x": np.arange(ROWS), "name": [f"row {n}" for n in range(ROWS)]})
    head, body = encode(table)
    found = decode(head, body)
    assert found.equals(table)
    assert inside(np.frombuffer(found["x"].chunk(0).buffers()[1], np.uint8), body)
    del body
    assert found["x"].to_pylist()[-1] == ROWS - 1


def test_frames_through_a_queue() -> None:
    """They outlive it."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": np.arange(ROWS) * 0.5})
    queue = shmkit.Queue()
    for _ in range(5):
        queue.put(frame)
    found = [queue.get() for _ in range(5)]
    queue.close()
    del queue
    for one in found:
        pandas.testing.assert_frame_equal(one, frame)


def test_a_container_that_is_changed_while_it_is_sent() -> None:
    """By another thread: what arrives is whole, or put raises as pickle would; nothing crashes."""
    items: list[Any] = [1, "two", [3.0], np.zeros(3)] * 10
    table: dict[int, Any] = dict(enumerate(items))
    members = set(range(50))
    done = threading.Event()

    def change() -> None:
        number = 0
        while not done.is_set():
            number += 1
            items.append(number)
            items.pop(0)
            table[number % 97] = [number]
            table.pop((number * 7) % 97, None)
            members.symmetric_difference_update({number % 61, number % 13})

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(3000):
            for container in (items, table, members):
                with contextlib.suppress(RuntimeError):  # "changed size during iteration"
                    assert type(decode(*encode(container))) is type(container)
    finally:
        done.set()
        changer.join()
