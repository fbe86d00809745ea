"""Options of channels: what each may be, by the same rule at either end, in an address or in a call.

A mechanism has a table of its options, each with one of the rules below: a call that gives the value as the mechanism
has it, or raises an error that says the rule.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from shmkit._modes import permissions
from shmkit.channel.url import Address
from shmkit.sizes import format_size, parse_size
from shmkit.waiting import seconds_of

__all__ = [
    "Rule",
    "Rules",
    "checked",
    "file_mode",
    "number",
    "number_or",
    "one_of",
    "seconds",
    "size",
    "users",
    "yes_no",
]

Rule = Callable[[Any], Any]
Rules = Mapping[str, Rule]
_WORDS = dict.fromkeys(("yes", "true", "1", "on"), True) | dict.fromkeys(("no", "false", "0", "off"), False)
# An option that is a secret is not shown.
_SECRET = "key"


def checked(address: Address, options: Mapping[str, Any], rules: Rules) -> dict[str, Any]:
    """What the options of an address, and those of a call, which come first, are; None is as if it were not given.

    ValueError and TypeError name the option, the address, the rule and the value.
    """
    found = {}
    for name in {**address.options, **options}:
        rule = rules.get(name)
        if rule is None:
            raise ValueError(f"{address.url!r} has no option {name!r}: there are {', '.join(sorted(rules))}")
        value = options.get(name)
        if value is None:
            value = address.options.get(name)
        if value is None:
            continue
        try:
            found[name] = rule(value)
        except (TypeError, ValueError) as error:
            where = address.url.partition("?")[0] if name == _SECRET else address.url
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"option {name!r} of {where!r}: {error}") from None
    return found


def _whole(value: Any, rule: str) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{rule}: got {value!r}")
    try:
        return int(value) if isinstance(value, str) else operator.index(value)
    except ValueError:
        raise ValueError(f"{rule}: got {value!r}") from None
    except TypeError:
        raise TypeError(f"{rule}: got {value!r}") from None


def number(least: int, most: int) -> Rule:
    """A whole number."""
    rule = f"it is a number from {least} to {most}"

    def take(value: Any) -> int:
        found = _whole(value, rule)
        if not least <= found <= most:
            raise ValueError(f"{rule}: got {value!r}")
        return found

    return take


def number_or(least: int, *words: str) -> Rule:
    """One of some words, or a whole number."""
    rule = f"it is {', '.join(map(repr, words))} or a number from {least}"

    def take(value: Any) -> int | str:
        if isinstance(value, str) and value in words:
            return value
        found = _whole(value, rule)
        if found < least:
            raise ValueError(f"{rule}: got {value!r}")
        return found

    return take


def size(least: int = 0, most: int = 2**62, *, power: bool = False) -> Rule:
    """So many bytes; a power of two, if it has to be."""

    def take(value: Any) -> int:
        found = parse_size(value)
        if not least <= found <= most:
            raise ValueError(f"it is a size from {format_size(least)} to {format_size(most)}: got {value!r}")
        if power and found & (found - 1):
            better = format_size(1 << found.bit_length())
            raise ValueError(f"it is a power of two: got {value!r}; the next is {better}")
        return found

    return take


def one_of(*words: str) -> Rule:
    """One of some words."""

    def take(value: Any) -> str:
        if value not in words:
            raise ValueError(f"it is {' or '.join(map(repr, words))}: got {value!r}")
        return str(value)

    return take


def yes_no(value: Any) -> bool:
    """A bool, or a word that says one."""
    if isinstance(value, bool):
        return value
    found = _WORDS.get(str(value).lower())
    if found is None:
        raise ValueError(f"it is yes or no: got {value!r}")
    return found


def seconds(value: Any) -> bool | float:
    """A bool, or a word that says one, or a time-out; of digits, a number of seconds."""
    rule = "it is yes, no, or a number of seconds from 0"
    if isinstance(value, bool):
        return value
    try:
        if isinstance(value, str):
            word = _WORDS.get(value.lower())
            if word is not None and not value.isdigit():
                return word
        number = float(value) if isinstance(value, str) else value
        found = seconds_of(number)
        if found is None or number < 0:
            raise ValueError
    except TypeError:
        raise TypeError(f"{rule}: got {value!r}") from None
    except ValueError:
        raise ValueError(f"{rule}: got {value!r}") from None
    return found


def file_mode(value: Any) -> int:
    """A file's mode: text is octal, as in ``chmod``."""
    rule = "a mode is a number from 0 to 0o777, as text in octal digits"
    try:
        return permissions(int(value, 8) if isinstance(value, str) else _whole(value, rule))
    except ValueError:
        raise ValueError(f"{rule}: got {value!r}") from None


def users(value: Any) -> tuple[int, ...]:
    """Numbers of users: several, or text with commas between them."""
    rule = "users are a list of numbers from 0 to 2**32 - 2, as text with commas between them"
    if not isinstance(value, Iterable) or isinstance(value, (bytes, bytearray)):
        raise TypeError(f"{rule}: got {value!r}")
    given = value.split(",") if isinstance(value, str) else list(value)
    try:
        found = tuple(_whole(user, rule) for user in given)
    except ValueError:
        found = (-1,)
    if not all(0 <= user < 2**32 - 1 for user in found):
        raise ValueError(f"{rule}: got {value!r}")
    return found
