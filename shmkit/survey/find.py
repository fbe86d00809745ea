"""Which shared objects there are: from /dev/shm, from the descriptors of processes, and from the kernel's tables."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from shmkit import _fields
from shmkit.segment import file, posix
from shmkit.survey import heading, system_v
from shmkit.survey.details import Details
from shmkit.survey.kinds import details_of
from shmkit.survey.locks import Leases
from shmkit.survey.names import maker_of, posix_address
from shmkit.survey.objects import SharedObject, creator_of, lifetime_of
from shmkit.survey.processes import Process, Processes, file_of
from shmkit.survey.reading import Reading, open_file

if TYPE_CHECKING:
    from shmkit.survey.processes import File

__all__ = ["QUEUES", "Survey"]

QUEUES = "/dev/mqueue"
_BLOCK = 512  # of st_blocks
_SEMAPHORE = "sem."
# So many files of a folder are looked through for one.
_LOOK_THROUGH = 10000


class Survey:
    """One look at this machine: its processes, who holds leases, and what shared objects there are.

    Whoever may not be looked at is passed over; what goes while one looks is not there.
    """

    def __init__(self) -> None:
        self.processes = Processes()
        self.leases = Leases()

    def objects(self) -> Iterator[SharedObject]:
        """All that can be found, each once."""
        yield from self.posix()
        yield from self.memory()
        yield from self.files()
        yield from system_v.segments(self.processes, self.leases)
        yield from self.queues()
        yield from system_v.semaphores(self.processes)
        yield from system_v.queues(self.processes)

    # ------------------------------------------------------------------------------------------------- by where

    def posix(self) -> Iterator[SharedObject]:
        """The files of /dev/shm: segments, semaphores, and memory without a header."""
        try:
            names = sorted(os.listdir(posix.FOLDER))
        except OSError:
            return
        for name in names:
            # The companion of a SysV segment is a part of that.
            if not name.startswith(posix.COMPANION):
                found = self.at(f"{posix.FOLDER}/{name}")
                if found is not None:
                    yield found

    def memory(self) -> Iterator[SharedObject]:
        """Anonymous segments, as long as a process has them."""
        for known, path in self.processes.memfds.items():
            if path is None:
                yield self._only_mapped(known)
                continue
            try:
                reading, status = open_file(path, follow=True)
            except OSError:
                continue
            with reading:
                if file_of(status) == known:
                    pid, number = path.split("/")[2::2]
                    yield self._segment(reading, status, f"memfd:{pid}/{number}", "memfd", None, None)

    def files(self) -> Iterator[SharedObject]:
        """Segments in files elsewhere, which are found as long as a process has them mapped."""
        for known, mapped in self.processes.files.items():
            path = _named_since(mapped, known[2])
            found = None if path is None else self.at(path, only_ours=True)
            if found is not None and (os.major(found.device), os.minor(found.device), found.inode) == known:
                yield found

    def queues(self) -> Iterator[SharedObject]:
        """POSIX message queues, where the kernel's list of them is mounted."""
        try:
            names = sorted(os.listdir(QUEUES))
        except OSError:
            return
        for name in names:
            path = f"{QUEUES}/{name}"
            try:
                status = os.lstat(path)
            except OSError:
                continue
            yield self._queue(name, path, status)

    def at(self, path: str, only_ours: bool = False) -> SharedObject | None:
        """What the file at ``path`` is; None: there is no regular file."""
        folder, _, name = path.rpartition("/")
        backing = "posix" if folder == posix.FOLDER else "file"
        semaphore = backing == "posix" and name.startswith(_SEMAPHORE)
        address = path if backing == "file" else posix_address(name)
        try:
            reading, status = open_file(path)
        except OSError:
            return None if only_ours else self._unreadable(path, name, address, backing, semaphore)
        with reading:
            if semaphore:
                return self._semaphore(reading, status, name, path)
            found = self._segment(reading, status, address, backing, path if backing == "file" else name, path)
        return None if only_ours and not found.ours else found

    # -------------------------------------------------------------------------------------------------- of what

    def _segment(
        self,
        reading: Reading,
        status: os.stat_result,
        address: str,
        backing: str,
        name: str | None,
        path: str | None,
    ) -> SharedObject:
        seen = heading.look(reading)
        known = file_of(status)
        state, trouble = seen.state, seen.trouble
        leased = known in self.leases.shared if self.leases.known else None
        if backing != "memfd" and os.path.basename(path or "").startswith(file.UNFINISHED):
            state = "in the making" if leased is not False else "half made"
        head = seen.header
        users, complete = self._users(known, status)
        return SharedObject(
            address=address,
            backing=backing,
            kind=seen.kind,
            state=state,
            trouble=trouble,
            size=head.payload_size if head is not None and state in ("whole", "unknown kind") else status.st_size,
            resident=status.st_blocks * _BLOCK,
            lifetime=lifetime_of(seen, backing),
            mode=status.st_mode & 0o7777,
            uid=status.st_uid,
            created=head.created_ns / 1e9 if head is not None else None,
            changed=max(status.st_mtime, status.st_ctime),
            creator=creator_of(seen, self.processes),
            users=users,
            users_known=complete,
            attached=None,
            leased=leased if lifetime_of(seen, backing) == "leased" and backing != "memfd" else None,
            details=details_of(reading, seen) if head is not None else Details(maker_of(name)),
            name=name,
            path=path,
            device=status.st_dev,
            inode=status.st_ino,
            identity=head.identity if head is not None else 0,
            payload_at=head.header_size if head is not None and state == "whole" else 0,
        )

    def _semaphore(self, reading: Reading, status: os.stat_result, name: str, path: str) -> SharedObject:
        # glibc and musl both have the value in the first word; musl marks waiters in its uppermost bit.
        raw = reading.read(0, 4)
        value = int.from_bytes(raw, "little") & 0x7FFFFFFF
        words = ", ".join(filter(None, [f"value {value}", maker_of(name)]))
        facts = {"value": value} if len(raw) == 4 else {}
        address = f"sem:{name[len(_SEMAPHORE) :]}"
        return self._plain(path, name, address, "posix semaphore", "semaphore", status, words, facts)

    def _queue(self, name: str, path: str, status: os.stat_result) -> SharedObject:
        waiting = None
        try:
            with open(path) as text:
                waiting = int(text.read().split()[0].partition(":")[2])
        except (OSError, ValueError, IndexError):
            pass
        words = "" if waiting is None else f"{waiting} bytes waiting"
        facts = {} if waiting is None else {"bytes_waiting": waiting}
        found = self._plain(path, name, f"mq:{name}", "posix queue", "queue", status, words, facts)
        return replace(found, size=waiting, resident=None)

    def _unreadable(self, path: str, name: str, address: str, backing: str, semaphore: bool) -> SharedObject | None:
        try:
            status = os.lstat(path)
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        if semaphore:
            address = f"sem:{name[len(_SEMAPHORE) :]}"
            return self._plain(path, name, address, "posix semaphore", "semaphore", status, "", {})
        found = self._plain(path, name, address, backing, "?", status, maker_of(name), {})
        trouble = f"it is user {status.st_uid}'s, mode {status.st_mode & 0o7777:04o}"
        return replace(found, state="unreadable", trouble=trouble)

    def _plain(
        self,
        path: str,
        name: str,
        address: str,
        backing: str,
        kind: str,
        status: os.stat_result,
        words: str,
        facts: dict[str, int],
    ) -> SharedObject:
        users, complete = self._users(file_of(status), status)
        return SharedObject(
            address=address,
            backing=backing,
            kind=kind,
            state="foreign",
            trouble=None,
            size=status.st_size,
            resident=status.st_blocks * _BLOCK,
            lifetime=None,
            mode=status.st_mode & 0o7777,
            uid=status.st_uid,
            created=None,
            changed=max(status.st_mtime, status.st_ctime),
            creator=None,
            users=users,
            users_known=complete,
            attached=None,
            leased=None,
            details=Details(words, dict(facts)),
            name=name,
            path=path,
            device=status.st_dev,
            inode=status.st_ino,
        )

    def _only_mapped(self, known: File) -> SharedObject:
        users = tuple(filter(None, map(self.processes.get, sorted(self.processes.users(known)))))
        return SharedObject(
            address=f"memfd:#{known[2]}",
            backing="memfd",
            kind="?",
            state="unreadable",
            trouble="it is mapped, but no process has it open any more: nobody else can look into it",
            size=None,
            resident=None,
            lifetime="leased",
            mode=0o600,
            uid=users[0].uid if users else 0,
            created=None,
            changed=0.0,
            creator=None,
            users=users,
            users_known=not self.processes.hidden,
            attached=None,
            leased=None,
            details=Details(),
            device=os.makedev(known[0], known[1]),
            inode=known[2],
        )

    def _users(self, known: File, status: os.stat_result) -> tuple[tuple[Process, ...], bool]:
        """Who uses the file, as far as processes show it; members that do not are known by their leases."""
        pids = set(self.processes.users(known))
        for member in self.leases.members.get(known, ()):
            pid = _fields.pid_of(member)
            # Of a process that shows its mappings these are known; and of another pid namespace it means nothing here.
            if pid in self.processes.hidden:
                pids.add(pid)
        found = tuple(process for process in map(self.processes.get, sorted(pids)) if process is not None)
        return found, not self.processes.hidden


def _named_since(path: str, inode: int) -> str | None:
    """The path of a mapped file; of one that had no name when it was mapped, the one that it was given."""
    folder, _, name = path.rpartition("/")
    if not (name.startswith("#") and name.endswith(" (deleted)")):
        return path
    try:
        with os.scandir(folder) as entries:
            for entry, _ in zip(entries, range(_LOOK_THROUGH), strict=False):
                if entry.inode() == inode:
                    return entry.path
    except OSError:
        pass
    return None
