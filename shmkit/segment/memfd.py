"""Anonymous segments: nameless files of memory that the kernel frees with the last process, however that ends.

They are sealed, so that nobody can truncate them under a reader.  Processes of the same user get at one through the
/proc entry of a process that holds it, which is what a pickled reference says (``handle``).
"""

from __future__ import annotations

import errno
import os
import stat

from shmkit import _header, _make
from shmkit._header import HEADER_SIZE, PAGE_SIZE
from shmkit._map import Mapping
from shmkit.errors import NoSpace, SegmentNotFound, SegmentPermission, ShmkitError
from shmkit.segment import file, header
from shmkit.segment.trouble import check_room, explain
from shmkit.sizes import format_size

__all__ = ["adopt", "create", "huge_page_size"]


def create(
    size: int, kind: int, meta: bytes, raw: bool, reserve: bool, hugepages: bool, init: file.Init | None
) -> Mapping:
    """Makes an anonymous segment and maps it."""
    total = size + PAGE_SIZE
    huge = huge_page_size() if hugepages else 0
    try:
        if huge:
            _check_huge_pages(-(-total // huge), huge)
        elif reserve:
            check_room(None, total, None)
        return _make.create_memory(size, kind, meta, raw, reserve, huge, init)
    except ShmkitError:
        raise
    except OSError as error:
        if huge and error.errno in (errno.ENOMEM, errno.ENOSPC):
            raise no_huge_pages(-(-total // huge), huge) from None
        raise explain(error, None, total) from None


def huge_page_size() -> int:
    """The size of the kernel's default huge pages."""
    return _from_meminfo("Hugepagesize:") * 1024 or 2**21


def _check_huge_pages(pages: int, size: int) -> None:
    if _from_meminfo("HugePages_Free:") - _from_meminfo("HugePages_Rsvd:") < pages:
        raise no_huge_pages(pages, size)


def no_huge_pages(pages: int, size: int) -> NoSpace:
    """The error that says how many huge pages are missing, and how to get them."""
    free = max(0, _from_meminfo("HugePages_Free:") - _from_meminfo("HugePages_Rsvd:"))
    total = _from_meminfo("HugePages_Total:")
    return NoSpace(
        f"no room for a segment of huge pages: asked for {pages} of {format_size(size)}, {free} free of the {total} "
        f"that are reserved; root reserves more with `sysctl vm.nr_hugepages={total + pages - free}`, or leave out "
        "hugepages=True"
    )


def _from_meminfo(key: str) -> int:
    with open("/proc/meminfo") as lines:
        for line in lines:
            if line.startswith(key):
                return int(line.split()[1])
    return 0


def adopt(fd: int, inode: int, identity: int, readonly: bool, where: str) -> Mapping:
    """Maps the anonymous segment behind ``fd``, if it is the one that is meant; takes ``fd`` over in any case."""
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_ino != inode:
            raise SegmentNotFound(f"an anonymous segment is gone: {where}")
        if status.st_uid != os.geteuid():
            raise SegmentPermission(
                f"an anonymous segment belongs to user {status.st_uid}, and this process to user {os.geteuid()}"
            )
        text, size = b"", status.st_size
        if identity:
            text = os.pread(fd, header.READ_SIZE, 0)
            checked = header.check(text, size, None)
            if checked.identity != identity:
                raise SegmentNotFound(f"an anonymous segment is gone: {where}")
            if not checked.flags & _header.HUGE:
                size = checked.header_size + checked.payload_size
    except BaseException:
        os.close(fd)
        raise
    try:
        return _make.attach_file(
            fd, status.st_dev, status.st_ino, text[:HEADER_SIZE], size, readonly, True, "memfd", None, None
        )
    except OSError as error:
        raise explain(error, None, size) from None
