# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Makes segments and maps those that exist: the sequences of system calls behind ``shmkit.segment``.

Nothing here is seen by another process before it is whole, except a SysV segment, whose magic is stored last.  Whoever
is killed in between leaves nothing (an unnamed file), or what the next create collects.  Failures are plain OSErrors;
``shmkit.segment.trouble`` says in words what they mean.

The layout is "segment header" in ``_layout.h``; the system calls are in ``_file.h``.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EACCES, EBUSY, EEXIST, EINTR, ELOOP, ENOENT, ENXIO, EPERM, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_NONE, mmap
from posix.unistd cimport close, pwrite

from shmkit._core cimport *
from shmkit._header cimport fill_header, new_identity, store_header, write_header
from shmkit._map cimport Facts, Mapping, fail, forks_seen, hold_lease, map_file, new_facts, new_mapping, take_warm

cdef enum:
    # Work on more bytes than this lets other threads run meanwhile.
    WITHOUT_GIL = 1 << 18
    RESERVE_PIECE = 1 << 24

# -------------------------------------------------------------------------------------------------------------- files


cdef int reserve_room(int fd, uint64_t size, uint64_t unit) except -1:
    """Reserves a new file's room, in pieces that shrink while signals interrupt them, so that each gets done."""
    cdef uint64_t done = 0, piece = RESERVE_PIECE, now
    cdef int error
    while done < size:
        now = min(piece, size - done)
        if now > WITHOUT_GIL:
            with nogil:
                error = file_reserve(fd, done, now)
        else:
            error = file_reserve(fd, done, now)
        if error == 0:
            done += now
            piece = min(piece * 2, <uint64_t>RESERVE_PIECE)
        elif error == EINTR:
            piece = max(piece // 2, unit)
        else:
            fail(error)
        if error or size > RESERVE_PIECE:
            PyErr_CheckSignals()
    return 0


cdef int make_way(bytes path) except -1:
    """Reclaims the name of a dead leased segment; FileExistsError where it is anything else's."""
    cdef int error = file_reclaim(PyBytes_AS_STRING(path), False)
    if error in (EBUSY, EPERM, EACCES, ELOOP, ENXIO):
        fail(EEXIST)
    if error and error != ENOENT:
        fail(error)
    return 0


cdef Mapping map_new(file_t *file, segment_header_t *head, bytes meta, uint64_t size, bint by_store, object init):
    """Maps a new file and writes its header; `init(mapping, payload_at)` formats the payload."""
    cdef Mapping mapping = new_mapping(head, False)
    # Written to the file, the header costs no page fault in a mapping that its maker may never touch.
    if head.magic and not by_store:
        write_header(file.fd, head, meta)
    map_file(mapping, file.fd, file.dev, file.inode, size)
    if head.magic and by_store:
        store_header(mapping.own.addr, head, meta)
    return mapping


cdef int lay_out(Mapping mapping, int fd, object init) except -1:
    """Has `init(mapping, payload_at)` format the payload; meanwhile the mapping knows the file's descriptor."""
    if init is not None:
        mapping.own.fd = fd
        try:
            init(mapping, mapping.payload_at)
        finally:
            mapping.own.fd = -1
    return 0


def create_file(
    bytes folder, bytes path, str backing, object name, uint32_t mode, uint64_t payload_size, uint32_t kind, bytes meta,
    bint raw, bint leased, bint reserve, bint keep_fd, object init, bint nameless,
):
    """Makes the file of a named segment, and gives it its name when it is whole.

    `nameless=False` does without unnamed files (O_TMPFILE), as on file systems that do not know them.
    """
    cdef file_t file
    cdef segment_header_t head
    cdef Mapping mapping
    cdef uint64_t size, forks = forks_seen()
    cdef bint temporary
    cdef int error
    memset(&head, 0, sizeof(head))
    if raw:
        head.payload_size = payload_size
    else:
        fill_header(&head, payload_size, kind, SEGMENT_LEASED if leased else 0, meta, new_identity())
    size = head.header_size + payload_size
    if reserve:
        # A name that is taken is known before the room is reserved, which may take long.
        make_way(path)
    error = file_make(&file, PyBytes_AS_STRING(folder), mode, size, new_identity(), nameless)
    if error:
        fail(error)
    try:
        if reserve:
            reserve_room(file.fd, size, PAGE)
        if leased:
            error = file_lease(&file, forks != forks_seen())
            if error:
                fail(error)
        mapping = map_new(&file, &head, meta, size, False, init)
        mapping.facts = new_facts(&head, payload_size, backing, name, path, &mapping.own, -1, False)
        lay_out(mapping, file.fd, init)
        temporary = file.path[0] != 0
        error = file_link(&file, PyBytes_AS_STRING(path))
        if error == EEXIST:
            make_way(path)
            error = file_link(&file, PyBytes_AS_STRING(path))
        if error:
            fail(error)
    except BaseException:
        file_abandon(&file)
        raise
    if leased:
        hold_lease(mapping, path, -1)
    elif temporary:
        file_end_lease(&file)
    if keep_fd:
        mapping.own.fd = file.fd
    else:
        close(file.fd)
    return mapping


def create_raw(bytes path, str backing, object name, uint32_t mode, uint64_t size, bint reserve):
    """Makes a file without a header, which has its name from the start, and maps it; on failure the name is gone again.

    FileExistsError where the name is taken, by whatever it may be.
    """
    cdef file_t file
    cdef segment_header_t head
    cdef Mapping mapping
    # Room that is reserved in one piece comes with the size; in several, others would see the file grow.
    cdef uint64_t first_size = 0 if reserve and size <= RESERVE_PIECE else size
    cdef int error = file_make_raw(&file, PyBytes_AS_STRING(path), mode, first_size)
    if error:
        fail(error)
    try:
        if reserve:
            reserve_room(file.fd, size, PAGE)
        memset(&head, 0, sizeof(head))
        head.payload_size = size
        mapping = map_new(&file, &head, b"", size, False, None)
        mapping.facts = new_facts(&head, size, backing, name, path, &mapping.own, -1, False)
    except BaseException:
        file_abandon(&file)
        raise
    close(file.fd)
    return mapping


def attach_file(
    int fd, uint64_t dev, uint64_t inode, bytes raw_header, uint64_t size, bint readonly, bint keep_fd, str backing,
    object name, bytes path,
):
    """Maps `size` bytes of an open file whose header (b"": raw) was checked.  `fd` is this function's from here on."""
    cdef segment_header_t head
    cdef Mapping mapping
    try:
        memset(&head, 0, sizeof(head))
        if PyBytes_GET_SIZE(raw_header):
            memcpy(&head, PyBytes_AS_STRING(raw_header), sizeof(head))
        else:
            head.payload_size = size
        mapping = new_mapping(&head, readonly)
        map_file(mapping, fd, dev, inode, size)
        mapping.facts = new_facts(&head, head.payload_size, backing, name, path, &mapping.own, -1, readonly)
        if head.flags & SEGMENT_LEASED and path is not None:
            hold_lease(mapping, path, -1)
    except BaseException:
        close(fd)
        raise
    if keep_fd:
        mapping.own.fd = fd
    else:
        close(fd)
    return mapping


def reclaim(bytes path, bint unfinished):
    """Removes a leased file whose users are all dead (`unfinished`: one that its dead maker never named); whether."""
    return file_reclaim(PyBytes_AS_STRING(path), unfinished) == 0


def is_at(bytes path, uint64_t dev, uint64_t inode):
    """Whether the path names this very file."""
    return file_is_at(PyBytes_AS_STRING(path), dev, inode) != 0


def unlink_file(Facts facts):
    """Removes the name of this very file; FileNotFoundError if it has gone, or is another one's by now."""
    cdef int error = file_unlink(PyBytes_AS_STRING(facts.path), facts.dev, facts.inode)
    if error:
        fail(error)


# ------------------------------------------------------------------------------------------------------------- memfds


cdef uint64_t size_class(uint64_t size) noexcept nogil:
    """Sizes that recycled memory comes in: eight to the octave, so that at most an eighth is wasted."""
    cdef uint64_t step = PAGE
    while size > 16 * step:
        step *= 2
    return (size + step - 1) // step * step


def create_memory(
    uint64_t payload_size, uint32_t kind, bytes meta, bint raw, bint reserve, uint64_t huge_page, object init
):
    """Makes an anonymous segment (a memfd); `huge_page` is the size of its pages, 0: ordinary ones."""
    cdef file_t file
    cdef segment_header_t head
    cdef Mapping mapping
    cdef uint64_t size
    cdef int error
    memset(&head, 0, sizeof(head))
    if raw:
        head.payload_size = payload_size
    else:
        flags = SEGMENT_LEASED | SEGMENT_HUGE if huge_page else SEGMENT_LEASED
        fill_header(&head, payload_size, kind, flags, meta, new_identity())
    size = head.header_size + payload_size
    if huge_page:
        size = (size + huge_page - 1) // huge_page * huge_page
    error = file_memory(&file, "shmkit", size, huge_page != 0)
    if error:
        fail(error)
    try:
        if reserve:
            reserve_room(file.fd, size, huge_page or PAGE)
        error = file_seal(file.fd)
        if error:
            fail(error)
        # Huge pages know no write().
        mapping = map_new(&file, &head, meta, size, huge_page != 0, init)
        mapping.facts = new_facts(&head, payload_size, "memfd", None, None, &mapping.own, -1, False)
        lay_out(mapping, file.fd, init)
    except BaseException:
        file_abandon(&file)
        raise
    mapping.own.fd = file.fd
    return mapping


def take_memory(uint64_t nbytes, uint64_t recyclable_most):
    """Memory for an anonymous array of `nbytes`: warm where there is some, new otherwise, and recycled when it dies."""
    cdef segment_header_t head
    cdef Mapping mapping
    cdef uint64_t size = PAGE + nbytes
    if size > recyclable_most:
        return create_memory(nbytes, SEGMENT_KIND_ARRAY, b"", False, True, 0, None)
    size = size_class(size)
    memset(&head, 0, sizeof(head))
    head.header_size = PAGE
    head.payload_size = size - PAGE
    mapping = new_mapping(&head, False)
    if take_warm(mapping, size):
        # The header was this process's own all the time, but what was checked or made once is not read again.
        fill_header(&head, size - PAGE, SEGMENT_KIND_ARRAY, SEGMENT_LEASED, b"", new_identity())
        store_header(mapping.own.addr, &head, b"")
        mapping.facts = new_facts(&head, size - PAGE, "memfd", None, None, &mapping.own, -1, False)
    else:
        mapping = create_memory(size - PAGE, SEGMENT_KIND_ARRAY, b"", False, True, 0, None)
    mapping.recyclable = True
    return mapping


# --------------------------------------------------------------------------------------------------------------- SysV


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


def attach_sysv(int shmid, uint64_t size, bint readonly):
    """Maps a SysV segment as it is: raw, until `adopt_sysv` has been given a header that was checked."""
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


def format_sysv(
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


def adopt_sysv(
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
