# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""The header of a segment: filled in, published, and read as it was copied.

Any thread may call anything here.  Whether a header can be believed is the affair of ``shmkit.segment.header``.
The layout is "segment header" in ``_layout.h``.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec
from posix.unistd cimport geteuid, getpid, pwrite

from shmkit._core cimport *
from shmkit._core_topic cimport SEGMENT_KIND_TOPIC
from shmkit._map cimport fail, fork_generation, process_start

import os
from typing import NamedTuple

MAGIC = SHMKIT_MAGIC
LAYOUT_VERSION = SHMKIT_LAYOUT_VERSION
HEADER_SIZE = sizeof(segment_header_t)
PAGE_SIZE = PAGE
META_LIMIT = SEGMENT_META_LIMIT
KIND_IDLE = SEGMENT_KIND_IDLE
KIND_BYTES = SEGMENT_KIND_BYTES
KIND_ARRAY = SEGMENT_KIND_ARRAY
KIND_RING = SEGMENT_KIND_RING
KIND_SYNC = SEGMENT_KIND_SYNC
KIND_HEAP = SEGMENT_KIND_HEAP
KIND_TOPIC = SEGMENT_KIND_TOPIC
LEASED = SEGMENT_LEASED
HUGE = SEGMENT_HUGE


cdef segment_header_t _probe


cdef tuple place(void *field, size_t size):
    return <size_t>field - <size_t>&_probe, size


# Where each field stands in a segment, and its bytes: for tools, and for programs in other languages to be checked by.
FIELDS = {
    "magic": place(&_probe.magic, sizeof(_probe.magic)),
    "layout_version": place(&_probe.layout_version, sizeof(_probe.layout_version)),
    "header_size": place(&_probe.header_size, sizeof(_probe.header_size)),
    "payload_size": place(&_probe.payload_size, sizeof(_probe.payload_size)),
    "kind": place(&_probe.kind, sizeof(_probe.kind)),
    "flags": place(&_probe.flags, sizeof(_probe.flags)),
    "identity": place(&_probe.identity, sizeof(_probe.identity)),
    "creator_pid": place(&_probe.creator_pid, sizeof(_probe.creator_pid)),
    "creator_uid": place(&_probe.creator_uid, sizeof(_probe.creator_uid)),
    "creator_start": place(&_probe.creator_start, sizeof(_probe.creator_start)),
    "created_ns": place(&_probe.created_ns, sizeof(_probe.created_ns)),
    "meta_size": place(&_probe.meta_size, sizeof(_probe.meta_size)),
    "references_made": place(&_probe.references_made, sizeof(_probe.references_made)),
    "references_taken": place(&_probe.references_taken, sizeof(_probe.references_taken)),
}


class Header(NamedTuple):
    """A segment header's fields, in private memory."""

    magic: int
    layout_version: int
    header_size: int
    payload_size: int
    kind: int
    flags: int
    identity: int
    creator_pid: int
    creator_uid: int
    creator_start: int
    created_ns: int
    meta_size: int


# ----------------------------------------------------------------------------------------------------------- identity


cdef uint64_t identity_state = 0
cdef uint64_t identity_generation = 0


cdef uint64_t new_identity() except 0:
    """A number that no other segment has (splitmix64, seeded by the kernel once in each process)."""
    global identity_state, identity_generation
    cdef uint64_t generation = fork_generation()[0]
    cdef uint64_t seed, mixed
    if identity_state == 0 or identity_generation != generation:
        bits = os.urandom(8)
        memcpy(&seed, PyBytes_AS_STRING(bits), 8)
        identity_generation = generation
        identity_state = seed | 1
    # relaxed: only that no two threads get the same one counts
    mixed = add_relaxed_u64(&identity_state, <uint64_t>0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    mixed = (mixed ^ (mixed >> 27)) * <uint64_t>0x94D049BB133111EB
    mixed ^= mixed >> 31
    return mixed or 1


def token():
    """A number for a name, or an identity, that nobody else makes."""
    return new_identity()


# ------------------------------------------------------------------------------------------------------------- header


cdef int fill_header(
    segment_header_t *head, uint64_t payload_size, uint32_t kind, uint32_t flags, bytes meta, uint64_t identity
) except -1:
    cdef timespec now
    cdef Py_ssize_t meta_size = PyBytes_GET_SIZE(meta)
    memset(head, 0, sizeof(segment_header_t))
    clock_gettime(CLOCK_REALTIME, &now)
    head.magic = SHMKIT_MAGIC
    head.layout_version = SHMKIT_LAYOUT_VERSION
    head.header_size = <uint32_t>((sizeof(segment_header_t) + meta_size + PAGE - 1) // PAGE * PAGE)
    head.payload_size = payload_size
    head.kind = kind
    head.flags = flags
    head.identity = identity
    head.creator_pid = getpid()
    head.creator_uid = geteuid()
    head.creator_start = process_start(0)
    head.created_ns = <uint64_t>now.tv_sec * 1000000000 + now.tv_nsec
    head.meta_size = <uint32_t>meta_size
    return 0


cdef void store_header(char *addr, const segment_header_t *head, bytes meta) noexcept:
    """Writes a header into mapped memory, magic last: where the name exists already, attachers wait for it."""
    cdef segment_header_t *shared = <segment_header_t *>addr
    memcpy(addr + sizeof(uint64_t), <const char *>head + sizeof(uint64_t), sizeof(segment_header_t) - sizeof(uint64_t))
    memcpy(addr + sizeof(segment_header_t), PyBytes_AS_STRING(meta), PyBytes_GET_SIZE(meta))
    # SYNC segment-magic: pairs with load_acquire(magic) in Mapping.peek
    store_release_u64(&shared.magic, head.magic)


cdef int write_header(int fd, const segment_header_t *head, bytes meta) except -1:
    """Writes a header into a file that has no name yet: in which order is nobody's concern."""
    cdef Py_ssize_t meta_size = PyBytes_GET_SIZE(meta)
    if pwrite(fd, head, sizeof(segment_header_t), 0) != <Py_ssize_t>sizeof(segment_header_t):
        fail(errno)
    if meta_size and pwrite(fd, PyBytes_AS_STRING(meta), meta_size, sizeof(segment_header_t)) != meta_size:
        fail(errno)
    return 0


def parse_header(bytes raw):
    """The fields of a header that was copied from a segment; `raw` has at least HEADER_SIZE bytes."""
    cdef const segment_header_t *head = <const segment_header_t *>PyBytes_AS_STRING(raw)
    if PyBytes_GET_SIZE(raw) < <Py_ssize_t>sizeof(segment_header_t):
        raise ValueError(f"a header has {sizeof(segment_header_t)} bytes: got {len(raw)}")
    return Header(
        head.magic,
        head.layout_version,
        head.header_size,
        head.payload_size,
        head.kind,
        head.flags,
        head.identity,
        head.creator_pid,
        head.creator_uid,
        head.creator_start,
        head.created_ns,
        head.meta_size,
    )
