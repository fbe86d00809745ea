"""Arrays that are files."""

from __future__ import annotations

import ctypes
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit.files import memmap
from shmkit.files import memory as module
from support import Processes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "array"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("offset", [0, 13, 4096, 5000])
def test_it_is_what_numpy_makes(path: Path, order: Any, offset: int) -> None:
    """The same bytes, attributes and kinds of slices, written by one and read by the other."""
    ours = memmap(path, "<f4", "w+", offset, (3, 5), order)
    ours[:] = np.arange(15).reshape(3, 5)
    ours.flush()
    theirs = np.memmap(path, "<f4", "r", offset, (3, 5), order)
    assert (theirs == ours).all()
    assert isinstance(ours, np.memmap)
    assert (ours.offset, ours.mode, ours.filename) == (offset, "w+", str(path))
    assert ours.flags.f_contiguous == theirs.flags.f_contiguous
    assert isinstance(ours[1:], memmap)
    assert ours[1:].filename == str(path)
    assert type(ours + 1) is type(theirs + 1) or isinstance(ours + 1, np.ndarray)
    assert float(ours.sum()) == 105
    assert path.stat().st_size == offset + 60
    again = memmap(path, "<f4", "r", offset, (3, 5), order)
    assert (again == theirs).all()


def test_modes(path: Path) -> None:
    """Reading refuses stores, copies keep theirs to themselves, writing is seen by others."""
    memmap(path, "u1", "w+", shape=8)[:] = 7
    reading = memmap(path, mode="r")
    with pytest.raises(ValueError, match="read-only"):
        reading[0] = 1
    copy = memmap(path, mode="c")
    copy[0] = 1
    writing = memmap(path)
    assert writing.mode == "r+"
    writing[1] = 2
    assert reading.tolist() == [7, 2, 7, 7, 7, 7, 7, 7]
    assert copy[0] == 1
    assert memmap(path, mode="readonly").mode == "r"
    assert memmap(path, "u1", "write", shape=2).tolist() == [0, 0]
    assert path.stat().st_size == 2


def test_the_shape_may_be_what_the_file_has(path: Path) -> None:
    """All that follows the offset, in whole elements."""
    path.write_bytes(bytes(range(20)))
    assert memmap(path, "<u4", "r", 4).shape == (4,)
    with pytest.raises(shmkit.LayoutMismatch, match="18 bytes"):
        memmap(path, "<u4", "r", 2)
    with pytest.raises(shmkit.LayoutMismatch):
        memmap(path, "u1", "r", 21)
    assert memmap(path, "u1", "r", 20).shape == (0,)


def test_a_file_that_is_shorter_than_the_array(path: Path) -> None:
    """Said, with both sizes; and made longer only where that is wanted, with its room."""
    path.write_bytes(b"12345678")
    for mode in ("r", "c", "r+"):
        with pytest.raises(shmkit.LayoutMismatch, match="needs 16 bytes: got 8"):
            memmap(path, "<f8", mode, shape=2)  # type: ignore[arg-type]
    assert path.read_bytes() == b"12345678"
    longer = memmap(path, "u1", "r+", shape=20, extend=True)
    assert longer[:8].tobytes() == b"12345678"
    assert not longer[8:].any()


def test_what_is_refused(path: Path, tmp_path: Path) -> None:
    """Each with the value and the rule."""
    with pytest.raises(shmkit.SegmentNotFound, match="array"):
        memmap(path)
    with pytest.raises(ValueError, match="mode must be"):
        memmap(path, mode="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs a shape"):
        memmap(path, mode="w+")
    with pytest.raises(ValueError, match="order"):
        memmap(path, mode="w+", shape=1, order="K")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="offset"):
        memmap(path, mode="w+", shape=1, offset=-1)
    with pytest.raises(ValueError, match="negative"):
        memmap(path, mode="w+", shape=-1)
    with pytest.raises(ValueError, match="62"):
        memmap(path, mode="w+", shape=(2**40, 2**40))
    with pytest.raises(TypeError, match="Python objects"):
        memmap(path, object, "w+", shape=1)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(shmkit.LayoutMismatch, match="regular file"):
        memmap(tmp_path / "fifo", mode="r+", shape=1)
    with pytest.raises(OSError, match="Is a directory"):
        memmap(tmp_path, mode="r+", shape=1)


def test_an_open_file(path: Path) -> None:
    """It may be given instead of a path, and stays open."""
    with path.open("w+b") as file:
        file.write(b"ab")
        made = memmap(file, "S1", "r+")
        assert made.tolist() == [b"a", b"b"]
        assert made.filename == str(path)
        assert not file.closed
    assert made[0] == b"a"


def test_it_stays_valid(path: Path) -> None:
    """Without its name, and without the array that a slice was taken of."""
    made = memmap(path, "u2", "w+", shape=(4, 4))
    row = made[2]
    del made
    path.unlink()
    row[:] = 5
    assert row.tolist() == [5] * 4


def test_permissions_of_a_new_file(path: Path) -> None:
    """As asked, less the umask."""
    before = os.umask(0o022)
    try:
        memmap(path, "u1", "w+", shape=1, permissions=0o660)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_pickle_of_it_is_its_values(path: Path) -> None:
    """As NumPy's."""
    made = memmap(path, "u2", "w+", shape=3)
    made[:] = (1, 2, 3)
    assert pickle.loads(pickle.dumps(made)).tolist() == [1, 2, 3]


def test_its_room_is_reserved(path: Path) -> None:
    """The file has its blocks before anything was stored, also those of a sparse one that is opened."""
    memmap(path, "u1", "w+", shape=2**20)
    assert path.stat().st_blocks * 512 >= 2**20
    sparse = path.with_name("sparse")
    with sparse.open("wb") as file:
        file.truncate(2**20)
    memmap(sparse, "u1", "r+")
    assert sparse.stat().st_blocks * 512 >= 2**20


class Cannot:
    """The C library on a file system that cannot reserve."""

    def fallocate(self, *_: object) -> int:
        import errno

        ctypes.set_errno(errno.EOPNOTSUPP)
        return -1


def test_a_file_system_that_cannot_reserve(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is new is written; what is old is not touched."""
    monkeypatch.setattr(module, "_libc", Cannot())
    path.write_bytes(b"old!")
    made = memmap(path, "u1", "r+", shape=200000, extend=True)
    assert made[:4].tobytes() == b"old!"
    assert path.stat().st_blocks * 512 >= 200000


def test_too_large_a_file_is_no_signal(path: Path, process: Processes) -> None:
    """RLIMIT_FSIZE stands for any limit: NoSpace, and the file as it was."""
    path.write_bytes(b"1234")
    code = f"""
import resource, signal
from shmkit import NoSpace
from shmkit.files import memmap
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
try:
    memmap({str(path)!r}, "u1", "r+", shape=2**30, extend=True)
except NoSpace as error:
    print(error)
"""
    program = process.popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    said = program.communicate(timeout=60)[0]
    assert "it needs 1 GiB" in said
    assert path.read_bytes() == b"1234"
