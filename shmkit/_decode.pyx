# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Bytes to objects: what ``_encode.pyx`` has written (``_codes.pxd`` says what the bytes mean).

Arrays of PART_LEAST bytes and more, and large buffers of pickles, are views of the body, which they keep; everything
else is copied out of it.  Nothing is believed: every length is checked against what is there before it is used, so
that bytes that were scribbled over are RecordCorrupt, and no crash.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.complex cimport PyComplex_FromDoubles
from cpython.float cimport PyFloat_FromDouble
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int8_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cimport cython
from cpython.object cimport PyObject, PyTypeObject

from shmkit._codes cimport *
from shmkit._core_types cimport (
    PyObject_GC_Track, PyObject_GC_UnTrack, PyObject_GenericGetDict, Py_TYPE, slot_set, type_make, type_makes,
)
from shmkit._decode_arrays cimport decode_array, decode_scalar, decode_shared, load
from shmkit._instances cimport (
    BY_CALL, BY_DICT, BY_EXTEND, BY_ITEMS, BY_LIST, BY_MEMBERS, BY_NAME, BY_SETSTATE, Outline, find_type,
    heard_outline, new_as_pickle, new_instance, new_slotted,
)
from shmkit._makers cimport is_filled
from shmkit._reading cimport (
    corrupt, new_bytearray, new_bytes, new_key, new_text, read_count, read_number, read_raw, read_run, read_units,
    reader_t,
)

from shmkit.errors import PickleRefused


@cython.final
cdef class Slice:
    """Some bytes of a body, for an object that is unpickled."""

    cdef object owner
    cdef uint8_t *at
    cdef Py_ssize_t size
    cdef bint readonly

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.at, self.size, self.readonly, flags)


# ----------------------------------------------------------------------------------------------------------- decoding


cdef inline object decode_value(reader_t *reader, object owner):
    """`decode`, for where most values are: the usual ones without another call."""
    cdef uint8_t code = read_raw(reader, 1)[0]
    cdef const uint8_t *at
    cdef size_t size
    cdef int64_t number
    cdef double real
    if code == CODE_BYTES:
        at = read_run(reader, &size)
        return new_bytes(at, size)
    if code == CODE_INT8:
        return <int8_t>read_raw(reader, 1)[0]
    if code == CODE_INT64:
        memcpy(&number, read_raw(reader, 8), 8)
        return number
    if code == CODE_ASCII:
        at = read_run(reader, &size)
        return new_text(at, size, 1, 127)
    if code == CODE_FLOAT:
        memcpy(&real, read_raw(reader, 8), 8)
        return PyFloat_FromDouble(real)
    return decode_other(reader, owner, code)


cdef object decode(reader_t *reader, object owner):
    return decode_value(reader, owner)


cdef object decode_other(reader_t *reader, object owner, uint8_t code):
    cdef const uint8_t *at
    cdef size_t size
    cdef double parts[2]
    if code == CODE_NONE:
        return None
    if code == CODE_TRUE:
        return True
    if code == CODE_FALSE:
        return False
    if code == CODE_ARRAY:
        return decode_array(reader, owner, False)
    if code == CODE_ARRAY_AT:
        return decode_array(reader, owner, True)
    if CODE_TUPLE <= code <= CODE_FROZENSET:
        if reader.depth >= DEPTH_MOST:
            raise corrupt("containers are in each other too deep")
        reader.depth += 1
        found = decode_container(reader, code, owner)
        reader.depth -= 1
        return found
    if CODE_INSTANCE <= code <= CODE_CLASS:
        return decode_instance(reader, owner, code - CODE_INSTANCE)  # in the order of BY_…
    if code == CODE_PICKLE:
        return decode_pickle(reader, owner)
    if code == CODE_LATIN:
        at = read_run(reader, &size)
        return new_text(at, size, 1, 255)
    if code == CODE_UCS2:
        at = read_units(reader, &size, 2)
        return new_text(at, size // 2, 2, 0xffff)
    if code == CODE_UCS4:
        at = read_units(reader, &size, 4)
        return new_text(at, size // 4, 4, 0x10ffff)
    if code == CODE_SHARED:
        return decode_shared(reader)
    if code == CODE_SCALAR:
        return decode_scalar(reader)
    if code == CODE_INT:
        at = read_run(reader, &size)
        return int.from_bytes(at[:size], "little", signed=True)
    if code == CODE_BYTEARRAY:
        at = read_run(reader, &size)
        return new_bytearray(at, size)
    if code == CODE_COMPLEX:
        memcpy(parts, read_raw(reader, 16), 16)
        return PyComplex_FromDoubles(parts[0], parts[1])
    raise corrupt(f"there is no code {code}")


cdef tuple decode_members(reader_t *reader, object owner, uint64_t count):
    """A tuple of so many values.  A class's code, which may run for one of them, cannot come upon it half made; and one
    that holds nothing that may hold anything is no business of the garbage collector, which finds that out itself of
    others."""
    cdef uint64_t index
    cdef bint plain = True
    if count == 0:
        return ()
    found = PyTuple_New(count)
    PyObject_GC_UnTrack(<PyObject *>found)
    for index in range(count):
        plain = plain and reader.at != reader.end and reader.at[0] <= CODE_PLAIN
        value = decode_value(reader, owner)
        Py_INCREF(value)
        PyTuple_SET_ITEM(found, index, value)
    if not plain:
        PyObject_GC_Track(<PyObject *>found)
    return found


cdef inline object decode_key(reader_t *reader, object owner):
    cdef const uint8_t *at
    cdef size_t size
    if reader.at == reader.end or reader.at[0] != CODE_ASCII:
        return decode(reader, owner)
    reader.at += 1
    at = read_run(reader, &size)
    return new_key(at, size)


cdef object decode_container(reader_t *reader, uint8_t code, object owner):
    cdef uint64_t count = read_count(reader), index, _index
    if code == CODE_TUPLE:
        return decode_members(reader, owner, count)
    if code == CODE_LIST:
        found = PyList_New(count)
        PyObject_GC_UnTrack(<PyObject *>found)  # as in decode_members
        for index in range(count):
            value = decode_value(reader, owner)
            Py_INCREF(value)
            PyList_SET_ITEM(found, index, value)
        PyObject_GC_Track(<PyObject *>found)
        return found
    try:
        if code == CODE_DICT:
            found = {}
            for _index in range(count):
                key = decode_key(reader, owner)
                (<dict>found)[key] = decode(reader, owner)
            return found
        members = set()
        for _index in range(count):
            members.add(decode(reader, owner))
    except TypeError:
        raise corrupt("a value of a set, or a key, cannot be hashed") from None
    return members if code == CODE_SET else frozenset(members)


# ----------------------------------------------------------------------------------------------------------- instances


@cython.final
cdef class Values:
    """The values of an instance that pickle makes: decoded when it asks for them, which it does within one call."""

    cdef reader_t *reader    # NULL: they were asked for
    cdef object owner
    cdef Outline outline
    cdef int way
    cdef uint64_t left       # of one that is filled: how many are asked for one by one, after the first

    def __call__(self):
        cdef reader_t *reader = self.reader
        if reader == NULL:
            raise corrupt("the values of an instance were asked for twice")
        if self.left:
            self.left -= 1
            return decode(reader, self.owner)
        self.reader = NULL
        if self.way == BY_MEMBERS:
            return decode_members(reader, self.owner, read_count(reader))
        if self.way >= BY_CALL:
            return decode(reader, self.owner)
        if self.way == BY_LIST:
            return [decode(reader, self.owner) for _ in self.outline.names]
        found = {}
        decode_attributes(reader, self.owner, self.outline, found)
        return found if self.way == BY_DICT else (None, found)


cdef int decode_attributes(reader_t *reader, object owner, Outline outline, dict found) except -1:
    for name in outline.names:
        found[name] = decode(reader, owner)
    return 0


cdef int decode_slots(reader_t *reader, object owner, Outline outline, object made) except -1:
    cdef bytes placed = outline.places  # others may come while this instance's values are decoded
    cdef Py_ssize_t index
    for index in range(len(outline.names)):
        value = decode(reader, owner)
        slot_set(<PyObject *>made, (<Py_ssize_t *>PyBytes_AS_STRING(placed))[index], <PyObject *>value)
    return 0


cdef tuple decode_arguments(reader_t *reader, object owner):
    given = decode(reader, owner)
    if type(given) is not tuple:
        raise corrupt("what a class is to be called with is no tuple")
    return given


cdef int fill(reader_t *reader, object owner, object made, int way, uint64_t count) except -1:
    """Puts in what it holds."""
    cdef uint64_t _index
    if way == BY_EXTEND:
        made.extend(decode_members(reader, owner, count))
        return 0
    for _index in range(count):
        key = decode_key(reader, owner)
        value = decode(reader, owner)
        try:
            made[key] = value
        except TypeError:
            raise corrupt("a key cannot be hashed") from None
    return 0


cdef object decode_instance(reader_t *reader, object owner, int way):
    """An instance, or a named tuple: made as pickle makes it."""
    cdef size_t size
    cdef const uint8_t *at = read_run(reader, &size)
    cdef Outline outline
    cdef Values values
    cdef uint64_t count = 0
    if not reader.pickles:
        raise PickleRefused(
            "an item is a class, or an instance of one, and others than the owner may write to this memory: whoever "
            "can, could have this process import and call anything"
        )
    if reader.depth >= DEPTH_MOST and way != BY_NAME:  # a class has nothing in it
        raise corrupt("instances are in each other too deep")
    try:
        outline = heard_outline(at, size)
    except ValueError as error:
        raise corrupt(str(error)) from None
    reader.depth += 1
    if way == BY_MEMBERS:
        made = find_type(outline)
        if made is not None and type_makes(<PyTypeObject *>made):
            members = decode_members(reader, owner, read_count(reader))
            made = type_make(<PyTypeObject *>made, <PyObject *>members)
        else:
            made = None
    elif way == BY_CALL:
        made = find_type(outline)
        if made is not None:
            given = decode_arguments(reader, owner)
            reader.depth -= 1
            return made(*given)
    elif way == BY_NAME:
        made = find_type(outline)
    elif way == BY_EXTEND or way == BY_ITEMS:
        count = read_count(reader)
        made = find_type(outline)
        if made is not None and is_filled(made, way):
            made = made(*decode_arguments(reader, owner))
            fill(reader, owner, made, way, count)
        else:
            made = None
    elif way == BY_SETSTATE:
        made = find_type(outline)
        if made is not None and type_makes(<PyTypeObject *>made) and hasattr(made, "__setstate__"):
            made = type_make(<PyTypeObject *>made, <PyObject *>())
            made.__setstate__(decode(reader, owner))
        else:
            made = None
    elif way != BY_DICT:
        made = new_slotted(outline, way)
        # To make it may have run a collector, and that anything: are the places still those of its class?
        if made is not None and outline.kind == Py_TYPE(made):
            decode_slots(reader, owner, outline, made)
        else:
            made = None
    else:
        made = new_instance(outline)
        if made is not None and outline.names:
            decode_attributes(reader, owner, outline, PyObject_GenericGetDict(made, NULL))
    if made is None:
        values = Values.__new__(Values)
        values.reader = reader
        values.owner, values.outline, values.way = owner, outline, way
        values.left = 2 * count if way == BY_ITEMS else count  # the arguments come first, and the last value last
        try:
            made = new_as_pickle(outline, values, way, count)
        finally:
            values.reader = NULL
    reader.depth -= 1
    return made


# ------------------------------------------------------------------------------------------------------------ pickles


cdef object decode_pickle(reader_t *reader, object owner):
    cdef size_t size, part_size
    cdef const uint8_t *at = read_run(reader, &size)
    cdef uint64_t _index, count = read_number(reader)
    cdef list buffers = None
    cdef Slice part
    cdef uint8_t writable
    # A copy, since others could change what is checked while it is read.
    data = new_bytes(at, size)
    if count:
        if count > <uint64_t>(reader.end - reader.at):
            raise corrupt(f"a pickle has {count} buffers, and less than that follows")
        buffers = []
        for _index in range(count):
            writable = read_raw(reader, 1)[0]
            at = read_run(reader, &part_size)
            if part_size < PART_LEAST or owner is None:
                buffers.append(new_bytearray(at, part_size) if writable else new_bytes(at, part_size))
                continue
            part = Slice.__new__(Slice)
            part.owner = owner
            part.at = <uint8_t *>at
            part.size = part_size
            part.readonly = not writable
            buffers.append(part)
    return load(data, buffers, reader.pickles)


# ---------------------------------------------------------------------------------------------------------- the whole


cdef object unpack(const uint8_t *head, size_t head_size, uint8_t *body, size_t body_size, object owner, bint pickles):
    """The object that was packed; `owner` keeps the body (None: nothing of it may be kept).

    RecordCorrupt; PickleRefused if it is a pickle, and `pickles` is false; what unpickling raises.
    """
    cdef reader_t reader
    cdef uint64_t size
    reader.at = head
    reader.end = head + head_size
    reader.body = body
    reader.body_size = body_size
    reader.parts_at = 0
    reader.pickles = pickles
    reader.depth = 0
    if head_size and head[0] == CODE_SPILLED:
        reader.at += 1
        size = read_number(&reader)
        if body == NULL or size > body_size:
            raise corrupt(f"its {size} bytes are not within {body_size}")
        reader.at = body
        reader.end = body + size
        reader.parts_at = size
    return decode(&reader, owner)
