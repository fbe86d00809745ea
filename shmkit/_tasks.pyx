# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""What a task looks like on its way to a worker, and what the worker makes of it.

A function that has a name in a module travels as that name, which is what a pickle of it would say too, in a tenth of
the time.  Everything else is as it is put on a queue.
"""

import signal
import sys
import time
from importlib import import_module
from types import BuiltinFunctionType, FunctionType

CALL = 0  # function(*args, **options)
EACH = 1  # [function(x) for x in args]
EACH_STAR = 2  # [function(*x) for x in args]


cpdef tuple refer(object function):
    """Module and name of a function or class; None and itself if it is not found by them."""
    kind = type(function)
    if kind is FunctionType or kind is BuiltinFunctionType or kind is type:
        module = function.__module__
        if type(module) is str:
            name = function.__qualname__
            if getattr(sys.modules.get(module), name, None) is function:
                return module, name
    return None, function


cpdef object perform(int how, object module, object function, object args, object options):
    """Does a task; what it raises is the task's."""
    if module is not None:
        found = sys.modules.get(module)
        function = getattr(import_module(module) if found is None else found, function)
    if how == CALL:
        return function(*args, **options) if options else function(*args)
    if how == EACH:
        return list(map(function, args))
    return [function(*each) for each in args]


class Pace:
    """How many tasks are to be on their way at a time: as many as are done in a hundredth of a second.

    So workers find trivial ones by the hundred, and nobody is woken for each; and long ones, whose arguments may be
    large, are sent few at a time.
    """

    SECONDS = 0.01
    WINDOW = 0.002  # that it is measured over, at least

    def __init__(self, least, most):
        self.depth = self.least = min(least, most)
        self.most = most
        self.since = time.monotonic()
        self.count = 0

    def done(self, count):
        """So many have come back."""
        self.count += count
        now = time.monotonic()
        took = now - self.since
        if took >= self.WINDOW:
            self.depth = min(max(int(self.count / took * self.SECONDS), self.least), self.most)
            self.since, self.count = now, 0

    def slow_down(self):
        """There is no memory for so many."""
        self.depth = max(1, self.depth // 2)


def how_it_ended(pid, exitcode):
    """Of a worker, in words."""
    if exitcode >= 0:
        return f"worker {pid} exited with status {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    return f"worker {pid} was killed by {name}"
