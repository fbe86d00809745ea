"""From what the command line calls a shared object to that object, and to its bytes."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING

from shmkit.errors import SegmentNotFound, SegmentPermission
from shmkit.segment import posix, sysv
from shmkit.survey import system_v
from shmkit.survey.processes import file_of
from shmkit.survey.reading import Reading, open_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shmkit.survey.find import Survey
    from shmkit.survey.objects import SharedObject

__all__ = ["FORMS", "is_called", "open_object", "resolve"]

FORMS = """\
names:
  NAME                    in /dev/shm (posix:NAME if there is a colon in it)
  ./FILE, /PATH/TO/FILE   in a file
  sysv:NAME, sysv:KEY     of System V, by its key or by the text that was hashed to it; sysv:#ID by the kernel's number
  memfd:PID/FD            anonymous, by a process that has it open
  sem:NAME, mq:NAME       POSIX semaphores and message queues
  sysvsem:…, sysvmq:…     System V's, by key or #ID"""


def resolve(survey: Survey, address: str) -> SharedObject:
    """The object of that address.  SegmentNotFound if there is none, with the names that are like it."""
    prefix, colon, rest = address.partition(":")
    found: SharedObject | None = None
    if colon and prefix in _LISTS:
        found = next((each for each in _list(survey, prefix) if _is(each, prefix, rest)), None)
    elif colon and prefix == "sem":
        found = _in(survey, f"sem.{rest}")
    elif colon and prefix == "posix":
        found = _in(survey, rest)
    elif "/" in address:
        # shm_open has a slash before its names.
        found = _in(survey, address[1:]) if address.count("/") == 1 and address[0] == "/" else None
        found = found or survey.at(os.path.abspath(address))
    else:
        found = _in(survey, address)
    if found is None:
        if "/" in address and os.path.exists(address):
            what = "a folder" if os.path.isdir(address) else "a special file"
            raise SegmentNotFound(f"{address!r} is no shared memory, but {what}")
        raise SegmentNotFound(f"there is no {address!r}{_alike(survey, address)}")
    return found


def is_called(found: SharedObject, address: str) -> bool:
    """Whether ``address`` means it, in whichever of the ways that a listed object can be called."""
    prefix, colon, rest = address.partition(":")
    return found.address == address or bool(colon and prefix in _LISTS and _is(found, prefix, rest))


def open_object(found: SharedObject) -> Reading:
    """The bytes of a segment; SegmentNotFound, SegmentPermission if it has gone, or is not to be read."""
    try:
        if found.backing == "sysv":
            if found.id is None or found.size is None:
                raise FileNotFoundError
            size = next((row["size"] for row in system_v.rows("shm") if row["shmid"] == found.id), None)
            if size is None:
                raise FileNotFoundError
            return system_v.open_segment(found.id, size)[0]
        path = found.path
        if found.backing == "memfd" and "/" in found.address:
            pid, number = found.address.partition(":")[2].split("/")
            path = f"/proc/{pid}/fd/{number}"
        if path is None:
            raise SegmentPermission(f"{found.address}: {found.trouble or 'it has no name to open it by'}")
        reading, status = open_file(path, follow=found.backing == "memfd")
        if (status.st_dev, status.st_ino) != (found.device, found.inode):
            reading.close()
            raise FileNotFoundError
        return reading
    except PermissionError:
        raise SegmentPermission(f"{found.address}: {found.trouble or 'it may not be read'}") from None
    except (SegmentPermission, SegmentNotFound):
        raise
    except OSError:
        raise SegmentNotFound(f"{found.address} has just gone") from None


_LISTS = ("sysv", "memfd", "mq", "sysvsem", "sysvmq")


def _list(survey: Survey, prefix: str) -> Iterator[SharedObject]:
    if prefix == "sysv":
        return system_v.segments(survey.processes, survey.leases)
    if prefix == "memfd":
        return survey.memory()
    if prefix == "mq":
        return survey.queues()
    return system_v.semaphores(survey.processes) if prefix == "sysvsem" else system_v.queues(survey.processes)


def _is(found: SharedObject, prefix: str, rest: str) -> bool:
    if found.address == f"{prefix}:{rest}":
        return True
    if prefix == "mq":
        return found.name == rest.removeprefix("/")
    if prefix == "memfd":
        return _is_memory(found, rest)
    if rest.startswith("#"):
        return rest[1:] == str(found.id)
    if not isinstance(found.name, int):
        return False
    try:
        return int(rest, 0) == found.name & 0xFFFFFFFF
    except ValueError:
        # Of another user's segment there is the key, and no header that says what it was made of.
        return prefix == "sysv" and bool(rest) and sysv.key_of(rest) & 0xFFFFFFFF == found.name & 0xFFFFFFFF


def _is_memory(found: SharedObject, rest: str) -> bool:
    # By any process that has it open, not only the one that it was listed by.
    pid, _, number = rest.partition("/")
    if rest.startswith("#"):
        return rest[1:] == str(found.inode)
    if not (pid.isdigit() and number.isdigit()):
        return False
    try:
        device = os.major(found.device), os.minor(found.device)
        return file_of(os.stat(f"/proc/{pid}/fd/{number}")) == (*device, found.inode)
    except OSError:
        return False


def _in(survey: Survey, name: str) -> SharedObject | None:
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        return None
    return survey.at(f"{posix.FOLDER}/{name}")


def _alike(survey: Survey, address: str) -> str:
    known = [found.address for found in survey.objects()]
    bare = address.rpartition(":")[2].removeprefix("/").lower()
    alike = [name for name in known if bare and bare in name.lower()][:3]
    alike = alike or difflib.get_close_matches(address, known, 3)
    return f"; there is {', '.join(map(repr, alike))}" if alike else "; shmkit ls shows what there is"
