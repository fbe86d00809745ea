"""``multiprocessing``, with shmkit's classes where they are faster or outlive what the standard library's do not.

::

    from shmkit import multiprocessing as mp

It has every name of the standard library's package of the Python that runs, submodules included; what has no
counterpart in shmkit *is* the standard library's.  Start methods, processes and their state are shared with it.
"""

from __future__ import annotations

import multiprocessing as _theirs
from typing import Any

from shmkit.multiprocessing import _statistics as _statistics  # which counts from here on, if that is asked for
from shmkit.multiprocessing import context
from shmkit.multiprocessing import process as process
from shmkit.multiprocessing import reduction as reduction

__all__: list[str] = list(_theirs.__all__)

globals().update((name, getattr(context._default_context, name)) for name in __all__)


def __getattr__(name: str) -> Any:
    # What the package has beside its public names: SUBDEBUG, and submodules that somebody imported.
    if name in ("SUBDEBUG", "SUBWARNING"):
        return getattr(_theirs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
