"""A disk that is really full: a file system of two megabytes, mounted by the test, which only root can."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import shmkit
from shmkit.files import memmap, replacing
from shmkit.log import LogReader, LogWriter

SIZE = 2 * 2**20
_libc = ctypes.CDLL(None, use_errno=True)
_MNT_DETACH = 2


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    options = f"size={SIZE},mode=700".encode()
    if os.geteuid() != 0 or _libc.mount(b"none", os.fsencode(place), b"tmpfs", 0, options) != 0:
        pytest.skip("only root can mount a disk, and not everywhere")
    yield place
    assert _libc.umount2(os.fsencode(place), _MNT_DETACH) == 0


def fill(disk: Path) -> Path:
    """Leaves no block free."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return filler


@pytest.mark.parametrize("sync", [False, True])
def test_appending_to_a_log(disk: Path, sync: bool) -> None:
    """OSError with ENOSPC; what was appended is whole, what was refused is not there, and with room it goes on."""
    path = disk / "log"
    with LogWriter(path, sync=sync) as log:
        count = 0
        with pytest.raises(shmkit.NoSpace, match=r"are free .No space left on device.; the log is as before") as caught:
            while True:
                log.append(count.to_bytes(4, "little") * 5000)
                count += 1
        assert caught.value.errno == errno.ENOSPC
        assert count >= 90
        with pytest.raises(OSError, match=r"."):
            log.append(bytes(100_000))
        assert log.next_sequence == count
        with LogReader(path) as reader:
            assert [record[:4] for record in reader] == [n.to_bytes(4, "little") for n in range(count)]
            assert reader.tail is None
        log.drop_before(count // 2)  # which gives room back
        log.append(b"after")
    with LogReader(path) as reader:
        assert reader.next_sequence == count // 2
        assert list(reader)[-1] == b"after"


def test_sending_to_a_log(disk: Path) -> None:
    """Through a channel as well; the receiver sees whole messages only."""
    url = f"file://{disk}/log"
    with shmkit.connect(url) as sender, shmkit.listen(url) as receiver:
        sent = 0
        with pytest.raises(OSError, match=r".") as caught:
            while True:
                sender.send(np.full(10_000, sent, "u1"))
                sent += 1
        assert caught.value.errno == errno.ENOSPC
        for number in range(sent):
            assert receiver.recv(5.0).tolist() == [number % 256] * 10_000
        assert receiver.try_recv("nothing") == "nothing"
        sender.close()
        with pytest.raises(shmkit.EndOfStream):
            receiver.recv(5.0)


def test_making_a_log_where_nothing_fits(disk: Path) -> None:
    """It cannot be made, and with room again it can."""
    filler = fill(disk)
    with pytest.raises(OSError, match=r".") as caught:
        LogWriter(disk / "log")
    assert caught.value.errno == errno.ENOSPC
    filler.unlink()
    with LogWriter(disk / "log") as log:
        log.append(b"room")


def test_replacing_a_file(disk: Path) -> None:
    """The old one is there as it was, and nothing beside it."""
    target = disk / "state"
    target.write_bytes(b"old")
    filler = fill(disk)
    with pytest.raises(OSError, match=r".") as caught, replacing(target) as file:
        file.write(bytes(SIZE))
    assert caught.value.errno == errno.ENOSPC
    assert target.read_bytes() == b"old"
    filler.unlink()
    assert sorted(path.name for path in disk.iterdir()) == ["state"]


@pytest.mark.parametrize("mode", ["w+", "r+"])
def test_an_array_in_a_file(disk: Path, mode: str) -> None:
    """NoSpace when it is made, not SIGBUS when it is stored to: also where the file is there, with nothing in it."""
    path = disk / "array"
    if mode == "r+":
        with path.open("wb") as file:
            file.truncate(2 * SIZE)
    with pytest.raises(shmkit.NoSpace, match="array"):
        memmap(path, "u1", mode, shape=2 * SIZE)  # type: ignore[arg-type]
    assert path.stat().st_size == (2 * SIZE if mode == "r+" else 0)
    memmap(path, "u1", "w+", shape=SIZE // 2)[:] = 1


def test_a_segment_in_a_file(disk: Path) -> None:
    """The same, and no file is left."""
    with pytest.raises(shmkit.NoSpace):
        shmkit.Segment.create(disk / "segment", 2 * SIZE, backing="file")
    assert not list(disk.iterdir())
