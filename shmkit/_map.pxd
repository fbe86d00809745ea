"""What other extension modules may use of a mapping.

    from shmkit._map cimport Mapping, fork_generation

    mapping.own.addr     its first byte (the segment's header; the user's first byte in a raw segment)
    mapping.own.size     mapped bytes
    mapping.payload_at   bytes from own.addr to the payload
    mapping.payload_size logical size of the payload
    mapping.own.fd       descriptor to take and ask leases through, for every backing, of segments made or attached with
                         keep_fd=True (rings are); -1 otherwise
    mapping.own.dev, .inode  of the file behind that descriptor: lease_key() makes of them what leases are known by
    mapping.readonly     a store would be SIGSEGV
    mapping.generation   fork_generation()[0] when this process mapped it; differs in a child that inherited it
    mapping.facts        name, backing, identity, …: what the segment was when it was made or attached

    fork_generation()    where the count of generations stands: get the pointer once, load it where it matters
    process_start(pid)   a process's start in clock ticks, 0: it has gone; pid 0: this process (cached)

A Mapping stays mapped until nothing refers to it: hold a reference, and pointers into it stay good.
"""

from libc.stdint cimport uint32_t, uint64_t

from shmkit._core cimport holding_t, segment_header_t


cdef class Facts:
    # A private copy of the header, as it was checked; magic is 0 for a raw segment.
    cdef segment_header_t head
    cdef readonly str backing
    # What the user calls it: a str, an int (a SysV key), or None where it has no name.
    cdef readonly object name
    # The file's path, or None; for SysV that of the companion file.
    cdef readonly bytes path
    # Of that file.
    cdef readonly uint64_t inode
    cdef readonly uint64_t dev
    cdef readonly uint64_t size
    cdef readonly int shmid
    cdef readonly bint readonly
    # What the meta text says, a dict; None: nothing.  Set once, by who attached.
    cdef public object meta


cdef class Mapping:
    cdef holding_t own
    cdef readonly Facts facts
    cdef readonly uint64_t payload_at
    cdef readonly uint64_t payload_size
    cdef readonly bint readonly
    # fork_generation()[0] and the number of forks seen, both when it was mapped here.
    cdef uint64_t generation
    cdef uint64_t forks
    # Anonymous memory that may go to the warm pool, if no reference to it was made and no fork copied it.
    cdef bint recyclable
    # It was used before: its payload is not all zeros.
    cdef readonly bint used
    # This process made references to it.
    cdef bint referred
    cdef object __weakref__
    cdef segment_header_t *open_counters(self) noexcept
    cdef void close_counters(self, segment_header_t *head) noexcept
    cdef uint64_t counters_size(self) noexcept


cdef const uint64_t *fork_generation() noexcept nogil
cdef const uint64_t *forks_so_far() noexcept nogil
cdef uint64_t forks_seen() noexcept nogil
cpdef uint64_t process_start(uint32_t pid=*) noexcept

# For _make.pyx, which makes mappings.
cdef int fail(int error) except -1
cdef Facts new_facts(const segment_header_t *head, uint64_t size, str backing, object name, bytes path, holding_t *own,
                     int shmid, bint readonly)
cdef Mapping new_mapping(const segment_header_t *head, bint readonly)
cdef int map_file(Mapping mapping, int fd, uint64_t dev, uint64_t inode, uint64_t size) except -1
cdef int hold_lease(Mapping mapping, bytes path, int shmid) except -1
cdef int take_warm(Mapping mapping, uint64_t size) except -1
