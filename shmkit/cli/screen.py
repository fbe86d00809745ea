"""A screen that is drawn again and again, and keys that are read one at a time; with rich, or without.

The terminal is given back as it was, however this ends.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import sys
import termios
import tty
from typing import TYPE_CHECKING, Any

from shmkit.cli.table import Cell, Column, format_table, rich_table, use_rich

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

__all__ = ["Screen"]

_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_SEQUENCES = re.compile(r"\x1b(?:\[[0-9;]*[A-Za-z~]|O.|.)?", re.DOTALL)
_HOME, _LINE_END, _BELOW = "\x1b[H", "\x1b[K", "\x1b[J"

Table = tuple["Sequence[Column]", "Sequence[Sequence[Cell]]"]


class Screen:
    """Standard output as a screen, standard input as keys; both are terminals."""

    def __init__(self) -> None:
        self._before: list[Any] = []
        self._keys: list[str] = []
        self._live: Any = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(sys.stdin.fileno())
        # Told to go, by whomever: the terminal comes first.
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, _leave)
        # After Ctrl-Z and fg: the shell has given the terminal back as it found it.
        self._handlers[signal.SIGCONT] = signal.signal(signal.SIGCONT, self._resume)
        # Wakes the wait for a key, so that the new size is seen.
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, lambda *_: None)
        try:
            self._take()
            if use_rich():
                from rich.console import Console
                from rich.live import Live

                self._live = Live(
                    console=Console(),
                    screen=True,
                    auto_refresh=False,
                    redirect_stdout=False,
                    redirect_stderr=False,
                )
                self._live.start()
            else:
                self._write(_ENTER)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._live is not None:
                self._live.stop()
            else:
                self._write(_LEAVE)
        finally:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, now."""
        size = shutil.get_terminal_size()
        return size.columns, size.lines

    def show(self, title: str, table: Table | None, note: str, help_line: str) -> None:
        """Draws it all anew."""
        width, height = self.size
        if self._live is not None:
            self._show_rich(title, table, note, help_line, width, height)
            return
        lines = [title[:width], ""]
        if table is not None:
            lines += [line[:width] for line in format_table(*table, width).splitlines()]
        lines += [note[:width]] if note else []
        lines = lines[: height - 1]
        lines += [""] * (height - 1 - len(lines)) + [help_line[: width - 1]]
        self._write(_HOME + f"{_LINE_END}\n".join(lines) + _LINE_END + _BELOW)

    def _show_rich(self, title: str, table: Table | None, note: str, help_line: str, width: int, height: int) -> None:
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = [Text(title, style="bold", no_wrap=True, overflow="ellipsis"), Text("")]
        used = 2
        if table is not None:
            parts.append(rich_table(*table, width))
            used += len(table[1]) + 1
        if note:
            parts.append(Text(note, no_wrap=True, overflow="ellipsis"))
            used += 1
        parts += [Text("")] * max(height - 1 - used, 0)
        parts.append(Text(help_line, style="dim", no_wrap=True, overflow="ellipsis"))
        self._live.update(Group(*parts), refresh=True)

    def key(self, timeout: float) -> str:
        """The next key; empty if none was pressed in so many seconds, or the window has changed its size."""
        if self._keys:
            return self._keys.pop(0)
        fd = sys.stdin.fileno()
        size = self.size
        ready, _, _ = select.select([fd], [], [], timeout)
        if not ready or self.size != size:
            return ""
        read = os.read(fd, 1024)
        if not read:
            # The terminal has gone.
            return "q"
        # Keys that send several bytes, arrows for example, mean nothing here.
        self._keys += _SEQUENCES.sub("", read.decode("ascii", "ignore"))
        return self._keys.pop(0) if self._keys else ""

    def _take(self) -> None:
        # Keys come at once and unseen; Ctrl-C and Ctrl-Z still mean what they mean.
        tty.setcbreak(sys.stdin.fileno())

    def _resume(self, *_: object) -> None:
        self._take()
        self._write(_ENTER)

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)
