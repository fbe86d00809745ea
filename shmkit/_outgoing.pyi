from typing import Any

from shmkit._turns import Turn

class Outgoing:
    _send_turn: Turn
    _recv_turn: Turn
    _sent: int
    _received: int
    _bytes_sent: int
    _bytes_received: int
    _send_waits: int
    _recv_waits: int
    _closed: bool
    _frame_most: int

    def _open_send(self, fd: int, how: int, most: int, mtype: int = 0) -> None: ...
    def send(self, value: Any, timeout: float | None = None) -> None: ...
    def send_bytes(self, data: Any, timeout: float | None = None) -> None: ...
    def try_send(self, value: Any) -> bool: ...
