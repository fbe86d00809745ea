"""CPython's own tests of locks, semaphores, events, conditions and barriers, run against shmkit's."""
