# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""References to shared arrays, in items.

What ``SharedArray.__reduce_ex__`` puts into a pickle stands in an item as a struct, by the same rules: for anonymous
memory that can be written to, which is nearly all there is.  Named and read-only ones, and arrays on their way to a
child that is just being started, are left to pickle.

A reference is counted once the whole item is encoded, and counted off when it is decoded: in between the sender keeps
the memory, even if it has let go of its arrays.
"""

from cpython.ref cimport Py_INCREF
from cpython.object cimport PyTypeObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.unistd cimport geteuid, getpid

cimport cython
cimport numpy as cnp

from shmkit._core cimport SEGMENT_LEASED, file_is_behind, references_make, references_take, segment_header_t
from shmkit._core_numpy cimport PyArray_NewFromDescr
from shmkit._map cimport Mapping, fork_generation, process_start

import weakref
from functools import partial
from multiprocessing import context

from shmkit import _make_array
from shmkit.array import SharedArray
from shmkit.errors import RecordCorrupt
from shmkit.segment.handle import know, open_handle

cnp.import_array()

# What ``context.get_spawning_popen`` looks at; that one raises and catches an AttributeError nearly always.
cdef object _starting = context._tls
cdef const uint64_t *generation = fork_generation()
cdef uint64_t own_pid_generation = 0
cdef uint32_t own_pid = 0

cdef dict _opened = {}  # identity of a segment → a weak reference to the mapping that references to it find here


cdef Mapping mapping_of(object array):
    """The mapping that an array's memory is in; None: it is in none."""
    base = array
    while isinstance(base, cnp.ndarray):
        if cnp.PyArray_BASE(<cnp.ndarray>base) == NULL:
            return None
        base = <object>cnp.PyArray_BASE(<cnp.ndarray>base)
        if type(base) is memoryview:
            base = base.obj
    return <Mapping>base if type(base) is Mapping else None


cdef bint can_refer(Mapping mapping) except -1:
    """Whether a struct can say where a mapping is; if not, pickle finds other words, or raises."""
    if mapping.readonly or mapping.facts is None or mapping.facts.head.magic == 0 or mapping.facts.backing != "memfd":
        return False
    if mapping.own.fd < 0 or not file_is_behind(mapping.own.fd, mapping.own.dev, mapping.own.inode):
        return False
    if (<dict>_starting.__dict__).get("spawning_popen") is not None:
        return False
    if not mapping.referred:
        know(mapping)
    return True


cdef inline uint32_t pid_here() noexcept:
    global own_pid, own_pid_generation
    if own_pid == 0 or own_pid_generation != generation[0]:
        own_pid = getpid()
        own_pid_generation = generation[0]
    return own_pid


cdef void describe_place(cnp.ndarray array, Mapping mapping, shared_t *said) noexcept:
    said.identity = mapping.facts.head.identity
    said.inode = mapping.facts.inode
    said.dev = mapping.facts.dev
    said.start = process_start()
    # An array without elements may point anywhere.
    said.offset = 0
    if cnp.PyArray_SIZE(array):
        said.offset = <int64_t>(<char *>cnp.PyArray_DATA(array) - (mapping.own.addr + mapping.payload_at))
    said.user = geteuid()
    said.pid = pid_here()
    said.fd = mapping.own.fd
    said.flags = SHARED_WRITEABLE if cnp.PyArray_ISWRITEABLE(array) else 0


cdef void count_made(Mapping mapping) noexcept:
    """A reference to it goes to another process."""
    cdef segment_header_t *head = mapping.open_counters()
    if head != NULL:
        references_make(head)
        mapping.referred = True
        mapping.close_counters(head)


cdef void count_taken(Mapping mapping) noexcept:
    """One has arrived, or goes nowhere."""
    cdef segment_header_t *head
    if mapping.facts.head.flags & SEGMENT_LEASED:
        head = mapping.open_counters()
        if head != NULL:
            references_take(head)
            mapping.close_counters(head)


cdef Mapping opened(const shared_t *said):
    """The mapping that is meant, and one reference fewer under way to it."""
    cdef Mapping mapping
    weak = _opened.get(said.identity)
    if weak is not None and said.user == geteuid():
        mapping = weak()
        if mapping is not None and mapping.facts.inode == said.inode:
            count_taken(mapping)
            return mapping
    mapping = open_handle(
        ("memfd", said.user, (said.identity, said.inode, said.dev), False, said.pid, said.start, said.fd, None)
    )
    _opened[said.identity] = weakref.ref(mapping, partial(_forget, said.identity))
    return mapping


def _forget(identity, weak):
    with cython.critical_section(_opened):
        if _opened.get(identity) is weak:
            _opened.pop(identity, None)


cdef object open_shared(
    const shared_t *said, cnp.dtype kind, int count, cnp.npy_intp *sides, cnp.npy_intp *strides, bint fortran,
    uint64_t nbytes
):
    """The array that is meant; `strides` NULL: it is contiguous, in Fortran's order if `fortran`, and has `nbytes`.

    RecordCorrupt if it is not within its segment; what opening a reference raises.
    """
    cdef Mapping mapping = opened(said)
    cdef bint within
    cdef int flags = cnp.NPY_ARRAY_FARRAY if fortran else cnp.NPY_ARRAY_CARRAY
    if strides == NULL:
        within = said.offset >= 0 and <uint64_t>said.offset <= mapping.payload_size and (
            nbytes <= mapping.payload_size - <uint64_t>said.offset
        )
    else:
        within = _make_array.fits(
            tuple([sides[axis] for axis in range(count)]), cnp.PyDataType_ELSIZE(kind), said.offset,
            tuple([strides[axis] for axis in range(count)]), mapping.payload_size
        )
        flags = cnp.NPY_ARRAY_WRITEABLE
    if not within:
        raise RecordCorrupt(f"a reference to an array beyond its {mapping.payload_size} bytes, at {said.offset}")
    if not said.flags & SHARED_WRITEABLE:
        flags &= ~cnp.NPY_ARRAY_WRITEABLE
    Py_INCREF(kind)  # PyArray_NewFromDescr steals one
    array = PyArray_NewFromDescr(
        <PyTypeObject *>SharedArray, <cnp.PyArray_Descr *>kind, count, sides, strides,
        mapping.own.addr + mapping.payload_at + said.offset, flags, NULL
    )
    Py_INCREF(mapping)  # PyArray_SetBaseObject steals one
    cnp.PyArray_SetBaseObject(<cnp.ndarray>array, mapping)
    return array
