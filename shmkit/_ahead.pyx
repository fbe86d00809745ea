# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""The header of a stream's next message, which comes along with the rest of the one before.

To receive a message takes two reads, its header and just what that says.  Where messages follow each other, the second
one may take the next header too: one read for each message.  It is never more than a header, after which every message
has at least a byte: so the descriptor is readable whenever a message waits, as if nothing had been read ahead.

Whoever reads next has to know it, though it be another process.  So it stands in memory that forked children share; an
end that is pickled takes it along, and then neither reads ahead any more, nor does one whose descriptor was asked for.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memcpy
from posix.mman cimport MAP_ANONYMOUS, MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap


cdef class Ahead:
    """Of one end.  It is used by whose turn it is to receive, but for `share`."""

    def __cinit__(self):
        cdef void *page = mmap(NULL, sizeof(ahead_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
        if page == MAP_FAILED:
            raise MemoryError
        self.at = <ahead_t *>page
        self.at.alone = 1

    def __dealloc__(self):
        if self.at != NULL:
            munmap(self.at, sizeof(ahead_t))

    @property
    def given(self) -> bool:
        """Whether what was read was handed on, with the end, and so cannot be had here."""
        return self.at.given != 0

    def take(self) -> bytes:
        """What was read, which is here no more."""
        header = PyBytes_FromStringAndSize(<const char *>self.at.header, self.at.size)
        self.at.size = 0
        return header

    def put_back(self, bytes header) -> None:
        """The other way round; it is no more than a header."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(header)
        if size > HEADER:
            raise ValueError(f"{size} bytes are more than a header")
        memcpy(self.at.header, <const uint8_t *>PyBytes_AS_STRING(header), size)
        self.at.size = <uint32_t>size

    def share(self) -> None:
        """Others may read, too, and not through this end."""
        self.at.alone = 0

    def hand_on(self) -> bytes:
        """What was read, for another end, which reads on instead of this one."""
        self.share()
        header = PyBytes_FromStringAndSize(<const char *>self.at.header, self.at.size)
        self.at.given = self.at.size != 0
        return header
