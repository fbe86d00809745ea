# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Objects of the standard library of which pickle says what their class is called with, and members of enumerations.

Dates and times, decimals and fractions, paths, ranges and the like are immutable, small and frequent; pickle asks each
for its arguments (``__reduce_ex__``) and whoever unpickles it finds the class by its name and calls it with them.  That
is what is done here, with the same arguments, encoded without pickle.  One that answers otherwise is pickled.
"""

from shmkit._instances cimport BY_CALL, BY_SETSTATE, Outline, found_again, say

import copyreg
import enum
import sys
import types

# By the module and name of their class.  What has code of its own run when it is hashed may not be a key.
cdef dict _names = {
    "builtins": {"range", "slice"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "pathlib": {"PosixPath", "PurePosixPath", "PureWindowsPath"},
    "pathlib._local": {"PosixPath", "PurePosixPath", "PureWindowsPath"},
    "uuid": {"UUID"},
}
cdef dict _outlines = {}  # by class: of those that were met
cdef object _newobj = copyreg.__newobj__
cdef type _enum = enum.EnumMeta

cdef bint HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


cdef bint is_member(object kind) except -1:
    """Whether it is an enumeration, and says itself how its members are pickled."""
    for base in kind.__mro__:
        reduce = base.__dict__.get("__reduce_ex__")
        if reduce is not None:
            return type(reduce) is types.FunctionType and reduce.__module__ == "enum"
    return False


cdef Outline outline_of_made(object kind, bint hashed):
    """The outline of the instances of such a class; None: it is none, or they are to be pickled."""
    cdef Outline outline = _outlines.get(kind)
    if outline is None:
        if not HAS_GIL:
            return None
        names = _names.get(kind.__module__) if isinstance(kind.__module__, str) else None
        if names is None or kind.__qualname__ not in names or len(_outlines) >= 64:
            # An enumeration's class is not kept, and its members' hashes are its own affair.
            if hashed or type(kind) is not _enum or not is_member(kind):
                return None
            outline = say(kind, ())
            if outline is not None:
                outline.way = BY_CALL
            return found_again(outline, kind)
        outline = say(kind, ())
        if outline is None:
            return None
        outline.way = BY_SETSTATE if kind.__module__ == "uuid" else BY_CALL
        _outlines[kind] = outline
    return found_again(outline, kind)


cdef bint any_after(tuple said, Py_ssize_t count) except -1:
    """Whether pickle would do more than what so many say."""
    return len(said) < 2 or any([one is not None for one in said[count:]])


cdef object made_with(object item, Outline outline):
    """What the class, or its ``__setstate__``, is called with; None: pickle does something else."""
    kind = type(item)
    said = item.__reduce_ex__(5)
    if type(said) is not tuple or any_after(said, 2 if outline.way == BY_CALL else 3):
        return None
    if outline.way == BY_CALL:
        return said[1] if said[0] is kind and type(said[1]) is tuple else None
    return said[2] if len(said) > 2 and said[0] is _newobj and said[1] == (kind,) else None
