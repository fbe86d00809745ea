from collections.abc import Callable, Iterable
from typing import Any

from shmkit._claims import Claims
from shmkit._queue import QueueBase

FAILED: int
SUCCEEDED: int

class LineBase:
    calls: QueueBase
    results: QueueBase
    claims: Claims
    tasks: dict[int, Any]
    pace: Any
    over: Any
    def __init__(self, calls: QueueBase, results: QueueBase, claims: Claims, pace: Any) -> None: ...
    def named(self, task: Any) -> Any: ...
    def call(self, ticket: int, task: Any) -> None: ...
    def offer(self, task: Any) -> int: ...
    def put_at_once(self, task: Any) -> bool: ...
    def take_back(self, ticket: int) -> bool: ...
    def put_each(self, tasks: Iterable[Any], thread: Any, running: Any, slowly: Callable[[Any], bool]) -> int: ...
    def give_one(self, task: Any, succeeded: bool, value: Any, cache: Any) -> None: ...
    def give(self, messages: list[Any], cache: Any) -> bool: ...

def work_through(
    calls: QueueBase,
    results: QueueBase,
    claims: Claims,
    number: int,
    left: int,
    patience: float,
    goes_on: Callable[[], bool],
    failure: Callable[[Exception, Any], Any],
    deliver: Callable[[Any], bool],
) -> None: ...
