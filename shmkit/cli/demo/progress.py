"""Progress on the terminal while a pipeline runs: rich's bar where it is installed, else a line that counts.

Nothing at all when standard error is not a terminal.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["show_progress"]

# Between two updates of the counting line, in seconds.
INTERVAL = 0.2


@contextmanager
def show_progress(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A function to tell how many frames are verified; ``total`` is None when nobody knows how many there will be."""
    if not sys.stderr.isatty():
        yield lambda verified: None
        return
    try:
        import rich.progress
    except ImportError:
        with _counting_line(label, total) as tell:
            yield tell
        return
    columns = (
        rich.progress.TextColumn("{task.description:>21}"),
        rich.progress.BarColumn(bar_width=40),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("frames verified"),
        rich.progress.TimeElapsedColumn(),
    )
    # Refreshed seldom, and from the thread that tells: drawing must not compete with the pipeline for the cores.
    with rich.progress.Progress(*columns, console=rich.console.Console(stderr=True), auto_refresh=False) as progress:
        task = progress.add_task(label, total=total)
        drawn = 0.0

        def tell(verified: int) -> None:
            nonlocal drawn
            progress.update(task, completed=verified)
            if verified == total or time.monotonic() - drawn > INTERVAL:
                drawn = time.monotonic()
                progress.refresh()

        yield tell


@contextmanager
def _counting_line(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    of = "" if total is None else f" of {total}"
    drawn = 0.0

    def tell(verified: int) -> None:
        nonlocal drawn
        if verified == total or time.monotonic() - drawn > INTERVAL:
            drawn = time.monotonic()
            print(f"\r{label:>21}  {verified}{of} frames verified", end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        print(file=sys.stderr)
