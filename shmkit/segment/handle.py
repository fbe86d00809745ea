"""References to segments: what a pickle says instead of the bytes.

A handle is a small tuple of plain values.  The receiver, a process of the same user on the same machine, opens what it
names and checks that it is the very segment that was meant (its random identity, or the inode of a raw one); anything
else is ``SegmentNotFound`` or ``SegmentPermission``.  A segment has one mapping per process, however often it arrives.

What keeps the segment until the receiver has it:

* one with a name of its own lives until it is unlinked;
* when a child process is being started (spawn, forkserver, loky), it is given the descriptor itself;
* else the process that made the reference has to live until the reference was opened.  It may drop its own views at
  once: the mapping is then kept until every reference that was made to it has been opened, or until more than 256
  segments, or more than a quarter of the machine's memory, wait like that (then the oldest goes).
"""

from __future__ import annotations

import errno
import os
import sys
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from shmkit._map import Mapping, process_start
from shmkit.errors import SegmentError, SegmentNotFound, SegmentPermission
from shmkit.segment import file, memfd, sysv
from shmkit.segment.trouble import explain, label

__all__ = ["Handle", "adopt", "know", "make_handle", "open_handle"]

Handle = tuple[Any, ...]

# The mappings that this process has given or taken references to.
_known: weakref.WeakValueDictionary[tuple[int, int, bool], Mapping] = weakref.WeakValueDictionary()
# Descriptors that this process was given at its start and that a mapping has taken over (and may have closed).
_spent: set[int] = set()


def know(mapping: Mapping) -> None:
    """From now on references to its segment that arrive here find this mapping."""
    mapping.keep_to_itself()
    _known.setdefault((mapping.facts.identity, mapping.facts.inode, mapping.readonly), mapping)


def make_handle(mapping: Mapping) -> Handle:
    """The handle for a reference that goes into one pickle."""
    facts = mapping.facts
    know(mapping)
    user = os.geteuid()
    same = (facts.identity, facts.inode, facts.dev)
    if facts.backing == "memfd":
        if not mapping.intact:
            raise SegmentError(
                f"an anonymous segment cannot be handed on: somebody else closed its descriptor {mapping.fd} "
                "(os.closerange?)"
            )
        given = _give_to_child(mapping.fd)
        if given is None:
            mapping.refer()
        return "memfd", user, same, mapping.readonly, os.getpid(), process_start(), mapping.fd, given
    if facts.leased:
        mapping.refer()
    if facts.backing == "sysv":
        return "sysv", user, same, mapping.readonly, facts.name, facts.shmid, facts.leased
    path = os.fsdecode(facts.path or b"")
    return facts.backing, user, same, mapping.readonly, facts.name, path, facts.leased, facts.creator_uid


def _give_to_child(fd: int) -> Any:
    """If a process is being started just now, what its side finds the descriptor by; None otherwise."""
    context = sys.modules.get("multiprocessing.context")
    popen = context.get_spawning_popen() if context is not None else None
    if popen is None or not hasattr(popen, "DupFd"):
        return None
    # Given once, however often this segment occurs in what the child is sent.
    given: dict[int, Any] = popen.__dict__.setdefault("_shmkit_given", {})
    if fd not in given:
        given[fd] = popen.DupFd(popen.duplicate_for_child(fd))
    return given[fd]


def open_handle(handle: Handle) -> Mapping:
    """The mapping that a handle means: the one that this process has, or a new one."""
    backing, user, same, readonly, *rest = handle
    if os.geteuid() != user:
        raise SegmentPermission(
            f"a reference that user {user} made to {_described(backing, rest)} was received by user {os.geteuid()}: a "
            "segment is shared with other users by its name and mode"
        )
    key = (same[0], same[1], readonly)
    mapping = _known.get(key)
    if mapping is None:
        # Of two threads that come here together one keeps its mapping; the other's serves as well while it lasts.
        mapping = _known.setdefault(key, _OPENERS[backing](same, readonly, *rest))
    if mapping.facts.leased and not (backing == "memfd" and rest[-1] is not None):
        mapping.take()
    return mapping


def _described(backing: str, rest: list[Any]) -> str:
    return label(None if backing == "memfd" else rest[0])


def _open_memfd(same: tuple[int, int, int], readonly: bool, pid: int, start: int, fd: int, given: Any) -> Mapping:
    twin = _known.get((same[0], same[1], not readonly))
    if twin is not None:
        return memfd.adopt(os.dup(twin.fd), same[1], same[0], readonly, "its descriptor was closed")
    if given is not None:
        own = given.detach()
        # Given once only: once it is closed, its number may be any other file's.
        if own not in _spent:
            _spent.add(own)
            os.set_inheritable(own, False)
            return memfd.adopt(own, same[1], same[0], readonly, "its descriptor was closed")
    where = f"process {pid}, which sent it, " + (
        "has let it go" if process_start(pid) == start else "ended before it was received"
    )
    try:
        own = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM) and process_start(pid) == start:
            raise SegmentPermission(
                f"an anonymous segment could not be taken over from process {pid}: the kernel does not let user "
                f"{os.geteuid()} look into it (it changed its user, or is not dumpable)"
            ) from None
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise explain(error, None) from None
        if not os.path.exists("/proc/self"):
            raise SegmentError(
                f"an anonymous segment is taken over from process {pid} through /proc, which is not there (chroot?): "
                "mount one there, receive it before that, or send a copy"
            ) from None
        raise SegmentNotFound(f"an anonymous segment is gone: {where}") from None
    return memfd.adopt(own, same[1], same[0], readonly, where)


def _open_named(
    backing: str, same: tuple[int, int, int], readonly: bool, name: str, path: str, leased: bool, owner: int
) -> Mapping:
    raw = same[0] == 0
    mapping = file.attach_at(path, backing, name, readonly, raw, None if raw else owner, None)
    facts = mapping.facts
    if (facts.identity, facts.inode, facts.dev) != same:
        raise SegmentNotFound(f"{label(name)} is gone: another segment has its name by now")
    return mapping


def _open_sysv(same: tuple[int, int, int], readonly: bool, name: str | int | None, shmid: int, leased: bool) -> Mapping:
    for entry in sysv.entries():
        if entry.shmid == shmid:
            return sysv.attach_id(entry, name, readonly, same[0] == 0, None, same[0])
    raise SegmentNotFound(f"{label(name)} is gone (SysV id {shmid})")


def adopt(fd: int, identity: int, inode: int, readonly: bool) -> Mapping:
    """The mapping of the anonymous segment that came as a descriptor, which is taken over in any case."""
    key = (identity, inode, readonly)
    known = _known.get(key)
    if known is not None:
        os.close(fd)
        return known
    return _known.setdefault(key, memfd.adopt(fd, inode, identity, readonly, "its descriptor is another file's"))


_OPENERS: dict[str, Callable[..., Mapping]] = {
    "memfd": _open_memfd,
    "posix": partial(_open_named, "posix"),
    "file": partial(_open_named, "file"),
    "sysv": _open_sysv,
}
