from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

from shmkit._end import End
from shmkit._record import Reservation

_Data: TypeAlias = Buffer | npt.NDArray[Any] | np.generic

class SendingEnd(End):
    def send(self, data: _Data, timeout: float | None = None) -> None: ...
    def try_send(self, data: _Data) -> bool: ...
    def send_many(
        self,
        items: Iterable[_Data] | Buffer | npt.NDArray[Any],
        timeout: float | None = None,
        *,
        itemsize: int | None = None,
    ) -> int: ...
    def reserve(
        self,
        shape: int | str | tuple[int, ...] | list[int],
        dtype: npt.DTypeLike | None = None,
        timeout: float | None = None,
        *,
        order: Literal["C", "F"] = "C",
    ) -> Reservation: ...
