# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Mapping: owns the address range of a segment, exports its payload as a buffer, lives until its last view has died.

Any thread may call anything here.  What a Mapping owns is given back in its ``__dealloc__`` and nowhere else, so no
memory is pulled from under a view.  In a forked child it gives back the child's copy; whether the name of a leased
segment goes is decided by the kernel's locks (``_file.h``).

The layout is "segment header" in ``_layout.h``; the system calls are in ``_file.h``, what is kept warm or parked in
``_holding.h``.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport errno
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.string cimport memset, strdup
from posix.mman cimport MAP_FAILED, MAP_SHARED, MS_SYNC, PROT_READ, PROT_WRITE, mmap, msync, munmap

cimport cython

from shmkit._core cimport *

import os
import sys
import weakref
from atexit import register as at_exit

# Work on more bytes than this lets other threads run meanwhile.
cdef enum:
    WITHOUT_GIL = 1 << 18
    UNPARK_LOOKS = 8
    BEHIND_CHILDREN = -1000  # among multiprocessing's finalizers: those below 0 come after children were waited for

# Data in flight is worth memory, but not all of it.
kept_parked.bytes_limit = max(1 << 30, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)

# Mappings whose names must go when the interpreter does, though views of them may still be alive then.
_leased = weakref.WeakSet()
_leaves_at_exit = False


cdef int fail(int error) except -1:
    raise OSError(error, os.strerror(error))


# ---------------------------------------------------------------------------------------------------------- processes


cdef const uint64_t *fork_generation() noexcept nogil:
    kept_watch_forks()
    return &fork_generation_word


cdef const uint64_t *forks_so_far() noexcept nogil:
    kept_watch_forks()
    return &fork_count


cdef uint64_t own_start = 0
cdef uint64_t own_start_generation = 0


cpdef uint64_t process_start(uint32_t pid=0) noexcept:
    """When process `pid` (0: this one) began, in clock ticks from boot; 0: there is no such process."""
    global own_start, own_start_generation
    if pid != 0:
        return process_start_ticks(pid)
    if own_start == 0 or own_start_generation != fork_generation_word:
        own_start = process_start_ticks(0)
        own_start_generation = fork_generation_word
    return own_start


# ----------------------------------------------------------------------------------------------------------- mappings


@cython.final
@cython.no_gc
cdef class Facts:
    """What a segment was when it was made or attached.  It does not change, nor is it read from shared memory again."""

    def __init__(self):
        raise TypeError("Facts are made by shmkit.Segment")

    @property
    def raw(self):
        return self.head.magic == 0

    @property
    def kind(self):
        return self.head.kind

    @property
    def leased(self):
        return self.head.flags & SEGMENT_LEASED != 0

    @property
    def huge(self):
        return self.head.flags & SEGMENT_HUGE != 0

    @property
    def identity(self):
        return self.head.identity

    @property
    def creator_pid(self):
        return self.head.creator_pid

    @property
    def creator_uid(self):
        return self.head.creator_uid

    @property
    def creator_start(self):
        return self.head.creator_start

    @property
    def created_ns(self):
        return self.head.created_ns


cdef Facts new_facts(const segment_header_t *head, uint64_t size, str backing, object name, bytes path, holding_t *own,
                     int shmid, bint readonly):
    cdef Facts facts = Facts.__new__(Facts)
    facts.head = head[0]
    facts.size = size
    facts.backing = backing
    facts.name = name
    facts.path = path
    facts.inode = own.inode
    facts.dev = own.dev
    facts.shmid = shmid
    facts.readonly = readonly
    return facts


@cython.final
@cython.no_gc
cdef class Mapping:
    """A mapped segment.  Its buffer is the payload."""

    def __cinit__(self):
        self.own.fd = self.own.shmid = -1

    def __init__(self):
        raise TypeError("a Mapping is made by shmkit.Segment")

    def __dealloc__(self):
        cdef bint mine = self.generation == fork_generation_word
        if self.own.how == HOLDING_NOTHING:
            return
        if mine and self.recyclable and not self.referred and self.forks == fork_count and (
            self.own.size <= kept_warm.bytes_limit and kept_warm.count_limit > 0
        ):
            # relaxed: others only ever look at it to list it
            store_relaxed_u32(&holding_header(&self.own).kind, SEGMENT_KIND_IDLE)
            kept_add(&kept_warm, &self.own)
        elif mine and self.referred and references_under_way(holding_header(&self.own)):
            kept_add(&kept_parked, &self.own)
        elif self.own.size > WITHOUT_GIL:
            with nogil:
                holding_release(&self.own, 1)
        else:
            holding_release(&self.own, 1)
        if kept_parked.count:
            kept_unpark(UNPARK_LOOKS)

    def __getbuffer__(self, Py_buffer *view, int flags):
        cdef char *payload = self.own.addr + self.payload_at
        PyBuffer_FillInfo(view, self, payload, <Py_ssize_t>self.payload_size, self.readonly, flags)

    def __len__(self):
        return self.payload_size

    @property
    def address(self):
        """Where the payload stands in this process's memory."""
        return <uintptr_t>(self.own.addr + self.payload_at)

    @property
    def fd(self):
        """The descriptor to take and ask leases through, or to hand on; -1: not kept open."""
        return self.own.fd

    @property
    def intact(self):
        """Whether the descriptor still is of this segment's file: somebody may have closed it."""
        return self.own.fd >= 0 and file_is_behind(self.own.fd, self.own.dev, self.own.inode) != 0

    @property
    def inherited(self):
        """Whether this process got the mapping from its parent by fork."""
        return self.generation != fork_generation_word

    def zero(self):
        """Fills the payload with zeros, if it may hold anything else."""
        if not self.used:
            return
        if self.payload_size > WITHOUT_GIL:
            with nogil:
                memset(self.own.addr + self.payload_at, 0, self.payload_size)
        else:
            memset(self.own.addr + self.payload_at, 0, self.payload_size)

    def flush(self):
        """Waits until the file has every change on its disk."""
        cdef int error = 0
        with nogil:
            if msync(self.own.addr, self.own.size, MS_SYNC) != 0:
                error = errno
        if error:
            fail(error)

    def peek(self):
        """The header and meta text as they stand in memory now, copied; None until the creator has finished."""
        cdef segment_header_t *shared = holding_header(&self.own)
        cdef uint32_t meta_size
        if self.own.size < sizeof(segment_header_t):
            return b""
        # SYNC segment-magic: pairs with store_release(magic) in store_header
        if load_acquire_u64(&shared.magic) == 0:
            return None
        raw = PyBytes_FromStringAndSize(self.own.addr, sizeof(segment_header_t))
        meta_size = (<segment_header_t *>PyBytes_AS_STRING(raw)).meta_size
        if meta_size > SEGMENT_META_LIMIT or sizeof(segment_header_t) + meta_size > self.own.size:
            return raw
        return raw + PyBytes_FromStringAndSize(self.own.addr + sizeof(segment_header_t), meta_size)

    def refer(self):
        """Counts a reference that goes to another process, so that this mapping is kept until it arrives."""
        cdef segment_header_t *head = self.open_counters()
        if head != NULL:
            references_make(head)
            self.referred = True
            self.close_counters(head)

    def take(self):
        """Counts a reference that arrived here."""
        cdef segment_header_t *head = self.open_counters()
        if head != NULL:
            references_take(head)
            self.close_counters(head)

    def keep_to_itself(self):
        """Declares that others may know this memory from now on: it never goes to the warm pool."""
        self.recyclable = False

    @property
    def references(self):
        """How many references were made and how many of those were taken, by anybody."""
        cdef segment_header_t *head = holding_header(&self.own)
        return head.references_made, head.references_taken

    def leave_early(self):
        """Removes the name of a leased segment that nobody else uses, though views of it live on here."""
        holding_leave_early(&self.own, not self.readonly)

    cdef segment_header_t *open_counters(self) noexcept:
        """The header where its counters can be stored: a read-only mapping's through its descriptor, if it has one."""
        cdef void *addr
        if self.facts is not None and self.facts.head.magic == 0:
            return NULL
        if not self.readonly:
            return holding_header(&self.own)
        if self.own.fd < 0:
            return NULL
        addr = mmap(NULL, self.counters_size(), PROT_READ | PROT_WRITE, MAP_SHARED, self.own.fd, 0)
        return NULL if addr == MAP_FAILED else <segment_header_t *>addr

    cdef void close_counters(self, segment_header_t *head) noexcept:
        if self.readonly:
            munmap(head, self.counters_size())

    cdef uint64_t counters_size(self) noexcept:
        return self.own.size if self.facts.head.flags & SEGMENT_HUGE else PAGE


cdef Mapping new_mapping(const segment_header_t *head, bint readonly):
    cdef Mapping mapping = Mapping.__new__(Mapping)
    mapping.generation = fork_generation()[0]
    mapping.forks = fork_count
    mapping.readonly = readonly
    mapping.payload_at = head.header_size
    mapping.payload_size = head.payload_size
    return mapping


cdef int map_file(Mapping mapping, int fd, uint64_t dev, uint64_t inode, uint64_t size) except -1:
    cdef int protection = PROT_READ if mapping.readonly else PROT_READ | PROT_WRITE
    cdef void *addr = mmap(NULL, size, protection, MAP_SHARED, fd, 0)
    if addr == MAP_FAILED:
        fail(errno)
    mapping.own.addr = <char *>addr
    mapping.own.size = size
    mapping.own.how = HOLDING_MMAP
    mapping.own.inode = inode
    mapping.own.dev = dev
    return 0


cdef int hold_lease(Mapping mapping, bytes path, int shmid) except -1:
    """From now on `mapping` removes the name `path`, and the SysV segment `shmid` with it, when it is the last one."""
    global _leaves_at_exit
    mapping.own.shmid = shmid
    mapping.own.lease_path = strdup(PyBytes_AS_STRING(path))
    if mapping.own.lease_path == NULL:
        raise MemoryError
    with cython.critical_section(_leased):
        if not _leaves_at_exit:
            _leaves_at_exit = True
            at_exit(_leave_all)
    _leased.add(mapping)
    return 0


def _leave_all():
    """Has all names go whose last process this is; after multiprocessing has waited for children, if it will.

    One that is spawned attaches when it has come that far, which may be after the program's last line.
    """
    util = sys.modules.get("multiprocessing.util")
    if util is None or util._exiting:
        _leave_now()
    else:
        util.Finalize(None, _leave_now, exitpriority=BEHIND_CHILDREN)


def _leave_now():
    for mapping in list(_leased):
        mapping.leave_early()


# ---------------------------------------------------------------------------------------------------------- warm pool


cdef uint64_t forks_seen() noexcept nogil:
    return fork_count


cdef int take_warm(Mapping mapping, uint64_t size) except -1:
    """Gives `mapping` a warm segment of exactly `size` mapped bytes; False: there is none."""
    if not kept_warm_take(size, &mapping.own):
        return False
    mapping.used = True
    return True


def trim():
    """Gives the memory that waits for new arrays back to the system; returns how many bytes that were."""
    return kept_clear(&kept_warm)


def warm():
    """How many segments wait for new arrays, and their bytes."""
    return kept_warm.count, kept_warm.bytes


def parked():
    """How many segments are kept for references still under way, and their bytes."""
    kept_unpark(kept_parked.count)
    return kept_parked.count, kept_parked.bytes


def forget_references():
    """Lets go of what is kept for references under way, which will then find nothing; returns how many bytes."""
    return kept_clear(&kept_parked)


def limit_warm(uint32_t count, uint64_t nbytes):
    """Bounds the warm pool; returns the former bounds."""
    before = kept_warm.count_limit, kept_warm.bytes_limit
    kept_warm.count_limit, kept_warm.bytes_limit = min(count, <uint32_t>KEPT_MOST), nbytes
    return before


def limit_parked(uint32_t count, uint64_t nbytes):
    """Bounds what is kept for references under way; returns the former bounds."""
    before = kept_parked.count_limit, kept_parked.bytes_limit
    kept_parked.count_limit, kept_parked.bytes_limit = max(1, min(count, <uint32_t>KEPT_MOST)), nbytes
    return before
