"""Programs on a terminal: a pty of a stated size, what they wrote on it, and keys."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from .processes import die_with_parent

if TYPE_CHECKING:
    from typing_extensions import Self

# What moves the cursor, clears, colours, and switches screens.
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>78]")


def without_escapes(text: str) -> str:
    """The letters alone."""
    return _ESCAPES.sub("", text)


class Terminal:
    """A program with a terminal of its own, which is killed and reaped when this ends."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        columns: int = 80,
        lines: int = 24,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.written = ""
        self._status: int | None = None
        self._undecoded = b""
        environment = {**os.environ, "TERM": "xterm-256color", **(env or {})}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            if name not in (env or {}):
                environment.pop(name, None)
        self._fd, inner = os.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.pid = os.fork()
        if self.pid == 0:
            try:
                die_with_parent()
                os.close(self._fd)
                os.login_tty(inner) if hasattr(os, "login_tty") else _login(inner)
                os.execvpe(str(argv[0]), [str(word) for word in argv], environment)
            finally:
                os._exit(127)
        os.close(inner)

    def read(self, until: Callable[[str], object] | None = None, watchdog: float = 30.0) -> str:
        """What was written so far; until ``until(text)`` is true of it, or the program has ended."""
        give_up = time.monotonic() + watchdog
        while not (until is not None and until(self.written)):
            if time.monotonic() > give_up:
                raise AssertionError(f"it never wrote that; it wrote {self.written[-2000:]!r}")
            if not select.select([self._fd], [], [], 0.1)[0]:
                continue
            try:
                piece = os.read(self._fd, 65536)
            except OSError:
                # The other side of the terminal is closed.
                piece = b""
            if not piece:
                break
            self._undecoded += piece
            text = self._undecoded.decode(errors="ignore")
            if text.encode() == self._undecoded:
                self.written += text
                self._undecoded = b""
        return self.written

    def press(self, keys: str) -> None:
        """Types."""
        os.write(self._fd, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """The window changes its size."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        os.kill(self.pid, signal.SIGWINCH)

    def modes(self) -> list[object]:
        """The modes of the terminal."""
        return list(termios.tcgetattr(self._fd))

    def wait(self) -> int:
        """The exit status, once all has been read; negative: the signal that ended it."""
        self.read()
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status

    def end(self) -> None:
        """Kills it, if it still runs."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._status = -signal.SIGKILL
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()


def _login(inner: int) -> None:
    os.setsid()
    fcntl.ioctl(inner, termios.TIOCSCTTY, 0)
    for number in (0, 1, 2):
        os.dup2(inner, number)
    if inner > 2:
        os.close(inner)
