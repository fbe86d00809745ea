"""The processes of a pipeline: started together, asked how they are, and ended together, whatever happens."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from shmkit.cli.command import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.context import DefaultContext
    from multiprocessing.process import BaseProcess
    from types import FrameType

    from typing_extensions import Self

__all__ = ["PATIENCE", "Crew", "Member"]

# How long to wait for something before asking whether the others live, in seconds.
PATIENCE = 0.2

# How long processes that ought to end have to do so before they are killed, in seconds.
GRACE = 2.0


@dataclass(frozen=True)
class Member:
    """One process, and the connection that is its first argument."""

    name: str
    process: BaseProcess
    control: Connection


class Crew:
    """A context manager; at its end no process is left.

    Meanwhile Ctrl-C is noted and answered by ``check``: an exception that comes in the middle of anything could be
    swallowed (by the callback of a weak reference), or leave something half made.
    """

    def __init__(self, context: DefaultContext) -> None:
        self.members: list[Member] = []
        self._context = context
        self._interrupted = False
        self._finished = False

    def __enter__(self) -> Self:
        self._handler = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        deadline = time.monotonic() + GRACE
        for member in self.members:
            if self._finished:
                member.process.join(max(0.0, deadline - time.monotonic()))
            # Nothing that a member owns outlives it, so there is nothing that it need be asked to tidy up.
            member.process.kill()
            member.process.join()
            member.process.close()
            member.control.close()
        self.members.clear()
        signal.signal(signal.SIGINT, self._handler)
        if self._interrupted:
            raise KeyboardInterrupt

    def start(self, name: str, target: Callable[..., None], *arguments: object) -> None:
        """Start ``target(control, *arguments)`` in a process that Ctrl-C does not reach."""
        if self._context.get_start_method() != "fork":
            # Were it started together with the process, it would let Ctrl-C through to that.
            resource_tracker.ensure_running()
        ours, theirs = self._context.Pipe()
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process = self._context.Process(target=target, args=(theirs, *arguments), name=name, daemon=True)
            process.start()
            self.members.append(Member(name, process, ours))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
            theirs.close()

    def tell(self, words: str) -> None:
        """Say something to everybody."""
        for member in self.members:
            member.control.send(words)

    def hear(self) -> list[Any]:
        """What everybody has to say next, in the order in which they were started."""
        return [self._hear(member) for member in self.members]

    def check(self) -> None:
        """Raise CommandError when a process has died, KeyboardInterrupt when Ctrl-C was pressed."""
        if self._interrupted:
            raise KeyboardInterrupt
        if any(member.process.exitcode for member in self.members):
            raise self.obituary()

    def obituary(self) -> CommandError:
        """Who died first: the one that a signal killed, for a neighbour's end lets the others end in an orderly way."""
        deadline = time.monotonic() + GRACE
        while True:
            for member in self.members:
                if (code := member.process.exitcode) is not None and code < 0:
                    return _end_of(member, f"was killed by {signal.Signals(-code).name}")
            living = [member.process.sentinel for member in self.members if member.process.exitcode is None]
            if not living or not wait(living, deadline - time.monotonic()):
                break
        for member in self.members:
            if member.process.exitcode:
                return _end_of(member, f"ended with status {member.process.exitcode}")
        return CommandError("a process of the demo left before the stream ended")

    def dismiss(self) -> None:
        """Everybody has done everything, and may end in peace."""
        self._finished = True

    def _hear(self, member: Member) -> Any:
        while True:
            self.check()
            if member.control.poll(PATIENCE):
                return member.control.recv()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True


def _end_of(member: Member, how: str) -> CommandError:
    return CommandError(f"the demo's {member.name} (process {member.process.pid}) {how}; the others were stopped")
