"""Arrays over a segment's memory, and files that outlast the processes that wrote them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit import Segment
from support import Processes


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment.create(None, 1000) as segment:
        yield segment


@pytest.mark.parametrize(
    "dtype",
    [
        "?",
        "i1",
        ">u4",
        "f2",
        "c16",
        "S7",
        "U3",
        "V5",
        "M8[ns]",
        "m8[3D]",
        [("a", "i4"), ("b", "f8", (2, 2))],
        {"names": ["x", "y"], "formats": ["u1", "f8"], "offsets": [0, 3], "itemsize": 16},
    ],
    ids=str,
)
def test_any_dtype_but_object_lives_in_a_segment(segment: Segment, dtype: Any) -> None:
    """Structured, datetime, unaligned, of either byte order."""
    array = segment.ndarray((3, 2), dtype, offset=1)
    plain = np.zeros((3, 2), dtype)
    raw = np.arange(plain.nbytes, dtype="u1") % 2
    plain.view("u1").reshape(-1)[:] = raw
    array[...] = plain
    assert array.dtype == plain.dtype
    assert (array == plain).all()
    assert segment.ndarray(plain.nbytes, "u1", offset=1).tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", [object, [("a", "i4"), ("b", object)], np.dtype((object, (2,)))], ids=str)
def test_python_objects_are_refused(segment: Segment, dtype: Any) -> None:
    """A pointer means nothing in another process."""
    with pytest.raises(TypeError, match="Python objects cannot live in shared memory"):
        segment.ndarray(1, dtype)


def test_offset_strides_and_order_are_numpys(segment: Segment) -> None:
    """The same view that NumPy makes of plain bytes."""
    backing = bytearray(1000)
    backing[:] = np.random.default_rng(1).bytes(1000)
    segment.buf[:] = backing
    for arguments in (
        {"shape": (4, 5), "dtype": "i2", "offset": 3},
        {"shape": (4, 5), "dtype": "i2", "order": "F"},
        {"shape": (4, 5), "dtype": "i2", "offset": 80, "strides": (-20, 4)},
        {"shape": (3,), "dtype": "u1", "strides": (0,)},
        {"shape": (), "dtype": "f8", "offset": 992},
        {"shape": 7, "dtype": "u1", "offset": 993},
        {"shape": (0, 9), "dtype": "f8", "offset": 1000},
    ):
        mine = segment.ndarray(**arguments)
        plain = np.ndarray(buffer=backing, **arguments)
        assert mine.strides == plain.strides
        assert mine.tobytes() == plain.tobytes()
        assert mine.flags.writeable


@pytest.mark.parametrize(
    "arguments",
    [
        {"shape": 1001, "dtype": "u1"},
        {"shape": (10, 10), "dtype": "f8", "offset": 201},
        {"shape": 1, "dtype": "u1", "offset": 1000},
        {"shape": 1, "dtype": "u1", "offset": -1},
        {"shape": (2,), "dtype": "u1", "strides": (1000,)},
        {"shape": (2,), "dtype": "u1", "strides": (-1,)},
        {"shape": (-1,), "dtype": "u1"},
        {"shape": (2**62, 2), "dtype": "u1"},
    ],
    ids=str,
)
def test_an_array_that_does_not_fit_is_refused(segment: Segment, arguments: dict[str, Any]) -> None:
    """Neither before its start nor beyond its end, and never into the header."""
    with pytest.raises(ValueError, match="in 1000 bytes"):
        segment.ndarray(**arguments)


def test_the_header_is_out_of_reach(segment: Segment) -> None:
    """The buffer is the payload alone."""
    assert len(segment.buf) == segment.size
    segment.buf[:] = b"\xff" * 1000
    assert segment.mapping.peek()[:8] == b"1KTSHM01"


def test_an_array_over_raw_memory_is_a_view_too(name: str) -> None:
    """Where there is no header, the memory begins at the first byte."""
    with Segment.create(name, 100, raw=True) as segment:
        segment.ndarray(100, "u1")[:] = range(100)
        assert Path("/dev/shm", name).read_bytes() == bytes(range(100))
        assert (segment.kind, segment.creator_pid) == ("raw", None)
        segment.unlink()


def test_a_file_keeps_its_contents_from_one_process_to_the_next(tmp_path: Path, process: Processes) -> None:
    """Written, flushed, gone, opened again: the header is checked, the bytes are there."""
    path = tmp_path / "kept"
    code = "import shmkit, sys; s = shmkit.Segment.create(sys.argv[1], 5000, backing='file'); "
    writer = process.python(code + "s.buf[:4] = b'kept'; s.flush()", path)
    assert writer.wait() == 0
    with Segment.attach(path, backing="file") as segment:
        assert bytes(segment.buf[:5]) == b"kept\0"
        assert (segment.size, segment.creator_pid) == (5000, writer.pid)
        assert segment.name == str(path)


def test_a_relative_path_is_remembered_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changing the folder does not change which file is meant."""
    monkeypatch.chdir(tmp_path)
    segment = Segment.create("here", 10, backing="file")
    monkeypatch.chdir("/")
    segment.close()
    segment.unlink()
    assert not os.listdir(tmp_path)


def test_flush_of_memory_has_nothing_to_do(segment: Segment) -> None:
    """It is allowed everywhere."""
    segment.flush()


def test_a_file_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The error names the folder."""
    with pytest.raises(shmkit.SegmentNotFound, match="no folder"):
        Segment.create(tmp_path / "no" / "file", 10, backing="file")


def test_a_file_is_found_through_a_link_to_its_folder_only(tmp_path: Path) -> None:
    """A link in the last place is not followed: it could point anywhere."""
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to(tmp_path / "real")
    with Segment.create(tmp_path / "folder" / "file", 10, backing="file"):
        Segment.attach(tmp_path / "real" / "file", backing="file").close()
        (tmp_path / "link").symlink_to(tmp_path / "real" / "file")
        with pytest.raises(shmkit.LayoutMismatch, match="got a symbolic link"):
            Segment.attach(tmp_path / "link", backing="file")
