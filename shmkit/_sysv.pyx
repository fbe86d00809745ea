# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""SysV segments: mapped, formatted, and tied to the companion files that bear their leases.

A SysV segment has its name before it is laid out, so its header's magic is stored last.  Any thread may call anything
here.  Failures are plain OSErrors.  The layout is "segment header" in ``_layout.h``; the life of a SysV segment and its
companion is told in ``shmkit/segment/sysv.py``.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_NONE, mmap
from posix.unistd cimport close, pwrite

from shmkit._core cimport *
from shmkit._header cimport fill_header, new_identity, store_header
from shmkit._map cimport Mapping, fail, hold_lease, new_facts, new_mapping


def create_companion(bytes folder, bytes path, uint32_t mode, bytes text):
    """Makes the file that bears a SysV segment's leases, with a lease of its own held, and `text` in it; its fd."""
    cdef file_t file
    cdef int error = file_make(&file, PyBytes_AS_STRING(folder), mode, PAGE, new_identity(), True)
    if error:
        fail(error)
    try:
        if pwrite(file.fd, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), 0) != PyBytes_GET_SIZE(text):
            fail(errno)
        error = file_lease(&file, False) or file_link(&file, PyBytes_AS_STRING(path))
        if error:
            fail(error)
    except BaseException:
        file_abandon(&file)
        raise
    return file.fd


def attach(int shmid, uint64_t size, bint readonly):
    """Maps a SysV segment as it is: raw, until `adopt` has been given a header that was checked."""
    cdef segment_header_t head
    cdef Mapping mapping
    cdef void *addr
    memset(&head, 0, sizeof(head))
    head.payload_size = size
    mapping = new_mapping(&head, readonly)
    addr = shmat(shmid, NULL, SHM_RDONLY if readonly else 0)
    if addr == <void *>-1:
        fail(errno)
    mapping.own.addr = <char *>addr
    mapping.own.size = size
    mapping.own.how = HOLDING_SHMAT
    return mapping


def lay_out(
    Mapping mapping, uint64_t payload_size, uint32_t kind, uint32_t flags, bytes meta, uint64_t identity, object init
):
    """Formats a new SysV segment's payload by `init(mapping, payload_at)`, then publishes its header; returns that."""
    cdef segment_header_t head
    fill_header(&head, payload_size, kind, flags, meta, identity)
    mapping.payload_at = head.header_size
    mapping.payload_size = payload_size
    if init is not None:
        init(mapping, mapping.payload_at)
    store_header(mapping.own.addr, &head, meta)
    return PyBytes_FromStringAndSize(<char *>&head, sizeof(head))


def adopt(
    Mapping mapping, bytes raw_header, object name, int shmid, int fd, uint64_t dev, uint64_t inode, bytes path,
    bint leased, bint removed, bint keep_fd,
):
    """Gives a mapped SysV segment its checked header (b"": raw) and companion file; takes `fd` over in any case.

    `removed`: the kernel has been told to free it with its last process, so that only the companion is left to remove.
    """
    cdef segment_header_t head
    cdef void *pin
    try:
        memset(&head, 0, sizeof(head))
        head.payload_size = mapping.own.size
        if PyBytes_GET_SIZE(raw_header):
            memcpy(&head, PyBytes_AS_STRING(raw_header), sizeof(head))
        mapping.payload_at = head.header_size
        mapping.payload_size = head.payload_size
        if fd >= 0:
            pin = mmap(NULL, PAGE, PROT_NONE, MAP_SHARED, fd, 0)
            if pin == MAP_FAILED:
                fail(errno)
            mapping.own.pin = <char *>pin
            mapping.own.dev, mapping.own.inode = dev, inode
        mapping.facts = new_facts(&head, head.payload_size, "sysv", name, path, &mapping.own, shmid, mapping.readonly)
        if leased:
            hold_lease(mapping, path, -1 if removed else shmid)
    except BaseException:
        if fd >= 0:
            close(fd)
        raise
    if keep_fd:
        mapping.own.fd = fd
    elif fd >= 0:
        close(fd)
