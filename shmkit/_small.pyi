from typing import Any

from shmkit._outgoing import Outgoing

PIPE: int
SOCKET: int
PACKETS: int
POSIX_QUEUE: int
SYSV_QUEUE: int

class Short(Outgoing):
    _held: list[Any]
    _fed: list[Any]

    def _open_recv(self, fd: int, how: int, most: int, room: int = 0, mtype: int = 0) -> None: ...
    def recv(self, timeout: float | None = None) -> Any: ...
    def recv_bytes(self, timeout: float | None = None) -> bytes: ...
    def recv_into(self, buffer: Any, timeout: float | None = None) -> int: ...
    def try_recv(self, default: Any = None) -> Any: ...
