"""System V's shared memory, semaphores and message queues, as the kernel's tables tell of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from shmkit.segment import posix
from shmkit.survey import heading
from shmkit.survey.details import Details
from shmkit.survey.heading import Heading
from shmkit.survey.kinds import details_of
from shmkit.survey.objects import Creator, SharedObject, creator_of, lifetime_of
from shmkit.survey.processes import Process, file_of
from shmkit.survey.reading import Reading, open_sysv

if TYPE_CHECKING:
    from shmkit.survey.locks import Leases
    from shmkit.survey.processes import Processes

__all__ = ["companion_of", "open_segment", "queues", "rows", "segments", "semaphores"]

_REMOVED = 0o1000


def rows(table: str) -> list[dict[str, int]]:
    """The lines of /proc/sysvipc/``table``, by column; empty where it is not shown."""
    try:
        with open(f"/proc/sysvipc/{table}") as text:
            lines = text.read().splitlines()
    except OSError:
        return []
    columns = lines[0].split() if lines else []
    found = []
    for line in lines[1:]:
        words = dict(zip(columns, line.split(), strict=False))
        try:
            found.append({column: int(word, 8 if column == "perms" else 10) for column, word in words.items()})
        except ValueError:
            continue
    return found


class _Companion(NamedTuple):
    key: int
    creator_pid: int


def _companions() -> dict[_Companion, str]:
    """The companions of SysV segments, by what they say of them; and their paths."""
    found = {}
    try:
        names = [name for name in os.listdir(posix.FOLDER) if name.startswith(posix.COMPANION)]
    except OSError:
        return {}
    for name in names:
        path = f"{posix.FOLDER}/{name}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            key, pid = map(int, os.read(fd, 200).split()[:2])
            found[_Companion(key, pid)] = path
        except (OSError, ValueError):
            pass
        finally:
            os.close(fd)
    return found


def companion_of(identity: int) -> str:
    """The file that bears the leases of the SysV segment of that identity."""
    return f"{posix.FOLDER}/{posix.COMPANION}{identity:016x}"


def open_segment(shmid: int, size: int) -> tuple[Reading, Heading]:
    """Attaches to the segment for a look; OSError if that is not allowed, or it has gone."""
    reading = open_sysv(shmid, size)
    seen = heading.look(reading)
    if seen.header is not None and seen.state == "whole":
        reading.close()
        reading = open_sysv(shmid, size, companion_of(seen.header.identity))
    return reading, seen


def segments(processes: Processes, leases: Leases) -> Iterator[SharedObject]:
    """The segments, shmkit's and others'."""
    companions: dict[_Companion, str] | None = None
    for row in rows("shm"):
        seen: Heading | None = None
        details = Details()
        half_made: str | None = None
        try:
            reading, seen = open_segment(row["shmid"], row["size"])
        except OSError:
            pass
        else:
            with reading:
                details = details_of(reading, seen)
            if seen.header is None and seen.raw[:8] == bytes(8):
                # Perhaps it is just being made: then its companion has been made first.
                companions = _companions() if companions is None else companions
                half_made = companions.get(_Companion(row["key"], row["cpid"]))
        yield _segment(row, seen, details, half_made, processes, leases)


def _segment(
    row: dict[str, int],
    seen: Heading | None,
    details: Details,
    half_made: str | None,
    processes: Processes,
    leases: Leases,
) -> SharedObject:
    state, trouble = ("unreadable", _whose(row)) if seen is None else (seen.state, seen.trouble)
    maker = processes.get(row["cpid"])
    if half_made is not None:
        state = "in the making" if maker is not None else "half made"
    head = None if seen is None else seen.header
    meta = {} if seen is None or state != "whole" else seen.meta
    name = meta.get("name") if isinstance(meta.get("name"), str) else row["key"] or None
    creator = None if seen is None else creator_of(seen, processes)
    if creator is None:
        # The kernel has kept a pid, which may be another process's by now.
        creator = Creator(row["cpid"], row["cuid"], False if maker is None else None, maker.command if maker else None)
    users = _processes(processes, processes.sysv.get(row["shmid"], set()))
    leased, path = None, half_made
    if head is not None and state == "whole":
        path = companion_of(head.identity)
        leased = _is_leased(path, leases)
    return SharedObject(
        address=_address("sysv", row["key"] if not row["perms"] & _REMOVED else 0, row["shmid"], name),
        backing="sysv",
        kind="?" if seen is None else seen.kind,
        state=state,
        trouble=trouble,
        size=head.payload_size if head is not None and state in ("whole", "unknown kind") else row["size"],
        resident=row.get("rss"),
        lifetime=None if seen is None else lifetime_of(seen, "sysv"),
        mode=row["perms"] & 0o777,
        uid=row["uid"],
        created=head.created_ns / 1e9 if head is not None else None,
        changed=float(row["ctime"]),
        creator=creator,
        users=users,
        users_known=not processes.hidden,
        attached=row["nattch"],
        leased=leased,
        details=details,
        name=name,
        path=path,
        id=row["shmid"],
        identity=head.identity if head is not None else 0,
        payload_at=head.header_size if head is not None and state == "whole" else 0,
    )


def semaphores(processes: Processes) -> Iterator[SharedObject]:
    """The sets of semaphores."""
    for row in rows("sem"):
        facts = {"count": row["nsems"]}
        words = f"{row['nsems']} semaphore{'' if row['nsems'] == 1 else 's'}"
        yield _plain(row, "semid", "sysvsem", "sysv semaphore", "semaphore", None, words, facts, None, ())


def queues(processes: Processes) -> Iterator[SharedObject]:
    """The message queues."""
    for row in rows("msg"):
        facts = {"messages": row["qnum"], "bytes_waiting": row["cbytes"], "last_sender": row["lspid"]}
        facts["last_receiver"] = row["lrpid"]
        words = f"{row['qnum']} waiting"
        yield _plain(row, "msqid", "sysvmq", "sysv queue", "queue", row["cbytes"], words, facts, None, ())


def _plain(
    row: dict[str, int],
    id_column: str,
    prefix: str,
    backing: str,
    kind: str,
    size: int | None,
    words: str,
    facts: dict[str, Any],
    resident: int | None,
    users: tuple[Process, ...],
) -> SharedObject:
    return SharedObject(
        address=_address(prefix, row["key"], row[id_column], None),
        backing=backing,
        kind=kind,
        state="foreign",
        trouble=None,
        size=size,
        resident=resident,
        lifetime=None,
        mode=row["perms"] & 0o777,
        uid=row["uid"],
        created=None,
        changed=float(row["ctime"]),
        # These tables do not say which process it was.
        creator=Creator(None, row["cuid"], None, None),
        users=users,
        users_known=False,
        attached=None,
        leased=None,
        details=Details(words, facts),
        name=row["key"] or None,
        id=row[id_column],
    )


def _address(prefix: str, key: int, number: int, name: str | int | None) -> str:
    if key == 0:
        return f"{prefix}:#{number}"
    return f"{prefix}:{name}" if isinstance(name, str) else f"{prefix}:{key & 0xFFFFFFFF:#x}"


def _whose(row: dict[str, int]) -> str:
    return f"it is user {row['uid']}'s, mode {row['perms'] & 0o777:04o}"


def _is_leased(path: str, leases: Leases) -> bool | None:
    try:
        return file_of(os.stat(path)) in leases.shared if leases.known else None
    except OSError:
        return None


def _processes(processes: Processes, pids: set[int]) -> tuple[Process, ...]:
    return tuple(process for process in map(processes.get, sorted(pids)) if process is not None)
