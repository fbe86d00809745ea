"""What an operating system's error means for a segment, in words: the rule, the value, the name and the remedy."""

from __future__ import annotations

import errno
import os
import resource

from shmkit._map import trim
from shmkit.errors import NoSpace, SegmentExists, SegmentNotFound, SegmentPermission
from shmkit.segment import room
from shmkit.sizes import format_size

__all__ = ["Name", "check_room", "explain", "frees_by_trimming", "label", "no_space"]

_SCARCE = (errno.ENOSPC, errno.ENOMEM, errno.EMFILE, errno.ENFILE)

# A name: text, a SysV key, or none at all.
Name = str | int | None


def label(name: Name) -> str:
    """How messages speak of a segment."""
    return "an anonymous segment" if name is None else f"segment {name!r}"


def check_room(name: Name, asked: int, folder: str | None) -> None:
    """NoSpace if a large segment cannot fit: into ``folder``, or into memory (None)."""
    if asked < room.LARGE:
        return
    free = room.free_bytes(folder)
    if free is not None and asked > free:
        raise no_space(name, asked, folder, free)


def no_space(name: Name, asked: int, folder: str | None, free: int | None = None) -> NoSpace:
    """The NoSpace that says what was asked, what is free, and how to get more."""
    if free is None:
        free = room.free_bytes(folder)
    where = "memory" if folder is None else folder
    text = f"no room for {label(name)}: asked for {format_size(asked)} ({asked} bytes)"
    if free is not None:
        text += f", {format_size(free)} ({free} bytes) free in {where}"
    if folder == "/dev/shm":
        text += (
            "; a container gets more with --shm-size (docker run --shm-size=2g; in Kubernetes an emptyDir of medium "
            "Memory mounted on /dev/shm)"
        )
    return NoSpace(text)


def _file_too_large(name: Name, asked: int, folder: str | None) -> NoSpace:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit == resource.RLIM_INFINITY or asked <= limit:
        return no_space(name, asked, folder)
    return NoSpace(
        f"no room for {label(name)}: asked for {format_size(asked)} ({asked} bytes), but this process may make files "
        f"of at most {format_size(limit)} (RLIMIT_FSIZE: raise it with ulimit -f or resource.setrlimit)"
    )


def _out_of_memory(name: Name, asked: int) -> OSError:
    try:
        with open("/proc/self/maps") as lines:
            mapped = sum(1 for _ in lines)
        with open("/proc/sys/vm/max_map_count") as text:
            most = int(text.read())
    except (OSError, ValueError):
        mapped, most = 0, 1
    if mapped >= most - 16:
        remedy = f"this process has {mapped} mappings, and vm.max_map_count is {most}: use fewer, larger segments"
    else:
        remedy = "the system refuses to map that much (ulimit -v, vm.overcommit_memory or the address space bound it)"
    return OSError(errno.ENOMEM, f"{label(name)} of {format_size(asked)} could not be mapped: {remedy}")


def _too_many_files(error: OSError, name: Name) -> OSError:
    if error.errno == errno.ENFILE:
        remedy = "the whole system has too many files open (fs.file-max)"
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        remedy = (
            f"this process may have {soft} files open, and has; each anonymous segment or ring keeps one open.  Put "
            f"small arrays together into large ones, or raise the limit (its hard limit is {hard}) with ulimit -n or "
            "resource.setrlimit"
        )
    return OSError(error.errno, f"{label(name)} could not be opened: {remedy}")


def frees_by_trimming(error: OSError) -> bool:
    """Whether what was lacking lay in the warm pool, which has then been given back: trying again is worth it."""
    return error.errno in _SCARCE and trim() > 0


def explain(error: OSError, name: Name, asked: int = 0, folder: str | None = None) -> OSError:
    """The exception that says what ``error`` means; ``asked`` and ``folder`` where room was wanted."""
    number = error.errno
    if number == errno.EEXIST:
        return SegmentExists(f"{label(name)} exists: attach to it, unlink it, or use create_or_attach")
    if number == errno.ENOENT:
        if asked and folder is not None and not os.path.isdir(folder):
            return SegmentNotFound(f"there is no folder {folder!r} to make {label(name)} in")
        return SegmentNotFound(f"there is no {label(name).removeprefix('an ')}")
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return SegmentPermission(f"{label(name)}: {os.strerror(number)} (user {os.geteuid()})")
    if number in (errno.ENOSPC, errno.EDQUOT):
        return no_space(name, asked, folder)
    if number == errno.EFBIG:
        return _file_too_large(name, asked, folder)
    if number == errno.ENOMEM:
        return _out_of_memory(name, asked)
    if number in (errno.EMFILE, errno.ENFILE):
        return _too_many_files(error, name)
    return OSError(number, f"{label(name)}: {os.strerror(number or 0)}")
