"""What a class that is derived from one of the standard library's counts on, beyond what that one promises."""

from __future__ import annotations

from collections.abc import Iterator
from types import CellType, CodeType, FunctionType
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["calls_by_name", "counts_on"]

_found: WeakKeyDictionary[type, dict[type, bool]] = WeakKeyDictionary()
_by_name: WeakKeyDictionary[type, dict[type, bool]] = WeakKeyDictionary()


def counts_on(kind: type, theirs: type, names: frozenset[str]) -> bool:
    """Whether what ``kind`` adds to ``theirs`` and its module defines one of these names, or has one in its code."""
    answers = _found.setdefault(kind, {})
    if theirs not in answers:
        answers[theirs] = any(not names.isdisjoint(_names_in(one)) for one in _added(kind, theirs))
    return answers[theirs]


def calls_by_name(kind: type, theirs: type, ours: type) -> bool:
    """Whether ``kind`` may call by the name of ``theirs`` what ``ours`` does otherwise: ``Queue.put(self, …)``.

    That would end in the standard library's, whose inside is not there; ``super().put(…)`` does not.  ``__init__``,
    which is replaced, does not matter.
    """
    answers = _by_name.setdefault(kind, {})
    if theirs not in answers:
        added = _added(kind, theirs)
        bases = [one for one in kind.__mro__[:-1] if one not in added]
        functions = [made for one in added for made in _functions_in(one)]
        answers[theirs] = any(_names_one_of(bases, made) and _calls(made, theirs, ours) for made in functions)
    return answers[theirs]


def _names_one_of(classes: list[type], function: FunctionType) -> bool:
    names = set(_names_used(function.__code__))
    seen = [function.__globals__.get(name) for name in names] + [_content(cell) for cell in function.__closure__ or ()]
    return any(one.__name__ in names or any(one is value for value in seen) for one in classes)


def _calls(function: FunctionType, theirs: type, ours: type) -> bool:
    """Whether it has the name of anything that is not the same in both."""
    names = set(_names_used(function.__code__)) - {"__init__"}
    return any(getattr(theirs, name, None) is not getattr(ours, name, None) for name in names)


def _added(kind: type, theirs: type) -> list[type]:
    return [one for one in kind.__mro__[: kind.__mro__.index(theirs)] if one.__module__ != theirs.__module__]


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing yet
        return None


def _functions_in(kind: type) -> Iterator[FunctionType]:
    for value in vars(kind).values():
        found: Any = value
        for wrapped in (found, *(getattr(found, part, None) for part in ("__func__", "fget", "fset", "func"))):
            if isinstance(wrapped, FunctionType):
                yield wrapped


def _names_in(kind: type) -> Iterator[str]:
    yield from vars(kind)
    for function in _functions_in(kind):
        yield from _names_used(function.__code__)


def _names_used(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_used(constant)
