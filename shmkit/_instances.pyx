# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Instances of classes that need no pickle, as what pickle would make of them is known.

Those are the instances of classes whose pickling and unpickling is all ``object``'s, or that of a frozen dataclass with
slots, and named tuples.  Of such pickle says: the class's module and name, and the instance's ``__dict__`` or slots
(the tuple's members); and whoever unpickles it finds the class by that name, has it make an empty instance, and sets
the attributes (calls it with the members).  That is what is done here; an *outline* has the names.

Whether a class is such is asked once, and again when it, or one that it is derived from, has been changed: Python
gives a type a new version then, which no other type ever has.  So a verdict is kept for an address and a version, and
keeps no class alive.  Asked for each instance, since they can change without the class: whether anybody has registered
a reducer for it, and whether the class is found where it says that it is.

Where a class cannot be found at once, or makes its instances in a way of its own, the receiver has pickle itself do
it, so that everything that goes wrong goes wrong as it does there.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_CheckExact, PyDict_GetItemWithError
from cpython.module cimport PyImport_GetModuleDict, PyModule_CheckExact, PyModule_GetDict
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.type cimport PyType_Check
from libc.stdint cimport uint8_t, uint64_t, uintptr_t
from libc.string cimport memcmp

from shmkit._core_types cimport (
    Py_TYPE, PySys_Audit, slot_place, type_is_as_object, type_is_made, type_is_slotted, type_make, type_own_names,
    type_qualname, type_sets_plainly, type_version,
)
from shmkit._pickling cimport is_registered

import collections
import copyreg
import dataclasses
import io
import pickle
import sys
import types
from abc import ABCMeta

cdef enum:
    ENTRIES = 512              # of each table: a power of two
    BATCH = 1000               # values that pickle puts into something at a time

cdef struct known_t:
    PyTypeObject *type         # its address: there may be another one by now, which has another version
    unsigned int version
    Py_ssize_t count           # of attributes
    PyObject *qualname         # which can be changed without another version; ours
    PyObject *outline          # ours; NULL: it is to be pickled

cdef known_t _known[ENTRIES]   # those of instances that were sent

cdef struct judged_t:
    PyTypeObject *type
    unsigned int version
    bint plain

cdef judged_t _judged[ENTRIES]  # those of instances that came
cdef PyObject *_heard[ENTRIES]  # outlines that came; ours

# What a class must not have, nor one that it is derived from but object.
cdef frozenset _special = frozenset({
    "__reduce_ex__", "__reduce__", "__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__",
    "__getattr__", "__getattribute__", "__class__",
})
cdef frozenset _special_named = _special - {"__getnewargs__"} | {"__iter__", "__len__"}
cdef frozenset _special_slotted = _special - {"__getstate__", "__setstate__"}
# What dataclass gives a frozen class that has slots.
cdef object _list_out = dataclasses._dataclass_getstate.__code__
cdef object _list_in = dataclasses._dataclass_setstate.__code__
cdef object _named_arguments = collections.namedtuple("_Sample", "field").__getnewargs__.__code__
cdef object _newobj = copyreg.__newobj__
cdef bint EMPTY_STATE = sys.version_info < (3, 11)  # an instance without attributes has a state all the same
cdef tuple _nothing = ()

# Without it the tables would change while they are read, and no class has a version: then pickle does it all.
cdef bint HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


# --------------------------------------------------------------------------------------------------- finding the class


cdef PyObject *find_plainly(Outline outline) except? NULL:
    """What the outline's module has by its name, borrowed; NULL: that cannot be told without running others' code."""
    cdef PyObject *found
    cdef Py_ssize_t index
    if not outline.plain_path:
        return NULL
    found = PyImport_GetModuleDict()
    if not PyDict_CheckExact(<object>found):
        return NULL
    found = PyDict_GetItemWithError(<object>found, outline.module)
    if found == NULL or not PyModule_CheckExact(<object>found):
        return NULL
    found = PyDict_GetItemWithError(<object>PyModule_GetDict(<object>found), <object>PyTuple_GET_ITEM(outline.path, 0))
    for index in range(1, PyTuple_GET_SIZE(outline.path)):
        if found == NULL or not PyType_Check(<object>found) or not has_plain_metaclass(<object>found):
            return NULL
        found = type_own_names(<PyTypeObject *>found)
        if found != NULL:
            found = PyDict_GetItemWithError(<object>found, <object>PyTuple_GET_ITEM(outline.path, index))
    return found


cdef inline bint has_plain_metaclass(object kind):
    return type(kind) is type or type(kind) is ABCMeta


cdef bint is_private(str name):
    """Whether a name of a class or module may be another thing than its dictionary says."""
    return name.startswith("__") or name == ""


cdef inline size_t place(const void *of, size_t more) noexcept nogil:
    cdef uint64_t bits = <uintptr_t>of
    return ((bits >> 4) ^ (bits >> 13) ^ (more * 37)) & (ENTRIES - 1)


# ------------------------------------------------------------------------------------------------------------- sending


cdef bint is_plain(object kind, object item) except -1:
    """Whether pickle would take an instance's class and ``__dict__``, and nothing else, and give just those back."""
    cdef tuple order
    if not has_plain_metaclass(kind) or issubclass(kind, (type, BaseException)):
        return False
    order = kind.__mro__
    for base in order:
        if base is object:
            continue
        if not type_is_made(<PyTypeObject *>base):
            return False
        names = base.__dict__
        if not _special.isdisjoint(names):
            return False
        if "__dict__" in names and type(names["__dict__"]) is not types.GetSetDescriptorType:
            return False
    if order[len(order) - 1] is not object or kind.__dictoffset__ == 0 or copyreg._slotnames(kind):
        return False
    # object's own: it knows what cannot be copied, as there is more to it than can be seen from here.
    try:
        reduced = object.__reduce_ex__(item, 5)
    except TypeError:
        return False
    return reduced[0] is _newobj and reduced[1] == (kind,) and reduced[3] is None and reduced[4] is None


cdef bint is_named(object kind) except -1:
    """Whether it is a named tuple's class, of which pickle takes the members and nothing else."""
    cdef tuple order
    if not has_plain_metaclass(kind):
        return False
    order = kind.__mro__
    if len(order) != 3 or order[1] is not tuple or kind.__dictoffset__ != 0 or copyreg._slotnames(kind):
        return False
    names = kind.__dict__
    if not _special_named.isdisjoint(names):
        return False
    arguments = names.get("__getnewargs__")
    return type(arguments) is types.FunctionType and arguments.__code__ is _named_arguments


cdef object found_in(object kind, str name):
    """What an instance's class has by a name, without what ``object`` has; None: nothing."""
    for base in kind.__mro__:
        if base is not object and name in base.__dict__:
            return base.__dict__[name]
    return None


cdef bint has_code(object function, object code):
    return type(function) is types.FunctionType and function.__code__ is code


cdef int slotted_way(object kind, object item) except -1:
    """How pickle takes the slots of an instance, and nothing else, and gives just those back; BY_DICT: it does not."""
    cdef int way = BY_SLOTS
    if not has_plain_metaclass(kind) or issubclass(kind, (type, BaseException)):
        return BY_DICT
    if not type_is_slotted(<PyTypeObject *>kind):
        return BY_DICT
    for base in kind.__mro__:
        if base is object:
            continue
        if not type_is_made(<PyTypeObject *>base) or not _special_slotted.isdisjoint(base.__dict__):
            return BY_DICT
    out, into = found_in(kind, "__getstate__"), found_in(kind, "__setstate__")
    if out is not None or into is not None:
        if not has_code(out, _list_out) or not has_code(into, _list_in):
            return BY_DICT
        way = BY_LIST
    # As in is_plain.
    try:
        reduced = object.__reduce_ex__(item, 5)
    except (TypeError, AttributeError):
        return BY_DICT
    if reduced[0] is not _newobj or reduced[1] != (kind,) or reduced[3] is not None or reduced[4] is not None:
        return BY_DICT
    return way if way == BY_LIST or reduced[2] is None or reduced[2][0] is None else BY_DICT


cdef tuple slots_of(object kind, int way):
    """The names of the slots that pickle takes."""
    if way == BY_LIST:
        return tuple([field.name for field in dataclasses.fields(kind)])
    return tuple(copyreg._slotnames(kind))


cdef bint place_slots(Outline outline, object kind) except -1:
    """Finds where instances of a class have the slots that the outline names; False: they have others."""
    cdef Py_ssize_t index, count = len(outline.names)
    cdef Py_ssize_t *places
    outline.kind = NULL
    # Whoever is at work with the old ones has them.
    outline.places = PyBytes_FromStringAndSize(NULL, count * sizeof(Py_ssize_t))
    places = <Py_ssize_t *>PyBytes_AS_STRING(outline.places)
    for index in range(count):
        found = found_in(kind, outline.names[index])
        places[index] = -1 if found is None else slot_place(<PyTypeObject *>kind, <PyObject *>found)
        if places[index] < 0:
            return False
    hasattr(kind, "__reduce_ex__")  # a lookup, which gives it a version
    outline.kind, outline.version = <PyTypeObject *>kind, type_version(<PyTypeObject *>kind)
    return outline.version != 0


cdef Outline say(object kind, tuple names):
    """The outline of the instances of a class that have attributes of these names; None: they are to be pickled."""
    cdef Outline outline
    module, qualname = kind.__module__, kind.__qualname__
    if type(module) is not str or type(qualname) is not str:
        return None
    for name in names:
        if type(name) is not str or name in _special:
            return None
    words = (module, qualname, *names)
    for word in words:
        if "\0" in word:
            return None
    outline = Outline.__new__(Outline)
    outline.module, outline.qualname, outline.names = module, qualname, names
    outline.path = tuple(qualname.split("."))
    outline.plain_path = not any([is_private(name) for name in outline.path])
    outline.said = b"\0".join([word.encode("utf-8", "surrogatepass") for word in words])
    return outline


cdef Outline learn(known_t *known, object item, tuple names, int way):
    """Finds out about an instance's class, and takes it down; `names` of attributes that are in its ``__dict__``."""
    cdef PyTypeObject *kind = Py_TYPE(item)
    cdef Outline outline
    cdef bint plain
    if way == BY_SLOTS:
        way = slotted_way(<object>kind, item)
        names = slots_of(<object>kind, way) if way != BY_DICT else _nothing
        plain = len(names) != 0
    else:
        plain = is_named(<object>kind) if way == BY_MEMBERS else is_plain(<object>kind, item)
    outline = say(<object>kind, names)
    if outline is None:
        return None
    outline.way = way
    if plain and (way == BY_SLOTS or way == BY_LIST):
        plain = place_slots(outline, <object>kind)
    hasattr(<object>kind, "__reduce_ex__")  # a lookup, which gives it a version
    Py_XDECREF(known.qualname)
    Py_XDECREF(known.outline)
    known.qualname = known.outline = NULL
    known.type = NULL
    if type_version(kind) == 0:
        return None  # nobody can tell, later on, whether this is still true
    known.type = kind
    known.version = type_version(kind)
    known.count = 0 if way != BY_DICT else len(names)
    known.qualname = type_qualname(kind)
    Py_INCREF(<object>known.qualname)
    if not plain:
        return None
    Py_INCREF(outline)
    known.outline = <PyObject *>outline
    return outline


cdef inline bint is_known(known_t *known, PyTypeObject *kind, Py_ssize_t count) noexcept:
    return (
        known.type == kind and known.version == type_version(kind) and known.version != 0 and known.count == count
        and known.qualname == type_qualname(kind)
    )


cdef Outline found_again(Outline outline, object kind):
    """The outline, unless pickle would not take the class's instances by it now."""
    if outline is None or is_registered(kind) or find_plainly(outline) != <PyObject *>kind:
        return None
    return outline


cdef Outline outline_of(object item, dict attributes):
    """The outline of an instance, whose ``__dict__`` that is; None: it is to be pickled."""
    cdef PyTypeObject *kind = Py_TYPE(item)
    cdef Py_ssize_t count = len(attributes), index = 0
    cdef known_t *known = &_known[place(kind, count)]
    cdef Outline outline
    if not HAS_GIL:
        return None
    if not is_known(known, kind, count):
        return found_again(learn(known, item, tuple(attributes), BY_DICT), <object>kind)
    if known.outline == NULL:
        return None
    outline = <Outline>known.outline
    for name in attributes:
        if index == count or name is not <object>PyTuple_GET_ITEM(outline.names, index):
            outline = learn(known, item, tuple(attributes), BY_DICT)
            break
        index += 1
    return found_again(outline, <object>kind)


cdef Outline outline_of_named(object item):
    """The outline of a named tuple, without names of attributes; None: it is none, or is to be pickled."""
    cdef PyTypeObject *kind = Py_TYPE(item)
    cdef known_t *known = &_known[place(kind, 0)]
    if not HAS_GIL:
        return None
    if not is_known(known, kind, 0):
        return found_again(learn(known, item, _nothing, BY_MEMBERS), <object>kind)
    return found_again(<Outline>known.outline if known.outline != NULL else None, <object>kind)


cdef Outline outline_of_slotted(object item):
    """The outline of an instance without a ``__dict__``; None: it is to be pickled."""
    cdef PyTypeObject *kind = Py_TYPE(item)
    cdef known_t *known = &_known[place(kind, 0)]
    if not HAS_GIL:
        return None
    if not is_known(known, kind, 0):
        return found_again(learn(known, item, _nothing, BY_SLOTS), <object>kind)
    return found_again(<Outline>known.outline if known.outline != NULL else None, <object>kind)


# ----------------------------------------------------------------------------------------------------------- receiving


cdef Outline heard_outline(const uint8_t *at, size_t size):
    """The outline that is said so.  ValueError."""
    cdef uint64_t first = 0, last = 0
    cdef size_t index, most = min(size, 8)
    cdef PyObject **entry
    cdef PyObject *old
    cdef Outline outline
    for index in range(most):
        first = first << 8 | at[index]
        last = last << 8 | at[size - 1 - index]
    entry = &_heard[((first * 0x9E3779B97F4A7C15ULL ^ last * 0xC2B2AE3D27D4EB4FULL) >> 40 ^ size) & (ENTRIES - 1)]
    if HAS_GIL and entry[0] != NULL:
        outline = <Outline>entry[0]
        if <size_t>PyBytes_GET_SIZE(outline.said) == size and memcmp(PyBytes_AS_STRING(outline.said), at, size) == 0:
            return outline
    outline = Outline.__new__(Outline)
    outline.said = PyBytes_FromStringAndSize(<const char *>at, size)
    words = [sys.intern(word.decode("utf-8", "surrogatepass")) for word in outline.said.split(b"\0")]
    if len(words) < 2:
        raise ValueError("the class of an instance has no name")
    outline.module, outline.qualname, outline.names = words[0], words[1], tuple(words[2:])
    outline.path = tuple([sys.intern(name) for name in outline.qualname.split(".")])
    outline.plain_path = not any([is_private(name) for name in outline.path])
    if HAS_GIL:
        Py_INCREF(outline)
        old, entry[0] = entry[0], <PyObject *>outline
        Py_XDECREF(old)
    return outline


cdef object find_type(Outline outline):
    """The class; None: pickle has to find it."""
    cdef PyObject *found
    if not HAS_GIL:
        return None  # what is borrowed here may go at any time
    found = find_plainly(outline)
    if found == NULL or not PyType_Check(<object>found):
        return None
    kind = <object>found
    PySys_Audit("pickle.find_class", "OO", <PyObject *>outline.module, <PyObject *>outline.qualname)
    return kind


cdef bint comes_plainly(PyTypeObject *kind) except -1:
    """Whether an instance of it comes to be as object makes one, and has its attributes set in its ``__dict__``."""
    cdef judged_t *judged = &_judged[place(kind, 0)]
    cdef bint plain = True
    if judged.type == kind and judged.version == type_version(kind) and judged.version != 0:
        return judged.plain
    if not HAS_GIL or not type_is_as_object(kind) or not has_plain_metaclass(<object>kind):
        return False
    for base in (<object>kind).__mro__:
        names = base.__dict__
        if "__setstate__" in names or "__class__" in names and base is not object:
            plain = False
        if "__dict__" in names and type(names["__dict__"]) is not types.GetSetDescriptorType:
            plain = False
    hasattr(<object>kind, "__setstate__")  # a lookup, which gives it a version
    judged.type, judged.version, judged.plain = kind, type_version(kind), plain
    return plain and judged.version != 0


cdef object new_instance(Outline outline):
    """A new instance of that class, without attributes; None: pickle has to make it."""
    kind = find_type(outline)
    if kind is None or not comes_plainly(<PyTypeObject *>kind):
        return None
    return type_make(<PyTypeObject *>kind, <PyObject *>_nothing)


cdef object new_slotted(Outline outline, int way):
    """A new instance of that class, with empty slots, of which the outline knows the places; None: as above."""
    cdef PyTypeObject *kind
    found = find_type(outline)
    if found is None or not HAS_GIL:
        return None
    kind = <PyTypeObject *>found
    if outline.kind != kind or outline.version != type_version(kind) or outline.version == 0 or outline.way != way:
        if not type_is_slotted(kind) or not has_plain_metaclass(found) or not place_slots(outline, found):
            return None
        outline.way = way
        into = found_in(found, "__setstate__")
        if way == BY_LIST:
            plain = has_code(into, _list_in) and slots_of(found, way) == outline.names
        else:
            plain = into is None and type_sets_plainly(kind)
        if not plain or found_in(found, "__class__") is not None:
            outline.kind = NULL
            return None
    return type_make(kind, <PyObject *>_nothing)


class Otherwise(pickle.Unpickler):
    """Unpickles what says of itself "and here come the values": they do not stand in the pickle."""

    def __init__(self, program, values):
        super().__init__(io.BytesIO(program))
        self._values = values

    def persistent_load(self, what):
        """The values, which are decoded when they are asked for: in the order of a pickle."""
        return self._values()


cdef object new_as_pickle(Outline outline, object values, int way, uint64_t count):
    """What pickle makes of that class and those values: ``values()`` is its state; of a named one, the arguments.

    Of one that is filled, the arguments come first, and then `count` values, or keys and values.
    """
    cdef bytes value = b"K\x00Q"  # BININT1, BINPERSID
    cdef uint64_t most
    program = b"\x80\x05" + text(outline.module) + text(outline.qualname) + b"\x93"  # STACK_GLOBAL
    if way == BY_MEMBERS:
        program += value + b"\x81."
    elif way == BY_CALL:
        program += value + b"R."  # REDUCE
    elif way == BY_NAME:
        program += b"."
    elif way == BY_EXTEND or way == BY_ITEMS:
        program += value + b"R"
        one, many = (b"a", b"e") if way == BY_EXTEND else (b"s", b"u")  # APPEND, APPENDS, SETITEM, SETITEMS
        if way == BY_ITEMS:
            value += value
        while count:
            most = min(count, <uint64_t>BATCH)
            program += value + one if most == 1 else b"(" + value * most + many  # MARK
            count -= most
        program += b"."
    else:
        program += b")\x81"  # EMPTY_TUPLE, NEWOBJ
        program += value + b"b." if outline.names or EMPTY_STATE or way != BY_DICT else b"."  # BUILD
    return Otherwise(program, values).load()


cdef bytes text(str word):
    cdef bytes data = word.encode("utf-8", "surrogatepass")
    return b"X" + len(data).to_bytes(4, "little") + data
