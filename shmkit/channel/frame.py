"""A message as bytes: what every channel sends, whatever carries it.

::

    +------+------+-------+-----------+---------------+------+------------------+- - - -+
    | mark | kind | empty | meta size | payload size  | meta |     payload      | end   |
    |  u8  |  u8  |  u16  |    u32    |      u64      |      |                  |  u8   |
    +------+------+-------+-----------+---------------+------+------------------+- - - -+
                    16 bytes, little-endian                                     streams only

The *meta* says what the payload is: an array's dtype and shape, the sizes of a pickle's buffers.  An array's is filled
up with zeros, so that the elements begin at a multiple of 16 bytes, as they do where they come from: the kernel copies
them at half its speed where their place in a page is some bytes behind the place that they come from.  On byte streams
a frame ends with a byte that makes it count (``WHOLE``), or takes it back (``TAKEN_BACK``): a sender whose time is up
in the middle of a frame still has to send all of it, or nobody would know where the next one begins.

Arrays are dtype, shape and raw bytes; bytes, text, numbers and None are themselves; all else is a pickle of protocol 5
whose large buffers follow it unpickled.  Sizes are checked against each other, and against a limit, before memory is
taken for them.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from shmkit._describe import describe, restore
from shmkit._plain_view import plain_view
from shmkit.array import SharedArray
from shmkit.channel.presence import NOTE_SIZE, Presence, myself
from shmkit.errors import RecordCorrupt, RecordTooLarge
from shmkit.sizes import format_size

__all__ = [
    "ARRAY",
    "BYTES",
    "FAREWELL",
    "GREETING",
    "HEADER",
    "MARK",
    "TAKEN_BACK",
    "WHOLE",
    "Frame",
    "Incoming",
    "begin",
    "bytes_frame",
    "encode",
    "into_buffer",
    "note",
    "open_header",
    "parse",
    "room_of",
    "too_large",
]

HEADER = struct.Struct("<BBHIQ")
MARK = 0xA7
WHOLE = b"\x06"
TAKEN_BACK = b"\x15"

# Kinds.  Notes are between the ends; the rest are messages.
GREETING = 1
FAREWELL = 2
BYTES = 16
BYTEARRAY = 17
TEXT = 18
INTEGER = 19
FLOAT = 20
NOTHING = 21
TRUTH = 22
ARRAY = 23
PICKLE = 24
PICKLE_AND_BUFFERS = 25
_NAMES = {
    BYTES: "bytes",
    BYTEARRAY: "bytearray",
    TEXT: "str",
    INTEGER: "int",
    FLOAT: "float",
    NOTHING: "None",
    TRUTH: "bool",
    ARRAY: "an array",
    PICKLE: "an object",
    PICKLE_AND_BUFFERS: "an object",
}

# A description of a dtype takes up to 16 KiB, 64 dimensions 512 bytes; so many buffers of a pickle are listed.
META_MOST = 32768
_BUFFERS_MOST = META_MOST // 8 - 1
# Smaller buffers are quicker copied into the pickle.
_BUFFER_LEAST = 1024
_LARGE = 65536
_ARRAY_HEAD = struct.Struct("<BBH")
# Where an array's elements begin, from the frame's beginning on.
_ALIGN = HEADER.size
_FORTRAN = 1
_DIMENSIONS_MOST = 64


class Frame(NamedTuple):
    """A message on its way out."""

    kind: int
    meta: bytes
    buffers: list[Any]
    """The payload's parts, as bytes or flat views of bytes."""
    nbytes: int
    """Bytes of payload."""

    def header(self) -> bytes:
        """The 16 bytes that come first."""
        return HEADER.pack(MARK, self.kind, 0, len(self.meta), self.nbytes)

    @property
    def size(self) -> int:
        """Bytes of the frame, without the byte that ends it on a stream."""
        return HEADER.size + len(self.meta) + self.nbytes


def note(kind: int, end: int = 0) -> bytes:
    """What an end says of itself: this process came, or leaves.  Without the byte that ends it on a stream."""
    words = myself(end)
    return Frame(kind, b"", [words], len(words)).header() + words


def message_of(incoming: Incoming, presence: Presence) -> Incoming | None:
    """What is a message; of a note between the ends, which is none, `presence` takes notice."""
    if incoming.kind == GREETING:
        presence.come(incoming.finish())
    elif incoming.kind == FAREWELL:
        presence.leave(incoming.finish())
    else:
        return incoming
    return None


def bytes_frame(data: Any) -> Frame:
    """The frame of bytes, or of anything contiguous that has a buffer."""
    if type(data) is bytes:
        return Frame(BYTES, b"", [data], len(data))
    if isinstance(data, np.ndarray) and not data.dtype.hasobject:
        view = _flat(data if data.flags.c_contiguous or data.flags.f_contiguous else np.ascontiguousarray(data))
        return Frame(BYTES, b"", [view], view.nbytes)
    view = plain_view(data)
    if not view.contiguous:
        raise ValueError(f"bytes that are sent lie in one piece: got a {type(data).__name__} that does not")
    flat = view.cast("B") if view.nbytes else memoryview(b"")
    return Frame(BYTES, b"", [flat], flat.nbytes)


def _flat(array: np.ndarray[Any, Any]) -> memoryview:
    """The bytes of a contiguous array, as they lie in memory."""
    if not array.nbytes:
        return memoryview(b"")
    rows = array if array.flags.c_contiguous else array.T
    return rows.reshape(-1).view(np.ndarray).view(np.uint8).data


def encode(value: Any, by_value: bool = False) -> Frame:
    """The frame of any object.

    ``by_value``: shared arrays are sent as what is in them, also inside of other objects: for receivers that do not
    share this machine's memory, or come later.
    """
    encoder = _ENCODERS.get(type(value))
    if encoder is not None:
        frame = encoder(value)
        if frame is not None:
            return frame
    if by_value and isinstance(value, SharedArray) and not value.dtype.hasobject:
        return encode(value.view(np.ndarray), True)
    return _pickled(value, by_value)


def _encode_array(array: np.ndarray[Any, Any]) -> Frame | None:
    if array.dtype.hasobject:
        return None
    try:
        text = describe(array.dtype)
    except TypeError:
        return None  # pickle knows dtypes that have no text
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        array = np.ascontiguousarray(array)
    fortran = _FORTRAN if not array.flags.c_contiguous else 0
    meta = _ARRAY_HEAD.pack(array.ndim, fortran, len(text)) + struct.pack(f"<{array.ndim}Q", *array.shape) + text
    meta += bytes(-len(meta) % _ALIGN)
    return Frame(ARRAY, meta, [_flat(array)], array.nbytes)


def _encode_text(text: str) -> Frame | None:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return None  # lone surrogates: pickle takes them
    return Frame(TEXT, b"", [data], len(data))


def _encode_integer(number: int) -> Frame | None:
    size = number.bit_length() // 8 + 1
    return Frame(INTEGER, b"", [number.to_bytes(size, "little", signed=True)], size)


_ENCODERS: dict[type, Callable[[Any], Frame | None]] = {
    bytes: bytes_frame,
    bytearray: lambda data: Frame(BYTEARRAY, b"", [memoryview(data)], len(data)),
    str: _encode_text,
    int: _encode_integer,
    float: lambda number: Frame(FLOAT, b"", [struct.pack("<d", number)], 8),
    type(None): lambda _: Frame(NOTHING, b"", [], 0),
    bool: lambda truth: Frame(TRUTH, b"", [b"\1" if truth else b"\0"], 1),
    np.ndarray: _encode_array,
}


class _ByValue(pickle.Pickler):
    """Pickles shared arrays as what is in them."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, SharedArray):
            return value.view(np.ndarray).__reduce_ex__(5)
        return NotImplemented


def _pickled(value: Any, by_value: bool) -> Frame:
    buffers: list[memoryview] = []

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < _BUFFER_LEAST or len(buffers) >= _BUFFERS_MOST:
            return True
        buffers.append(view)
        return False

    if by_value:
        stream = io.BytesIO()
        _ByValue(stream, 5, buffer_callback=keep_inside).dump(value)
        text = stream.getvalue()
    else:
        text = pickle.dumps(value, 5, buffer_callback=keep_inside)
    if not buffers:
        return Frame(PICKLE, b"", [text], len(text))
    sizes = [len(text) << 1, *(view.nbytes << 1 | view.readonly for view in buffers)]
    return Frame(
        PICKLE_AND_BUFFERS,
        struct.pack(f"<{len(sizes)}Q", *sizes),
        [text, *buffers],
        len(text) + sum(view.nbytes for view in buffers),
    )


# ---------------------------------------------------------------------------------------------------------- receiving


def open_header(header: bytes | bytearray | memoryview, limit: int, where: str) -> tuple[int, int, int]:
    """Kind, bytes of meta, bytes of payload.  RecordCorrupt; RecordTooLarge: more than ``limit``."""
    mark, kind, empty, meta, nbytes = HEADER.unpack(header)
    if mark != MARK or empty or not (kind in _NAMES or kind in (GREETING, FAREWELL)):
        raise RecordCorrupt(f"what came through {where} is no message: it begins with {bytes(header)!r}")
    if meta > META_MOST or (kind in (GREETING, FAREWELL) and (meta or nbytes != NOTE_SIZE)):
        raise RecordCorrupt(f"a message from {where} contradicts itself: kind {kind}, {meta} and {nbytes} bytes")
    if nbytes > limit:
        raise too_large(nbytes, limit, where)
    return kind, meta, nbytes


def too_large(nbytes: int, limit: int, where: str) -> RecordTooLarge:
    """What is raised for a message that came and that is more than this end takes."""
    return RecordTooLarge(
        f"a message of {nbytes} bytes ({format_size(nbytes)}) came through {where}, and this end takes at most "
        f"{format_size(limit)}: see max_message"
    )


def room_of(buffer: Any) -> memoryview:
    """The bytes of memory that a message is to be received into.  TypeError."""
    view = plain_view(buffer)
    if view.readonly or not view.contiguous:
        raise TypeError(f"messages are received into writable memory in one piece: got {type(buffer).__name__}")
    return view.cast("B") if view.nbytes else memoryview(bytearray())


class Incoming:
    """A message on its way in: ``targets`` are where its payload belongs, ``finish()`` makes of it what was sent."""

    __slots__ = ("_finish", "direct", "kind", "nbytes", "targets")

    def __init__(
        self, kind: int, nbytes: int, targets: list[memoryview], finish: Callable[[], Any], direct: bool = False
    ) -> None:
        self.kind = kind
        self.direct = direct
        """The payload went to where the caller of ``recv_into`` wants it."""
        self.nbytes = nbytes
        self.targets = targets
        self._finish = finish

    def finish(self) -> Any:
        """The object that was sent; the payload has come."""
        return self._finish()

    @property
    def raw(self) -> bool:
        """Whether it is bytes, or an array, which can be taken as bytes."""
        return self.kind in (BYTES, BYTEARRAY, ARRAY)

    @property
    def name(self) -> str:
        """What was sent, in words."""
        return _NAMES.get(self.kind, "a note")


def into_buffer(kind: int, nbytes: int, into: memoryview | None) -> Incoming | None:
    """A message that goes straight into the buffer of ``recv_into``; None: it does not, or there is no buffer."""
    if into is None or nbytes > into.nbytes or kind not in (BYTES, BYTEARRAY, ARRAY):
        return None
    return Incoming(kind, nbytes, [into[:nbytes]] if nbytes else [], lambda: None, direct=True)


def begin(kind: int, meta: bytes, nbytes: int, where: str) -> Incoming:
    """Takes the memory for a payload whose sizes have been checked.  RecordCorrupt: the meta contradicts them."""
    if kind == ARRAY:
        array = _empty_array(meta, nbytes, where)
        return Incoming(kind, nbytes, [_flat(array)] if nbytes else [], lambda: array)
    if kind == PICKLE_AND_BUFFERS:
        return _begin_buffers(meta, nbytes, where)
    if meta or (kind in _FIXED and nbytes != _FIXED[kind]):
        raise RecordCorrupt(f"a message from {where} contradicts itself: {_NAMES[kind]} of {nbytes} bytes")
    finish = _FINISHERS.get(kind)
    if finish is None:
        same = bytearray(nbytes)
        return Incoming(kind, nbytes, [memoryview(same)] if nbytes else [], lambda: same)
    # What is large is not cleared first.
    data = np.empty(nbytes, np.uint8) if nbytes >= _LARGE and kind in (BYTES, PICKLE) else bytearray(nbytes)
    view = data.data if isinstance(data, np.ndarray) else memoryview(data)
    return Incoming(kind, nbytes, [view] if nbytes else [], lambda: _finished(finish, data, where))


def _finished(finish: Callable[[Any], Any], data: Any, where: str) -> Any:
    try:
        return finish(data)
    except UnicodeDecodeError as error:
        raise RecordCorrupt(f"text that came through {where} is none: {error}") from None


_FIXED = {FLOAT: 8, NOTHING: 0, TRUTH: 1}
_FINISHERS: dict[int, Callable[[Any], Any]] = {
    BYTES: bytes,
    TEXT: lambda data: data.decode(),
    INTEGER: lambda data: int.from_bytes(data, "little", signed=True),
    FLOAT: lambda data: struct.unpack("<d", data)[0],
    NOTHING: lambda _: None,
    TRUTH: lambda data: data != b"\0",
    PICKLE: pickle.loads,
    GREETING: bytes,
    FAREWELL: bytes,
}


def _empty_array(meta: bytes, nbytes: int, where: str) -> np.ndarray[Any, Any]:
    try:
        ndim, flags, length = _ARRAY_HEAD.unpack_from(meta)
        said = _ARRAY_HEAD.size + 8 * ndim + length
        if ndim > _DIMENSIONS_MOST or len(meta) != said + -said % _ALIGN:
            raise ValueError(f"{ndim} dimensions, {len(meta)} bytes")
        shape = struct.unpack_from(f"<{ndim}Q", meta, _ARRAY_HEAD.size)
        dtype = restore(meta[said - length : said])
        if math.prod(shape) * dtype.itemsize != nbytes:
            raise ValueError(f"shape {shape} of {dtype} is not {nbytes} bytes")
        return np.empty(shape, dtype, "F" if flags & _FORTRAN else "C")
    except (ValueError, struct.error) as error:
        raise RecordCorrupt(f"an array that came through {where} contradicts itself: {error}") from None


def _begin_buffers(meta: bytes, nbytes: int, where: str) -> Incoming:
    sizes = [word[0] for word in struct.iter_unpack("<Q", meta)] if len(meta) % 8 == 0 else []
    if not sizes or sum(size >> 1 for size in sizes) != nbytes or sizes[0] & 1:
        raise RecordCorrupt(f"an object that came through {where} contradicts itself: buffers of {sizes[:8]} bytes")
    text = bytearray(sizes[0] >> 1)
    # NumPy's memory is aligned as arrays are, and not cleared first.
    arrays = [np.empty(size >> 1, np.uint8) for size in sizes[1:]]
    targets = [memoryview(text), *(array.data for array in arrays)]

    def finish() -> Any:
        given = [array.data.toreadonly() if size & 1 else array for array, size in zip(arrays, sizes[1:], strict=True)]
        return pickle.loads(text, buffers=given)

    return Incoming(PICKLE_AND_BUFFERS, nbytes, [target for target in targets if target.nbytes], finish)


def parse(record: Any, limit: int, where: str) -> Incoming:
    """A message that came in one piece (without an ending byte): its payload is copied to where it belongs."""
    view = memoryview(record)
    if view.nbytes < HEADER.size:
        raise RecordCorrupt(f"what came through {where} is no message: {bytes(view)!r}")
    kind, meta, nbytes = open_header(view[: HEADER.size], limit, where)
    if view.nbytes != HEADER.size + meta + nbytes:
        raise RecordCorrupt(
            f"a message from {where} has {view.nbytes} bytes, and says that it has {HEADER.size + meta + nbytes}"
        )
    start = HEADER.size + meta
    incoming = begin(kind, bytes(view[HEADER.size : start]), nbytes, where)
    for target in incoming.targets:
        target[:] = view[start : start + target.nbytes]
        start += target.nbytes
    return incoming
