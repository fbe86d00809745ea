"""Pipes and FIFOs as they are: bytes, time-outs, capacity, splice and tee, names."""

from __future__ import annotations

import os
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit import fifo
from shmkit.pipe import PIPE_BUF, Reader, Writer, duplex, most_capacity, pipe, splice, tee
from support import Processes, wait_until

WATCHDOG = 30.0


@pytest.fixture
def ends() -> Iterator[tuple[Reader, Writer]]:
    reader, writer = pipe()
    with reader, writer:
        yield reader, writer


def test_bytes_go_through(ends: tuple[Reader, Writer]) -> None:
    """In every way of reading and writing."""
    reader, writer = ends
    assert writer.write(b"abc") == 3
    assert len(reader) == len(writer) == 3
    assert reader.read(2) == b"ab"
    assert reader.try_read() == b"c"
    assert reader.try_read() is None
    assert writer.try_write(memoryview(b"12345")) == 5
    buffer = bytearray(8)
    assert reader.read_into(buffer) == 5
    assert buffer[:5] == b"12345"
    writer.write(b"exactly so")
    assert reader.read_exactly(10, WATCHDOG) == b"exactly so"
    assert writer.write(b"") == 0


def test_arrays_go_through_as_they_lie(ends: tuple[Reader, Writer]) -> None:
    """Of any dtype that is bytes, and any shape."""
    reader, writer = ends
    arrays = [
        np.arange(6.0).reshape(2, 3),
        np.array(["2020-01-01", "NaT"], "M8[D]"),
        np.arange(3, dtype=">u2"),
        np.zeros(2, [("a", "f4"), ("b", "M8[s]")]),
        np.zeros((0, 3)),
        np.array(5.0),
    ]
    for array in arrays:
        for write in (writer.write, writer.try_write):
            target = np.empty_like(array)
            assert write(array) == array.nbytes
            assert reader.read_into(target) == array.nbytes
            assert target.tobytes() == array.tobytes()
    large = np.zeros(200_000, "M8[s]")
    written: list[int] = []
    writing = threading.Thread(target=lambda: written.append(writer.write(large, WATCHDOG)))
    writing.start()
    assert len(reader.read_exactly(large.nbytes, WATCHDOG)) == large.nbytes
    writing.join()
    assert written == [large.nbytes]


def test_arguments_that_are_none_are_named(ends: tuple[Reader, Writer]) -> None:
    """Before anything is written, or read."""
    reader, writer = ends
    fortran = np.asfortranarray(np.zeros((2, 3)))
    objects = np.array([{"an": "object"}, None], object)
    cases: list[tuple[Any, type[Exception], str]] = [
        (fortran, ValueError, "one piece, row by row: got ndarray"),
        (np.arange(9)[::2], ValueError, "one piece, row by row: got ndarray"),
        (memoryview(b"abcdef")[::2], ValueError, "one piece, row by row: got memoryview"),
        (objects, TypeError, r"got ndarray of objects \(dtype object\)"),
        (memoryview(objects), TypeError, r"got memoryview of objects \(dtype object\)"),
        ("text", TypeError, "got 'text', a str"),
        (None, TypeError, "got None, a NoneType"),
        ([1], TypeError, r"got \[1\], a list"),
    ]
    wrong: Any
    for wrong, error, words in cases:
        for call in (writer.write, writer.try_write, reader.read_into):
            with pytest.raises(error, match=words):
                call(wrong)
    with pytest.raises(TypeError, match="buffer is memory that may be written: got bytes"):
        reader.read_into(b"abc")
    with pytest.raises(ValueError, match="one piece"):
        writer.write(np.zeros((3, 3), "M8[s]").T)
    assert len(reader) == 0
    writer.write(b"stays")
    for call in (reader.read, reader.try_read, reader.read_exactly, lambda size: splice(reader, writer, size)):
        for size in (-1, 2**70):
            with pytest.raises(ValueError, match=rf"size is a number of bytes from 0 .*: got {size}"):
                call(size)
        for wrong in ("a", 1.5, None):
            with pytest.raises(TypeError, match=f"size is a whole number: got {wrong!r}"):
                call(wrong)
    assert reader.read() == b"stays"


def test_time_outs_tell_what_went(ends: tuple[Reader, Writer]) -> None:
    """How much was written, or read, before the time was up."""
    reader, writer = ends
    for call in (reader.read, reader.read_into):
        with pytest.raises(TimeoutError):
            call(16 if call == reader.read else bytearray(1), 0.01)
    with pytest.raises(TimeoutError) as caught:
        writer.write(bytes(10**6), 0.01)
    assert caught.value.written == reader.capacity  # type: ignore[attr-defined]
    assert writer.try_write(b"x") == 0
    reader.read_exactly(reader.capacity)
    writer.write(b"half")
    with pytest.raises(TimeoutError, match=r"4 of 10 bytes came through .* within 0.01 s") as caught:
        reader.read_exactly(10, 0.01)
    assert caught.value.partial == b"half"  # type: ignore[attr-defined]


def test_large_writes_go_as_there_is_room(ends: tuple[Reader, Writer]) -> None:
    """Whatever their size."""
    reader, writer = ends
    data = os.urandom(10**6)
    thread = threading.Thread(target=writer.write, args=(data, WATCHDOG))
    thread.start()
    assert reader.read_exactly(len(data), WATCHDOG) == data
    thread.join(WATCHDOG)


def test_the_other_end_goes(ends: tuple[Reader, Writer]) -> None:
    """EndOfStream for who reads, Broken for who writes, and never SIGPIPE."""
    reader, writer = ends
    writer.write(b"last")
    writer.close()
    assert reader.read() == b"last"
    for call in (reader.read, reader.try_read, lambda: reader.read_into(bytearray(1)), lambda: reader.read_exactly(1)):
        with pytest.raises(shmkit.EndOfStream):
            call()
    reader, writer = pipe()
    reader.close()
    previous = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        for write in (writer.write, writer.try_write):
            with pytest.raises(shmkit.Broken):
                write(b"x")
    finally:
        signal.signal(signal.SIGPIPE, previous)
    writer.close()
    for closed in (writer.fileno, reader.read, lambda: writer.write(b"x")):
        with pytest.raises(shmkit.Closed):
            closed()
    assert "closed" in repr(writer)


def test_capacity_is_set_and_its_limit_is_named(ends: tuple[Reader, Writer]) -> None:
    """In pages, and not below what is in the pipe."""
    reader, writer = ends
    writer.capacity = "128 KiB"
    assert reader.capacity == writer.capacity == 131072
    writer.write(bytes(100_000))
    with pytest.raises(OSError, match="holds more"):
        reader.capacity = 4096
    with pytest.raises(ValueError, match="2 GiB"):
        reader.capacity = 2**40
    assert most_capacity() >= 65536
    with pytest.raises(ValueError, match="much"):
        pipe("much")


def test_both_ways() -> None:
    """Two pipes, one each way."""
    one, other = duplex()
    with one, other:
        one.write(b"to")
        other.write(b"fro")
        assert other.read() == b"to"
        assert one.read() == b"fro"


def test_splice_and_tee_move_bytes_without_reading_them(ends: tuple[Reader, Writer], tmp_path: Path) -> None:
    """From a file, to a socket, and into two pipes."""
    reader, writer = ends
    source = tmp_path / "source"
    source.write_bytes(b"0123456789" * 100)
    with source.open("rb") as file:
        assert splice(file, writer, 1000) == 1000
        assert splice(file, writer, 1000) == 0
    second_reader, second_writer = pipe()
    with second_reader, second_writer:
        assert tee(reader, second_writer, 1000) == 1000
        assert second_reader.read() == b"0123456789" * 100
    one, other = socket.socketpair()
    with one, other:
        assert splice(reader, one, 1000) == 1000
        assert other.recv(2000) == b"0123456789" * 100
    with pipe()[0] as other_reader, pytest.raises(shmkit.EndOfStream):
        other_reader.read()


def _write_from_child(writer: Writer) -> None:
    with writer:
        writer.write(b"from a child")


def test_an_end_goes_to_a_child(start_method: object, process: Processes, ends: tuple[Reader, Writer]) -> None:
    """Under every start method; nothing else inherits it."""
    reader, writer = ends
    child = process(_write_from_child, writer, context=start_method)
    assert reader.read(100, WATCHDOG) == b"from a child"
    child.join(WATCHDOG)
    assert not os.get_inheritable(writer.fileno())


# ── FIFOs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_fifo_has_exactly_its_mode(tmp_path: Path) -> None:
    """SegmentExists where something stands; nothing else is left in the folder."""
    path = tmp_path / "fifo"
    before = os.umask(0o077)
    try:
        fifo.create(path, 0o640)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    with pytest.raises(shmkit.SegmentExists):
        fifo.create(path)
    fifo.create(path, exist_ok=True)
    other = tmp_path / "other"
    other.write_text("")
    with pytest.raises(shmkit.SegmentExists, match="no FIFO"):
        fifo.create(other, exist_ok=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fifo", "other"]
    fifo.unlink(path)
    with pytest.raises(shmkit.SegmentNotFound):
        fifo.unlink(path)
    fifo.unlink(path, missing_ok=True)
    with pytest.raises(ValueError, match="left alone"):
        fifo.unlink(other)


def test_a_fifo_may_have_any_name_that_a_file_may_have(tmp_path: Path) -> None:
    """Up to 255 bytes; what cannot be made is named."""
    longest = tmp_path / ("f" * 255)
    fifo.create(longest)
    assert [file.name for file in tmp_path.iterdir()] == [longest.name]
    for path in (tmp_path / ("f" * 256), tmp_path / "none" / "fifo"):
        with pytest.raises(OSError, match=path.name) as told:
            fifo.create(path)
        assert told.value.filename == str(path)
    assert [file.name for file in tmp_path.iterdir()] == [longest.name]


def test_opening_a_fifo_never_waits_for_ever(tmp_path: Path) -> None:
    """Neither end blocks for want of the other."""
    path = tmp_path / "fifo"
    for call in (fifo.open_reader, fifo.open_writer):
        with pytest.raises(shmkit.SegmentNotFound):
            call(path)
    fifo.create(path)
    for timeout in (0.0, 0.01):
        with pytest.raises(shmkit.NoPeer):
            fifo.open_writer(path, timeout)
    with pytest.raises(TimeoutError):
        fifo.open_reader(path, 0.01)
    with fifo.open_reader(path, capacity="128 KiB") as reader:
        assert reader.capacity == 131072
        assert reader.try_read() is None
        with pytest.raises(TimeoutError):
            reader.read(10, 0.01)
        with fifo.open_writer(path) as writer:
            writer.write(b"first")
            assert reader.read(10, WATCHDOG) == b"first"
        with pytest.raises(shmkit.EndOfStream):
            reader.read(10, WATCHDOG)
        assert not reader.wait_for_writer(0.01)  # type: ignore[attr-defined]
        with fifo.open_writer(path) as writer:
            writer.write(b"second")
            assert reader.wait_for_writer(WATCHDOG)  # type: ignore[attr-defined]
            assert reader.read(10, WATCHDOG) == b"second"


def test_a_writer_waits_for_a_reader(tmp_path: Path) -> None:
    """As long as it is told to."""
    path = tmp_path / "fifo"
    fifo.create(path)
    opened: list[Writer] = []
    thread = threading.Thread(target=lambda: opened.append(fifo.open_writer(path, WATCHDOG)))
    thread.start()
    with fifo.open_reader(path):
        wait_until(lambda: bool(opened))
        opened[0].close()
    thread.join(WATCHDOG)


def test_what_is_no_fifo_is_said(tmp_path: Path) -> None:
    """ValueError, and the file is not touched; others' FIFOs are refused."""
    path = tmp_path / "file"
    path.write_text("x")
    for call in (fifo.open_reader, fifo.open_writer):
        with pytest.raises(ValueError, match="no FIFO"):
            call(path)
    assert not fifo.is_fifo(path)
    path.chmod(0o602)
    with path.open("rb") as file, pytest.raises(shmkit.Refused, match="0602"):
        fifo.check_owner(file.fileno(), path)
    assert PIPE_BUF == 4096
