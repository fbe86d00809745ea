"""Draws the pictures of ``performance.md`` and writes ``choosing.md``, from the run that lies beside this file.

    shmkit bench --json docs/figures/run.json     measures: some minutes, alone on the machine
    python docs/figures/draw.py                   writes the rest

``make figures`` does both.  A test holds that the page is what this writes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from shmkit.cli.bench.report import Row, from_json, span, speed

HERE = Path(__file__).parent
PAGE = HERE.parent / "choosing.md"
SMALL, MIDDLE, LARGE = 8, 64 << 10, 1 << 20


class Kind(NamedTuple):
    """A mechanism in the reader's words; ``by`` is its name in a run."""

    name: str
    by: str
    limit: str
    kinship: str
    lives: str
    crash: str
    reboot: str
    machines: str
    order: str
    many: str


# Who else comes is refused, though the file's mode may let him in.
_OF_THIS_USER = "of this user, or root's"

KINDS = [
    Kind(
        "[`SharedArray`](howto/share-an-array.md)",
        "SharedArray by Queue",
        "memory",
        "any process of this user",
        "until its last user goes; with a name, until `unlink`",
        "the others keep it",
        "no (as a file: yes)",
        "no",
        "none: all see the same memory",
        "yes",
    ),
    Kind(
        "[`Ring`](howto/stream-frames.md), `ring://`",
        "shmkit.Ring",
        "the ring's capacity",
        "any process of this user",
        "until its last user goes; with a name, until `unlink`",
        "whole messages stay; `PeerDied`; a successor goes on",
        "no",
        "no",
        "first in, first out",
        "one sender, one receiver",
    ),
    Kind(
        "[`Queue`](queues.md)",
        "shmkit.Queue",
        "memory",
        "children; with a name, any process of this user",
        "until its last user goes; with a name, until `unlink`",
        "nothing that was put is lost; the others go on",
        "no",
        "no",
        "first in, first out, for each sender",
        "yes: each item to one",
    ),
    Kind(
        "[`Publisher`, `Subscriber`](topics.md)",
        "shmkit.Topic",
        "the topic's slot",
        "any process of this user",
        "until its last user goes; with a name, until `unlink`",
        "nobody notices a subscriber's; a new publisher goes on",
        "no",
        "no",
        "first in, first out; the slow lose the oldest",
        "one to many: each item to all",
    ),
    Kind(
        "`pipe:`",
        "pipe:",
        "none",
        "children",
        "until its ends are closed",
        "whole messages arrive; `PeerDied`",
        "no",
        "no",
        "first in, first out",
        "one sender, one receiver",
    ),
    Kind(
        "`fifo://`",
        "fifo://",
        "none; 4079 bytes with many writers",
        f"any process {_OF_THIS_USER}; others' with `mode=` and `trust=`",
        "until the receiver closes it",
        "whole messages arrive; `PeerDied`",
        "the file, not what is in it",
        "no",
        "first in, first out",
        "many senders, one receiver",
    ),
    Kind(
        "`unix://`",
        "unix://",
        "none",
        f"any process {_OF_THIS_USER}; others' with `mode=` and `users=`",
        "until the listener closes it",
        "whole messages arrive; `PeerDied`; a dead server's file is taken over",
        "no",
        "no",
        "first in, first out, both ways",
        "many clients, one server",
    ),
    Kind(
        "`unix://…?type=seqpacket`",
        "unix://, seqpacket",
        "the socket's buffer, 200 KiB or more",
        f"any process {_OF_THIS_USER}; others' with `mode=` and `users=`",
        "until the listener closes it",
        "the same",
        "no",
        "no",
        "first in, first out, both ways",
        "many clients, one server",
    ),
    Kind(
        "`tcp://`",
        "tcp://",
        "none",
        "whoever knows the key",
        "until the listener closes it",
        "whole messages arrive; `PeerDied`, if the machine lives",
        "no",
        "**yes**",
        "first in, first out, both ways",
        "many clients, one server",
    ),
    Kind(
        "`mq://`",
        "mq://",
        "8 KiB, unless root allows more",
        "any process of this user",
        "until the receiver closes it, or (`keep`) until it is unlinked",
        "what was sent waits for the next receiver",
        "no",
        "no",
        "by priority, then first in, first out",
        "many senders, one receiver",
    ),
    Kind(
        "`sysvmq://`",
        "sysvmq://",
        "8 KiB, unless root allows more",
        "any process of this user",
        "until the receiver closes it, or (`keep`) until it is removed",
        "what was sent waits for the next receiver",
        "no",
        "no",
        "first in, first out, for each type",
        "many senders; receivers by type",
    ),
    Kind(
        "`file://`",
        "file://",
        "the disk",
        f"any process {_OF_THIS_USER}; others' with `mode=` and `trust=`",
        "until it is removed",
        "whole records stay; the torn one is reported",
        "**yes**",
        "no (a shared disk will not do)",
        "as it was written; can be read again",
        "one writer, any number of readers",
    ),
    Kind(
        "[`Semaphore`, `Event`, …](locks.md)",
        "",
        "nothing but that it happened",
        "children; with a name, any process of this user",
        "with its last user; with a name, until `unlink`",
        "a dead holder is told (`OwnerDied`), or undone",
        "no",
        "no",
        "–",
        "yes",
    ),
    Kind(
        "[signals](signals-and-files.md)",
        "",
        "a number, and an integer with it",
        "any process of this user, by its id",
        "with its process",
        "–",
        "no",
        "no",
        "none; equal ones merge, unless queued",
        "many senders, one process",
    ),
    Kind(
        "[`EventCounter`](signals-and-files.md), an eventfd",
        "",
        "a number below 2⁶⁴ − 1",
        "children; whom it is sent to through a socket",
        "until the last that has it open closes it",
        "nobody notices",
        "no",
        "no",
        "none: what is added is summed up",
        "yes: who comes first takes all (`semaphore=True`: 1)",
    ),
    Kind(
        "[`FileLock`](signals-and-files.md)",
        "",
        "nothing but who has it",
        "any process that may write to the file",
        "while it is held; the file stays",
        "the kernel gives it to the next",
        "no (the file: yes)",
        "no",
        "–",
        "yes: one at a time, or many that share it",
    ),
    Kind(
        "[`memmap`](signals-and-files.md), an array that is a file",
        "",
        "the disk",
        "any process that may open the file",
        "until the file is removed",
        "what was stored stays, if only half of it",
        "**yes**, what `flush` was called after",
        "no (a shared disk will not do)",
        "none: all see the same memory",
        "yes",
    ),
    Kind(
        "`multiprocessing.Queue`",
        "mp.Queue",
        "memory",
        "children",
        "until its last user goes",
        "**may hang all others**",
        "no",
        "no",
        "first in, first out, for each sender",
        "yes: each item to one",
    ),
    Kind(
        "`multiprocessing.Pipe`",
        "mp.Pipe",
        "memory",
        "children",
        "until its ends are closed",
        "a torn message ends it",
        "no",
        "no (its `Client` and `Listener`: yes)",
        "first in, first out",
        "one sender, one receiver",
    ),
]


class Run:
    """A run, asked for single figures."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.rows = from_json(told)

    def row(self, name: str, pattern: str, size: int) -> Row | None:
        for row in self.rows:
            if (row.mechanism, row.pattern, row.size) == (name, pattern, size) and row.seconds is not None:
                return row
        return None

    def time(self, name: str, pattern: str, size: int) -> str:
        row = self.row(name, pattern, size)
        return "–" if row is None or row.seconds is None else span(row.seconds)

    def speed(self, name: str, size: int) -> str:
        row = self.row(name, "throughput", size)
        return "–" if row is None or row.seconds is None else speed(row.size / row.seconds)

    def calls(self, name: str) -> str:
        row = self.row(name, "round trip", SMALL)
        if row is None or row.calls is None:
            return "–"
        return "none" if row.calls < _HARDLY else f"{row.calls:.0f}" if row.calls >= 9.5 else f"{row.calls:.1f}"

    def cpu(self, name: str) -> str:
        whole = self.row(name, "throughput", LARGE)
        row = whole or self.row(name, "throughput", 1 << 10)
        if row is None:
            return "–"
        return span(row.cpu / row.size * (1 << 20)) + ("" if whole else " (messages of 1 KiB)")

    def ratio(self, one: str, other: str, pattern: str, size: int) -> str:
        """How many times longer ``one`` takes than ``other``."""
        a, b = self.row(one, pattern, size), self.row(other, pattern, size)
        if a is None or b is None or not a.seconds or not b.seconds:
            return "several"
        found = a.seconds / b.seconds
        return f"{found:.0f}" if found >= 9.5 else f"{found:.1f}"


# So many system calls per message are those of the first and the last of a lot.
_HARDLY = 0.25


def _table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join(
        ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(line) + " |" for line in lines)]
    )


def page(told: dict[str, Any]) -> str:
    """The page, as Markdown."""
    run = Run(told)
    speeds = [
        [
            kind.name,
            run.time(kind.by, "round trip", SMALL),
            run.time(kind.by, "throughput", SMALL),
            run.speed(kind.by, MIDDLE),
            run.speed(kind.by, LARGE),
            run.time(kind.by, "wake-up", SMALL),
            run.calls(kind.by),
            run.cpu(kind.by),
        ]
        for kind in KINDS
        if kind.by
    ]
    everything = [
        [
            kind.name,
            _in_a_word(run, kind.by) if kind.by else "–",
            kind.limit,
            kind.kinship,
            kind.lives,
            kind.crash,
            kind.reboot,
            kind.machines,
            kind.order,
            kind.many,
        ]
        for kind in KINDS
    ]
    facts = told["facts"]
    commit = f", commit {facts['commit']}" if facts.get("commit") else ""
    # As `shmkit bench` says it: others compete for the cores.
    disturbed = " Other programs ran meanwhile: they hold to much less." if told["load_before"] > 0.7 else ""
    return f"""\
<!-- Written by docs/figures/draw.py from docs/figures/run.json: `make figures` measures, and writes it anew. -->

# Choosing a mechanism

All of them have the same `send` and `recv` ([Channels](channels.md)), so a program can begin with one and change its mind. What speaks for
which:

- **Much data between two processes of one machine**: a [`Ring`](howto/stream-frames.md) (or `ring://`). An array of 1 MiB takes
  {run.ratio("unix://", "shmkit.Ring", "throughput", LARGE)} times as long through `unix://`, and \
{run.ratio("mp.Queue", "shmkit.Ring", "throughput", LARGE)} times as long through `multiprocessing.Queue`.
- **Objects, or several senders or receivers**: a [`Queue`](queues.md). Small messages go through it
  {run.ratio("mp.Queue", "shmkit.Queue", "throughput", SMALL)} times as fast as through `multiprocessing.Queue`.
- **The same thing, looked at by many**: a [`SharedArray`](howto/share-an-array.md). Handing it on costs
  {run.time("SharedArray by Queue", "throughput", LARGE)}, whatever its size.
- **One that tells, many that listen**, and nobody waits for the slow: a [topic](topics.md).
- **Requests and answers, clients that come and go**: `unix://`. It waits without using the processor, and \
`select` and event loops can wait for it.
- **Another machine**: `tcp://`. Nothing else gets there.
- **Something that has to be there after a reboot**, or is read again: `file://`.
- **Messages that wait for a program that is not running yet**, or that overtake by priority: `mq://`, `sysvmq://`.
- **Bytes as they are, to or from a shell script**: `shmkit.fifo` (what goes through `fifo://` is messages).
- **Only that something has happened**: [`Event`, `Semaphore`](locks.md), or a [signal](signals-and-files.md), if the other program is not
  yours.

## What each can do

{_table(["", "speed: 8 B to and fro; 1 MiB", "largest message", "who can be at the other end", "it lives", "when somebody is killed", "survives a reboot", "another machine", "order", "many to many"], everything)}

"None" is up to `max_message`, 1 GiB unless both ends are given more.

## How fast

{_table(["", "8 B to and fro", "8 B, one after the other", "arrays of 64 KiB", "of 1 MiB", "waking up a sleeper", "system calls, there and back", "processors, for 1 MiB"], speeds)}

Medians. "Waking up" is from the call to the return of a receiver that had been waiting for 2 ms. Where both sides answer at once, rings and
queues find each other still spinning; that is fast, and uses both processors meanwhile. Anything that sleeps costs what waking up costs.
The sender goes on working in Python, and the thread by which `multiprocessing.Queue` delivers has to wait for the interpreter: from a
sender that sleeps after `put` it takes some 0.1 ms, not {run.time("mp.Queue", "wake-up", SMALL)}. A segment that is created is reserved, unless it says otherwise, as `SharedMemory`
and a memfd are not: their pages cost the same when they are first written to.

![round trips and throughput over the size of a message: rings, queues, libraries](figures/libraries.png)

![the same for the kernel's mechanisms](figures/mechanisms.png)

![wake-ups, many to many, pools, creating and attaching](figures/others.png)

Measured on {told["machine"]}{commit}; rounds: {told["rounds"]}, in {told["seconds"] / 60:.0f} minutes. Only ratios within one run mean
anything, and those hold to a quarter.{disturbed} Yours:

```console
$ pip install 'shmkit[bench,peers]'
$ shmkit bench --plot bench.png
```
"""


def _in_a_word(run: Run, name: str) -> str:
    trip, stream = run.time(name, "round trip", SMALL), run.speed(name, LARGE)
    if trip == "–":
        trip = f"{run.time(name, 'round trip', 1 << 10)} (1 KiB)"
    return f"{trip}; {stream}"


def main() -> None:
    """Writes the page and the pictures."""
    from shmkit.cli.bench.picture import PARTS, draw

    told = json.loads((HERE / "run.json").read_text(encoding="utf-8"))
    PAGE.write_text(page(told), encoding="utf-8")
    for part in PARTS:
        draw(from_json(told), told["machine"], HERE / f"{part}.png", [part])
    print(f"{PAGE.name}, {', '.join(f'figures/{part}.png' for part in PARTS)}", file=sys.stderr)


if __name__ == "__main__":
    main()
