"""What a class that is derived from one of the standard library's counts on, beyond what that one promises."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["counts_on"]

_found: WeakKeyDictionary[type, dict[type, bool]] = WeakKeyDictionary()


def counts_on(kind: type, theirs: type, names: frozenset[str]) -> bool:
    """Whether what ``kind`` adds to ``theirs`` and its module defines one of these names, or has one in its code."""
    answers = _found.setdefault(kind, {})
    if theirs not in answers:
        added = [one for one in kind.__mro__[: kind.__mro__.index(theirs)] if one.__module__ != theirs.__module__]
        answers[theirs] = any(not names.isdisjoint(_names_in(one)) for one in added)
    return answers[theirs]


def _names_in(kind: type) -> Iterator[str]:
    for name, value in vars(kind).items():
        yield name
        found: Any = value
        for wrapped in (found, *(getattr(found, part, None) for part in ("__func__", "fget", "fset", "func"))):
            if isinstance(wrapped, FunctionType):
                yield from _names_used(wrapped.__code__)


def _names_used(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_used(constant)
