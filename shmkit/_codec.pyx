# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""What a queue does to an item on its way through memory, as two functions of Python: for tests, measurements and the
curious."""

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t

from shmkit._codes cimport HEAD_MOST
from shmkit._decode cimport unpack
from shmkit._encode cimport Parcel


def encode(item, size_t room=HEAD_MOST):
    """What an item becomes: its head, and its body (None: it has none)."""
    cdef uint8_t head[HEAD_MOST]
    cdef Parcel parcel = Parcel.__new__(Parcel)
    cdef bytearray body = None
    parcel.pack(item, head, min(room, <size_t>HEAD_MOST))
    said = <bytes>head[:parcel.head_size]
    if parcel.body_size:
        body = bytearray(parcel.body_size)
        parcel.write(<uint8_t *>PyByteArray_AS_STRING(body))
    parcel.clear()
    return said, body


def decode(bytes head, bytearray body=None, pickles=True):
    """The item that ``encode`` made these of; what can be is a view of the body."""
    if body is None:
        return unpack(<const uint8_t *>PyBytes_AS_STRING(head), len(head), NULL, 0, None, pickles)
    # While it is exported, it cannot be resized.
    return unpack(
        <const uint8_t *>PyBytes_AS_STRING(head), len(head), <uint8_t *>PyByteArray_AS_STRING(body), len(body),
        memoryview(body), pickles,
    )
