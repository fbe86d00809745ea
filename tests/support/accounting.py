"""The books: which shared memory, semaphores, descriptors, mappings and children there are, and what a test left."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

from . import isolation
from .names import belongs_to_another_session
from .processes import alive
from .waiting import wait_until

SHM = Path("/dev/shm")
# joblib makes it when it first starts workers, and removes it when this process ends.
JOBLIB_FOLDER = f"joblib_memmapping_folder_{os.getpid()}_"
SHARED_MAPPINGS = ("/dev/shm/", "/memfd:", "/SYSV")


@dataclass(frozen=True)
class Books:
    """What exists now.  Each entry's key says what it is, so that a reused number is not taken for the old thing."""

    files: set[tuple[str, int]] = field(default_factory=set)
    sysv: dict[int, int] = field(default_factory=dict)
    semaphores: set[int] = field(default_factory=set)
    sysv_queues: set[int] = field(default_factory=set)
    posix_queues: set[str] = field(default_factory=set)
    descriptors: dict[tuple[int, int, int], str] = field(default_factory=dict)
    mappings: dict[tuple[str, str], str] = field(default_factory=dict)
    children: set[int] = field(default_factory=set)

    @classmethod
    def now(cls) -> Books:
        return cls(
            *(_files(), _sysv(), _table("sem", 6), _table("msg", 7), _posix_queues()),
            *(_descriptors(), _mappings(), set(_children())),
        )


def _files() -> set[tuple[str, int]]:
    return {(entry.name, entry.inode()) for entry in os.scandir(SHM)}


def _sysv() -> dict[int, int]:
    """Segment id → pid of the creator."""
    table = Path("/proc/sysvipc/shm")
    if not table.exists():
        return {}
    rows = [line.split() for line in table.read_text().splitlines()[1:]]
    return {int(row[1]): int(row[4]) for row in rows}


def _table(kind: str, uid_at: int) -> set[int]:
    """Ids of the SysV semaphores, or message queues, of this user: the table does not tell which process made them."""
    table = Path(f"/proc/sysvipc/{kind}")
    if not table.exists():
        return set()
    rows = [line.split() for line in table.read_text().splitlines()[1:]]
    return {int(row[1]) for row in rows if int(row[uid_at]) == os.geteuid()}


def _posix_queues() -> set[str]:
    """Names of the POSIX message queues, where they can be seen: those of this session's tests."""
    folder = isolation.message_queues
    if folder is None:
        return set()
    return {name for name in os.listdir(folder) if not belongs_to_another_session(name)}


def _descriptors() -> dict[tuple[int, int, int], str]:
    found = {}
    for number in os.listdir("/proc/self/fd"):
        # The descriptor of this very listing is gone by now.
        with contextlib.suppress(OSError):
            status = os.fstat(int(number))
            found[int(number), status.st_dev, status.st_ino] = os.readlink(f"/proc/self/fd/{number}")
    return found


def _mappings() -> dict[tuple[str, str], str]:
    found = {}
    with open("/proc/self/maps") as maps:
        for line in maps:
            words = line.split(None, 5)
            if len(words) == 6 and words[5].startswith(SHARED_MAPPINGS):
                found[words[3], words[4]] = words[5].strip()
    return found


def _children() -> Iterator[int]:
    for task in Path("/proc/self/task").iterdir():
        # A thread may end while one looks.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield from map(int, (task / "children").read_text().split())


def _helpers() -> tuple[set[int], set[int]]:
    """The pids and descriptors of the helper processes that multiprocessing, joblib and loky start once and keep."""
    trackers: list[object] = [resource_tracker._resource_tracker]  # type: ignore[attr-defined]
    # joblib's copy of loky uses what loky itself registers with multiprocessing, where somebody has imported that too.
    for name in ("joblib.externals.loky.backend.resource_tracker", "loky.backend.resource_tracker"):
        trackers += [sys.modules[name]._resource_tracker] if name in sys.modules else []
    pids = {getattr(tracker, "_pid", None) for tracker in trackers}
    descriptors = {getattr(tracker, "_fd", None) for tracker in trackers}
    server = forkserver._forkserver  # type: ignore[attr-defined]
    pids.add(server._forkserver_pid)
    descriptors |= {server._forkserver_alive_fd, getattr(server, "_forkserver_authkey", None)}
    return {pid for pid in pids if isinstance(pid, int)}, {fd for fd in descriptors if isinstance(fd, int)}


def _command(pid: int) -> str:
    """What that process was started as: who reads of a failure cannot ask it any more."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return "gone"


def _somebody_elses(pid: int) -> bool:
    """Whether a living process that does not descend from this one made it: other programs use the machine too."""
    while pid > 1 and pid != os.getpid():
        if not alive(pid):
            return False
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        pid = int(stat[stat.rindex(")") + 2 :].split()[1])
    return pid != os.getpid()


def _used_elsewhere(files: dict[int, str]) -> set[int]:
    """The inodes, of these files in /dev/shm, that only processes of other programs use.

    By inode, since a mapping goes by the name that its file had first: a semaphore's is made under another.
    """
    ours: set[int] = set()
    theirs: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        # Processes end while one looks, and those of other users do not show what they use.
        with contextlib.suppress(OSError):
            mapped = (entry / "maps").read_text().splitlines()
            used = {int(line.split(None, 5)[4]) for line in mapped if f" {SHM}/" in line}
            links = [link for link in (entry / "fd").iterdir() if os.readlink(link).startswith(f"{SHM}/")]
            used |= {link.stat().st_ino for link in links}
            if used & files.keys():
                (theirs if _somebody_elses(int(entry.name)) else ours).update(used & files.keys())
    return theirs - ours


def _left(before: Books, memory_too: bool) -> dict[str, list[str]]:
    now = Books.now()
    pids, fds = _helpers()
    files = {
        inode: name
        for (name, inode) in now.files
        if (name, inode) not in before.files
        and not belongs_to_another_session(name)
        and not name.startswith(JOBLIB_FOLDER)
        # The standard library's semaphores have a name as long as their object lives, and a finalizer that insists.
        and (memory_too or not name.startswith("sem."))
    }
    elsewhere = _used_elsewhere(files) if files else set()
    left = {
        "in /dev/shm": [name for inode, name in files.items() if inode not in elsewhere],
        "SysV segments": [
            str(key) for key, pid in now.sysv.items() if key not in before.sysv and not _somebody_elses(pid)
        ],
        "SysV semaphores": [str(key) for key in now.semaphores - before.semaphores],
        "SysV message queues": [str(key) for key in now.sysv_queues - before.sysv_queues],
        "POSIX message queues": sorted(now.posix_queues - before.posix_queues),
        "children": [f"{pid} ({_command(pid)})" for pid in now.children - before.children - pids if alive(pid)],
    }
    if memory_too:
        left["descriptors"] = [
            f"{key[0]} → {target}"
            for key, target in now.descriptors.items()
            if key not in before.descriptors and key[0] not in fds
        ]
        left["mappings"] = [path for key, path in now.mappings.items() if key not in before.mappings]
    return {what: which for what, which in left.items() if which}


def settle(before: Books, memory_too: bool = True, grace: float = 3.0) -> dict[str, list[str]]:
    """What a test left behind: nothing, usually at first sight.

    What only awaits the garbage collector, lies in shmkit's pool of warm segments, or belongs to a child that is just
    ending, is not left behind.  ``memory_too=False`` leaves out what a failed test's traceback still refers to.
    """
    left = _left(before, memory_too)
    if left:
        gc.collect()
        shmkit = sys.modules.get("shmkit")
        getattr(shmkit, "trim", lambda: None)()
        # The segment that the next anonymous primitive would stand in is kept for it.
        getattr(sys.modules.get("shmkit._primitive"), "let_go", lambda: None)()
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not _left(before, memory_too), grace)
        left = _left(before, memory_too)
    _reap(before)
    return left


def clean_up(left: dict[str, list[str]]) -> None:
    """Removes what was left, descriptors and mappings aside, so that the next test does not suffer."""
    for child in left.get("children", []):
        pid = int(child.split()[0])
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    for name in left.get("in /dev/shm", []):
        with contextlib.suppress(FileNotFoundError):
            if (SHM / name).is_dir():
                shutil.rmtree(SHM / name)
            else:
                (SHM / name).unlink()
    for key in left.get("SysV segments", []):
        import sysv_ipc

        with contextlib.suppress(sysv_ipc.ExistentialError):
            sysv_ipc.remove_shared_memory(int(key))
    for key in left.get("SysV semaphores", []):
        import sysv_ipc

        with contextlib.suppress(sysv_ipc.ExistentialError):
            sysv_ipc.remove_semaphore(int(key))
    for key in left.get("SysV message queues", []):
        import sysv_ipc

        with contextlib.suppress(sysv_ipc.ExistentialError):
            sysv_ipc.remove_message_queue(int(key))
    for name in left.get("POSIX message queues", []):
        import posix_ipc

        with contextlib.suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_message_queue(f"/{name}")


def _reap(before: Books) -> None:
    """Orphans of killed children come to this process, a subreaper; it takes their exit statuses."""
    for pid in set(_children()) - before.children - _helpers()[0]:
        if not alive(pid):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
