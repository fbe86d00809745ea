"""Sizes as people write them: ``parse_size("64 MiB")`` is 67108864, ``format_size`` the way back.

KiB, MiB, GiB, TiB count in 1024s; kB, MB, GB, TB in 1000s.  Upper and lower case mean the same: there are no bits here.
"""

from __future__ import annotations

import operator
import re
from typing import SupportsIndex

__all__ = ["MOST", "format_size", "parse_size", "whole_number"]

# Sizes are added to offsets in signed 64-bit words; half of that range leaves room for any such sum.
MOST = 2**62

_BINARY = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_DECIMAL = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS = {"": 1, "b": 1} | {unit.lower(): factor for unit, factor in (_BINARY | _DECIMAL).items()}
# re.ASCII: int() would take the digits of other scripts, which nobody types on purpose.
_SIZE = re.compile(r"\s*(?P<sign>[+-]?)(?P<number>\d+(?:_\d+)*(?:\.\d+)?|\.\d+)\s*(?P<unit>[a-z]*)\s*", re.ASCII | re.I)


def parse_size(size: SupportsIndex | str) -> int:
    """The number of bytes that ``size`` says: a whole number, or text such as ``"512"``, ``"1.5 GiB"`` or ``"10 kB"``.

    Whatever says no whole number of bytes from 0 to 2**62 is a ``ValueError``; what is neither an integer nor text (a
    float, a bool, None) is a ``TypeError``.
    """
    if isinstance(size, str):
        nbytes = _parse_text(size)
    elif isinstance(size, bool):
        raise TypeError(f"a size is a whole number of bytes or text such as '64 MiB': got {size!r}, a bool")
    else:
        try:
            nbytes = operator.index(size)
        except TypeError:
            raise TypeError(
                f"a size is a whole number of bytes or text such as '64 MiB': got {size!r}, a {type(size).__name__}"
            ) from None
    if nbytes < 0:
        raise ValueError(f"a size must not be negative: got {size!r}")
    if nbytes > MOST:
        raise ValueError(f"a size must be at most 2**62 bytes: got {size!r}")
    return nbytes


def whole_number(value: SupportsIndex, what: str) -> int:
    """``value`` as an int; TypeError says ``what`` has to be a whole number (a float, text or a bool is none)."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{what} is a whole number: got {value!r}, a {type(value).__name__}") from None


def _parse_text(text: str) -> int:
    match = _SIZE.fullmatch(text)
    # Python itself refuses to convert thousands of digits, in words that say nothing of sizes.
    if match is None or len(text) > 1000:
        raise ValueError(f"a size is a number and a unit, such as '64 MiB': got {text!r}")
    factor = _UNITS.get(match["unit"].lower())
    if factor is None:
        known = ", ".join(["B", *_BINARY, *_DECIMAL])
        raise ValueError(f"a size's unit must be one of {known}: got {text!r}")
    # In whole numbers, since "0.1 MB" must be exactly 100000 bytes.
    whole, _, decimals = match["number"].replace("_", "").partition(".")
    scale: int = 10 ** len(decimals)
    nbytes, rest = divmod(int(whole + decimals) * factor, scale)
    if rest:
        raise ValueError(f"a size must be a whole number of bytes: got {text!r}")
    return -nbytes if match["sign"] == "-" else nbytes


def format_size(nbytes: int) -> str:
    """``nbytes`` as a person reads it, in binary units with at most one decimal: ``"512 B"``, ``"1.5 MiB"``."""
    sign, rest = ("-", -nbytes) if nbytes < 0 else ("", nbytes)
    if rest < 1024:
        return f"{sign}{rest} B"
    # Rounded before the unit is chosen: 1023.96 KiB must not read "1024 KiB".
    unit = next((unit for unit, factor in _BINARY.items() if rest * 10 + factor // 2 < 10240 * factor), "TiB")
    whole, tenth = divmod((rest * 10 + _BINARY[unit] // 2) // _BINARY[unit], 10)
    return f"{sign}{whole}.{tenth} {unit}" if tenth else f"{sign}{whole} {unit}"
