from collections.abc import Callable

from shmkit._map import Mapping

def create_companion(folder: bytes, path: bytes, mode: int, text: bytes) -> int: ...
def attach(shmid: int, size: int, readonly: bool) -> Mapping: ...
def lay_out(
    mapping: Mapping,
    payload_size: int,
    kind: int,
    flags: int,
    meta: bytes,
    identity: int,
    init: Callable[[Mapping, int], object] | None,
) -> bytes: ...
def adopt(
    mapping: Mapping,
    raw_header: bytes,
    name: str | int | None,
    shmid: int,
    fd: int,
    dev: int,
    inode: int,
    path: bytes | None,
    leased: bool,
    removed: bool,
    keep_fd: bool,
) -> None: ...
