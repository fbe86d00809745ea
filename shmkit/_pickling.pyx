# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Pickles of items, with protocol 5 and large buffers out of band.

What was registered with ``multiprocessing.reduction.ForkingPickler`` counts, and what was with ``copyreg``; so does a
pickler that somebody has put in ForkingPickler's place.  A pickler costs more to make than to use, so they are used
again.
"""

cimport cython
from cpython.object cimport PyTypeObject

from shmkit._codes cimport PART_LEAST
from shmkit._core_types cimport type_own_names

import copyreg
import pickle
from multiprocessing import reduction

import numpy as np

from shmkit.array import SharedArray

cdef object ForkingPickler = reduction.ForkingPickler
cdef dict _extra_reducers = reduction.ForkingPickler._extra_reducers
cdef dict _common_reducers = copyreg.dispatch_table
cdef dict _extensions = copyreg._extension_registry
cdef dict _reduction = reduction.__dict__
cdef dict _forking = <dict>type_own_names(<PyTypeObject *>ForkingPickler)  # as it is at any time
cdef list _idle = []
cdef list _idle_by_value = []


cdef class Reducers:
    """The reducers that are registered now, for a pickler's ``dispatch_table``."""

    def __getitem__(self, kind):
        found = _extra_reducers.get(kind)
        if found is None:
            found = _common_reducers.get(kind)
            if found is None:
                raise KeyError
        return found


def _by_value(array):
    return np.asarray(array, None, "K").__reduce_ex__(5)


cdef class ReducersByValue(Reducers):
    """The same, but shared arrays are copied, as others are."""

    def __getitem__(self, kind):
        if kind is SharedArray:
            return _by_value
        return Reducers.__getitem__(self, kind)


cdef class Sink:
    """What a pickler writes to, and gives buffers to."""

    cdef list written
    cdef list buffers
    cdef Py_ssize_t least    # bytes of a buffer that go out of band

    def write(self, data):
        self.written.append(bytes(data))

    def take(self, buffer):
        """Takes a buffer out of band, if it is worth it; true: it is to go into the pickle."""
        if self.buffers is None:
            return True
        try:
            view = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if view.nbytes < self.least:
            return True
        self.buffers.append(view)
        return False


cdef class Machine:
    """A pickler and its sink."""

    cdef Sink sink
    cdef object pickler

    def __cinit__(self, bint by_value):
        self.sink = Sink()
        self.pickler = pickle.Pickler(self.sink, 5, buffer_callback=self.sink.take)
        self.pickler.dispatch_table = ReducersByValue() if by_value else Reducers()


cdef bint is_replaced() except -1:
    """Whether somebody has put another pickler in ForkingPickler's place, or has told it what to do with everything."""
    return _reduction["ForkingPickler"] is not ForkingPickler or "reducer_override" in _forking


cdef bint is_registered(object kind) except -1:
    """Whether anything was registered that may say how instances of a class are pickled."""
    return kind in _extra_reducers or kind in _common_reducers or len(_extensions) != 0 or is_replaced()


cdef bytes pickle_item(object item, list buffers, Py_ssize_t least=PART_LEAST, bint by_value=False):
    """The pickle of `item`; its buffers of `least` bytes or more are appended to `buffers`, as memoryviews of bytes
    (None: they are in the pickle).  `by_value`: shared arrays are copied, as others are, unless somebody has put
    another pickler in ForkingPickler's place."""
    cdef Machine machine
    cdef Sink sink
    cdef list written, idle = _idle_by_value if by_value else _idle
    if is_replaced():
        return pickle_otherwise(item, buffers, least)
    try:
        machine = idle.pop()
    except IndexError:
        machine = Machine(by_value)
    sink = machine.sink
    sink.written = written = []
    sink.buffers = buffers
    sink.least = least
    try:
        dump = machine.pickler.dump
        # Python's pickler reads a dict as if nobody could change it: without a GIL, nobody can meanwhile.
        with cython.critical_section(item):
            dump(item)
    finally:
        sink.written = sink.buffers = None
        machine.pickler.clear_memo()
        if len(idle) < 8:
            idle.append(machine)
    return written[0] if len(written) == 1 else b"".join(written)


cdef bytes pickle_otherwise(object item, list buffers, Py_ssize_t least):
    """With the pickler that somebody has put in ForkingPickler's place."""
    cdef Sink sink = Sink()
    sink.written = []
    sink.buffers = buffers
    sink.least = least
    try:
        pickler = reduction.ForkingPickler(sink, 5, buffer_callback=sink.take)
    except TypeError:  # the standard library's own takes none by name
        pickler = reduction.ForkingPickler(sink, 5, True, sink.take)
    pickler.dump(item)
    return b"".join(sink.written)
