"""Raw segments: memory shared with programs that know nothing of shmkit, through posix_ipc, sysv_ipc and files."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from multiprocessing import shared_memory
from pathlib import Path

import posix_ipc
import pytest
import sysv_ipc

import shmkit
from shmkit import Segment
from shmkit.segment import sysv
from support import Processes


@pytest.fixture
def foreign(name: str) -> Iterator[posix_ipc.SharedMemory]:
    """POSIX memory of 5000 bytes that somebody else made."""
    memory = posix_ipc.SharedMemory("/" + name, posix_ipc.O_CREX, size=5000)
    yield memory
    memory.close_fd()
    shmkit.unlink(name, missing_ok=True)


@pytest.fixture
def key() -> Iterator[int]:
    """A SysV key that nobody else uses."""
    key = 0x5E000000 + os.getpid() % 0xFFFFFF
    yield key
    shmkit.unlink(key, missing_ok=True, backing="sysv")


def test_foreign_posix_memory_is_attached_to_as_it_is(name: str, foreign: posix_ipc.SharedMemory) -> None:
    """Its size is the file's, and its first byte the first."""
    with mmap.mmap(foreign.fd, 5000) as theirs, Segment.attach(name, raw=True) as ours:
        assert ours.size == 5000
        assert ours.lifetime == "named"
        ours.buf[:2] = b"ab"
        ours.buf[4999] = 7
        assert theirs[:2] == b"ab"
        assert theirs[4999] == 7


def test_the_standard_librarys_memory_is_attached_to_as_it_is(name: str) -> None:
    """And attaching tells no resource tracker anything."""
    theirs = shared_memory.SharedMemory(name, create=True, size=4096)
    try:
        with Segment.attach(name, raw=True) as ours:
            ours.buf[10] = 3
            assert theirs.buf[10] == 3
    finally:
        theirs.close()
        theirs.unlink()


def test_others_attach_to_raw_posix_memory_of_ours(name: str) -> None:
    """It is what shm_open makes, with exactly the mode and size that were asked."""
    with Segment.create(name, 5000, raw=True, mode=0o640) as ours:
        theirs = posix_ipc.SharedMemory("/" + name)
        assert (theirs.size, stat.S_IMODE(os.fstat(theirs.fd).st_mode)) == (5000, 0o640)
        with mmap.mmap(theirs.fd, 5000) as view:
            theirs.close_fd()
            view[4999] = 9
            assert ours.buf[4999] == 9
        with pytest.raises(shmkit.SegmentExists):
            Segment.create(name, 10, raw=True)
        ours.unlink()


def test_raw_memory_is_reserved_too(name: str) -> None:
    """Unless told otherwise."""
    for reserve, blocks in ((True, 1), (False, 0)):
        with Segment.create(name, 2**20, raw=True, reserve=reserve) as segment:
            assert bool(os.stat(f"/dev/shm/{name}").st_blocks) == bool(blocks)
            segment.unlink()


def test_foreign_sysv_memory_is_attached_to_as_it_is(key: int) -> None:
    """By its key."""
    theirs = sysv_ipc.SharedMemory(key, sysv_ipc.IPC_CREX, size=5000)
    try:
        with Segment.attach(key, backing="sysv", raw=True) as ours:
            assert (ours.size, ours.name, ours.kind) == (5000, key, "raw")
            ours.buf[4999] = 8
            assert theirs.read(1, 4999) == b"\x08"
        with pytest.raises(shmkit.LayoutMismatch, match="magic"):
            Segment.attach(key, backing="sysv")
    finally:
        theirs.detach()


def test_others_attach_to_raw_sysv_memory_of_ours(key: int) -> None:
    """It has a key and nothing else."""
    with Segment.create(key, 300, backing="sysv", raw=True, mode=0o640) as ours:
        theirs = sysv_ipc.SharedMemory(key)
        assert (theirs.size, theirs.mode) == (300, 0o640)
        theirs.write(b"x", 299)
        theirs.detach()
        assert ours.buf[299] == ord("x")
        assert not list(Path("/dev/shm").glob("shmkit.lease.*"))
        ours.unlink()
        with pytest.raises(shmkit.SegmentNotFound):
            Segment.attach(key, backing="sysv", raw=True)


def test_a_raw_anonymous_segment_is_all_payload() -> None:
    """Of the size that was asked, without a header."""
    for backing in ("memfd", "sysv"):
        with Segment.create(None, 77, backing=backing, raw=True) as segment:
            assert (segment.size, segment.kind, segment.payload_offset) == (77, "raw", 0)
            assert segment.lifetime == "leased"
            segment.buf[76] = 1


def test_a_raw_file_is_attached_to_as_it_is(tmp_path: Path) -> None:
    """Any file of this user's."""
    path = tmp_path / "data"
    path.write_bytes(b"0123456789")
    with Segment.attach(path, backing="file", raw=True) as segment:
        segment.buf[3] = ord("x")
        segment.flush()
    assert path.read_bytes() == b"012x456789"


def test_a_raw_file_is_made_without_a_header(tmp_path: Path) -> None:
    """Its contents are the payload."""
    path = tmp_path / "data"
    with Segment.create(path, 10, backing="file", raw=True) as segment:
        segment.buf[:] = b"abcdefghij"
    assert path.read_bytes() == b"abcdefghij"


def test_a_key_may_be_a_number_or_text(key: int) -> None:
    """Text is hashed, the same everywhere, to a number that is never the private key."""
    with Segment.create(key, 10, backing="sysv") as one, Segment.attach(key, backing="sysv") as other:
        one.buf[0] = 1
        assert other.buf[0] == 1
        assert other.name == key
        one.unlink()
    assert sysv.key_of("camera0") == sysv.key_of("camera0") == 1444165332
    assert sysv.key_of(17) == 17


def test_two_names_with_one_key_are_told_apart(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name stands in the segment: finding another's segment is no finding."""
    monkeypatch.setattr(sysv, "key_of", lambda name: 0x5E123456)
    with Segment.create(name, 10, backing="sysv") as segment:
        with pytest.raises(shmkit.SegmentNotFound, match=f"that of segment '{name}'"):
            Segment.attach("another", backing="sysv")
        with pytest.raises(shmkit.SegmentExists):
            Segment.create("another", 10, backing="sysv")
        segment.unlink()


def test_a_sysv_segment_without_its_companion_gets_a_new_one(name: str) -> None:
    """Somebody cleaned /dev/shm; a named segment does not suffer."""
    with Segment.create(name, 10, backing="sysv") as one:
        (companion,) = Path("/dev/shm").glob("shmkit.lease.*")
        companion.unlink()
        with Segment.attach(name, backing="sysv") as other:
            one.buf[0] = 1
            assert other.buf[0] == 1
        assert companion.exists()
        one.unlink()
    assert not companion.exists()


def test_a_sysv_creator_at_work_is_waited_for(name: str, process: Processes) -> None:
    """The name is there before the header: an attacher waits until the magic is stored."""
    code = f"""
import shmkit, sys
def init(mapping, at):
    print("at work", flush=True)
    sys.stdin.readline()
segment = shmkit.Segment._create({name!r}, 100, backing="sysv", init=init)
print("made", flush=True)
sys.stdin.readline()
segment.unlink()
"""
    program = process.python(code, stdin=-1)
    assert program.stdin is not None
    assert program.stdout is not None
    assert program.stdout.readline() == "at work\n"
    with pytest.raises(shmkit.NotReady, match=f"process {program.pid} has not written one"):
        Segment.attach(name, backing="sysv")
    program.stdin.write("\n")
    program.stdin.flush()
    with Segment.attach(name, backing="sysv") as segment:
        assert segment.creator_pid == program.pid
    program.communicate("\n")
    assert program.returncode == 0


def test_unlinking_foreign_memory_removes_it(name: str, foreign: posix_ipc.SharedMemory, key: int) -> None:
    """By its name, as shm_unlink does."""
    shmkit.unlink(name)
    assert not Path("/dev/shm", name).exists()
    memory = sysv_ipc.SharedMemory(key, sysv_ipc.IPC_CREX, size=10)
    memory.detach()
    shmkit.unlink(key, backing="sysv")
    with pytest.raises(sysv_ipc.ExistentialError):
        sysv_ipc.SharedMemory(key)


def test_another_users_sysv_segment_is_refused(name: str, process: Processes) -> None:
    """Unless its owner is accepted and its mode allows it."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    code = f"""
import os, shmkit
shmkit.Segment, shmkit.SegmentPermission  # imported while the files can be read
os.setuid(65534)
try:
    shmkit.Segment.attach({name!r}, backing="sysv")
except shmkit.SegmentPermission as error:
    print(error)
print(bytes(shmkit.Segment.attach({name!r}, backing="sysv", owner=0).buf))
try:
    shmkit.unlink({name!r}, backing="sysv")
except shmkit.SegmentPermission as error:
    print("kept")
"""
    with Segment.create(name, 3, backing="sysv", mode=0o666) as segment:
        segment.buf[:] = b"yes"
        lines = process.python(code).communicate()[0].splitlines()
        segment.unlink()
    assert "belongs to user 0" in lines[0]
    assert lines[1:] == ["b'yes'", "kept"]
