"""Remove shared memory by name.  Whoever has it mapped keeps it; nobody finds it any more.

Asks before each one, and says who still uses it.  What is not shmkit's is left alone unless --foreign is given.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import select
import signal
import sys
from typing import TYPE_CHECKING

from shmkit.cli.command import CommandError, words_of
from shmkit.errors import SegmentNotFound, ShmkitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shmkit.survey import SharedObject, Survey

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "remove shared memory by name"

EXAMPLES = """\
  shmkit rm camera0                asks first
  shmkit rm -f 'test-*'            all of shmkit's, without a question
  shmkit rm sysv:0x5eed            of System V, by its key
  shmkit rm --foreign psm_1a2b3c   of another program"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``shmkit rm``."""
    parser.add_argument("names", nargs="+", metavar="NAME", help="as shmkit ls shows it; * and ? stand for any letters")
    parser.add_argument("-f", "--force", action="store_true", help="ask nothing; a name that is not there is no error")
    parser.add_argument("--foreign", action="store_true", help="remove other programs' too")


def run(options: argparse.Namespace) -> int:
    """Remove; 1 if any of them was not."""
    from shmkit.survey import Survey

    survey = Survey()
    failed = False
    for name in options.names:
        for found in _named(survey, name, options):
            failed = (_complaint(found) if isinstance(found, Exception) else _remove_one(found, options)) or failed
    return 1 if failed else 0


def _remove_one(found: SharedObject, options: argparse.Namespace) -> bool:
    """Whether it failed."""
    try:
        _remove(found, options)
    except SegmentNotFound as error:
        return not options.force and _complaint(error)
    except BrokenPipeError:
        raise
    except (CommandError, ShmkitError, OSError) as error:
        return _complaint(error)
    return False


def _complaint(error: Exception) -> bool:
    print(f"shmkit: {words_of(error)}", file=sys.stderr)
    return True


def _named(survey: Survey, name: str, options: argparse.Namespace) -> Sequence[SharedObject | Exception]:
    from shmkit.survey.addresses import resolve

    try:
        return [resolve(survey, name)]
    except SegmentNotFound as error:
        if not any(letter in name for letter in "*?["):
            return [] if options.force else [error]
    found = [each for each in survey.objects() if fnmatch.fnmatchcase(each.address, name)]
    # A pattern means shmkit's, unless it is said otherwise; and what has no name cannot be meant.
    found = [each for each in found if (each.ours or options.foreign) and each.backing != "memfd"]
    if not found and not options.force:
        return [SegmentNotFound(f"nothing of shmkit's is called {name!r}")]
    return found


def _remove(found: SharedObject, options: argparse.Namespace) -> None:
    from shmkit.cli.words import clean

    address = clean(found.address)
    if found.backing == "memfd":
        raise CommandError(f"{address} has no name to be removed: it goes with the last process that has it")
    if not found.ours and not options.foreign:
        if os.geteuid() not in (0, found.uid):
            raise CommandError(f"{address} is user {found.uid}'s, and not this user's to remove")
        what = "not to be read, so it may be anybody's" if found.state == "unreadable" else "not shmkit's"
        raise CommandError(f"{address} is {what}: --foreign removes it all the same")
    if not options.force and not _agreed(found, address):
        print(f"kept {address}", file=sys.stderr)
        return
    _unlink(found)
    print(f"removed {address}{_still(found)}")


def _agreed(found: SharedObject, address: str) -> bool:
    if not sys.stdin.isatty():
        raise CommandError(f"{address} is not removed without a question, and nobody is there to answer: -f asks none")
    from shmkit.cli.words import short_size

    question = f"Remove {_kind(found)} {address} ({short_size(found.size)}){_still(found)}? [y/N] "
    print(question, end="", flush=True)
    _wait_for_an_answer()
    answer = sys.stdin.readline()
    if not answer:
        print()
    return answer.strip().lower() in ("y", "yes")


def _wait_for_an_answer() -> None:
    """Returns when a line can be read, or Ctrl-C was pressed: just before a read, that would not end the read."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write)
    try:
        select.select([sys.stdin, read], [], [])
    finally:
        signal.set_wakeup_fd(before)
        os.close(read)
        os.close(write)


def _kind(found: SharedObject) -> str:
    return "what is corrupt," if found.kind == "?" else found.kind


def _still(found: SharedObject) -> str:
    from shmkit.cli.words import clean

    if found.users:
        users = ", ".join(f"{user.pid} ({clean(user.command)})" for user in found.users[:5])
        more = f" and {len(found.users) - 5} more" if len(found.users) > 5 else ""
        return f", still in use by {users}{more}"
    if found.attached or found.leased:
        return ", still in use by processes that do not show it"
    return ""


def _unlink(found: SharedObject) -> None:
    """By the name that it was found by; not another one that has its name by now."""
    from shmkit.segment import file, sysv
    from shmkit.segment.trouble import explain

    if found.backing in ("posix", "file", "posix semaphore", "posix queue"):
        assert found.path is not None
        if found.backing != "posix queue":
            status = os.stat(found.path, follow_symlinks=False) if os.path.lexists(found.path) else None
            if status is None or (status.st_dev, status.st_ino) != (found.device, found.inode):
                raise SegmentNotFound(f"{found.address} has just gone")
        file.unlink_at(found.path, found.address)
        return
    assert found.id is not None
    if found.backing == "sysv":
        sysv.unlink_id(found.id, found.address, found.path)
        return
    import sysv_ipc

    remove = sysv_ipc.remove_semaphore if found.backing == "sysv semaphore" else sysv_ipc.remove_message_queue
    try:
        remove(found.id)
    except sysv_ipc.ExistentialError:
        raise SegmentNotFound(f"{found.address} has just gone") from None
    except sysv_ipc.PermissionsError:
        raise explain(PermissionError(1, ""), found.address) from None
