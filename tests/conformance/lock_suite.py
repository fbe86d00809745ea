"""``test.lock_tests``: the threads of one process contend for what ``threading`` offers, or shmkit."""

from __future__ import annotations

import threading
from types import SimpleNamespace

from test import lock_tests

from conformance import substitutes

NAMES = ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier")
made = {name: getattr(threading, name) for name in NAMES} | substitutes.chosen()


# The tests make a lock of threading's for a condition to go with: one of its own kind here.
lock_tests.threading = SimpleNamespace(**{**vars(threading), "Lock": made["Lock"], "RLock": made["RLock"]})


class LockTests(lock_tests.LockTests):
    locktype = staticmethod(made["Lock"])


class RLockTests(lock_tests.RLockTests):
    locktype = staticmethod(made["RLock"])


class EventTests(lock_tests.EventTests):
    eventtype = staticmethod(made["Event"])


class ConditionAsRLockTests(lock_tests.RLockTests):
    """A condition has the methods of its lock."""

    locktype = staticmethod(made["Condition"])


class ConditionTests(lock_tests.ConditionTests):
    condtype = staticmethod(made["Condition"])


class SemaphoreTests(lock_tests.SemaphoreTests):
    semtype = staticmethod(made["Semaphore"])


class BoundedSemaphoreTests(lock_tests.BoundedSemaphoreTests):
    semtype = staticmethod(made["BoundedSemaphore"])


class BarrierTests(lock_tests.BarrierTests):
    barriertype = staticmethod(made["Barrier"])
