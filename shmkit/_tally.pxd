"""What a program's run is asked to count (see _tally.pyx).

    cdef uint64_t **tally = tally_of_run()          once, at the head of a module

    cdef uint64_t since = wait_begins(tally)        0: nothing is counted
    …                                               a round of waiting
    wait_ends(tally, since)
"""

from libc.stdint cimport uint64_t

from shmkit._core cimport add_relaxed_u64, clock_ns

cdef enum:
    TALLY_MESSAGES
    TALLY_BYTES
    TALLY_COPIES
    TALLY_SPARED
    TALLY_WAITED_NS
    TALLY_IDLE_NS            # workers' that waited for tasks
    TALLY_WORDS

# Who gets what is in a queue: what is counted of that.
cdef enum:
    ROLE_PROGRAM             # a program: messages, and its waiting
    ROLE_TASKS               # a worker: a task when the worker says so (`_count_got`), and its waiting as idle
    ROLE_ANSWERS             # a thread of a pool that gives answers to whom they are for: messages, and no waiting


cdef uint64_t **tally_of_run() noexcept nogil


cdef inline uint64_t wait_begins(uint64_t **tally) noexcept nogil:
    return 0 if tally[0] == NULL else clock_ns()


cdef inline void wait_ends(uint64_t **tally, uint64_t since, int word=TALLY_WAITED_NS) noexcept nogil:
    if since != 0:
        add_relaxed_u64(&tally[0][word], clock_ns() - since)  # relaxed: a count


cdef inline void tally_message(uint64_t **tally, uint64_t size, uint64_t in_block) noexcept nogil:
    """A message of `size` bytes has arrived, of which so many lie in a block of memory."""
    if tally[0] != NULL:
        # relaxed, in all of these: counts
        add_relaxed_u64(&tally[0][TALLY_MESSAGES], 1)
        add_relaxed_u64(&tally[0][TALLY_BYTES], size)
        if in_block != 0:
            add_relaxed_u64(&tally[0][TALLY_COPIES], 1)
            add_relaxed_u64(&tally[0][TALLY_SPARED], in_block)


cdef inline void untally_message(uint64_t **tally, uint64_t size, uint64_t in_block) noexcept nogil:
    """A message that was counted is none of the program's."""
    if tally[0] != NULL:
        # relaxed, in all of these: counts, which wrap
        add_relaxed_u64(&tally[0][TALLY_MESSAGES], <uint64_t>-1)
        add_relaxed_u64(&tally[0][TALLY_BYTES], 0 - size)
        if in_block != 0:
            add_relaxed_u64(&tally[0][TALLY_COPIES], <uint64_t>-1)
            add_relaxed_u64(&tally[0][TALLY_SPARED], 0 - in_block)
