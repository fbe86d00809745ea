"""References to objects are no bytes: they are neither sent nor written over, by whatever takes a buffer."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit.descriptors import MemoryFile
from shmkit.log import LogWriter
from shmkit.mqueue import PosixMessageQueue, SysVMessageQueue
from support import unique_name

OBJECTS: list[Callable[[], Any]] = [
    lambda: np.array([1, "two", None], object),
    lambda: memoryview(np.array([1, "two", None], object)),
    lambda: np.zeros(3, [("number", "i4"), ("anything", "O")]),
    lambda: (ctypes.py_object * 3)(1, 2, 3),
]


class Named(ctypes.Structure):
    _fields_ = [("Only a name", ctypes.c_int)]


objects = pytest.mark.parametrize("make", OBJECTS, ids=["array", "view", "fields", "ctypes"])


@objects
@pytest.mark.parametrize("url", ["pipe:?duplex=yes", "unix:", "unix:?type=seqpacket"])
def test_channels(url: str, make: Callable[[], Any]) -> None:
    one, other = shmkit.pair(url)
    with one, other:
        for _ in range(2):  # cold, and warm
            item = make()
            with pytest.raises(TypeError):
                one.send_bytes(item)
            with pytest.raises(TypeError):
                other.recv_into(item, timeout=0)
            one.send_bytes(bytes(24))
            with pytest.raises(TypeError):
                other.recv_into(item, timeout=30)
            assert other.recv_bytes(timeout=30) == bytes(24)
            other.send_bytes(b"x")
            assert one.recv_bytes(timeout=30) == b"x"


@objects
def test_rings(make: Callable[[], Any]) -> None:
    with shmkit.Ring.create(capacity=4096) as ring:
        item = make()
        with pytest.raises(TypeError):
            ring.send(item)
        with pytest.raises(TypeError):
            ring.send_many(item, itemsize=8)
        ring.send(bytes(8))
        with pytest.raises(TypeError):
            ring.recv_into(item, timeout=30)
        with pytest.raises(TypeError):
            ring.recv_many_into(item, itemsize=8, timeout=30)
        assert ring.recv(timeout=30) == bytes(8)


@objects
def test_whatever_else_takes_bytes(tmp_path: Path, make: Callable[[], Any]) -> None:
    item = make()
    with LogWriter(tmp_path / "log") as log, pytest.raises(TypeError):
        log.append(item)
    with MemoryFile("objects") as file, pytest.raises(TypeError):
        file.write(item)
    for kind in (PosixMessageQueue, SysVMessageQueue):
        queue = kind.create(unique_name("objects"))
        try:
            with pytest.raises(TypeError):
                queue.send(item, timeout=0)
        finally:
            queue.unlink()
            queue.close()


def test_what_is_only_called_so_is_bytes() -> None:
    """A name of a field says nothing."""
    one, other = shmkit.pair("unix:")
    with one, other, shmkit.Ring.create(capacity=4096) as ring:
        for _ in range(2):
            one.send_bytes(Named(7))
            assert other.recv_bytes(timeout=30) == bytes(Named(7))
            numbers = memoryview(np.arange(3.0))
            other.send_bytes(numbers)
            assert one.recv_bytes(timeout=30) == numbers.tobytes()
        ring.send(Named(7))
        into = Named()
        assert ring.recv_into(into, timeout=30) == 4
        assert bytes(into) == bytes(Named(7))
