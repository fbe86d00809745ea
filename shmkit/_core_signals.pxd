"""Collecting signals from all threads, from ``_catch.h``."""

from libc.stdint cimport uint64_t


cdef extern from "_catch.h" nogil:
    ctypedef struct sigset_t:
        pass

    ctypedef struct catcher_t:
        sigset_t numbers
        int from_ "from"
        int into
        uint64_t lost

    int sigemptyset(sigset_t *set)
    int sigaddset(sigset_t *set, int number)
    int catch_watch_forks()
    int catch_pipe(catcher_t *one)
    int catch_start(catcher_t *one)
    void catch_stop(catcher_t *one)
    void catch_return(catcher_t *one)
