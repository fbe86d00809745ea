from collections.abc import Callable

from typing_extensions import Self

from shmkit._primitive import Primitive
from shmkit.segment import Segment

class Barrier(Primitive):
    def __init__(
        self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None
    ) -> None: ...
    @classmethod
    def create(
        cls,
        name: str | int,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        backing: str | None = None,
        mode: int = 0o600,
        lifetime: str | None = None,
    ) -> Self: ...
    @classmethod
    def attach(
        cls,
        name: str | int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        backing: str | None = None,
        owner: int | None = None,
    ) -> Self: ...
    @classmethod
    def create_or_attach(
        cls,
        name: str | int,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        backing: str | None = None,
        mode: int = 0o600,
        lifetime: str | None = None,
    ) -> Self: ...
    @classmethod
    def create_at(
        cls,
        segment: Segment,
        offset: int = 0,
        parties: int = 2,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> Self: ...
    @classmethod
    def attach_at(
        cls,
        segment: Segment,
        offset: int = 0,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> Self: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def reset(self) -> None: ...
    def abort(self) -> None: ...
    @property
    def parties(self) -> int: ...
    @property
    def n_waiting(self) -> int: ...
    @property
    def broken(self) -> bool: ...
