from types import TracebackType

from typing_extensions import Self

from shmkit._primitive import Primitive
from shmkit.segment import Segment

class Semaphore(Primitive):
    def __init__(self, value: int = 1, *, undo: bool = False) -> None: ...
    @classmethod
    def create(
        cls,
        name: str | int,
        value: int = 1,
        *,
        undo: bool = False,
        backing: str | None = None,
        mode: int = 0o600,
        lifetime: str | None = None,
    ) -> Self: ...
    @classmethod
    def create_or_attach(
        cls,
        name: str | int,
        value: int = 1,
        *,
        undo: bool = False,
        backing: str | None = None,
        mode: int = 0o600,
        lifetime: str | None = None,
    ) -> Self: ...
    @classmethod
    def create_at(cls, segment: Segment, offset: int = 0, value: int = 1, *, undo: bool = False) -> Self: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def release(self, n: int = 1) -> None: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def get_value(self) -> int: ...
    def locked(self) -> bool: ...
    @property
    def undo(self) -> bool: ...

class BoundedSemaphore(Semaphore): ...
