from types import TracebackType
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from shmkit._subscriber import Subscriber
from shmkit._topic_end import TopicEnd

class Publisher(TopicEnd):
    def __init__(self, *, slots: int = 8, slot_size: SupportsIndex | str = "1 MiB") -> None: ...
    @classmethod
    def create(
        cls,
        name: str,
        *,
        slots: int = 8,
        slot_size: SupportsIndex | str = "1 MiB",
        backing: str | None = None,
        mode: int = 0o600,
        lifetime: str | None = None,
    ) -> Self: ...
    @classmethod
    def attach(cls, name: str, *, backing: str | None = None, owner: int | None = None) -> Self: ...
    @classmethod
    def create_or_attach(
        cls,
        name: str,
        *,
        slots: int = 8,
        slot_size: SupportsIndex | str = "1 MiB",
        backing: str | None = None,
        mode: int = 0o600,
    ) -> Self: ...
    def publish(self, obj: Any) -> None: ...
    def loan(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike = "float64") -> Loan: ...
    def subscriber(self, *, replay: bool = False) -> Subscriber: ...
    def close(self) -> None: ...

class Loan:
    def __init__(self, publisher: Publisher, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> None: ...
    def __enter__(self) -> np.ndarray[Any, Any]: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

def check_sizes(slots: int, slot_size: SupportsIndex | str) -> tuple[int, int]: ...
