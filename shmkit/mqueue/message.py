"""What both kinds of queue take for a message, and what the kernel knows of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from shmkit._plain_view import plain_view

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["PosixQueueStatistics", "SysVQueueStatistics", "bytes_in", "flat"]


def flat(message: Buffer) -> memoryview:
    """The memory of what is no bytes; TypeError and ValueError for what is no message."""
    view = plain_view(message)
    if not view.c_contiguous:
        raise ValueError(
            "a message is contiguous memory: got strided memory, of which numpy.ascontiguousarray makes a copy"
        )
    return view


class PosixQueueStatistics(NamedTuple):
    """What the kernel knows of a POSIX queue at a moment."""

    max_messages: int
    """Messages that it can hold."""
    max_message_size: int
    """Bytes that a message can have."""
    waiting: int
    """Messages in it now."""
    bytes_waiting: int | None
    """Bytes of those; None where this handle does not read."""
    notified_pid: int | None
    """The process that is to be notified of the next message; None: nobody."""


class SysVQueueStatistics(NamedTuple):
    """What the kernel knows of a System V queue at a moment."""

    capacity: int
    """Bytes that it can hold, all messages together."""
    waiting: int
    """Messages in it now."""
    bytes_waiting: int | None
    """Bytes of those; None where /proc is not mounted."""
    last_send_pid: int
    """The process that sent last; 0: none has."""
    last_receive_pid: int
    """The process that received last; 0: none has."""
    last_send_time: int
    """When, in seconds since 1970; 0: never."""
    last_receive_time: int
    """The same of the last that was received."""


def bytes_in(msqid: int) -> int | None:
    """The bytes of all messages in a System V queue, which msgctl does not tell."""
    try:
        with open("/proc/sysvipc/msg") as table:
            for line in table:
                words = line.split()
                if words[1] == str(msqid):
                    return int(words[3])
    except OSError:
        pass
    return None
