"""What ``shmkit run --stats`` says: what all processes of a program have counted, in a segment that they find by name.

Nothing is counted unless the program's environment says so, nor where that segment has gone: a process that outlives
the run goes on without.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from shmkit import _tally
from shmkit._replaced import REPLACED, STATISTICS
from shmkit.errors import ShmkitError

if TYPE_CHECKING:
    from shmkit.segment import Segment

__all__ = ["add", "enabled", "report", "start"]

NS = 1_000_000_000
MS = 1_000_000

# The words that _tally.pyx counts in; behind them one for the objects of each kind that were made.
MESSAGES, BYTES, COPIES, SPARED, WAITED_NS, IDLE_NS = range(_tally.RUN_WORDS)
_PLACES = {entry.name: place for place, entry in enumerate(REPLACED, _tally.RUN_WORDS)}
_SIZE = 8 * (_tally.RUN_WORDS + len(_PLACES))

_begun: list[Segment] = []  # by this process


def start() -> None:
    """Counts from now on, in this process and in those that it will start."""
    from shmkit.segment import Segment

    name = f"shmkit-run-{os.getpid()}-{os.urandom(4).hex()}"
    segment = Segment.create(name, _SIZE, lifetime="leased")
    _begun.append(segment)
    _tally.begin(segment.buf)
    os.environ[STATISTICS] = name


def _join(name: str) -> None:
    """Counts in what another process has started."""
    from shmkit.segment import Segment

    try:
        segment = Segment.attach(name)
    except (ShmkitError, OSError, ValueError):
        return  # the run has ended, or is somebody else's
    if segment.size >= _SIZE:
        _tally.begin(segment.buf)


def enabled() -> bool:
    """Whether anything is counted."""
    return _tally.is_on()


def add(name: str) -> None:
    """Counts an object of that kind."""
    _tally.add(_PLACES[name])


def report() -> str:
    """What was counted, a line for each thing that there was; who comes from now on finds nothing to count in."""
    counts = _tally.read()
    for segment in _begun:
        segment.unlink(missing_ok=True)
    _begun.clear()
    lines = []
    if counts[MESSAGES]:
        lines += [_line(counts[MESSAGES], "messages"), _line(counts[BYTES], "bytes in them")]
    if counts[COPIES]:
        lines += [
            _line(counts[COPIES], "copies saved: messages that stayed in shared memory, where a pipe copies once more"),
            _line(counts[SPARED], "bytes in those"),
        ]
    for word, what in (WAITED_NS, "s waited, all threads together"), (IDLE_NS, "s in which workers waited for tasks"):
        if counts[word] >= MS // 2:
            lines.append(f"{counts[word] / NS:>14,.3f} {what}")
    lines += [_line(counts[place], name) for name, place in _PLACES.items() if counts[place]]
    return "shmkit: accelerated, in all processes together:\n" + "\n".join(lines or ["    nothing"])


def _line(count: int, what: str) -> str:
    return f"{count:>14,} {what}"


if STATISTICS in os.environ:
    _join(os.environ[STATISTICS])
