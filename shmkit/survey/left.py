"""What shared memory needs somebody's hand: leftovers, corrupt segments, parts whose holder has died."""

from __future__ import annotations

import os
from collections.abc import Iterator

from shmkit.sizes import format_size
from shmkit.survey.find import Survey
from shmkit.survey.leftovers import leftovers
from shmkit.survey.machine import Check, Finding, Machine

__all__ = ["CHECKS"]

# Of each sort, so many are named.
_MOST = 3


def _left(machine: Machine) -> Iterator[Finding]:
    survey = Survey()
    found = leftovers(survey)
    mine = [each for each in found if each.uid == os.geteuid()]
    if mine:
        text = f"{len(mine)} by the dead, {format_size(sum(each.size for each in mine))}"
        yield Finding("warning", "left behind", text, "shmkit gc")
    if len(found) > len(mine):
        others = len(found) - len(mine)
        yield Finding("note", "left behind", f"{others} of other users", "shmkit gc, as those users")
    gone = {each.address for each in found}
    dead, corrupt, older = [], [], []
    for each in survey.objects():
        if each.address in gone or each.uid != os.geteuid():
            continue
        if each.state == "corrupt":
            corrupt.append(each.address)
        elif each.state == "other version":
            older.append(each.address)
        elif each.dead:
            dead.append(f"{each.address} ({each.dead[0]})")
    if corrupt:
        yield Finding("warning", "corrupt", _names(corrupt), "shmkit inspect NAME, then shmkit rm NAME")
    if older:
        remedy = "the version of shmkit that made it; or shmkit rm NAME"
        yield Finding("note", "other versions", f"of another layout version: {_names(older)}", remedy)
    if dead:
        remedy = "a successor takes a ring's end over; the next to acquire a lock is told (OwnerDied)"
        yield Finding("note", "died at work", _names(dead), remedy)


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more


CHECKS: tuple[Check, ...] = (_left,)
