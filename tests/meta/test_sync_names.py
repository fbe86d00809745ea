"""Every ordered pair of atomic accesses has a name that stands at both its ends and in docs/memory-model.md.

``SYNC name: …`` is a comment above an access; a mention without the colon only refers to a pair.  An exchange, an
addition or a compare-and-swap is both a store and a load.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

from support import REPOSITORY
from support.sources import files, inside

MODEL = REPOSITORY / "docs" / "memory-model.md"
REACH = 8  # lines from a SYNC comment's first line to its access

PLACE = re.compile(r"\bSYNC ([a-z][a-z0-9-]*):")
MENTION = re.compile(r"\bSYNC ([a-z][a-z0-9-]*)")
ACCESS = re.compile(r"\b(load|store|exchange|add|cas)_(relaxed|acquire|release|seq)_u\d+\s*\(")
PARTNER = re.compile(r"pairs with (?P<what>.*?) in (?:\w+\.)?(?P<where>\w+)")
C_FUNCTION = re.compile(r"^(?![\s#/}])[^;=]*?\b(\w+)\s*\(")
CYTHON_FUNCTION = re.compile(r"^\s*(?:cdef|cpdef|def)\b[^(=]*?\b(\w+)\s*\(")


class Place(NamedTuple):
    """One end of a pair."""

    name: str
    file: Path
    line: int
    function: str
    access: str
    order: str
    partner: str

    def __str__(self) -> str:
        return f"{inside(self.file)}:{self.line}"


def read(path: Path) -> list[Place]:
    """The places of one file; ``access`` is empty where no atomic access follows."""
    function = CYTHON_FUNCTION if path.suffix == ".pyx" else C_FUNCTION
    lines = path.read_text().splitlines()
    current = ""
    places = []
    for index, line in enumerate(lines):
        if found := function.match(line):
            current = found[1]
        for name in PLACE.findall(line):
            following = "\n".join(lines[index : index + REACH])
            comment = " ".join(part.strip(" */#") for part in lines[index : index + 2])
            access = ACCESS.search(following)
            partner = PARTNER.search(comment[comment.index(f"SYNC {name}:") :])
            places.append(
                Place(
                    name,
                    path,
                    index + 1,
                    current,
                    access[1] if access else "",
                    access[2] if access else "",
                    partner["where"] if partner else "",
                )
            )
    return places


PLACES = [place for path in files(".h", ".pyx") for place in read(path)]
BY_NAME: dict[str, list[Place]] = defaultdict(list)
for place in PLACES:
    BY_NAME[place.name].append(place)


def rows() -> dict[str, list[str]]:
    """The table of docs/memory-model.md: name → its other cells."""
    found = {}
    lines = MODEL.read_text().splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        headings = re.match(r"\|[\s:]*-", below)
        if line.startswith("|") and not headings and re.fullmatch(r"`?[a-z][a-z0-9-]*`?", cells[0]):
            found[cells[0].strip("`")] = cells[1:]
    return found


def test_there_are_names() -> None:
    """The patterns above find what they look for."""
    assert len(BY_NAME) >= 5
    assert {"load", "store"} <= {place.access for place in PLACES}


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place}-{place.name}")
def test_a_name_stands_above_an_access(place: Place) -> None:
    """The comment is followed by the ordered atomic access that it speaks of; a relaxed one orders nothing."""
    assert place.access, f"{place}: no atomic access within {REACH} lines"
    assert place.order != "relaxed", f"{place}: a relaxed {place.access} pairs with nothing"


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_a_name_has_a_store_and_a_load(name: str) -> None:
    """Both ends are there, at two places."""
    stores = {(p.file, p.line) for p in BY_NAME[name] if p.access in ("store", "exchange", "add", "cas")}
    loads = {(p.file, p.line) for p in BY_NAME[name] if p.access in ("load", "exchange", "add", "cas")}
    where = ", ".join(map(str, BY_NAME[name]))
    assert stores, f"SYNC {name} has no store: {where}"
    assert loads, f"SYNC {name} has no load: {where}"
    assert len(stores | loads) >= 2, f"SYNC {name} has only one end: {where}"


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place}-{place.name}")
def test_the_partner_that_a_name_speaks_of_carries_it(place: Place) -> None:
    """`pairs with … in f`: f has a place of the same name."""
    assert place.partner, f"{place}: say 'pairs with <access> in <function>' on the comment's first line"
    functions = {other.function for other in BY_NAME[place.name]} - {place.function}
    assert place.partner in functions, (
        f"{place}: SYNC {place.name} does not stand in {place.partner}, but in {functions}"
    )


def test_every_mention_is_of_a_name() -> None:
    """`(SYNC name)` refers to a pair that exists."""
    for path in files(".h", ".pyx", ".pxd", ".py"):
        for name in MENTION.findall(path.read_text()):
            assert name in BY_NAME, f"{inside(path)} mentions SYNC {name}, which is no pair"


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_a_name_has_a_row_in_the_memory_model(name: str) -> None:
    """docs/memory-model.md says of it: store, load, what becomes visible, the test that breaks without it."""
    assert MODEL.exists(), "docs/memory-model.md is missing"
    row = rows().get(name)
    assert row is not None, f"docs/memory-model.md has no row for {name}"
    assert len(row) >= 4, f"the row of {name} lacks a cell: {row}"
    assert all(row[:4]), f"the row of {name} has an empty cell: {row}"


def test_the_memory_model_has_no_row_without_a_name() -> None:
    """What the code no longer does leaves the table."""
    assert MODEL.exists(), "docs/memory-model.md is missing"
    assert not set(rows()) - set(BY_NAME)
