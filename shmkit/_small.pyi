from typing import Any

PIPE: int
SOCKET: int

def send_small(fd: int, how: int, value: object, limit: int) -> int | bytes | None: ...
def recv_small(fd: int, how: int, waker: int, milliseconds: int, limit: int, rest: list[bytes]) -> Any: ...
