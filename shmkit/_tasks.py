"""What a task looks like on its way to a worker, and what the worker makes of it.

A function that has a name in a module travels as that name, which is what a pickle of it would say too, in a tenth of
the time.  Everything else is as it is put on a queue.
"""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from types import BuiltinFunctionType, FunctionType

TYPE_CHECKING = False  # a child that is spawned need not import typing
if TYPE_CHECKING:
    from typing import Any

__all__ = ["CALL", "EACH", "EACH_STAR", "how_it_ended", "perform", "refer"]

CALL = 0  # function(*args, **options)
EACH = 1  # [function(x) for x in args]
EACH_STAR = 2  # [function(*x) for x in args]


def refer(function: Any) -> tuple[str | None, Any]:
    """Module and name of a function or class; None and itself if it is not found by them."""
    kind = type(function)
    if kind is FunctionType or kind is BuiltinFunctionType or kind is type:
        module = function.__module__
        if type(module) is str:
            name = function.__qualname__
            if getattr(sys.modules.get(module), name, None) is function:
                return module, name
    return None, function


def perform(how: int, module: str | None, function: Any, args: Any, options: Any) -> Any:
    """Does a task; what it raises is the task's."""
    if module is not None:
        found = sys.modules.get(module)
        function = getattr(import_module(module) if found is None else found, function)
    if how == CALL:
        return function(*args, **options) if options else function(*args)
    if how == EACH:
        return list(map(function, args))
    return [function(*each) for each in args]


def how_it_ended(pid: int, exitcode: int) -> str:
    """Of a worker, in words."""
    if exitcode >= 0:
        return f"worker {pid} exited with status {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    return f"worker {pid} was killed by {name}"
