"""Pools: tasks that take something and return something.

::

    caller ──task task task …──> workers      64 tasks with an array each; many that do nothing
           <──results──
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shmkit.cli.bench.face import Job
from shmkit.cli.bench.patterns.base import End, Pattern, WrongMessage

__all__ = ["Tasks", "negated", "nothing"]


def negated(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Takes and returns an array."""
    return -array


def nothing(number: int) -> int:
    """What costs nothing, so that what is seen is the way there and back."""
    return number


class Tasks(Pattern):
    """A pool of two workers; a message is a task and its result.  Made, and warmed up, before the clock runs.

    With ``job.size`` the tasks take and return an array of so many bytes, in lots of 64; without, a number.
    """

    kind = "tasks"
    laps = False
    traceable = False  # the helpers of some pools have to outlive them, and who is traced does not
    workers = 2

    def __init__(self, seconds: float = 0.15, *, split: bool = False) -> None:
        super().__init__(seconds, split=split)

    def title(self, job: Job) -> str:
        return f"tasks with arrays of {job.size >> 10} KiB" if job.size else "tasks that do nothing"

    def open(self, role: int, link: Any) -> End:
        self.first_count = self.multiple = 64 if link.job.size else 256
        return super().open(role, link)

    def prepare(self, job: Job) -> Any:
        return [np.full(job.size // 8, float(number)) for number in range(64)] if job.size else None

    def first(self, end: End, count: int) -> Any:
        runs = end.sender.runs
        if end.data is None:
            if list(runs(nothing, range(count))) != list(range(count)):
                raise WrongMessage("results are not those of the tasks")
            return
        for _ in range(count // len(end.data)):
            for number, result in enumerate(runs(negated, end.data)):
                if result[0] != -number or result[-1] != -number or result.size != end.job.size // 8:
                    raise WrongMessage(f"the result of task {number} is not its own")

    def second(self, end: End, count: int) -> Any:
        return None
