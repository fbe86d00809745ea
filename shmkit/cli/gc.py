"""Remove what dead processes left behind, and nothing else; says what, and why.

That is leased memory whose users have all died, segments that were never finished, and the leases of segments that are
gone.  What has a name of its own and no lease lives until somebody removes it (shmkit rm), whoever is dead.  Every
program that makes a segment does the same now and then, so there is rarely much to be found.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from shmkit.cli.command import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shmkit.survey import Leftover

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "remove what dead processes left behind"

EXAMPLES = """\
  shmkit gc --dry-run              what would go, and why
  shmkit gc                        remove it
  shmkit gc --folder /data/cache   among the files of another folder"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``shmkit gc``."""
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    parser.add_argument("--folder", metavar="DIR", help="look in this folder (default: /dev/shm and System V)")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(options: argparse.Namespace) -> int:
    """Collect; 1 if something is left that should have gone."""
    from shmkit.segment import collect, posix
    from shmkit.survey import SCHEMA, Leftover, leftovers

    folder = posix.FOLDER if options.folder is None else os.path.abspath(options.folder)
    if not os.path.isdir(folder):
        raise CommandError(f"there is no folder {folder!r}")
    found = leftovers(folder=folder)
    mine = [each for each in found if each.uid == os.geteuid()]
    others = [each for each in found if each.uid != os.geteuid()]
    if options.dry_run:
        removed = []
    else:
        labels = collect(folder)
        known = {each.label: each for each in found}
        removed = [
            known.get(label) or Leftover(_address(label), label, os.geteuid(), 0, "its last user has just died")
            for label in labels
        ]
    gone = {each.label for each in removed}
    kept = [] if options.dry_run else [each for each in mine if each.label not in gone and os.path.lexists(each.label)]
    if options.json:
        lists = {"found": found, "removed": removed, "kept": kept}
        plain = {name: [each._asdict() for each in each_list] for name, each_list in lists.items()}
        print(json.dumps({"schema": SCHEMA, "dry_run": options.dry_run, **plain}, indent=2))
    else:
        _say(options.dry_run, mine if options.dry_run else removed, others, kept)
    return 1 if kept else 0


def _address(label: str) -> str:
    return label.rpartition("/")[2] if label.startswith("/") else label


def _say(dry_run: bool, gone: Sequence[Leftover], others: Sequence[Leftover], kept: Sequence[Leftover]) -> None:
    from shmkit.cli.words import clean, short_size

    verb = "would remove" if dry_run else "removed"
    for each in gone:
        print(f"{verb} {clean(each.address)} ({short_size(each.size)}): {each.why}")
    for each in kept:
        print(f"could not remove {clean(each.address)}: somebody has just begun to use it, or its folder forbids it")
    for each in others:
        print(f"left {clean(each.address)} ({short_size(each.size)}) to user {each.uid}, whose it is: {each.why}")
    total = sum(each.size for each in gone)
    if gone:
        print(f"{len(gone)} object{'' if len(gone) == 1 else 's'}, {short_size(total)}")
    elif not others:
        print("The dead left nothing.")
