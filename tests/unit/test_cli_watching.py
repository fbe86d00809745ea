"""Those who look only read: the kernel itself is asked, which tells more than what the tools say of themselves."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import shmkit
from shmkit.survey import Survey
from support import Processes, unique_name
from support.isolation import CLONE_NEWNS, MS_PRIVATE, MS_REC
from unit.cli_support import SHMKIT, objects_of_every_kind, program_says, shmkit_says

MS_RDONLY = 0x1
MS_REMOUNT = 0x20
MS_BIND = 0x1000
SHM = Path("/dev/shm")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, which only root can")


@pytest.fixture
def scene(make_name: Callable[[], str]) -> Iterator[list[str]]:
    """A segment of each kind, in use by this process."""
    with objects_of_every_kind(make_name) as names:
        yield names


def looked_at(names: list[str]) -> list[list[str]]:
    """Every command that looks, at every kind of object."""
    looks = [["ls"], ["ls", "--json", *names], ["top", "--count", "3", "--interval", "0.05"]]
    return [*looks, *(["inspect", each] for each in names)]


def read_only() -> None:
    """From here on this process can write to nothing in /dev/shm, whatever descriptors it opens."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(CLONE_NEWNS) == 0
    assert libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0
    assert libc.mount(b"/dev/shm", b"/dev/shm", None, MS_BIND, None) == 0
    assert libc.mount(None, b"/dev/shm", None, MS_REMOUNT | MS_BIND | MS_RDONLY, None) == 0


@as_root
def test_whoever_looks_needs_to_read_only(scene: list[str], process: Processes) -> None:
    """Where the kernel lets nothing be opened for writing, or mapped so, all is shown as elsewhere."""
    program = process.popen([sys.executable, "-c", "open('/dev/shm/x', 'w')"], preexec_fn=read_only, stderr=-1)
    assert "Read-only file system" in program.communicate(timeout=60)[1]
    for arguments in looked_at(scene):
        said = program_says(process, *arguments, preexec_fn=read_only)
        assert said.status == 0, said
        assert said.err == ""
    said = program_says(process, "ls", "--json", *scene, preexec_fn=read_only)
    assert '"unreadable"' not in said.out
    said = program_says(process, "doctor", "--quiet", preexec_fn=read_only)
    assert said.status == 1
    assert "it is mounted read-only" in said.out


def test_a_running_top_has_nothing_open_or_mapped_or_locked(scene: list[str], process: Processes) -> None:
    """Whenever one looks at it: at most a descriptor for reading, and no lease or lock on anything of anybody's."""
    inodes = {os.stat(SHM / name).st_ino for name in scene}
    watcher = process.popen([*SHMKIT, "top", "--json", "--interval", "0.01"], stdout=subprocess.PIPE)
    assert watcher.stdout is not None
    for _ in range(50):
        watcher.stdout.readline()
        for number in os.listdir(f"/proc/{watcher.pid}/fd"):
            # It opens and closes while one looks.
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{watcher.pid}/fd/{number}").st_ino in inodes:
                    info = Path(f"/proc/{watcher.pid}/fdinfo/{number}").read_text()
                    (flags,) = [line.split()[1] for line in info.splitlines() if line.startswith("flags")]
                    assert int(flags, 8) & os.O_ACCMODE == os.O_RDONLY
                    assert "lock:" not in info
        maps = Path(f"/proc/{watcher.pid}/maps").read_text()
        assert not [line for line in maps.splitlines() if "/dev/shm/" in line]
        locks = Path("/proc/locks").read_text()
        assert not [line for line in locks.splitlines() if line.split()[4] == str(watcher.pid)]


def test_what_is_opened_is_opened_for_reading(scene: list[str], process: Processes) -> None:
    """Each file of shared memory, by every command, as the interpreter reports it."""
    code = """
import os, sys
opened = []
def seen(event, arguments):
    if event == "open" and str(arguments[0]).startswith(("/dev/shm/", "/proc/")):
        opened.append((arguments[0], arguments[2] & (os.O_ACCMODE | os.O_CREAT | os.O_TRUNC)))
sys.addaudithook(seen)
from shmkit.cli import main
assert main(sys.argv[1:]) == 0
assert any(path.startswith("/dev/shm/") for path, _ in opened)
assert not [each for each in opened if each[1] != os.O_RDONLY], opened
"""
    for arguments in looked_at(scene):
        program = process.python(code, *arguments, stderr=subprocess.PIPE)
        assert program.communicate(timeout=60)[1] == ""
        assert program.returncode == 0


def calls_of(look: Callable[[], object]) -> int:
    """How many calls into C that makes: system calls are among them."""
    count = 0

    def seen(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "c_call"

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        look()
    finally:
        sys.setprofile(before)
    return count


def test_the_work_grows_as_the_number_of_objects(make_name: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """So much for each, however many there are: ten thousand take a second or two."""
    # How many processes there are meanwhile is another matter.
    monkeypatch.setattr("shmkit.survey.processes.Processes._look_at", lambda self, pid: None)
    base = make_name()
    names = [f"{base}-{number}" for number in range(400)]
    with shmkit.Segment.create(base, 64) as segment:
        pattern = (SHM / base).read_bytes()
        segment.unlink()
    shmkit_says("ls", "nothing-of-that-name")
    counts = []
    try:
        for number, name in enumerate(names, 1):
            (SHM / name).write_bytes(pattern)
            if number in (100, 200, 400):
                counts.append(calls_of(lambda: shmkit_says("ls", f"{base}-*")))
    finally:
        for name in names:
            (SHM / name).unlink(missing_ok=True)
    first, second = (counts[1] - counts[0]) / 100, (counts[2] - counts[1]) / 200
    assert second < 400
    assert second < 1.2 * first


def test_objects_that_come_and_go_meanwhile_are_no_trouble(
    scene: list[str], make_name: Callable[[], str], process: Processes
) -> None:
    """Rings, queues, topics, arrays and locks that are made and removed as fast as they can be."""
    maker = process(make_and_remove)
    for arguments in (
        ["ls"],
        ["top", "--count", "5", "--interval", "0.05"],
        ["inspect", scene[0]],
        ["gc", "--dry-run"],
    ):
        said = program_says(process, *arguments)
        assert said.status == 0, said
        assert said.err == ""
    others = 0
    while others < 20:
        found = {each.address for each in Survey().objects()}
        assert set(scene) <= found
        others += len(found) > len(scene)
    maker.kill()
    maker.join()
    shmkit.collect()  # what it was just making
    for each in Survey().posix():
        if f"-{maker.pid}-" in each.address:
            shmkit.unlink(each.address)


def make_and_remove() -> None:
    """For ever."""
    for number in itertools.count():
        with objects_of_every_kind(lambda: unique_name(f"{os.getpid()}-{number}")):  # noqa: B023
            pass
