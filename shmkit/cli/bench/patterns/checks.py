"""What marks a message and knows it again.  Compiled functions may take the place of these: they cost less."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["is_stamped", "same_bytes", "stamp", "use"]

Array = np.ndarray[Any, Any]


def stamp(array: Array, value: float) -> None:
    """Writes ``value`` to the first and the last item of a float64 array."""
    array[0] = array[-1] = value


def is_stamped(array: Array, value: float, items: int) -> bool:
    """Whether it is an array of so many float64, the first and the last of which are ``value``."""
    return bool(array.dtype == np.float64 and array.size == items and array[0] == value and array[-1] == value)


def same_bytes(one: Array, other: Array, size: int) -> bool:
    """Whether the first ``size`` bytes are the same."""
    return np.array_equal(one[:size], other[:size])


def use(compiled: Any) -> None:
    """Takes the three from this module instead."""
    globals().update({name: getattr(compiled, name) for name in ("stamp", "is_stamped", "same_bytes")})
