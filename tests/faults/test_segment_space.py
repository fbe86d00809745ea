"""No room, no descriptors, no memory: an exception in time that says what to do, never SIGBUS, and nothing left."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

import shmkit
from shmkit import Segment
from shmkit.segment import room
from support import Processes

# Runs with a /dev/shm of its own, of 4 MiB.  Exit code 77: not permitted here.
SMALL = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
    sys.exit(77)
if libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"size=4m"):
    sys.exit(77)
import shmkit
from shmkit import Segment
"""


def run_small(process: Processes, code: str) -> str:
    """What the code prints in a process with a small /dev/shm."""
    program = process.python(SMALL + code)
    said = program.communicate()[0]
    if program.returncode == 77:
        pytest.skip("a mount namespace of one's own is not permitted here")
    assert program.returncode == 0
    return str(said)


def test_too_big_a_segment_is_an_error_at_create(process: Processes) -> None:
    """The message says how much was asked, how much is free, and what gives a container more; nothing is left."""
    said = run_small(
        process,
        """
try:
    Segment.create("big", "8 MiB")
except shmkit.NoSpace as error:
    print(error.errno == 28, isinstance(error, OSError), error)
print(os.listdir("/dev/shm"), os.statvfs("/dev/shm").f_bavail * 4096)
""",
    )
    first, second = said.splitlines()
    assert first.startswith("True True ")
    assert "asked for 8 MiB" in first
    assert "4 MiB (4194304 bytes) free in /dev/shm" in first
    assert "--shm-size" in first
    assert second == "[] 4194304"


def test_what_was_reserved_cannot_be_taken(process: Processes) -> None:
    """A hundred times: filled by somebody else afterwards, a reserved segment can still be written to its last byte."""
    said = run_small(
        process,
        """
for turn in range(100):
    segment = Segment.create("mine", "2 MiB")
    filler = os.open("/dev/shm/filler", os.O_RDWR | os.O_CREAT)
    try:
        while os.write(filler, bytes(100000)):
            pass
    except OSError as error:
        assert error.errno == 28
    segment.buf[:] = b"x" * segment.size
    try:
        Segment.create("other", "64 KiB")
        print("made where nothing is free")
    except shmkit.NoSpace:
        pass
    segment.unlink()
    segment.close()
    os.close(filler)
    os.unlink("/dev/shm/filler")
print("fine", os.listdir("/dev/shm"))
""",
    )
    assert said == "fine []\n"


def test_without_a_reservation_the_kernel_answers(process: Processes) -> None:
    """That is what reserve=False means, as its documentation says: SIGBUS at the store."""
    program = process.python(
        SMALL + "segment = Segment.create('lazy', '8 MiB', reserve=False)\nsegment.buf[:] = b'x' * segment.size"
    )
    program.wait()
    if program.returncode == 77:
        pytest.skip("a mount namespace of one's own is not permitted here")
    assert program.returncode == -7


@pytest.mark.parametrize("kind", ["shmkit.create('a', 10**6)", "Segment.create('a', 5 * 2**20, raw=True)"])
def test_arrays_and_raw_segments_are_reserved_too(process: Processes, kind: str) -> None:
    """Whatever is made by name."""
    said = run_small(
        process,
        f"""
try:
    {kind}
except shmkit.NoSpace as error:
    print("no room")
print(os.listdir("/dev/shm"))
""",
    )
    assert said == "no room\n[]\n"


def test_a_file_system_without_inodes_left_is_an_error(process: Processes) -> None:
    """ENOSPC is not always about bytes."""
    code = SMALL.replace("size=4m", "size=4m,nr_inodes=3")
    program = process.python(
        code
        + """
kept = []
try:
    for number in range(5):
        kept.append(Segment.create(f"n{number}", 10))
except shmkit.NoSpace:
    print("no inode")
"""
    )
    said = program.communicate()[0]
    if program.returncode == 77:
        pytest.skip("a mount namespace of one's own is not permitted here")
    assert said == "no inode\n"


def test_a_file_size_limit_is_an_error_that_names_it(process: Processes) -> None:
    """RLIMIT_FSIZE, for anonymous memory as for files."""
    code = """
import resource, shmkit
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY))
for make in (lambda: shmkit.zeros(10**6), lambda: shmkit.Segment.create("x", "2 MiB")):
    try:
        make()
    except shmkit.NoSpace as error:
        print(error)
"""
    lines = process.python(code).communicate()[0].splitlines()
    assert len(lines) == 2
    assert all("RLIMIT_FSIZE" in line and "at most 1 MiB" in line for line in lines)


def test_too_many_descriptors_are_an_error_with_a_remedy(process: Processes) -> None:
    """EMFILE, and what keeps one open."""
    code = """
import pickle, resource, shmkit
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 100))
kept = []
try:
    while True:
        kept.append(shmkit.zeros(10))
except OSError as error:
    print(error.errno, error)
print(len(kept) > 20, kept[-1].sum())
data = pickle.dumps(kept[0])
for make in (
    lambda: shmkit.Segment.create("x", 10),
    lambda: shmkit.Segment.create(None, 10, backing="sysv"),
    lambda: shmkit.Segment.attach("none"),
    lambda: shmkit.attach("none", backing="sysv"),
    lambda: shmkit.SharedArray(2**20),
):
    try:
        make()
    except OSError as error:
        print(error.errno, "ulimit -n" in str(error))
# What lies warm is given up for what is needed.
kept.pop()
shmkit.Segment.create("x", 10).unlink()
kept.pop()
kept.append(shmkit.SharedArray(2**20))
print(pickle.loads(data).sum())
"""
    lines = process.python(code).communicate()[0].splitlines()
    assert lines[0].startswith("24 ")
    assert "40 files open" in lines[0]
    assert "ulimit -n" in lines[0]
    assert "hard limit is 100" in lines[0]
    assert lines[1] == "True 0.0"
    assert lines[2:7] == ["24 True"] * 5
    assert lines[7:] == ["0.0"]


def test_an_address_space_limit_is_an_error(process: Processes) -> None:
    """ENOMEM of mmap is not the machine's memory."""
    code = """
import resource, shmkit
resource.setrlimit(resource.RLIMIT_AS, (2**30, resource.RLIM_INFINITY))
for make in (
    lambda: shmkit.Segment.create(None, 2**31, reserve=False),
    lambda: shmkit.Segment.create("x", 2**31, reserve=False),
):
    try:
        make()
    except OSError as error:
        print(error.errno, error)
"""
    lines = process.python(code).communicate()[0].splitlines()
    assert len(lines) == 2
    assert all(line.startswith("12 ") and "could not be mapped" in line and "ulimit -v" in line for line in lines)
    assert not Path("/dev/shm/x").exists()


def test_more_than_the_machine_has_is_refused_before_it_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No out-of-memory killer: large reservations are compared with what is free, in memory, group and file system."""
    free = room.free_bytes(None)
    assert free is not None
    assert 0 < free < 2**60
    for make in (
        lambda: Segment.create(None, free * 2),
        lambda: Segment.create("never", free * 2),
        lambda: Segment.create("never", free * 2, backing="sysv"),
        lambda: Segment.create("never", free * 2, raw=True),
        lambda: shmkit.zeros(free * 2, "u1"),
    ):
        with pytest.raises(shmkit.NoSpace, match="asked for"):
            make()
    monkeypatch.setattr(room, "free_bytes", lambda folder: 100)
    with pytest.raises(shmkit.NoSpace, match=r"100 B .* free in memory"):
        Segment.create(None, room.LARGE)
    Segment.create(None, room.LARGE // 2, reserve=False).close()


def test_room_is_that_of_the_tightest_bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of the file system, the machine's memory, and each control group above this process."""
    assert room.in_memory("/dev/shm")
    assert not room.in_memory("/proc")
    monkeypatch.setattr(room, "_available", lambda: 5000)
    monkeypatch.setattr(room, "_group_available", lambda: 3000)
    assert room.free_bytes(None) == 3000
    assert room.free_bytes("/dev/shm") == 3000
    assert room.free_bytes("/no such folder") is None
    outer, inner = tmp_path, tmp_path / "inner"
    inner.mkdir()
    (outer / "memory.max").write_text("10000\n")
    (outer / "memory.current").write_text("9000\n")
    (outer / "memory.stat").write_text("anon 5\ninactive_file 500\n")
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text("9000\n")
    names = ("memory.max", "memory.current")
    monkeypatch.undo()
    monkeypatch.setattr(room, "_groups", lambda: [(outer, *names), (inner, *names), (tmp_path / "none", *names)])
    assert room._group_available() == 1500


def test_a_reservation_is_finished_under_a_storm_of_signals(process: Processes) -> None:
    """The kernel interrupts a reservation at every signal and takes it back: it is done in pieces."""
    code = """
import signal
from shmkit import Segment
count = 0
def tick(*_):
    global count
    count += 1
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
segment = Segment.create(None, "96 MiB")
signal.setitimer(signal.ITIMER_REAL, 0)
import os
print(os.fstat(segment.fd).st_blocks * 512 >= segment.size, count > 5)
"""
    assert process.python(code).communicate()[0] == "True True\n"


def test_a_reservation_is_interrupted_by_ctrl_c(process: Processes) -> None:
    """And leaves nothing."""
    code = """
import os, signal
from shmkit import Segment
def stop(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 0.01)
try:
    Segment.create("interrupted", "1 GiB")
except KeyboardInterrupt:
    print("stopped", os.listdir("/dev/shm").count("interrupted"))
"""
    if (room.free_bytes("/dev/shm") or 0) < 2**31:
        pytest.skip("less than 2 GiB of memory are free")
    assert process.python(code).communicate()[0] == "stopped 0\n"


def test_a_broken_layout_leaves_nothing(name: str) -> None:
    """Whatever fails while a segment is laid out."""

    def init(mapping: object, at: int) -> None:
        raise RuntimeError("no")

    for backing in ("memfd", "posix", "sysv"):
        with pytest.raises(RuntimeError, match="no"):
            Segment._create(None if backing == "memfd" else name, 100, backing=backing, init=init)
    assert not Path("/dev/shm", name).exists()


def test_the_last_byte_counts() -> None:
    """A size at the edge of what a file can have is an error, not an overflow."""
    for size in (2**62, 2**62 - 4096, 2**60):
        with pytest.raises(OSError, match="anonymous segment") as caught:
            Segment.create(None, size, reserve=False)
        assert caught.value.errno in (errno.ENOSPC, errno.ENOMEM)
