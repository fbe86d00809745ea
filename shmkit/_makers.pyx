# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Objects of the standard library of which pickle says what their class is called with, and members of enumerations.

Dates and times, decimals and fractions, paths, ranges and the like are immutable, small and frequent; pickle asks each
for its arguments (``__reduce_ex__``) and whoever unpickles it finds the class by its name and calls it with them.  That
is what is done here, with the same arguments, encoded without pickle.  One that answers otherwise is pickled.

Of a deque, an OrderedDict and a defaultdict pickle takes what they hold besides, and fills with that what the class
makes.  Nobody can change what these types answer, so they are not asked.
"""

from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport uintptr_t

from shmkit._core_types cimport own_dict, type_is_made, type_qualname, type_version
from shmkit._instances cimport BY_CALL, BY_EXTEND, BY_ITEMS, BY_NAME, BY_SETSTATE, Outline, found_again, say

import copyreg
import datetime as dt
import enum
import sys
import types
from abc import ABCMeta
from collections import OrderedDict, defaultdict, deque

# By the module and name of their class.  What has code of its own run when it is hashed may not be a key.
cdef dict _names = {
    "builtins": {"range", "slice"},
    "collections": {"Counter", "OrderedDict", "defaultdict", "deque"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "pathlib": {"PosixPath", "PurePosixPath", "PureWindowsPath"},
    "pathlib._local": {"PosixPath", "PurePosixPath", "PureWindowsPath"},
    "uuid": {"UUID"},
}
cdef dict _filled = {deque: BY_EXTEND, OrderedDict: BY_ITEMS, defaultdict: BY_ITEMS}
cdef dict _outlines = {}  # by class: of those that were met
cdef type _deque = deque
cdef type _OrderedDict = OrderedDict
cdef object _utc = dt.timezone.utc
cdef tuple _utc_arguments = (dt.timedelta(0),)
cdef object _newobj = copyreg.__newobj__
cdef type _enum = enum.EnumMeta

cdef struct met_t:           # a class; as known_t in _instances.pyx
    PyTypeObject *type
    unsigned int version
    PyObject *qualname       # ours; NULL: it cannot be changed
    PyObject *outline        # ours; NULL: its members, or itself, are to be pickled

cdef enum:
    ENTRIES = 128

cdef met_t _met[ENTRIES]        # enumerations, of which members were sent
cdef met_t _classes[ENTRIES]    # classes that were sent

cdef bint HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


cdef bint is_member(object kind) except -1:
    """Whether it is an enumeration, and says itself how its members are pickled."""
    for base in kind.__mro__:
        reduce = base.__dict__.get("__reduce_ex__")
        if reduce is not None:
            return type(reduce) is types.FunctionType and reduce.__module__ == "enum"
    return False


cdef Outline outline_met(met_t *table, object kind, int way):
    """The outline of an enumeration's members (BY_CALL), or of a class (BY_NAME); None: they are to be pickled."""
    cdef met_t *met = &table[(<uintptr_t><PyObject *>kind >> 4) % ENTRIES]
    cdef PyTypeObject *at = <PyTypeObject *>kind
    cdef PyObject *qualname = type_qualname(at) if type_is_made(at) else NULL
    cdef Outline outline
    if met.type != at or met.version != type_version(at) or met.version == 0 or met.qualname != qualname:
        outline = say(kind, ()) if way == BY_NAME or is_member(kind) else None
        hasattr(kind, "__reduce_ex__")  # a lookup, which gives it a version
        Py_XDECREF(met.qualname)
        Py_XDECREF(met.outline)
        met.type, met.version, met.qualname, met.outline = at, type_version(at), qualname, NULL
        if qualname != NULL:
            Py_INCREF(<object>qualname)
        if outline is not None:
            outline.way = way
            Py_INCREF(outline)
            met.outline = <PyObject *>outline
    return None if met.outline == NULL else found_again(<Outline>met.outline, kind)


cdef Outline outline_of_class(object kind):
    """The outline of a class whose class is ``type``, which is itself sent; None: it is to be pickled."""
    return outline_met(_classes, kind, BY_NAME) if HAS_GIL else None


cdef Outline outline_of_made(object kind, bint hashed):
    """The outline of the instances of such a class; None: it is none, or they are to be pickled."""
    cdef Outline outline
    if not HAS_GIL:
        return None
    if type(kind) is _enum:
        # Members' hashes are their class's affair.
        return None if hashed else outline_met(_met, kind, BY_CALL)
    if type(kind) is not type and type(kind) is not ABCMeta:
        return None  # even to look for it may run somebody's code
    outline = _outlines.get(kind)
    if outline is None:
        names = _names.get(kind.__module__) if type(kind.__module__) is str else None
        if names is None or kind.__qualname__ not in names or len(_outlines) >= 64:
            return None
        outline = say(kind, ())
        if outline is None:
            return None
        outline.way = _filled.get(kind, BY_SETSTATE if kind.__module__ == "uuid" else BY_CALL)
        _outlines[kind] = outline
    return found_again(outline, kind)


cdef bint any_after(tuple said, Py_ssize_t count) except -1:
    """Whether pickle would do more than what so many say."""
    return len(said) < 2 or any([one is not None for one in said[count:]])


cdef object made_with(object item, Outline outline):
    """What the class, or its ``__setstate__``, is called with; None: pickle does something else."""
    if item is _utc:
        return _utc_arguments
    kind = type(item)
    said = item.__reduce_ex__(5)
    if type(said) is not tuple or any_after(said, 2 if outline.way == BY_CALL else 3):
        return None
    if outline.way == BY_CALL:
        return said[1] if said[0] is kind and type(said[1]) is tuple else None
    return said[2] if len(said) > 2 and said[0] is _newobj and said[1] == (kind,) else None


cdef tuple filled_with(object item):
    """What the class of one that is then filled is called with; None: pickle does something else."""
    cdef PyObject *attributes
    if type(item) is _deque:
        most = item.maxlen
        return () if most is None else ((), most)
    if type(item) is _OrderedDict:
        attributes = own_dict(item)
        return () if attributes == NULL or not <dict>attributes else None
    factory = item.default_factory
    if factory is None:
        return ()
    return (factory,) if type(factory) is type else None


cdef bint is_filled(object kind, int way) except -1:
    """Whether instances of that class are filled like that, by nobody's code but theirs."""
    return type(kind) is type and _filled.get(kind) == way
