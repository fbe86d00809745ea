from typing import Any

CALL: int
EACH: int
EACH_STAR: int

def refer(function: Any) -> tuple[str | None, Any]: ...
def perform(how: int, module: str | None, function: Any, args: Any, options: Any) -> Any: ...

class Pace:
    SECONDS: float
    WINDOW: float
    depth: int
    least: int
    most: int
    since: float
    count: int
    def __init__(self, least: int, most: int) -> None: ...
    def done(self, count: int) -> None: ...
    def slow_down(self) -> None: ...

def how_it_ended(pid: int, exitcode: int) -> str: ...
