"""Descriptors through UNIX sockets: files, pipes, memfds, and the memory of shared arrays and segments.

What goes over is the kernel's own reference, so the receiver need not be related to the sender, nor know a name; the
sender may let go, or end, as soon as it has sent.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import select
import socket
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shmkit import _make_array
from shmkit._describe import describe, restore
from shmkit._map import Mapping
from shmkit._plain_view import plain_view
from shmkit.array import SharedArray, mapping_of
from shmkit.errors import EndOfStream, RecordCorrupt, SegmentError
from shmkit.segment import Segment
from shmkit.segment.base import segment_of
from shmkit.segment.handle import adopt
from shmkit.waiting import Deadline, wait_for

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["DESCRIPTORS_MOST", "receive_descriptors", "receive_shared", "send_descriptors", "send_shared"]

# The kernel's SCM_MAX_FD.
DESCRIPTORS_MOST = 253
_LENGTH = struct.Struct("<I")
_WORDS_MOST = 32768


def send_descriptors(
    sock: socket.socket, descriptors: Sequence[Any], data: Buffer = b"\0", timeout: float | None = None
) -> None:
    """Sends copies of descriptors (or of what has a ``fileno``), and ``data``, at least one byte, with them.

    ValueError: too many, or no data.  TimeoutError; BrokenPipeError.
    """
    numbers = [item if isinstance(item, int) else int(item.fileno()) for item in descriptors]
    if not 0 < len(numbers) <= DESCRIPTORS_MOST:
        raise ValueError(f"from 1 to {DESCRIPTORS_MOST} descriptors go with one message: got {len(numbers)}")
    view = plain_view(data).cast("B")
    if not view.nbytes:
        raise ValueError("descriptors travel with at least one byte of data")
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", numbers))]
    flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
    deadline = Deadline(timeout)
    # They go with the first byte; the rest of a stream's data follows.
    done = 0
    while done < view.nbytes:
        sent = _unless_blocked(sock.sendmsg, [view[done:]], [] if done else rights, flags)
        if sent is None and not wait_for(sock.fileno(), select.POLLOUT, deadline):
            raise TimeoutError(f"no room in the socket within {timeout} s")
        done += sent or 0


def receive_descriptors(
    sock: socket.socket, most: int = DESCRIPTORS_MOST, size: int = 65536, timeout: float | None = None
) -> tuple[list[int], bytes]:
    """Receives up to ``most`` descriptors, and up to ``size`` bytes that came with them.

    They are closed in programs that are started.  EndOfStream; TimeoutError; ValueError, with none left open, if more
    came than ``most``.
    """
    deadline = Deadline(timeout)
    room = socket.CMSG_SPACE(DESCRIPTORS_MOST * 4)
    wanted = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
    while (found := _unless_blocked(sock.recvmsg, size, room, wanted)) is None:
        if not wait_for(sock.fileno(), select.POLLIN, deadline):
            raise TimeoutError(f"nothing came through the socket within {timeout} s")
    data, ancillary, flags, _ = found
    numbers: list[int] = []
    for level, kind, rights in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.extend(array.array("i", rights[: len(rights) - len(rights) % 4]))
    if flags & socket.MSG_CTRUNC or len(numbers) > most:
        for number in numbers:
            os.close(number)
        lost = "this process may open no more (RLIMIT_NOFILE)" if flags & socket.MSG_CTRUNC else f"{most} were wanted"
        raise ValueError(f"{len(numbers)} descriptors came, and were closed: {lost}")
    if not data and not numbers:
        raise EndOfStream("the other end has closed the socket")
    return numbers, data


def _unless_blocked(call: Callable[..., Any], *args: Any) -> Any:
    try:
        return call(*args)
    except BlockingIOError:
        return None


def send_shared(sock: socket.socket, thing: SharedArray | Segment, timeout: float | None = None) -> None:
    """Hands an anonymous shared array (or a view of one), or an anonymous Segment, to whoever is at the other end.

    They share the memory from then on.  TypeError: it is not shared, or has a name (by which others attach).
    """
    mapping = thing.mapping if isinstance(thing, Segment) else mapping_of(thing)
    if mapping is None or mapping.facts.backing != "memfd":
        what = "is in no shared memory" if mapping is None else f"has a name, {mapping.facts.name!r}: send that"
        raise TypeError(f"only anonymous shared memory travels as a descriptor: this {type(thing).__name__} {what}")
    if not mapping.intact:
        raise SegmentError(f"the segment's descriptor {mapping.fd} was closed by somebody else (os.closerange?)")
    mapping.keep_to_itself()
    facts = mapping.facts
    words: dict[str, Any] = {"identity": facts.identity, "inode": facts.inode, "readonly": mapping.readonly}
    if not isinstance(thing, Segment):
        words |= {
            "offset": _make_array.offset_in(mapping, thing) if thing.size else 0,
            "shape": thing.shape,
            "strides": thing.strides,
            "dtype": describe(thing.dtype).decode(),
            "writeable": thing.flags.writeable,
        }
    text = json.dumps(words).encode()
    send_descriptors(sock, [mapping.fd], _LENGTH.pack(len(text)) + text, timeout)


def receive_shared(sock: socket.socket, timeout: float | None = None) -> SharedArray | Segment:
    """Takes what ``send_shared`` sent: a SharedArray, or a Segment.

    The memory must belong to this process's user (SegmentPermission).  RecordCorrupt: something else came.
    """
    deadline = Deadline(timeout)
    stream = sock.type == socket.SOCK_STREAM
    numbers, data = receive_descriptors(sock, 1, _LENGTH.size if stream else _WORDS_MOST, timeout)
    fd = numbers[0] if numbers else -1
    try:
        if stream:
            data += _exactly(sock, _LENGTH.size - len(data), deadline)
            length = _LENGTH.unpack(data)[0]
            if length > _WORDS_MOST:
                raise RecordCorrupt(f"no shared array came through the socket: its description has {length} bytes")
            text = _exactly(sock, length, deadline)
        else:
            text = data[_LENGTH.size :]
        words = _checked(text, fd)
        if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
            raise RecordCorrupt("the memory that came through the socket is not sealed: it could be taken away")
    except BaseException as error:
        if fd >= 0:
            os.close(fd)
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            raise RecordCorrupt(f"the descriptor that came through the socket is no shared memory: {error}") from None
        raise
    mapping = adopt(fd, words["identity"], words["inode"], words["readonly"])
    return segment_of(mapping) if "shape" not in words else _array(mapping, words)


def _exactly(sock: socket.socket, size: int, deadline: Deadline) -> bytes:
    data = b""
    while len(data) < size:
        more = _unless_blocked(sock.recv, size - len(data), socket.MSG_DONTWAIT)
        if more == b"":
            raise EndOfStream("the other end closed the socket in the middle of a message")
        if more is None and not wait_for(sock.fileno(), select.POLLIN, deadline):
            raise TimeoutError("the rest of a message did not come in time")
        data += more or b""
    return data


def _checked(text: bytes, fd: int) -> dict[str, Any]:
    try:
        words = json.loads(text)
        good = (
            isinstance(words, dict)
            and all(type(words[key]) is int and 0 <= words[key] < 2**64 for key in ("identity", "inode"))
            and type(words["readonly"]) is bool
        )
        if good and "shape" in words:
            numbers = [*words["shape"], *words["strides"], words["offset"]]
            good = all(type(number) is int and abs(number) < 2**62 for number in numbers)
            good = good and len(words["shape"]) == len(words["strides"]) and type(words["writeable"]) is bool
            words["dtype"] = restore(words["dtype"].encode())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        good, words = False, {}
    if not good or fd < 0:
        raise RecordCorrupt(f"no shared array came through the socket, but {text[:60]!r}")
    return dict(words)


def _array(mapping: Mapping, words: dict[str, Any]) -> SharedArray:
    shape, strides, dtype, offset = tuple(words["shape"]), tuple(words["strides"]), words["dtype"], words["offset"]
    if not _make_array.fits(shape, dtype.itemsize, offset, strides, mapping.payload_size):
        raise RecordCorrupt(f"an array of shape {shape} at {offset} is beyond the {mapping.payload_size} bytes shared")
    buffer: Any = mapping  # it is one, which NumPy's stubs learn of in Python 3.12
    made: SharedArray = np.ndarray.__new__(
        SharedArray,
        shape,
        dtype,
        buffer,
        offset,
        strides,
    )
    if not words["writeable"]:
        made.flags.writeable = False
    return made
