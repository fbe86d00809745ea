from collections.abc import Callable

from shmkit._map import Facts, Mapping

def create_file(
    folder: bytes,
    path: bytes,
    backing: str,
    name: str,
    mode: int,
    payload_size: int,
    kind: int,
    meta: bytes,
    raw: bool,
    leased: bool,
    reserve: bool,
    keep_fd: bool,
    init: Callable[[Mapping, int], object] | None,
    nameless: bool,
) -> Mapping: ...
def create_raw(path: bytes, backing: str, name: str, mode: int, size: int, reserve: bool) -> Mapping: ...
def attach_file(
    fd: int,
    dev: int,
    inode: int,
    raw_header: bytes,
    size: int,
    readonly: bool,
    keep_fd: bool,
    backing: str,
    name: str | None,
    path: bytes | None,
) -> Mapping: ...
def reclaim(path: bytes, unfinished: bool) -> bool: ...
def is_at(path: bytes, dev: int, inode: int) -> bool: ...
def unlink_file(facts: Facts) -> None: ...
def create_memory(
    payload_size: int,
    kind: int,
    meta: bytes,
    raw: bool,
    reserve: bool,
    huge_page: int,
    init: Callable[[Mapping, int], object] | None,
) -> Mapping: ...
def take_memory(nbytes: int, recyclable_most: int) -> Mapping: ...
def create_companion(folder: bytes, path: bytes, mode: int, text: bytes) -> int: ...
def attach_sysv(shmid: int, size: int, readonly: bool) -> Mapping: ...
def format_sysv(
    mapping: Mapping,
    payload_size: int,
    kind: int,
    flags: int,
    meta: bytes,
    identity: int,
    init: Callable[[Mapping, int], object] | None,
) -> bytes: ...
def adopt_sysv(
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
