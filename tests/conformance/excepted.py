"""The tests of CPython's that pass with the standard library's classes and not with shmkit's, and why each may.

The keys are patterns of ``Class.test``.  One that passes after all is an error too: the table says what is.
"""

from __future__ import annotations

TIMEOUTS = (
    "threading's classes refuse a negative or huge time-out, and one without blocking; multiprocessing's take them, "
    "a negative one as 0, and so do shmkit's"
)
REINIT = "a forked child must not reset what its parent still holds: threading's locks are not shared, shmkit's are"
CONDITION = "a method of the lock that only threading.Condition takes over; multiprocessing.Condition does not"

TRACKER = (
    "asserts that a semaphore has a name and that the resource tracker says so; the drop-in's has none, as the kernel "
    "frees it with its last process, however that ends"
)
FACE = {"TestResourceTracker.test_resource_tracker_sigkill": TRACKER}

EXCEPTED: dict[str, dict[str, str]] = {
    "mp_suite": {
        "TestStartMethod.test_mixed_startmethod": (
            "asserts that a lock made for forked children cannot be sent to a spawned one; shmkit's can"
        ),
    },
    # The first starts a program of its own, in which install() was not called.
    "drop-in": {
        **FACE,
        "TestResourceTracker.test_resource_tracker": TRACKER,
        "_TestImportStar.test_import": "asserts which files the package's folder has",
        "*TestSharedMemory.test_shared_memory_tracking": (
            "asserts that a program which attaches deletes the memory of the others as it ends; shmkit's never does"
        ),
    },
    "install": FACE,
    "executor": {},
    "queues": {
        "TestStartMethod.test_mixed_startmethod": (
            "asserts that a queue made for forked children cannot be sent to a spawned one; shmkit's can"
        ),
        "TestSimpleQueue.test_closed": "looks into the two pipe ends within; shmkit's has none",
        "TestSimpleQueue.test_empty_exceptions": (
            "asserts that empty() of a closed queue is the OSError of the pipe within; shmkit's is Closed, a ValueError"
        ),
        "*ProcessesTestQueue.test_closed_queue_empty_exceptions": (
            "asserts that empty() of a closed queue says True, or is the OSError of the pipe within, as the queue was "
            "used or not; shmkit's is Closed, a ValueError, in either case"
        ),
        "WithProcessesTestQueue.test_queue_feeder_donot_stop_onexc": (
            "asserts that put returns, and a thread prints what cannot be pickled; shmkit's raise in put, in the caller"
        ),
    },
    "lock_suite": {
        "*LockTests.test_timeout": TIMEOUTS,
        "*SemaphoreTests.test_acquire_timeout": TIMEOUTS,
        "LockTests.test_state_after_timeout": (
            "names the first argument of acquire as threading does, `blocking`; multiprocessing names it `block`"
        ),
        "LockTests.test_at_fork_reinit": REINIT,
        "EventTests.test_at_fork_reinit": REINIT,
        "EventTests.test_repr": "threading's repr; shmkit's is that of multiprocessing.Event",
        "ConditionAsRLockTests.test__is_owned": CONDITION,
        "ConditionAsRLockTests.test_release_save_unacquired": CONDITION,
    },
}
