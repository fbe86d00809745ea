"""List the shared memory of this machine: who made it, who uses it, and who of those is dead.

Segments, arrays, rings and locks of shmkit, and what else there is: POSIX and System V shared memory, semaphores and
message queues of other programs.  Nothing is attached to, and nobody can tell.
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import gc
import json
import os
import sys
import time
from typing import TYPE_CHECKING

from shmkit.cli.command import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shmkit.cli.table import Cell, Column
    from shmkit.survey import SharedObject

__all__ = ["EXAMPLES", "HELP", "add_arguments", "note_on", "run"]

HELP = "list shared memory: who made it, who uses it, who is dead"

EXAMPLES = """\
  shmkit ls                        everything
  shmkit ls 'camera*'              by name
  shmkit ls --kind ring --mine     this user's rings
  shmkit ls --sort memory          what takes the most memory, first
  shmkit ls --json | jq '.objects[] | select(.dead != [])'"""

_SORTS: dict[str, Callable[[SharedObject], object]] = {
    "name": lambda found: found.address,
    "kind": lambda found: (_kind(found), found.address),
    "size": lambda found: -(_size(found) or 0),
    "memory": lambda found: -(found.resident or 0),
    "age": lambda found: found.created or found.changed,
    "creator": lambda found: (found.creator.pid or 0) if found.creator else 0,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``shmkit ls``."""
    parser.add_argument("patterns", nargs="*", metavar="NAME", help="only these; * and ? stand for any letters")
    parser.add_argument("--kind", action="append", metavar="KIND", help="only of this kind: array, ring, lock, raw, …")
    parser.add_argument("--mine", action="store_true", help="only what belongs to this user")
    parser.add_argument("--sort", choices=_SORTS, help="default: shmkit's first, by name")
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument("--json", action="store_true", help="as JSON, with everything that is known")


def run(options: argparse.Namespace) -> int:
    """List; 1 if a name was asked for that nothing has."""
    # What is found lives until the end, and thousands of objects would be looked through for garbage again and again.
    enabled = gc.isenabled()
    gc.disable()
    try:
        return _list(options)
    finally:
        if enabled:
            gc.enable()


def _list(options: argparse.Namespace) -> int:
    from shmkit.survey import SCHEMA, Survey

    found = list(Survey().objects())
    unmatched = _unmatched(options.patterns, found)
    chosen = _chosen(options, found)
    if options.json:
        print(json.dumps({"schema": SCHEMA, "objects": [each.as_json() for each in chosen]}, indent=2))
    elif chosen:
        _show(chosen)
    elif not options.patterns:
        print("No shared memory." if not found else f"None of {len(found)} shared objects is of that kind.")
    for pattern in unmatched:
        print(f"shmkit: nothing is called {pattern!r}", file=sys.stderr)
    return 1 if unmatched else 0


def _chosen(options: argparse.Namespace, found: Sequence[SharedObject]) -> list[SharedObject]:
    chosen = [each for each in found if not options.patterns or any(_matches(each, p) for p in options.patterns)]
    if options.mine:
        chosen = [each for each in chosen if each.uid == os.geteuid()]
    if options.kind:
        wanted = {word.lower() for words in options.kind for word in words.split(",") if word}
        known = _known_kinds()
        for word in sorted(wanted - known - {word for each in found for word in _kinds(each)}):
            raise CommandError(f"there is no kind {word!r}: one of {', '.join(sorted(known))}", usage=True)
        chosen = [each for each in chosen if wanted & _kinds(each)]
    if options.sort:
        chosen.sort(key=_SORTS[options.sort])  # type: ignore[arg-type]
    else:
        chosen.sort(key=lambda each: (not each.ours, each.backing == "memfd", each.address))
    return chosen[::-1] if options.reverse else chosen


def _matches(found: SharedObject, pattern: str) -> bool:
    names = [found.address, found.path or "", "" if found.name is None else str(found.name)]
    return any(name and fnmatch.fnmatchcase(name, pattern) for name in names)


def _unmatched(patterns: Sequence[str], found: Sequence[SharedObject]) -> list[str]:
    return [pattern for pattern in patterns if not any(_matches(each, pattern) for each in found)]


def _known_kinds() -> set[str]:
    from shmkit._fields import CELLS
    from shmkit.survey.kinds import FOREIGN, KINDS

    backings = {"posix", "sysv", "file", "memfd"}
    return {*KINDS, *FOREIGN, *(name.lower() for name in CELLS.values()), "atomic", *backings}


def _kinds(found: SharedObject) -> set[str]:
    """Every word that means this kind of thing."""
    words = {found.kind, found.backing, found.backing.split()[0]}
    primitive = found.details.facts.get("primitive")
    if isinstance(primitive, str):
        words |= {primitive.lower(), "atomic"} if primitive.startswith("Atomic") else {primitive.lower()}
    return words | {_kind(found)}


# ------------------------------------------------------------------------------------------------------------ a table


def _show(chosen: Sequence[SharedObject]) -> None:
    from shmkit.cli.table import show_table, width_of_terminal
    from shmkit.cli.words import short_size

    # Of many users, so many are named.
    most = 3 if (width_of_terminal() or 200) > 100 else 1
    show_table(_columns(), [_row(each, most) for each in chosen])
    if sys.stdout.isatty():
        resident = sum(each.resident or 0 for each in chosen)
        left = sum(_left(each) for each in chosen)
        line = f"{len(chosen)} object{'' if len(chosen) == 1 else 's'}, {short_size(resident)}"
        print(f"\n{line}{f'; {left} left behind (shmkit gc)' if left else ''}")


def _columns() -> list[Column]:
    from shmkit.cli.table import Column

    return [
        Column("NAME", least=11),
        Column("KIND"),
        Column("SIZE", right=True),
        Column("MEMORY", right=True, goes=2),
        Column("AGE", right=True, goes=3),
        Column("CREATOR", goes=1),
        Column("COMMAND", goes=5, least=8),
        Column("USED BY", goes=1),
        Column("BACKING", goes=6),
        Column("MODE", goes=7),
        Column("OWNER", goes=4),
        Column("NOTES", least=10),
    ]


def _row(found: SharedObject, most: int) -> list[Cell]:
    from shmkit.cli.table import Cell
    from shmkit.cli.words import age, clean, processes, short_size

    born = found.created or found.changed
    creator, creator_style = _creator(found)
    note, note_style = note_on(found)
    users = processes(found.users, most) or ("?" if not found.users_known and found.attached else "–")
    return [
        Cell(clean(found.address), "bold" if found.ours else ""),
        Cell(_kind(found), "cyan" if found.ours else "dim"),
        Cell(short_size(_size(found))),
        Cell(short_size(found.resident)),
        Cell(age(time.time() - born) if born else "–"),
        Cell(creator, creator_style),
        Cell(clean(found.creator.command or "") if found.creator else ""),
        Cell(users, "" if found.users else "dim"),
        Cell(found.backing, "dim"),
        Cell(f"{found.mode & 0o7777:04o}", "dim"),
        Cell(_user(found.uid), "dim"),
        Cell(clean(note), note_style),
    ]


def _kind(found: SharedObject) -> str:
    primitive = found.details.facts.get("primitive")
    if isinstance(found.details.facts.get("queue"), str):
        return "queue"
    return primitive.lower() if isinstance(primitive, str) else found.kind


def _size(found: SharedObject) -> int | None:
    """What can be used of it: a heap has addresses for many times that, and a ring begins with its counters."""
    facts = found.details.facts
    usable = facts.get("limit", facts.get("capacity") if found.kind == "ring" else None)
    return usable if isinstance(usable, int) else found.size


def _creator(found: SharedObject) -> tuple[str, str]:
    creator = found.creator
    if creator is None or creator.pid is None:
        return "–", "dim"
    return (f"{creator.pid} dead", "red") if creator.alive is False else (str(creator.pid), "")


def _left(found: SharedObject) -> bool:
    """Whether, by all signs, a collection would take it."""
    if found.state == "half made":
        return True
    return found.lifetime == "leased" and found.backing != "memfd" and found.leased is False and found.unused


def note_on(found: SharedObject) -> tuple[str, str]:
    """What is to be said of an object in a line, and how that looks: the worst first."""
    words = found.details.words
    primitive = found.details.facts.get("primitive")
    if isinstance(primitive, str):
        # That is its kind already.
        words = words.removeprefix(primitive).lstrip(", ")
    if _left(found):
        return "left behind (shmkit gc)", "red"
    if found.state == "unknown kind":
        return "of a kind that this version does not know", "yellow"
    if found.state in ("corrupt", "other version", "half made", "in the making"):
        return f"{found.state}{f': {found.trouble}' if found.trouble else ''}", "red"
    if found.dead:
        said = f"dead {found.dead[0]}" + (f" +{len(found.dead) - 1}" if len(found.dead) > 1 else "")
        return said if isinstance(primitive, str) else "; ".join(filter(None, [said, words])), "red"
    if found.state == "unreadable":
        return f"not to be read: {found.trouble}", "dim"
    return words, "" if found.ours else "dim"


# Each time the system would read its list of users anew.
@functools.cache
def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
