"""Plain messages with one call of C each way; what is not plain, or has to wait, goes the longer way.

Of a stream just what a header says is read, and the next header; elsewhere a message at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmkit._small import Short
from shmkit.channel.base import Channel
from shmkit.waiting import Deadline

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Buffer

__all__ = ["QuickChannel", "feed"]


class QuickChannel(Short, Channel):
    """What the ends of the kernel's mechanisms do first."""

    def _long_send(self, value: Any, timeout: float | None) -> None:
        Channel.send(self, value, timeout)

    def _long_send_bytes(self, data: Buffer | npt.NDArray[Any], timeout: float | None) -> None:
        Channel.send_bytes(self, data, timeout)

    def _long_recv(self, timeout: float | None, deadline: Deadline | None) -> Any:
        return self._recv(timeout, True, None, deadline).finish()  # type: ignore[union-attr]

    def _long_recv_bytes(self, timeout: float | None, deadline: Deadline | None) -> bytes:
        return self._only_bytes(self._recv(timeout, True, None, deadline))

    def _long_recv_into(
        self, buffer: Buffer | npt.NDArray[Any], timeout: float | None, deadline: Deadline | None
    ) -> int:
        return self._into(buffer, timeout, deadline)

    def _long_try_send(self, value: Any) -> bool:
        return Channel.try_send(self, value)

    def _long_try_recv(self, default: Any) -> Any:
        return Channel.try_recv(self, default)


def feed(fed: list[Any], into: memoryview) -> int:
    """Takes what was read before."""
    count = min(len(fed[0]), len(into))
    into[:count] = fed[0][:count]
    if count == len(fed[0]):
        del fed[0]
    else:
        fed[0] = fed[0][count:]
    return count
