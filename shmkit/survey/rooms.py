"""How much room there is: /dev/shm, memory, huge pages, and what a container leaves of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from shmkit.segment import posix, room
from shmkit.sizes import format_size
from shmkit.survey.machine import Check, Finding, Machine

__all__ = ["CHECKS"]

# What a container gets unless somebody asks for more.
_CONTAINER = 64 * 2**20
_MORE = (
    "docker run --shm-size=2g (or shm_size: in compose); in Kubernetes an emptyDir of medium Memory mounted on /dev/shm"
)


def _shm(machine: Machine) -> Iterator[Finding]:
    folder = machine.root / posix.FOLDER.lstrip("/")
    try:
        status, space = os.stat(folder), os.statvfs(folder)
    except OSError as error:
        yield Finding("problem", "/dev/shm", f"it is not there: {error.strerror}", "mount -t tmpfs tmpfs /dev/shm")
        return
    if space.f_flag & os.ST_RDONLY:
        remedy = "mount -o remount,rw /dev/shm (of a container: it was started with a /dev/shm that is read-only)"
        yield Finding("problem", "/dev/shm", "it is mounted read-only: nobody can make anything in it", remedy)
        return
    if not stat.S_ISDIR(status.st_mode) or not os.access(folder, os.W_OK | os.X_OK):
        remedy = "chmod 1777 /dev/shm (as root)"
        text = f"this user may not make files in it (mode {status.st_mode & 0o7777:04o})"
        yield Finding("problem", "/dev/shm", text, remedy)
        return
    if str(machine.root) == "/" and os.access("/proc/self/mountinfo", os.R_OK) and not room.in_memory(posix.FOLDER):
        remedy = "mount -t tmpfs tmpfs /dev/shm"
        yield Finding("warning", "/dev/shm", "it is not memory, but a folder of a disk: everything is slow", remedy)
    size, free = space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize
    text = f"{format_size(free)} free of {format_size(size)}"
    if size == 0:
        yield Finding("ok", "/dev/shm", "of no fixed size")
    elif size <= _CONTAINER:
        yield Finding("warning", "/dev/shm", f"{text}: as small as a container's", _MORE)
    elif free < size // 10:
        remedy = "shmkit gc, shmkit ls --sort memory, or mount -o remount,size=… /dev/shm"
        yield Finding("warning", "/dev/shm", f"{text}: nearly full", remedy)
    else:
        yield Finding("ok", "/dev/shm", text)
    if space.f_files and space.f_favail < max(space.f_files // 20, 100):
        text = f"{space.f_favail} more files of {space.f_files}"
        yield Finding("warning", "/dev/shm files", text, "mount -o remount,nr_inodes=… /dev/shm")


def _memory(machine: Machine) -> Iterator[Finding]:
    total, available = machine.memory("MemTotal"), machine.memory("MemAvailable")
    if total is None or available is None:
        yield Finding("note", "memory", "the kernel does not say how much there is")
        return
    text = f"{format_size(available)} available of {format_size(total)}"
    if available < total // 20:
        remedy = "end what takes it: shmkit ls --sort memory shows what shared memory does"
        yield Finding("warning", "memory", text, remedy)
    else:
        yield Finding("ok", "memory", text)
    limit = _group_limit(machine)
    if limit is not None and limit < total:
        shm = os.statvfs(posix.FOLDER) if os.path.isdir(posix.FOLDER) else None
        text = f"this process's control group is limited to {format_size(limit)}, shared memory included"
        if shm is not None and shm.f_blocks * shm.f_frsize > limit:
            remedy = "a larger limit (docker run --memory=…), or a smaller /dev/shm, to be full before the group is"
            yield Finding("note", "control group", f"{text}; /dev/shm may grow beyond that", remedy)
        else:
            yield Finding("ok", "control group", text)
    if machine.number("/proc/sys/vm/overcommit_memory") == 2:
        remedy = "sysctl vm.overcommit_memory=0, or a larger vm.overcommit_ratio"
        yield Finding("note", "overcommit", "the kernel promises no more memory than there is", remedy)


def _group_limit(machine: Machine) -> int | None:
    found = []
    for line in (machine.text("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            folder, name = "/sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        parts = path.strip("/").split("/") if path.strip("/") else []
        for depth in range(len(parts) + 1):
            number = machine.number("/".join([folder, *parts[:depth], name]))
            if number is not None:
                found.append(number)
    return min(found, default=None)


def _huge_pages(machine: Machine) -> Iterator[Finding]:
    text = machine.text("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
    if text is None:
        yield Finding("note", "transparent huge pages", "this kernel has none for shared memory")
    else:
        chosen = text.partition("[")[2].partition("]")[0]
        remedy = ""
        if chosen in ("never", "deny"):
            remedy = "for large arrays: echo within_size > /sys/kernel/mm/transparent_hugepage/shmem_enabled (as root)"
        text = f"for shared memory: {chosen or text}"
        yield Finding("note" if remedy else "ok", "transparent huge pages", text, remedy)
    total, free = machine.memory("HugePages_Total"), machine.memory("HugePages_Free")
    size = machine.memory("Hugepagesize")
    if total:
        yield Finding("ok", "huge pages", f"{free} free of {total}, {format_size(size or 0)} each")
    else:
        remedy = "only for hugepages=True: sysctl vm.nr_hugepages=… (as root)"
        yield Finding("ok", "huge pages", f"none reserved ({remedy})")


def _container(machine: Machine) -> Iterator[Finding]:
    marks = {"/.dockerenv": "Docker", "/run/.containerenv": "Podman"}
    name = next((name for mark, name in marks.items() if (machine.root / mark.lstrip("/")).exists()), None)
    groups = machine.text("/proc/1/cgroup") or ""
    if name is None and any(word in groups for word in ("docker", "kubepods", "containerd", "lxc")):
        name = "a container"
    if name is None:
        return
    remedy = (
        "to share memory with another container: the same --ipc (--ipc=host, or --ipc=container:NAME), the same user, "
        "and for anonymous arrays the same --pid"
    )
    yield Finding("note", "container", f"this is {name}; its /dev/shm is its own unless told otherwise", remedy)


CHECKS: tuple[Check, ...] = (_shm, _memory, _huge_pages, _container)
