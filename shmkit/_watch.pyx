# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Watch: a descriptor that is readable while there is something to be had (the protocol is in ``_watch.h``).

It is made when somebody first asks for it, and belongs to this process alone: in a forked child another is made.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport strerror
from posix.unistd cimport close

cimport cython

from shmkit._core_watch cimport *
from shmkit._map cimport fork_generation

import errno
import os

from shmkit import errors

cdef const uint64_t *generation = fork_generation()


@cython.final
@cython.no_gc_clear
cdef class Watch:
    """A socket, a word that names it, and what it is to say."""

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        if self.fd < 0:
            return
        if self.generation == generation[0]:
            watch_leave(self.word, self.id)
        if watch_is_own(self.fd, self.inode):
            close(self.fd)

    def fileno(self) -> int:
        """The descriptor."""
        return self.fd

    cdef bint sound(self):
        """Whether the descriptor is still there; the program may have closed it."""
        return watch_is_own(self.fd, self.inode)

    cdef int settle(self) except -1:
        """Something was had: unless more is coming, the descriptor is made to say so."""
        # Armed: nobody has told this process anything since it last found nothing.
        if not watch_is_armed(self.word) and not self.coming(self.of):
            self.empty()
        return 0

    cdef int empty(self) except -1:
        """Nothing was there to be had: the descriptor is not readable until something is."""
        cdef int error
        watch_drain(self.fd, self.inode)
        if not watch_arm(self.watched, self.word, self.id):
            raise errors.LayoutMismatch("the word of one who watches is somebody else's")
        if self.coming(self.of):
            error = watch_tell_itself(self.word, self.fd, self.id)
            if error:
                raise OSError(error, f"cannot be told of what comes: {strerror(error).decode()}")
        return 0


cdef Watch new_watch(
    uint32_t *watched, uint64_t *words, uint32_t count, uint64_t kind, coming_t coming, const void *of, object keeps,
    str label
):
    """Makes a descriptor, which is readable at once if there is something."""
    cdef Watch watch = Watch.__new__(Watch)
    cdef int fd = -1, place
    while True:
        watch.id = int.from_bytes(os.urandom(5), "little")
        fd = watch_socket(watch.id) if watch.id else -errno.EADDRINUSE
        if fd != -errno.EADDRINUSE:
            break
    if fd < 0:
        raise OSError(-fd, f"no socket to watch {label} with: {strerror(-fd).decode()}")
    watch.inode = os.fstat(fd).st_ino & WATCH_ID_MASK
    place = watch_join(words, count, watch.id, kind)
    if place < 0:
        close(fd)
        raise errors.ChannelError(f"{label} is watched by {count} processes already, which is as many as can")
    watch.word = words + place
    watch.watched = watched
    watch.coming = coming
    watch.of = of
    watch.keeps = keeps
    watch.generation = generation[0]
    watch.fd = fd  # from here on it is all given back
    watch.empty()
    return watch
