"""Locks that are files, and files that are replaced at once."""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import socket
import stat
import threading
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import shmkit
from shmkit.files import FileLock, replacing
from support import Processes

WATCHDOG = 30.0
hows = pytest.mark.parametrize("how", ["fcntl", "flock"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@hows
def test_one_has_it_alone_or_many_share_it(path: Path, how: str) -> None:
    """Also within a process: each FileLock is a holder."""
    one, other, third = (FileLock(path, how=how) for _ in range(3))
    with one:
        assert one.held
        assert not other.try_acquire()
        assert not other.try_acquire(shared=True)
        with pytest.raises(TimeoutError, match="held by somebody else"):
            other.acquire(0.02)
    with one.sharing(), other.sharing():
        assert not third.try_acquire()
        assert third.try_acquire(shared=True)
        third.release()
    assert third.try_acquire()
    third.release()
    for lock in (one, other, third):
        lock.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@hows
@pytest.mark.parametrize("timeout", [None, WATCHDOG])
def test_waiting_for_it(path: Path, how: str, timeout: float | None) -> None:
    """The wait ends when the holder gives it back."""
    holder, waiter = FileLock(path, how=how), FileLock(path, how=how)
    holder.acquire()
    order = []

    def wait() -> None:
        waiter.acquire(timeout)
        order.append("waiter")
        waiter.release()

    thread = threading.Thread(target=wait)
    thread.start()
    order.append("holder")
    holder.release()
    thread.join(WATCHDOG)
    assert order == ["holder", "waiter"]
    holder.close()
    waiter.close()


@hows
def test_a_timeout_is_not_shorter_and_handlers_run_meanwhile(path: Path, how: str) -> None:
    """And what they raise comes out."""
    came = []
    previous = signal.signal(signal.SIGALRM, lambda *_: came.append(1))
    with FileLock(path, how=how):
        other = FileLock(path, how=how)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
            before = time.monotonic()
            with pytest.raises(TimeoutError):
                other.acquire(0.05)
            assert time.monotonic() - before >= 0.05
            assert came

            def stop(*_: Any) -> None:
                signal.setitimer(signal.ITIMER_REAL, 0)  # once: on a busy machine the next would come out of the test
                raise KeyboardInterrupt

            signal.signal(signal.SIGALRM, stop)
            with pytest.raises(KeyboardInterrupt):
                other.acquire(WATCHDOG)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
        other.close()


@hows
def test_the_lock_of_a_killed_process_is_free(path: Path, how: str, process: Processes) -> None:
    """The kernel takes it back, though the process has a child that goes on."""
    program = process.python(
        dedent("""
        import os, sys, time
        from shmkit.files import FileLock
        lock = FileLock(sys.argv[1], how=sys.argv[2])
        lock.acquire()
        child = os.fork()
        if not child:
            os.close(1)
            time.sleep(3600)
        print(child, flush=True)
        time.sleep(3600)
        """),
        path,
        how,
        text=True,
    )
    assert program.stdout is not None
    child = int(program.stdout.readline())
    lock = FileLock(path, how=how)
    assert not lock.try_acquire()
    try:
        program.send_signal(signal.SIGKILL)
        lock.acquire(WATCHDOG)
        lock.release()
    finally:
        os.kill(child, signal.SIGKILL)
        lock.close()


def test_ranges_are_locked_apart(path: Path) -> None:
    """Two that overlap are not held together."""
    first, second, both = (
        FileLock(path, start=0, length=10),
        FileLock(path, start=10, length=10),
        FileLock(path, start=5, length=10),
    )
    with first, second:
        assert not both.try_acquire()
    with first:
        assert not both.try_acquire()
    with both:
        assert not second.try_acquire()
    for lock in (first, second, both):
        lock.close()


def test_other_programs_are_kept_out(path: Path) -> None:
    """Those that use lockf, and flock."""
    with path.open("w") as file:
        for how, take in (("flock", fcntl.flock), ("fcntl", fcntl.lockf)):
            lock = FileLock(path, how=how)
            with lock, pytest.raises(BlockingIOError):
                take(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            take(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert not lock.try_acquire()
            take(file, fcntl.LOCK_UN)
            lock.close()


def test_misuse_is_said(path: Path) -> None:
    """Twice, not at all, and arguments that are none."""
    lock = FileLock(path)
    with pytest.raises(shmkit.NotOwner):
        lock.release()
    with pytest.raises(shmkit.Closed):
        lock.fileno()
    with lock:
        for call in (lock.acquire, lock.try_acquire):
            with pytest.raises(RuntimeError, match="this very FileLock"):
                call()
        assert "held alone" in repr(lock)
    lock.close()
    assert "not held" in repr(lock)
    with pytest.raises(ValueError, match="flock"):
        FileLock(path, how="hope")
    with pytest.raises(ValueError, match="whole files"):
        FileLock(path, how="flock", start=1)
    with pytest.raises(ValueError, match="begins at 0"):
        FileLock(path, start=-1)
    with pytest.raises(ValueError, match=r"ends before byte 2\*\*63: got start 9223372036854775808"):
        FileLock(path, start=2**63)
    for wrong in ("a", 1.5, None, True):
        with pytest.raises(TypeError, match="start is a whole number: got "):
            FileLock(path, start=wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="length is a whole number: got "):
            FileLock(path, length=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timeout"):
        lock.acquire("soon")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        FileLock(path.with_name("no") / "folder").acquire()
    again = pickle.loads(pickle.dumps(FileLock(path, start=3, length=4)))
    with again:
        assert again.held
    again.close()


# ── replacing ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_when_all_is_written(tmp_path: Path, durable: bool) -> None:
    """Until then the old one is there; its permissions stay."""
    path = tmp_path / "state"
    with replacing(path, "w", durable=durable, encoding="utf-8") as file:
        file.write("öld")
        assert not path.exists()
    path.chmod(0o640)
    with replacing(path, durable=durable) as file:
        file.write(b"new")
        assert path.read_text(encoding="utf-8") == "öld"
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    with replacing(path, permissions=0o600) as file:
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("durable", [True, False])
def test_the_disk_has_it_in_order(tmp_path: Path, durable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file holds, then its name, then the folder: no loss of power can leave the name of half a file."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def sync(fd: int) -> None:
        target = os.readlink(f"/proc/self/fd/{fd}")
        what = "the folder" if target == str(tmp_path) else f"{os.fstat(fd).st_size} bytes"
        done.append(f"fsync of {what}")
        fsync(fd)

    def rename(old: str, new: str) -> None:
        done.append(f"rename to {os.path.basename(new)}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    with replacing(tmp_path / "state", durable=durable) as file:
        file.write(b"all of it")
        assert not done
    assert done == (["fsync of 9 bytes", "rename to state", "fsync of the folder"] if durable else ["rename to state"])


def test_what_fails_changes_nothing(tmp_path: Path) -> None:
    """No half of a file, and nothing left beside it."""
    path = tmp_path / "state"
    path.write_bytes(b"as it was")
    with pytest.raises(RuntimeError, match="half-way"), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError("half-way")
    assert path.read_bytes() == b"as it was"
    assert [file.name for file in tmp_path.iterdir()] == ["state"]
    with pytest.raises(ValueError, match="'w' or 'wb'"), replacing(path, "a"):
        pass
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "no" / "folder"):
        pass


def test_a_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """It, and not the one beside it that would have taken its place."""
    path = tmp_path / "none" / "file"
    with pytest.raises(FileNotFoundError) as told, replacing(path):
        pass
    assert told.value.filename == str(path)


def test_only_files_are_replaced(tmp_path: Path) -> None:
    """A FIFO, a socket, a device or a folder is named, also behind a link, and stays as it is."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    names = {"fifo": "a FIFO", "link": "a FIFO", "folder": "a folder", "socket": "a socket"}
    if os.geteuid() == 0:
        os.mknod(tmp_path / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        names["device"] = "a device"
    before = sorted(tmp_path.iterdir())
    for name, what in names.items():
        mode = (tmp_path / name).stat().st_mode
        with pytest.raises(ValueError, match=f"'.*' is {what}"), replacing(tmp_path / name) as file:
            file.write(b"lost")
        assert (tmp_path / name).stat().st_mode == mode
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["ü" * 127, "x" * 255, "x" + "ü" * 127, "\N{SNOWMAN}" * 85], ids=lambda name: name[:2])
def test_names_of_any_length(tmp_path: Path, name: str) -> None:
    """Up to the 255 bytes that file systems take, whatever letters they are."""
    with replacing(tmp_path / name) as file:
        file.write(b"new")
    assert (tmp_path / name).read_bytes() == b"new"
    assert os.listdir(tmp_path) == [name]


def test_a_link_is_followed(tmp_path: Path) -> None:
    """What it points to is replaced, and the link stays."""
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with replacing(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_a_new_file_obeys_the_umask(tmp_path: Path) -> None:
    """As any other new file does."""
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "new"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
