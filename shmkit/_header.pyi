from typing import NamedTuple

MAGIC: int
LAYOUT_VERSION: int
HEADER_SIZE: int
PAGE_SIZE: int
META_LIMIT: int
KIND_IDLE: int
KIND_BYTES: int
KIND_ARRAY: int
KIND_RING: int
KIND_SYNC: int
KIND_HEAP: int
KIND_TOPIC: int
LEASED: int
HUGE: int
FIELDS: dict[str, tuple[int, int]]

class Header(NamedTuple):
    magic: int
    layout_version: int
    header_size: int
    payload_size: int
    kind: int
    flags: int
    identity: int
    creator_pid: int
    creator_uid: int
    creator_start: int
    created_ns: int
    meta_size: int

def token() -> int: ...
def parse_header(raw: bytes) -> Header: ...
