"""Modules of the drop-in that are the standard library's own, under another name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["attributes_of", "same"]


def same(name: str) -> ModuleType:
    """Has the module that is being imported, ``shmkit.multiprocessing.x``, be ``multiprocessing.x``."""
    module = importlib.import_module(name.removeprefix("shmkit."))
    sys.modules[name] = module
    return module


def attributes_of(module: ModuleType) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` for a module that has all that another one has, private names too."""

    absent = object()

    def get(name: str) -> Any:
        # Not by its AttributeError, which CPython 3.13.0 cannot make where the current folder has no path (chroot).
        if (found := getattr(module, name, absent)) is not absent:
            return found
        own = f"shmkit.{module.__name__}"
        raise AttributeError(f"module {own!r} has no attribute {name!r}", name=name)

    return get, lambda: dir(module)
