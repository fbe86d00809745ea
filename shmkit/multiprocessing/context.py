"""Contexts that make shmkit's classes: for each of the standard library's one, which shares its state.

There is one start method in a program.  ``set_start_method`` here sets the standard library's, and the other way round;
a spawned child, whose start method the standard library sets, has it here too.
"""

from __future__ import annotations

import multiprocessing.context as _theirs
import sys
from typing import Any

from shmkit._replaced import REPLACED
from shmkit.multiprocessing._same import attributes_of

__all__: list[str] = []

_get, __dir__ = attributes_of(_theirs)


class BaseContext(_theirs.BaseContext):
    """What makes locks, queues and their kin for one start method."""

    def get_context(self, method: str | None = None) -> Any:
        """This context, or that of a start method."""
        if method is None:
            return self
        theirs = super().get_context(method)
        return _ours(theirs)

    def Manager(self) -> Any:  # noqa: N802
        """A manager, whose server is another process, of objects that are shared."""
        from shmkit.multiprocessing.managers import SyncManager

        manager = SyncManager(ctx=self.get_context())
        manager.start()
        return manager


def _method(module: str, name: str) -> Any:
    original = getattr(_theirs.BaseContext, name)
    context = "context" if name == "Pool" else "ctx"
    whole = f"shmkit.multiprocessing.{module}"

    def make(self: BaseContext, *args: Any, **options: Any) -> Any:
        try:
            replacement = getattr(sys.modules[whole], name)
        except (KeyError, AttributeError):  # not there, or another thread is just importing it
            # As `from … import` does it, which takes no lock for what is there: before 3.11 importlib.import_module
            # does, and a child that is forked meanwhile waits for it for ever.
            replacement = getattr(__import__(whole, fromlist=(name,)), name)
        if isinstance(replacement, type):
            options[context] = self.get_context()
        return replacement(*args, **options)

    make.__name__ = name
    make.__qualname__ = f"BaseContext.{name}"
    make.__doc__ = original.__doc__
    make.__wrapped__ = original  # type: ignore[attr-defined]  # for inspect.signature
    return make


for _entry in REPLACED:
    if hasattr(_theirs.BaseContext, _entry.name):
        setattr(BaseContext, _entry.name, _method(_entry.module, _entry.name))

_twins: dict[str, Any] = {}
for _name, _context in _theirs._concrete_contexts.items():  # type: ignore[attr-defined]
    _kind = type(_context)
    _twin = type(_kind.__name__, (BaseContext, _kind), {"__module__": __name__, "__doc__": _kind.__doc__})
    globals()[_kind.__name__] = _twin
    _twins[_name] = _twin()


def _ours(theirs: Any) -> Any:
    """The twin of one of the standard library's contexts; a context of somebody else's as it is."""
    if theirs is None or theirs is not _theirs._concrete_contexts.get(theirs._name):  # type: ignore[attr-defined]
        return theirs
    # joblib's, say, which it adds to the standard library's when it is imported.
    return _twins.get(theirs._name, theirs)


def _of_theirs(ours: Any) -> Any:
    if ours is None or ours is not _twins.get(ours._name):
        return ours
    return _theirs._concrete_contexts[ours._name]  # type: ignore[attr-defined,union-attr]


class DefaultContext(BaseContext, _theirs.DefaultContext):
    """The context of whatever start method the program has."""

    def __init__(self) -> None:
        """Nothing: what start method there is, the standard library knows."""

    @property
    def _default_context(self) -> Any:
        return _ours(_theirs._default_context._default_context)  # type: ignore[attr-defined]

    @property
    def _actual_context(self) -> Any:
        return _ours(_theirs._default_context._actual_context)  # type: ignore[attr-defined]

    @_actual_context.setter
    def _actual_context(self, ours: Any) -> None:
        _theirs._default_context._actual_context = _of_theirs(ours)  # type: ignore[attr-defined]

    def get_context(self, method: str | None = None) -> Any:
        """The context in use, or that of a start method."""
        if method is None:
            return _theirs.DefaultContext.get_context(self)
        return BaseContext.get_context(self, method)


_default_context = DefaultContext()
_concrete_contexts = _twins


def __getattr__(name: str) -> Any:
    return _get(name)
