"""``multiprocessing.sharedctypes``, whose locks are shmkit's where none is given; else the standard library's."""

from __future__ import annotations

import multiprocessing.sharedctypes as _theirs
from typing import Any

from shmkit.multiprocessing import context
from shmkit.multiprocessing._same import attributes_of

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

__getattr__, __dir__ = attributes_of(_theirs)

RawArray = _theirs.RawArray
RawValue = _theirs.RawValue
copy = _theirs.copy


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:  # noqa: N802
    """A ctypes object in shared memory, with a lock, unless that is False."""
    return _theirs.Value(typecode_or_type, *args, lock=lock, ctx=ctx or context._default_context.get_context())


def Array(typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: Any = None) -> Any:  # noqa: N802
    """A ctypes array in shared memory, with a lock, unless that is False."""
    ctx = ctx or context._default_context.get_context()
    return _theirs.Array(typecode_or_type, size_or_initializer, lock=lock, ctx=ctx)


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """A ctypes object with a lock."""
    return _theirs.synchronized(obj, lock, ctx or context._default_context.get_context())
