"""``multiprocessing.shared_memory``, and what it promises: memory that stays as long as anybody looks at it.

The memory is a raw POSIX segment, so that processes with the standard library's classes attach to the same names, and
these to theirs.
"""

from __future__ import annotations

import errno
import multiprocessing.shared_memory as _theirs
import struct
import zlib
from collections.abc import Iterable
from operator import index
from typing import Any

from shmkit import _header
from shmkit.errors import SegmentExists
from shmkit.multiprocessing import _tracking
from shmkit.multiprocessing._same import attributes_of
from shmkit.segment import Segment
from shmkit.segment.base import create_raw
from shmkit.segment.posix import path_of

__all__ = ["ShareableList", "SharedMemory"]

_get, __dir__ = attributes_of(_theirs)


def __getattr__(name: str) -> Any:
    return _get(name)


# Programs may have put another in its place.
_their_name = _theirs._make_filename  # type: ignore[attr-defined]


def _new_name() -> str:
    make = _theirs._make_filename  # type: ignore[attr-defined]
    return f"psm_{_header.token() & 0xFFFFFFFF:08x}" if make is _their_name else make()


def _check_name(name: Any) -> None:
    """TypeError, and OSError for what can be no name, where the standard library has them."""
    if not isinstance(name, str):
        raise TypeError(f"'name' must be a str: got {name!r}")
    try:
        path_of(name)
    except ValueError as error:
        if "\0" in name:
            raise
        raise OSError(errno.ENAMETOOLONG if len(name) > 63 else errno.EINVAL, str(error)) from None


class SharedMemory(_theirs.SharedMemory):
    """A named block of shared memory, created or attached to.

    Who attaches never deletes: only who created it with ``track=True`` (the default) has the resource tracker remove it
    if the program ends without ``unlink()``.  The room is reserved when it is created (OSError, ENOSPC), so that no
    later store is a SIGBUS.  ``close()`` drops this handle and never raises; arrays and views of ``buf`` stay valid.
    """

    _segment: Segment | None = None
    _created = False
    _buf: memoryview | None
    _mmap: Any

    def __init__(self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True) -> None:
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        if create and size == 0:
            raise ValueError("'size' must be a positive number different from zero")
        if name is None and not create:
            raise ValueError("'name' can only be None if create=True")
        if name is not None:
            _check_name(name)
        self._track = track
        segment = self._made(name, size) if create or name is None else Segment.attach(name, raw=True)
        self._segment = segment
        self._name = f"/{segment.name if name is None else name}"
        self._size = segment.size
        self._mmap = mapping = segment.mapping
        self._buf = memoryview(mapping)
        if create and track:
            self._created = True
            try:
                _tracking.begin(self._name)
            except BaseException:
                segment.unlink(missing_ok=True)
                raise

    @staticmethod
    def _made(name: str | None, size: int) -> Segment:
        if name is not None:
            return create_raw(name, index(size))
        while True:
            try:
                return create_raw(_new_name(), index(size))
            except SegmentExists:  # noqa: PERF203
                continue

    @property
    def buf(self) -> memoryview | None:
        """All its bytes; None once it was closed."""
        return self._buf

    def close(self) -> None:
        """Drop this handle.  What looks at the memory still may go on."""
        if self._buf is not None:
            self._buf = self._mmap = None
            if self._segment is not None:
                self._segment.close()

    def unlink(self) -> None:
        """Remove the name; who is attached goes on.  FileNotFoundError if it has gone."""
        if self._segment is None:
            return
        if "\0" in self._name:  # a program has changed it
            raise ValueError(f"a name has no null character: got {self._name!r}")
        self._segment.unlink()
        if self._track:
            _tracking.end(self._name, self._created)


# What a list of ours has behind the standard library's layout: a magic number, and for each item a word, 0 unless the
# item is text or bytes that end with NULs.  Then: how many NULs, and a checksum of the item's whole slot, so that what
# the standard library's class has written there since is not misread.
_CODES = {str: 1, bytes: 2, type(None): 3}
_MAGIC = 0x736C4E554C733031


class ShareableList(_theirs.ShareableList):  # type: ignore[type-arg]
    """A list of fixed length in shared memory, of int, float, bool, str, bytes and None.

    Text and bytes come back exactly as they were stored, whatever they end with, if both who stores and who loads has
    this class; the standard library's reads the same list and loses trailing NULs, as it always does.
    """

    _types_mapping: Any
    _offset_back_transform_codes: int
    _offset_packing_formats: int
    _offset_data_start: int
    _format_size_metainfo: str
    _places_found: tuple[int, int, int, int]
    shm: SharedMemory

    def __init__(self, sequence: Iterable[Any] | None = None, *, name: str | None = None) -> None:
        if name is not None and sequence is None:
            self.shm = SharedMemory(name)
            self._list_len = len(self)
            self._allocated_offsets = list(struct.unpack_from(self._format_size_metainfo, self.shm.buf, 8))  # type: ignore[arg-type]
            return
        items = list(sequence or ())
        plain = [_encoded(item) for item in items]
        formats = [
            # As many characters as the standard library has room for, and in any case all bytes.
            f"{max(8 * (len(item) // 8 + 1), len(bare) + -len(bare) % 8)}s"
            if isinstance(bare, bytes)
            else self._types_mapping[type(item)]
            for item, bare in zip(items, plain, strict=True)
        ]
        for item, text in zip(items, formats, strict=True):
            if len(text) > 8:
                raise ValueError(f"an item takes at most 9999999 bytes: got {len(_encoded(item))}")
        self._list_len = len(items)
        self._allocated_offsets = [0]
        for text in formats:
            self._allocated_offsets.append(self._allocated_offsets[-1] + (int(text[:-1]) if text[-1] == "s" else 8))
        end = self._offset_back_transform_codes + self._list_len
        self.shm = SharedMemory(name, create=True, size=end + -end % 8 + 8 * (self._list_len + 1))
        buf: Any = self.shm.buf
        struct.pack_into("q" + self._format_size_metainfo, buf, 0, self._list_len, *self._allocated_offsets)
        struct.pack_into("Q", buf, end + -end % 8, _MAGIC)
        for position, (text, item) in enumerate(zip(formats, items, strict=True)):
            self._store(position, text, item)

    def _places(self) -> tuple[int, int, int, int]:
        """Where data, formats, codes, and our own words for the items begin; 0 for the last if there are none."""
        places = self.__dict__.get("_places_found")
        if places is None:
            codes = self._offset_back_transform_codes
            end = codes + self._list_len
            tails = end + -end % 8
            buf: Any = self.shm.buf
            if tails + 8 * (self._list_len + 1) > len(buf) or struct.unpack_from("Q", buf, tails)[0] != _MAGIC:
                tails = -8
            places = self._offset_data_start, self._offset_packing_formats, codes, tails + 8
            self._places_found = places
        return places

    def _store(self, position: int, text: str, value: Any) -> None:
        buf: Any = self.shm.buf
        data, formats, codes, tails = self._places()
        start, end = data + self._allocated_offsets[position], data + self._allocated_offsets[position + 1]
        plain = _encoded(value)
        buf[start:end] = struct.pack(text, plain)
        buf[formats + 8 * position : formats + 8 * position + 8] = text.encode().ljust(8, b"\0")
        buf[codes + position] = _CODES.get(type(value), 0)
        if tails:
            word = 0
            if isinstance(plain, bytes) and plain.endswith(b"\0"):
                nuls = len(plain) - len(plain.rstrip(b"\0"))
                word = nuls << 32 | zlib.crc32(buf[start:end])
            struct.pack_into("Q", buf, tails + 8 * position, word)

    def _place(self, position: int, what: str) -> int:
        found = position + self._list_len if position < 0 else position
        if not 0 <= found < self._list_len:
            raise IndexError(f"{what} out of range")
        return found

    def __getitem__(self, position: int) -> Any:
        position = self._place(position, "index")
        buf: Any = self.shm.buf
        data, formats, codes, tails = self._places()
        start = data + self._allocated_offsets[position]
        at = formats + 8 * position
        (value,) = struct.unpack_from(bytes(buf[at : at + 8]).rstrip(b"\0"), buf, start)
        code = buf[codes + position]
        if code == 0:
            return value
        if code == 3:
            return None
        value = value.rstrip(b"\0")
        if tails:
            (word,) = struct.unpack_from("Q", buf, tails + 8 * position)
            if word and word & 0xFFFFFFFF == zlib.crc32(buf[start : data + self._allocated_offsets[position + 1]]):
                value += b"\0" * (word >> 32)
        return value.decode() if code == 1 else value

    def __setitem__(self, position: int, value: Any) -> None:
        position = self._place(position, "assignment index")
        plain = _encoded(value)
        if isinstance(plain, bytes):
            room = self._allocated_offsets[position + 1] - self._allocated_offsets[position]
            if len(plain) > room:
                raise ValueError("bytes/str item exceeds available storage")
            text = f"{room}s"
        else:
            text = self._types_mapping[type(value)]
        self._store(position, text, value)


def _encoded(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value
