from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

from shmkit._end import End
from shmkit._record import Reservation

class SendingEnd(End):
    def send(self, data: Buffer | np.generic, timeout: float | None = None) -> None: ...
    def try_send(self, data: Buffer | np.generic) -> bool: ...
    def send_many(
        self,
        items: Iterable[Buffer | np.generic] | Buffer,
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
