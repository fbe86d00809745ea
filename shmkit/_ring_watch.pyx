# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""RingWatch: one end of a ring that waits with a descriptor (``_ring_bell.h``, ``_watch.h``).

The descriptor is an epoll set of two: a socket, to which the other end sends an empty datagram when it has changed
something and finds the bell armed; and a pidfd of the other end's process, as who was killed between a change and the
datagram can tell nobody.  Which process that is can change: who takes a role rings once he has it.

It is made when somebody first asks for it, and belongs to this process alone: in a forked child another is made.
Whoever has the turn at the end settles it, when an operation is over.
"""

from libc.errno cimport errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport strerror
from posix.unistd cimport close

cimport cython

from shmkit._core cimport ROLE_OPEN, clock_ns
from shmkit._core_watch cimport (
    WATCH_ID_MASK, poll_add, poll_drop, poll_has, poll_new, ring_arm, ring_disarm, ring_role_is_held, sched_yield,
    watch_drain, watch_is_own, watch_socket, watch_tell_own,
)
from shmkit._map cimport Mapping, fork_generation

import errno as errors_of_the_system
import os

cdef const uint64_t *generation = fork_generation()

cdef enum:
    TAKING_NS = 20_000_000  # a role is taken in a microsecond, but who takes it may be interrupted


@cython.final
cdef class Descriptors:
    """The epoll set and the socket, which are closed when nothing refers to this: an event loop may, for a while."""

    def __cinit__(self):
        self.fd = self.socket = -1

    def __dealloc__(self):
        # What is not in the set was closed by the program, and its number may be something else's.
        if self.socket >= 0 and watch_is_own(self.socket, self.inode):
            if self.fd >= 0 and poll_has(self.fd, self.socket):
                close(self.fd)
            close(self.socket)

    def fileno(self) -> int:
        """What the program waits with."""
        return self.fd


@cython.final
@cython.no_gc_clear
cdef class RingWatch:
    """What one end waits with."""

    def __cinit__(self):
        self.fd = self.socket = self.peer = -1

    def __dealloc__(self):
        self.stop()

    cdef bint sound(self):
        """Whether the descriptors are still there; the program may have closed them."""
        return watch_is_own(self.socket, self.inode) and poll_has(self.fd, self.socket)

    cdef void stop(self) noexcept:
        """Gives all of it back.  Idempotent."""
        if self.bell != NULL and self.generation == generation[0]:
            ring_disarm(self.bell)
        self.bell = NULL
        if self.socket >= 0 and watch_is_own(self.socket, self.inode):
            self.forget_peer()
        self.fd = self.socket = self.peer = -1
        self.opened = None
        self.keeps = None

    cdef void tell(self) noexcept:
        """Makes the descriptor readable."""
        ring_disarm(self.bell)
        if watch_is_own(self.socket, self.inode) and watch_tell_own(self.socket, self.id) == 0:
            self.told = True

    cdef void settle(self) noexcept:
        """Makes the descriptor say what is so; who calls has the turn at this end."""
        cdef bint changed
        if self.bell == NULL or self.generation != generation[0]:
            return
        if self.ready(self.of):
            if not self.told:
                self.tell()
            return
        watch_drain(self.socket, self.inode)
        self.told = False
        # Who had the role a moment ago may have cleared the bell, and been killed before its datagram; its successor
        # finds the bell clear, and tells nobody.  So it is armed once it is known who has the role.
        changed = True
        while changed:
            ring_arm(self.bell, self.id)
            try:
                changed = self.follow()
            except OSError:
                break  # no descriptor to be had: the end of that process is found when somebody looks
        if self.ready(self.of) or self.dead:
            self.tell()

    cdef bint held(self, uint32_t *epoch, uint32_t *state, uint32_t *pid):
        """Whether the other end's role is somebody's, who lives; and what the latest holder said."""
        return ring_role_is_held(self.role, self.lease_fd, self.lease_key, self.lease_byte, epoch, state, pid)

    cdef int follow(self) except -1:
        """Looks out for the death of the process that has the other end's role now; whether that is another one."""
        cdef uint32_t epoch, state, pid
        cdef uint64_t until = 0
        cdef bint held, changed, late = False
        while True:
            held = self.held(&epoch, &state, &pid)
            changed = epoch != self.epoch or state != self.state or pid != self.pid
            if not held or (state == ROLE_OPEN and (changed or not self.dead)):
                break
            # It has been taken, at this moment: who took it has not said so yet.
            if until == 0:
                until = clock_ns() + TAKING_NS
            elif clock_ns() > until:
                late = True  # it may be killed before it has said who it is: whoever waits goes on looking
                break
            sched_yield()
        self.dead = state == ROLE_OPEN and (late or not held)
        if changed:
            self.epoch, self.state, self.pid = epoch, state, pid
            self.forget_peer()
            if state == ROLE_OPEN and held:
                self.look_out(pid)
        return changed

    cdef void forget_peer(self) noexcept:
        if self.peer >= 0 and poll_has(self.fd, self.peer):
            if self.generation == generation[0]:  # the set is the parent's too
                poll_drop(self.fd, self.peer)
            close(self.peer)
        self.peer = -1

    cdef int look_out(self, uint32_t pid) except -1:
        cdef uint32_t epoch, state, holder
        cdef uint64_t until = 0
        cdef bint held = True
        cdef int fd
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            # It ended a moment ago, and perhaps somebody is taking the role; or it lives where pids are others.
            while until == 0 or clock_ns() < until:
                held = self.held(&epoch, &state, &holder)
                if not held or epoch != self.epoch or state != self.state or holder != self.pid:
                    break
                if until == 0:
                    until = clock_ns() + TAKING_NS
                sched_yield()
            self.dead = not held
            return 0
        if not self.held(&epoch, &state, &holder):  # who had the role has ended, and the number may be somebody else's
            close(fd)
            self.dead = True
            return 0
        if poll_add(self.fd, fd) != 0:
            close(fd)
        else:
            self.peer = fd
        return 0


cdef RingWatch new_ring_watch(
    ring_bell_t *bell, const ring_role_t *role, ring_ready_t ready, const void *of, Mapping keeps, uint64_t lease_key,
    int64_t lease_byte, str label
):
    """Makes a descriptor; it says nothing before it is settled."""
    cdef RingWatch watch = RingWatch.__new__(RingWatch)
    cdef Descriptors opened = Descriptors.__new__(Descriptors)
    while True:
        watch.id = int.from_bytes(os.urandom(5), "little")
        watch.socket = watch_socket(watch.id) if watch.id else -errors_of_the_system.EADDRINUSE
        if watch.socket != -errors_of_the_system.EADDRINUSE:
            break
    if watch.socket < 0:
        raise OSError(-watch.socket, f"no socket to watch {label} with: {strerror(-watch.socket).decode()}")
    watch.inode = os.fstat(watch.socket).st_ino & WATCH_ID_MASK
    opened.socket, opened.inode = watch.socket, watch.inode  # from here on it is closed
    watch.fd = poll_new()
    if watch.fd < 0:
        raise OSError(errno, f"no descriptor to watch {label} with: {strerror(errno).decode()}")
    if poll_add(watch.fd, watch.socket) != 0:
        close(watch.fd)
        watch.fd = -1
        raise OSError(errno, f"no room in the descriptor that watches {label}: {strerror(errno).decode()}")
    opened.fd = watch.fd
    watch.opened = opened
    watch.role = role
    watch.ready = ready
    watch.of = of
    watch.keeps = keeps
    watch.lease_fd = keeps.own.fd
    watch.lease_key = lease_key
    watch.lease_byte = lease_byte
    watch.generation = generation[0]
    watch.bell = bell
    return watch
