"""Primitives, looked into: whether a lock is held and by whom, and whether that process lives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmkit import _fields
from shmkit.survey.details import Details
from shmkit.survey.reading import number_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmkit.survey.heading import Heading
    from shmkit.survey.reading import Reading

__all__ = ["details", "holder_of"]

# Cells of anonymous primitives stand on multiples of this.
_UNIT = _fields.LOCK_SIZE
# What of a segment of primitives is looked through for cells, in bytes.
_MOST = 2**20

_Cell = tuple[str, dict[str, Any], tuple[str, ...]]


def details(reading: Reading, heading: Heading) -> Details:
    """The primitive that the segment was made for, or every cell that stands in it."""
    assert heading.header is not None
    at, size = heading.header.header_size, heading.header.payload_size
    primitive = heading.meta.get("primitive")
    if isinstance(primitive, str) and primitive.startswith("Atomic"):
        return _atomic(reading.read(at, 8), primitive)
    found = list(_cells(reading, at, size, first_only=isinstance(primitive, str)))
    facts: dict[str, Any] = {"primitive": primitive if isinstance(primitive, str) else None}
    facts["cells"] = [cell for _, cell, _ in found]
    dead = tuple(who for _, _, whose in found for who in whose)
    if isinstance(primitive, str) and found:
        return Details(f"{primitive}, {found[0][0]}", facts, dead)
    return Details(f"{len(found)} primitive{'' if len(found) == 1 else 's'}", facts, dead)


def _atomic(raw: bytes, primitive: str) -> Details:
    if primitive == "AtomicArray" or len(raw) < 8:
        return Details(primitive, {"primitive": primitive, "cells": []})
    value = int.from_bytes(raw, "little", signed=primitive == "AtomicInt64")
    if primitive == "AtomicFlag":
        value = int.from_bytes(raw[:4], "little")
    return Details(f"{primitive}, {value}", {"primitive": primitive, "value": value, "cells": []})


def _cells(reading: Reading, start: int, size: int, first_only: bool) -> list[_Cell]:
    raw = reading.read(start, min(size, _MOST))
    found = []
    at = 0
    while at + 8 <= len(raw):
        name = _fields.CELLS.get(int.from_bytes(raw[at : at + 4], "little"))
        room = _UNIT
        if name is not None:
            words, facts, dead, room = _LOOKS[name](reading, raw, at, start)
            found.append((words, {"at": at, "cell": name, "state": words, **facts}, dead))
            room = -(-room // _UNIT) * _UNIT
        if first_only:
            break
        at += room
    return found


# ------------------------------------------------------------------------------------- each: words, facts, dead, room

_Look = tuple[str, dict[str, Any], tuple[str, ...], int]


def holder_of(reading: Reading, word: int, where: int) -> tuple[int, bool | None]:
    """The pid of the member that the word at ``where`` names, and whether it lives."""
    member = _fields.member_of(word)
    alive = reading.ask(_fields.MEMBER_BYTES + member)
    # It may have let go in order, and ended, between the look and the question.
    if alive is False and int.from_bytes(reading.read(where, 8), "little") != word:
        alive = True
    return _fields.pid_of(member), alive


def _held(reading: Reading, word: int, where: int, how: str) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    pid, alive = holder_of(reading, word, where)
    facts = {"holder": pid, "holder_alive": alive}
    if alive is False:
        return f"{how} by {pid}, which has died", facts, (f"holder {pid}",)
    return f"{how} by {pid}", facts, ()


def _lock(reading: Reading, raw: bytes, at: int, start: int) -> _Look:
    word = number_at(raw, _fields.LOCK["word"], at)
    facts: dict[str, Any] = {
        "recovers": number_at(raw, _fields.LOCK["policy"], at) == _fields.POLICY_SILENT,
        "waiters": bool(number_at(raw, _fields.LOCK["gate"], at) & _fields.GATE_SLEEPER),
        "depth": number_at(raw, _fields.LOCK["depth"], at),
    }
    words = "free"
    dead: tuple[str, ...] = ()
    if word == _fields.WORD_LOST:
        words = "lost: an heir released it without recovering it"
    elif word:
        how = "held, inconsistent," if word & 3 == _fields.WORD_INCONSISTENT else "held"
        words, more, dead = _held(reading, word, start + at + _fields.LOCK["word"][0], how)
        facts |= more
    return words, facts, dead, _fields.LOCK_SIZE


def _semaphore(reading: Reading, raw: bytes, at: int, start: int) -> _Look:
    maximum = number_at(raw, _fields.SEMAPHORE["maximum"], at)
    owners = min(number_at(raw, _fields.SEMAPHORE["owners"], at), _fields.OWNERS_LIMIT)
    facts: dict[str, Any] = {
        "waiters": bool(number_at(raw, _fields.SEMAPHORE["gate"], at) & _fields.GATE_SLEEPER),
        "undo": bool(owners),
    }
    if number_at(raw, _fields.SEMAPHORE["policy"], at) & _fields.SEMAPHORE_IS_BOUNDED:
        facts["maximum"] = maximum
    size = _fields.SEMAPHORE_SIZE + 8 * owners
    if not owners:
        facts["value"] = number_at(raw, _fields.SEMAPHORE["value"], at)
        return f"value {facts['value']}", facts, (), size
    places = [at + _fields.SEMAPHORE_SIZE + 8 * each for each in range(owners)]
    words = [(place, number_at(raw, (place, 8))) for place in places]
    holders = [holder_of(reading, word, start + place) for place, word in words if word]
    facts |= {"value": owners - len(holders), "holders": [pid for pid, _ in holders]}
    dead = tuple(f"holder {pid}" for pid, alive in holders if alive is False)
    return f"value {facts['value']} of {owners}", facts, dead, size


def _event(reading: Reading, raw: bytes, at: int, start: int) -> _Look:
    word = number_at(raw, _fields.EVENT["word"], at)
    waiters = bool(number_at(raw, _fields.EVENT["gate"], at) & _fields.GATE_SLEEPER)
    facts = {"set": bool(word & 1), "times_set": word >> 1, "waiters": waiters}
    return "set" if word & 1 else "not set", facts, (), _fields.EVENT_SIZE


def _condition(reading: Reading, raw: bytes, at: int, start: int) -> _Look:
    first = _fields.CONDITION["waiter"][0]
    size = _fields.CONDITION["waiter"][1]
    places = range(at + first, at + first + size, _fields.WAITER_SIZE)
    words = [(place, number_at(raw, (place, 8))) for place in places]
    waiting = [holder_of(reading, word, start + place) for place, word in words if word > 3]
    dead = tuple(f"waiter {pid}" for pid, alive in waiting if alive is False)
    facts = {"waiting": [pid for pid, _ in waiting], "tickets": number_at(raw, _fields.CONDITION["tickets"], at)}
    return f"{len(waiting)} waiting", facts, dead, _fields.CONDITION_SIZE


def _rwlock(reading: Reading, raw: bytes, at: int, start: int) -> _Look:
    word = number_at(raw, _fields.RWLOCK["word"], at)
    first, size = _fields.RWLOCK["reader"]
    readers: list[int] = []
    dead: list[str] = []
    for place in range(at + first, at + first + size, _fields.READER_SIZE):
        owner, counts = number_at(raw, (place, 8)), number_at(raw, (place + 8, 8))
        if owner and owner & 3 == 0 and counts & 0xFFFF:
            pid, alive = holder_of(reading, owner, start + place)
            if alive is False:
                dead.append(f"reader {pid}")
            else:
                readers.append(pid)
    facts: dict[str, Any] = {
        "readers": readers,
        "waiters": bool(
            (number_at(raw, _fields.RWLOCK["reads"], at) | number_at(raw, _fields.RWLOCK["writes"], at))
            & _fields.GATE_SLEEPER
        ),
    }
    words = f"held for reading by {', '.join(map(str, readers))}" if readers else "free"
    if word == _fields.WORD_LOST:
        words = "lost: an heir released it without recovering it"
    elif word and word & 3 == _fields.WORD_CLAIMED:
        # Who claims it and dies has left nothing half done.
        facts["claimed_by"] = _fields.pid_of(_fields.member_of(word))
    elif word:
        how = "held, inconsistent, for writing" if word & 3 == _fields.WORD_INCONSISTENT else "held for writing"
        words, more, whose = _held(reading, word, start + at + _fields.RWLOCK["word"][0], how)
        facts |= more
        dead += whose
    return words, facts, tuple(dead), _fields.RWLOCK_SIZE


def _barrier(reading: Reading, raw: bytes, at: int, start: int) -> _Look:
    parties = number_at(raw, _fields.BARRIER["parties"], at)
    room = _fields.BARRIER_SIZE + 2 * min(parties, _fields.PARTIES_LIMIT) * (_fields.PLACE_SIZE + 8)
    waiting: list[int] = []
    dead: list[str] = []
    for place in range(2 * min(parties, _fields.PARTIES_LIMIT)):
        where = at + _fields.BARRIER_SIZE + place * _fields.PLACE_SIZE
        word = number_at(raw, (where, 8))
        if word & 3 == 1:
            pid, alive = holder_of(reading, word, start + where)
            waiting.append(pid)
            if alive is False:
                dead.append(f"waiter {pid}")
    facts = {"parties": parties, "waiting": waiting, "broken": bool(number_at(raw, _fields.BARRIER["state"], at))}
    words = f"{len(waiting)} of {parties} waiting"
    if facts["broken"]:
        why = number_at(raw, _fields.BARRIER["why"], at)
        words = f"broken: {_fields.WHY_BROKEN.get(why, 'nobody knows why')}"
        facts["why"] = _fields.WHY_BROKEN.get(why)
    return words, facts, tuple(dead), room


_LOOKS: dict[str, Callable[[Reading, bytes, int, int], _Look]] = {
    "Lock": _lock,
    "RLock": _lock,
    "Semaphore": _semaphore,
    "Event": _event,
    "Condition": _condition,
    "RWLock": _rwlock,
    "Barrier": _barrier,
}
