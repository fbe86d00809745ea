"""How messages are told apart in a shell pipeline: lines, pieces of one size, lengths before them, .npy, all of it."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from shmkit.cli.command import CommandError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Format", "Message", "format_of"]

_WORDS = ("lines", "text", "json", "size:N", "prefixed", "npy", "raw", "whole")
# What a message may have: as channels have it.
_MOST = 2**30
_CHUNK = 65536
_LENGTH = struct.Struct(">I")


class Message(NamedTuple):
    """What is sent, and the bytes that it was on standard input."""

    value: Any
    raw: bytes


class Format(NamedTuple):
    """``read`` takes messages from a stream; ``parse`` makes one of an argument; ``write`` makes bytes of one."""

    read: Callable[[BinaryIO], Iterator[Message]]
    parse: Callable[[bytes], Any]
    write: Callable[[Any], Sequence[Buffer]]


def format_of(word: str, null: bool = False) -> Format:
    """The format of that name; with ``null``, lines end with a zero byte.  CommandError: there is none."""
    end = b"\0" if null else b"\n"
    kind, _, rest = word.partition(":")
    if kind == "size" and re.fullmatch(r"[1-9][0-9]{0,9}", rest) and int(rest) <= _MOST:
        size = int(rest)
        return Format(lambda stream: _pieces(stream, size), _same, lambda value: _of_size(value, size))
    if word in _LINES:
        parse, write = _LINES[word]
        return Format(lambda stream: _lines(stream, end, parse), parse, lambda value: (*write(value), end))
    if null:
        raise CommandError(f"-0 is for lines, text and json: not for {word}", usage=True)
    if word not in _OTHERS:
        raise CommandError(f"there is no format {word!r}: one of {', '.join(_WORDS)}", usage=True)
    return _OTHERS[word]


# ── from standard input ─────────────────────────────────────────────────────────────────────────────────────────────


def _same(data: bytes) -> bytes:
    return data


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"no UTF-8 ({error.reason} at byte {error.start}): --format lines takes any bytes") from None


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON ({error.msg} at column {error.colno})") from None
    except (UnicodeDecodeError, RecursionError):
        raise ValueError("no JSON") from None


def _lines(stream: BinaryIO, end: bytes, parse: Callable[[bytes], Any]) -> Iterator[Message]:
    for number, line in enumerate(_ended(stream, end), 1):
        if len(line) > _MOST:
            raise CommandError(f"standard input: line {number} is longer than {_MOST} bytes")
        try:
            value = parse(line.removesuffix(end))
        except ValueError as error:
            raise CommandError(f"standard input: line {number} is {error}") from None
        yield Message(value, line)


def _ended(stream: BinaryIO, end: bytes) -> Iterator[bytes]:
    """The pieces of a stream that end so, each with its end; the last one may lack it."""
    if end == b"\n":
        while line := stream.readline(_MOST + 2):
            yield line
        return
    held = bytearray()
    while chunk := _read_some(stream):
        seen = len(held)
        held += chunk
        start = 0
        while (at := held.find(end, max(start, seen))) >= 0:
            yield bytes(held[start : at + 1])
            start = at + 1
        del held[:start]
        if len(held) > _MOST:
            break
    if held:
        yield bytes(held)


def _read_some(stream: BinaryIO) -> bytes:
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    return read(_CHUNK)


def _pieces(stream: BinaryIO, size: int) -> Iterator[Message]:
    while data := stream.read(size):
        if len(data) < size:
            raise CommandError(f"standard input ended within a message: {len(data)} bytes of {size}")
        yield Message(data, data)


def _prefixed(stream: BinaryIO) -> Iterator[Message]:
    while prefix := stream.read(_LENGTH.size):
        if len(prefix) < _LENGTH.size:
            raise CommandError(f"standard input ended within a length: {len(prefix)} bytes of {_LENGTH.size}")
        (length,) = _LENGTH.unpack(prefix)
        if length > _MOST:
            raise CommandError(f"standard input announces a message of {length} bytes: more than {_MOST} are not taken")
        data = stream.read(length)
        if len(data) < length:
            raise CommandError(f"standard input ended within a message: {len(data)} bytes of {length}")
        yield Message(data, prefix + data)


def _raw(stream: BinaryIO) -> Iterator[Message]:
    while data := _read_some(stream):
        yield Message(data, data)


def _whole(stream: BinaryIO) -> Iterator[Message]:
    data = stream.read()
    yield Message(data, data)


class _Recorded(io.RawIOBase):
    """A stream that keeps what was read from it."""

    def __init__(self, stream: BinaryIO, begun: bytes) -> None:
        self._stream = stream
        self._begun = begun
        self.kept = bytearray()

    def read(self, size: int = -1) -> bytes:
        """As much as was asked for, or what there is until the end."""
        data = self._begun[:size] if size >= 0 else self._begun
        self._begun = self._begun[len(data) :]
        data += self._stream.read(size - len(data) if size >= 0 else -1)
        self.kept += data
        return data


def _npy(stream: BinaryIO) -> Iterator[Message]:
    from numpy.lib.format import read_array

    number = 1
    while begun := stream.read(1):
        recorded = _Recorded(stream, begun)
        try:
            array = read_array(recorded, allow_pickle=False)
        except (ValueError, EOFError, OSError, MemoryError) as error:
            why = str(error).partition("\n")[0] or "there is no memory for it"
            raise CommandError(f"standard input: array {number} is no .npy: {why}") from None
        yield Message(array, bytes(recorded.kept))
        number += 1


# ── to standard output ──────────────────────────────────────────────────────────────────────────────────────────────


def _bytes_of(value: Any) -> Sequence[Buffer]:
    """The bytes of a message that has any of its own."""
    import numpy as np

    if isinstance(value, str):
        return (value.encode(errors="surrogateescape"),)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return (value,)
    if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        flat = np.ascontiguousarray(value).reshape(-1)
        return (flat.view("u1").data if value.nbytes else b"",)
    raise CommandError(f"a message is {_name(value)}, which is no bytes: --format json or lines shows it")


def _name(value: Any) -> str:
    word = type(value).__name__
    return f"{'an' if word[0] in 'aeiouAEIOU' else 'a'} {word}"


def _plain(value: Any) -> Any:
    """What JSON has no word for."""
    import numpy as np

    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(data).decode()}
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, complex):
        return [value.real, value.imag]
    raise TypeError(f"{_name(value)}, for which JSON has no word: --format lines shows it")


def _as_json(value: Any) -> Sequence[Buffer]:
    try:
        return (json.dumps(value, default=_plain, ensure_ascii=False).encode(errors="backslashreplace"),)
    except (TypeError, ValueError, RecursionError) as error:
        raise CommandError(f"a message is {error}") from None


def _as_line(value: Any) -> Sequence[Buffer]:
    if isinstance(value, (str, bytes, bytearray, memoryview)):
        return _bytes_of(value)
    try:
        return _as_json(value)
    except CommandError:
        return (repr(value).encode(errors="backslashreplace"),)


def _of_size(value: Any, size: int) -> Sequence[Buffer]:
    parts = _bytes_of(value)
    length = sum(memoryview(part).nbytes for part in parts)
    if length != size:
        raise CommandError(f"a message has {length} bytes, not {size}")
    return parts


def _with_length(value: Any) -> Sequence[Buffer]:
    parts = _bytes_of(value)
    length = sum(memoryview(part).nbytes for part in parts)
    if length >= 2**32:
        raise CommandError(f"a message has {length} bytes: a length of 4 bytes cannot say so")
    return (_LENGTH.pack(length), *parts)


def _as_npy(value: Any) -> Sequence[Buffer]:
    import numpy as np
    from numpy.lib.format import write_array

    written = io.BytesIO()
    try:
        # bytes are numbers, and not NumPy's text that ends at a zero
        array = np.frombuffer(value, "u1") if isinstance(value, (bytes, bytearray, memoryview)) else np.asarray(value)
        write_array(written, array, allow_pickle=False)
    except (ValueError, TypeError):
        raise CommandError(f"a message is {_name(value)}, which is no array: --format json or lines shows it") from None
    return (written.getbuffer(),)


_LINES: dict[str, tuple[Callable[[bytes], Any], Callable[[Any], Sequence[Buffer]]]] = {
    "lines": (_same, _as_line),
    "text": (_text, _as_line),
    "json": (_json, _as_json),
}
_OTHERS = {
    "prefixed": Format(_prefixed, _same, _with_length),
    "npy": Format(_npy, lambda data: next(_npy(io.BytesIO(data))).value, _as_npy),
    "raw": Format(_raw, _same, _bytes_of),
    "whole": Format(_whole, _same, _bytes_of),
}
