from types import TracebackType
from typing import Literal, TypeAlias

from typing_extensions import Self

from shmkit._primitive import Primitive
from shmkit.segment import Segment

_OnOwnerDeath: TypeAlias = Literal["raise", "recover"]

class Lock(Primitive):
    def __init__(self, *, on_owner_death: _OnOwnerDeath = "raise") -> None: ...
    @classmethod
    def create(
        cls,
        name: str | int,
        *,
        on_owner_death: _OnOwnerDeath = "raise",
        backing: str | None = None,
        mode: int = 0o600,
        lifetime: str | None = None,
    ) -> Self: ...
    @classmethod
    def create_or_attach(
        cls,
        name: str | int,
        *,
        on_owner_death: _OnOwnerDeath = "raise",
        backing: str | None = None,
        mode: int = 0o600,
        lifetime: str | None = None,
    ) -> Self: ...
    @classmethod
    def create_at(cls, segment: Segment, offset: int = 0, *, on_owner_death: _OnOwnerDeath = "raise") -> Self: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def release(self) -> None: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def recover(self) -> None: ...
    def locked(self) -> bool: ...
    @property
    def owner_pid(self) -> int | None: ...
    def _is_owned(self) -> bool: ...

class RLock(Lock):
    def _recursion_count(self) -> int: ...
    def _release_save(self) -> int: ...
    def _acquire_restore(self, depth: int) -> None: ...
