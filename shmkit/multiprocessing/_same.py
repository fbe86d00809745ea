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

    def get(name: str) -> Any:
        try:
            return getattr(module, name)
        except AttributeError:
            own = f"shmkit.{module.__name__}"
            raise AttributeError(f"module {own!r} has no attribute {name!r}", name=name) from None

    return get, lambda: dir(module)
