# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Objects to bytes: what an item of a queue becomes (``_codes.pxd`` says what the bytes mean).

Values of the exact types None, bool, int, float, complex, str, bytes, bytearray, of NumPy's scalars and arrays (of
any dtype without objects), and tuples, lists, dicts, sets and frozensets of them are encoded here; named tuples and
instances of classes that leave their pickling to ``object``, too (``_instances.pyx``), and what pickle makes of the
standard library's dates, decimals, paths, deques and the like (``_makers.pyx``).  Whatever has anything else in
it is pickled as a whole, with protocol 5 and its buffers out of band: subclasses too, containers
that hold the same mutable object twice, as what arrives has to be one object then, and such as hold themselves.  A
memoryview arrives as the bytes that it shows.

Nothing here runs code of the user's except pickling.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_CheckExact, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.complex cimport PyComplex_CheckExact, PyComplex_ImagAsDouble, PyComplex_RealAsDouble
from cpython.dict cimport PyDict_Check, PyDict_CheckExact, PyDict_GetItemWithError, PyDict_Size
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.list cimport PyList_CheckExact
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.ref cimport Py_REFCNT
from cpython.set cimport PyFrozenSet_CheckExact
from cpython.tuple cimport PyTuple_Check, PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_DATA, PyUnicode_GET_LENGTH, PyUnicode_KIND
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cimport cython
cimport numpy as cnp

from shmkit._codes cimport *
from shmkit._core_types cimport Py_TYPE, PyObject_GenericGetDict, slot_value, type_has_dict, type_is_made
from shmkit._encode_arrays cimport encode_array, encode_scalar, encode_shared, write_dtype, write_shape
from shmkit._instances cimport (
    BY_CALL, BY_EXTEND, BY_ITEMS, BY_SLOTS, Outline, outline_of, outline_of_named, outline_of_slotted,
)
from shmkit._makers cimport filled_with, made_with, outline_of_class, outline_of_made
from shmkit._map cimport Mapping
from shmkit._pickling cimport pickle_item
from shmkit._shared cimport count_made, count_taken, mapping_of
from shmkit._writing cimport (
    NOT_HERE, Parts, aligned, begin, write_byte, write_coded, write_number, write_run, writer_t,
)

import sys

import numpy as np

from shmkit.array import SharedArray

cnp.import_array()

# Whether an object that has one reference cannot come twice in what holds it.
cdef bint HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()
cdef bint COUNTS_ALL = sys.version_info < (3, 14) and HAS_GIL

cdef type _SharedArray = SharedArray
cdef type _generic = np.generic
cdef type _void = np.void


# ----------------------------------------------------------------------------------------------------------- encoding


cdef int encode(writer_t *writer, object item) except -1:
    """Writes one value; NOT_HERE if it is to be pickled, or does not fit."""
    cdef int overflow = 0
    cdef int64_t number
    cdef double parts[2]
    cdef size_t size
    cdef uint8_t kind
    if PyBytes_CheckExact(item):
        if write_byte(writer, CODE_BYTES):
            return NOT_HERE
        return write_run(writer, item, PyBytes_AS_STRING(item), PyBytes_GET_SIZE(item))
    if PyLong_CheckExact(item):
        number = PyLong_AsLongLongAndOverflow(item, &overflow)
        if overflow:
            return encode_int(writer, item)
        if -128 <= number < 128:
            kind = <uint8_t>number
            return write_coded(writer, CODE_INT8, &kind, 1)
        return write_coded(writer, CODE_INT64, &number, 8)
    if type(item) is str:
        size = PyUnicode_GET_LENGTH(item)
        kind = <uint8_t>PyUnicode_KIND(item)
        if kind == 1:
            if write_byte(writer, CODE_ASCII if is_ascii(<const uint8_t *>PyUnicode_DATA(item), size) else CODE_LATIN):
                return NOT_HERE
        elif write_byte(writer, CODE_UCS2 if kind == 2 else CODE_UCS4):
            return NOT_HERE
        return write_run(writer, item, PyUnicode_DATA(item), size * kind)
    if PyFloat_CheckExact(item):
        parts[0] = PyFloat_AS_DOUBLE(item)
        return write_coded(writer, CODE_FLOAT, parts, 8)
    if item is None:
        return write_byte(writer, CODE_NONE)
    if item is True:
        return write_byte(writer, CODE_TRUE)
    if item is False:
        return write_byte(writer, CODE_FALSE)
    if type(item) is cnp.ndarray:
        # Here all arrays arrive as such as can be written to; not so in a pickle.
        if mutable_again(writer, item) or (writer.instances and not cnp.PyArray_ISWRITEABLE(item)):
            return NOT_HERE
        return encode_array(writer, item)
    if PyTuple_CheckExact(item) or PyList_CheckExact(item) or PyDict_CheckExact(item) or type(item) in (set, frozenset):
        if writer.depth >= DEPTH_MOST or mutable_again(writer, item):
            return NOT_HERE
        # What is in a tuple that others have too may come twice, whoever else has it.
        kind = writer.depth != 0 and PyTuple_CheckExact(item) and Py_REFCNT(item) > 2
        writer.depth += 1
        writer.common += kind
        overflow = encode_container(writer, item)
        writer.common -= kind
        writer.depth -= 1
        return overflow
    if PyComplex_CheckExact(item):
        parts[0] = PyComplex_RealAsDouble(item)
        parts[1] = PyComplex_ImagAsDouble(item)
        return write_coded(writer, CODE_COMPLEX, parts, 16)
    if PyByteArray_CheckExact(item):
        return encode_bytearray(writer, item)
    if isinstance(item, _generic):
        if isinstance(item, _void) and mutable_again(writer, item):
            return NOT_HERE
        return encode_scalar(writer, item)
    if type(item) is _SharedArray:
        if mutable_again(writer, item):
            return NOT_HERE
        return encode_shared(writer, item)
    if type(item) is memoryview:
        # Pickle refuses them.
        return NOT_HERE if writer.instances else encode_memoryview(writer, item)
    return encode_instance(writer, item) if type_is_made(Py_TYPE(item)) else encode_made(writer, item)


cdef inline bint is_ascii(const uint8_t *at, size_t size) noexcept nogil:
    cdef uint64_t word, all = 0
    cdef size_t i = 0
    while i + 8 <= size:
        memcpy(&word, at + i, 8)
        all |= word
        i += 8
    while i < size:
        all |= <uint64_t>at[i]
        i += 1
    return all & <uint64_t>0x8080808080808080 == 0


cdef bint mutable_again(writer_t *writer, object item) except -1:
    """Whether a mutable object, which is in a container, was encoded already: it has to arrive as one object.

    One that nobody else refers to cannot come twice, unless what holds it does.
    """
    if writer.depth == 0 or PyTuple_CheckExact(item) or PyFrozenSet_CheckExact(item):
        return False
    # What holds it, and the variable that it was taken out into.
    if COUNTS_ALL and writer.common == 0 and Py_REFCNT(item) <= 2:
        return False
    if writer.parcel == NULL:
        return True
    cdef Parts parcel = <Parts>writer.parcel
    if parcel.seen is None:
        parcel.seen = set()
    key = <uint64_t><void *>item
    if key in parcel.seen:
        return True
    parcel.seen.add(key)
    parcel.keepers.append(item)  # so that its address is not another's while this lasts
    return False


cdef int encode_members(writer_t *writer, object item) except -1:
    """How many members a tuple has, and all of them."""
    cdef Py_ssize_t index, count = PyTuple_GET_SIZE(item)
    if write_number(writer, count):
        return NOT_HERE
    for index in range(count):
        value = <object>PyTuple_GET_ITEM(item, index)  # a reference of its own, on which mutable_again counts
        if encode(writer, value):
            return NOT_HERE
    return 0


cdef int encode_container(writer_t *writer, object item) except -1:
    cdef Py_ssize_t count
    cdef list members
    if PyTuple_CheckExact(item):
        return write_byte(writer, CODE_TUPLE) or encode_members(writer, item)
    if not HAS_GIL and type(item) is not frozenset:
        item = item.copy()  # as it is at one moment, whatever other threads make of it
    if PyDict_CheckExact(item):
        count = PyDict_Size(item)
        if write_byte(writer, CODE_DICT) or write_number(writer, count):
            return NOT_HERE
        # Nothing below runs code of the user's, so that it stays as it is.
        for key, value in (<dict>item).items():
            writer.hashed += 1
            if encode(writer, key):
                return NOT_HERE
            writer.hashed -= 1
            if encode(writer, value):
                return NOT_HERE
            count -= 1
        return 0 if count == 0 else NOT_HERE
    if PyList_CheckExact(item):
        members = <list>item
        count = len(members)
        if write_byte(writer, CODE_LIST) or write_number(writer, count):
            return NOT_HERE
    else:
        members = None
        writer.hashed += 1
        count = len(item)
        if write_byte(writer, CODE_SET if type(item) is set else CODE_FROZENSET) or write_number(writer, count):
            return NOT_HERE
    for value in members if members is not None else item:
        if encode(writer, value):
            return NOT_HERE
        count -= 1
    writer.hashed -= members is None
    return 0 if count == 0 else NOT_HERE


cdef inline int write_outline(writer_t *writer, uint8_t code, Outline outline) except -1:
    if write_byte(writer, code):
        return NOT_HERE
    return write_run(writer, outline.said, PyBytes_AS_STRING(outline.said), PyBytes_GET_SIZE(outline.said))


cdef int encode_instance(writer_t *writer, object item) except -1:
    """An instance of a class; NOT_HERE unless all that pickle would do with it is known."""
    cdef Outline outline
    cdef dict attributes = None
    cdef Py_ssize_t index = 0
    cdef bint common
    # Keys and members are hashed where they arrive, which is for their classes to say.
    if not HAS_GIL or writer.depth >= DEPTH_MOST:
        return NOT_HERE
    if writer.hashed:
        return encode_made(writer, item)
    if PyTuple_Check(item):
        outline = outline_of_named(item)
        if outline is None or write_outline(writer, CODE_NAMED, outline):
            return NOT_HERE
        common = writer.depth != 0 and Py_REFCNT(item) > 2
    elif not type_has_dict(Py_TYPE(item)):
        return encode_slotted(writer, item)
    else:
        attributes = PyObject_GenericGetDict(item, NULL)
        outline = outline_of(item, attributes)
        if outline is None:
            return encode_made(writer, item)
        if mutable_again(writer, item) or write_outline(writer, CODE_INSTANCE, outline):
            return NOT_HERE
        common = False
    writer.depth += 1
    writer.instances += 1
    writer.common += common
    if attributes is None:
        if encode_members(writer, item):
            return NOT_HERE
    else:
        if mutable_again(writer, attributes):  # others may have it, too
            return NOT_HERE
        for name, value in attributes.items():
            if index == len(outline.names) or name is not <object>PyTuple_GET_ITEM(outline.names, index):
                return NOT_HERE
            if encode(writer, value):
                return NOT_HERE
            index += 1
        if index != len(outline.names):
            return NOT_HERE
    writer.common -= common
    writer.instances -= 1
    writer.depth -= 1
    return 0


cdef int encode_slotted(writer_t *writer, object item) except -1:
    """An instance of a class that has slots, and no ``__dict__``."""
    cdef Outline outline
    cdef bytes placed
    cdef PyObject *found
    cdef Py_ssize_t index
    outline = outline_of_slotted(item)
    if outline is None:
        return encode_made(writer, item)
    if mutable_again(writer, item):
        return NOT_HERE
    if write_outline(writer, CODE_SLOTS if outline.way == BY_SLOTS else CODE_STATED, outline):
        return NOT_HERE
    placed = outline.places
    writer.depth += 1
    writer.instances += 1
    for index in range(len(outline.names)):
        found = slot_value(<PyObject *>item, (<Py_ssize_t *>PyBytes_AS_STRING(placed))[index])
        if found == NULL:  # pickle leaves it out, or raises
            return NOT_HERE
        value = <object>found  # a reference of its own, on which mutable_again counts
        if encode(writer, value):
            return NOT_HERE
    writer.instances -= 1
    writer.depth -= 1
    return 0


cdef int encode_made(writer_t *writer, object item) except -1:
    """What pickle makes by calling its class, if it is of the standard library; NOT_HERE."""
    cdef Outline outline
    if writer.depth >= DEPTH_MOST:
        return NOT_HERE
    outline = outline_of_made(type(item), writer.hashed != 0)
    if outline is None:
        return NOT_HERE
    if outline.way == BY_EXTEND or outline.way == BY_ITEMS:
        return encode_filled(writer, item, outline)
    if PyDict_Check(item) and mutable_again(writer, item):  # a Counter
        return NOT_HERE
    given = made_with(item, outline)
    if given is None or write_outline(writer, CODE_MADE if outline.way == BY_CALL else CODE_SET_UP, outline):
        return NOT_HERE
    writer.depth += 1
    writer.instances += 1
    if encode(writer, given):
        return NOT_HERE
    writer.instances -= 1
    writer.depth -= 1
    return 0


cdef int encode_filled(writer_t *writer, object item, Outline outline) except -1:
    """What pickle makes by calling its class, and then fills; NOT_HERE."""
    cdef Py_ssize_t count = len(item)
    cdef PyObject *found
    cdef Outline factory
    given = filled_with(item)
    if given is None or mutable_again(writer, item):
        return NOT_HERE
    if write_outline(writer, CODE_EXTENDED if outline.way == BY_EXTEND else CODE_FILLED, outline):
        return NOT_HERE
    if write_number(writer, count):
        return NOT_HERE
    writer.depth += 1
    writer.instances += 1
    if outline.way == BY_ITEMS and given:
        factory = outline_of_class((<tuple>given)[0])
        if factory is None or writer.depth >= DEPTH_MOST:
            return NOT_HERE
        if write_byte(writer, CODE_TUPLE) or write_number(writer, 1):
            return NOT_HERE
        if write_outline(writer, CODE_CLASS, factory):
            return NOT_HERE
    elif encode(writer, given):
        return NOT_HERE
    for value in item:
        if outline.way == BY_ITEMS:
            writer.hashed += 1
            if encode(writer, value):
                return NOT_HERE
            writer.hashed -= 1
            found = PyDict_GetItemWithError(item, value)
            if found == NULL:
                return NOT_HERE
            value = <object>found  # a reference of its own, on which mutable_again counts
        if encode(writer, value):
            return NOT_HERE
        count -= 1
    writer.instances -= 1
    writer.depth -= 1
    return 0 if count == 0 else NOT_HERE


cdef int encode_int(writer_t *writer, object item) except -1:
    cdef bytes data = item.to_bytes(item.bit_length() // 8 + 1, "little", signed=True)
    return write_byte(writer, CODE_INT) or write_run(writer, data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef int encode_bytearray(writer_t *writer, bytearray item) except -1:
    if mutable_again(writer, item) or write_byte(writer, CODE_BYTEARRAY):
        return NOT_HERE
    if HAS_GIL and PyByteArray_GET_SIZE(item) < PART_LEAST:
        return write_run(writer, item, PyByteArray_AS_STRING(item), PyByteArray_GET_SIZE(item))
    if writer.parcel == NULL:
        return NOT_HERE
    with cython.critical_section(item):
        view = memoryview(item)  # which keeps it from being resized
    return write_view(writer, view)


cdef int encode_memoryview(writer_t *writer, object item) except -1:
    if write_byte(writer, CODE_BYTES):
        return NOT_HERE
    if not item.c_contiguous:
        data = item.tobytes()
        return write_run(writer, data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return write_view(writer, item)


cdef int write_view(writer_t *writer, object view) except -1:
    """A run of the bytes of a contiguous memoryview."""
    cdef const uint8_t[::1] data
    if view.nbytes == 0:
        return write_number(writer, 0)
    flat = view.cast("B")
    data = flat
    return write_run(writer, flat, &data[0], data.shape[0])


# ------------------------------------------------------------------------------------------------------------- parcel


cdef class Parcel(Parts):
    """One item, on its way to bytes: ``pack``, then, if it has a body, ``write``."""

    cdef int pack(self, object item, uint8_t *head, size_t room, bint by_value=False) except -1:
        """Encodes or pickles `item`; its head is written to `head`, and `body_size` says how large its body is.

        `by_value`: shared arrays are copied, as others are.
        """
        cdef writer_t writer
        cdef int status
        begin(&writer, head, room, <void *>self, by_value)
        self.clear()
        status = encode(&writer, item)
        if status:
            self.clear()
            begin(&writer, head, room, <void *>self, by_value)
            self.write_pickle(&writer, item)
        self.head = head
        self.body_size = 0
        if writer.at == head:
            self.stream_size = 0
            self.head_size = writer.used
        else:
            self.stream_size = self.body_size = writer.used
            begin(&writer, head, room, NULL)
            if write_byte(&writer, CODE_SPILLED) or write_number(&writer, self.stream_size):
                raise ValueError(f"a head has at least 11 bytes: got {room}")
            self.head_size = writer.used
        for index in range(self.parts_count):
            self.body_size = aligned(self.body_size) + self.parts[index].size
        if self.referred is not None:
            for mapping in self.referred:
                count_made(<Mapping>mapping)
            self.counted = True
        return 0

    cdef void take_back(self) noexcept:
        """What was packed goes nowhere: its references are no longer under way."""
        if self.counted and self.referred is not None:
            for mapping in self.referred:
                count_taken(<Mapping>mapping)
        self.clear()

    cdef int write_pickle(self, writer_t *writer, object item) except -1:
        cdef list buffers = []
        cdef bytes data = pickle_item(item, buffers, PART_LEAST, writer.by_value)
        write_byte(writer, CODE_PICKLE)
        write_run(writer, data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        write_number(writer, len(buffers))
        for view in buffers:
            write_byte(writer, 0 if view.readonly else 1)
            write_view(writer, view)
        return 0

cdef int pack_small(object item, uint8_t *head, size_t room, bint by_value=False) except -2:
    """Encodes what fits into a head; returns its size, or -1 if `item` does not, or is to be pickled."""
    cdef writer_t writer
    begin(&writer, head, room, NULL, by_value)
    return -1 if encode(&writer, item) else <int>writer.used


cdef void take_back(object item) noexcept:
    """What `pack_small` made of `item` goes nowhere."""
    cdef Mapping mapping
    if type(item) is _SharedArray:
        mapping = mapping_of(item)
        if mapping is not None and mapping.referred:
            count_taken(mapping)


cdef int pack_lent(object array, size_t offset_in_body, uint8_t *head, size_t room) except -2:
    """The head of an array whose bytes already lie in a body; -1 if they are not contiguous, or there is no room."""
    cdef writer_t writer
    cdef bint fortran
    if type(array) is not cnp.ndarray:
        return -1
    fortran = not cnp.PyArray_IS_C_CONTIGUOUS(array)
    if fortran and not cnp.PyArray_IS_F_CONTIGUOUS(array):
        return -1
    begin(&writer, head, room, NULL)
    if write_byte(&writer, CODE_ARRAY_AT) or write_dtype(&writer, <cnp.dtype>cnp.PyArray_DESCR(array)):
        return -1
    if write_shape(&writer, array, fortran) or write_number(&writer, offset_in_body):
        return -1
    return <int>writer.used
