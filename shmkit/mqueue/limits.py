"""The limits of the kernel's message queues, and the errors that name them, their values, and how to raise them."""

from __future__ import annotations

import errno
import os
import resource

from shmkit.errors import NoSpace, RecordTooLarge
from shmkit.sizes import format_size

__all__ = [
    "most_messages",
    "most_size",
    "no_queue_left",
    "no_sysv_queue_left",
    "posix_bytes",
    "refused_shape",
    "sysv_limit",
    "too_large_for_posix",
    "too_large_for_sysv",
]

# Beyond these nobody gets, whatever fs.mqueue says.
HARD_MESSAGES, HARD_SIZE = 65536, 2**24
# What the kernel counts besides the message itself: struct msg_msg and struct posix_msg_tree_node, 48 bytes each.
_PER_MESSAGE = 48
_PRIORITIES = 32768


def _read(path: str, default: int) -> int:
    try:
        with open(path) as text:
            return int(text.read())
    except (OSError, ValueError):
        return default


def most_messages() -> int:
    """fs.mqueue.msg_max."""
    return _read("/proc/sys/fs/mqueue/msg_max", 10)


def most_size() -> int:
    """fs.mqueue.msgsize_max."""
    return _read("/proc/sys/fs/mqueue/msgsize_max", 8192)


def posix_bytes(max_messages: int, max_message_size: int) -> int:
    """What a POSIX queue counts for against RLIMIT_MSGQUEUE, empty or not."""
    return max_messages * (_PER_MESSAGE + max_message_size) + min(max_messages, _PRIORITIES) * _PER_MESSAGE


def refused_shape(name: str, max_messages: int, max_message_size: int) -> ValueError:
    """Why the kernel takes no queue of that shape (EINVAL)."""
    wrong = []
    for what, asked, limit, most, hard in (
        ("max_messages", max_messages, "msg_max", most_messages(), HARD_MESSAGES),
        ("max_message_size", max_message_size, "msgsize_max", most_size(), HARD_SIZE),
    ):
        if asked > hard:
            wrong.append(f"{what} is at most {hard}, which nothing raises: got {asked}")
        elif asked > most:
            wrong.append(
                f"{what}={asked} is more than fs.mqueue.{limit}, which is {most}; root raises it with "
                f"`sysctl fs.mqueue.{limit}={asked}`"
            )
    return ValueError(f"message queue {name!r}: " + ("; ".join(wrong) or "the kernel takes no queue of that shape"))


def _descriptors_left() -> bool:
    try:
        os.close(os.open("/", os.O_PATH | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def no_queue_left(name: str, max_messages: int, max_message_size: int, many: bool) -> OSError:
    """Why there is no room for a POSIX queue: ``many`` queues (ENOSPC), or too large or too many files (EMFILE)."""
    if many:
        most = _read("/proc/sys/fs/mqueue/queues_max", 256)
        return NoSpace(
            f"no room for message queue {name!r}: the system has as many as fs.mqueue.queues_max allows, {most}; "
            f"root raises it with `sysctl fs.mqueue.queues_max={2 * most}`, and queues that nobody needs any more are "
            "removed with unlink_posix or from /dev/mqueue"
        )
    if not _descriptors_left():
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return OSError(
            errno.EMFILE,
            f"message queue {name!r} could not be opened: this process may have {soft} files open, and has; raise that "
            f"(its hard limit is {hard}) with ulimit -n or resource.setrlimit",
        )
    soft, hard = resource.getrlimit(resource.RLIMIT_MSGQUEUE)
    asked = posix_bytes(max_messages, max_message_size)
    why = "" if asked > soft else ", and this user's other queues have used up the rest"
    return NoSpace(
        f"no room for message queue {name!r}: {max_messages} messages of {max_message_size} bytes count for {asked} "
        f"bytes, and all POSIX queues of user {os.getuid()} together may have {soft} (RLIMIT_MSGQUEUE){why}; make it "
        f"smaller, or raise the limit (its hard limit is {'none' if hard < 0 else hard}) with ulimit -q or "
        "resource.setrlimit, or for good with `msgqueue` in /etc/security/limits.conf"
    )


def too_large_for_posix(name: str, nbytes: int, most: int) -> RecordTooLarge:
    """The message that no POSIX queue of that shape can take."""
    limit = most_size()
    return RecordTooLarge(
        f"a message of {nbytes} bytes is more than message queue {name!r} takes, which was made for {most} at most; "
        f"create it with max_message_size={nbytes}, which fs.mqueue.msgsize_max ({limit}) "
        + (
            "allows"
            if nbytes <= limit
            else f"does not allow: root raises it with `sysctl fs.mqueue.msgsize_max={nbytes}`"
        )
    )


def sysv_limit(name: str) -> int:
    """kernel.msgmax, kernel.msgmnb or kernel.msgmni."""
    return _read(f"/proc/sys/kernel/{name}", {"msgmax": 8192, "msgmnb": 16384, "msgmni": 32000}[name])


def no_sysv_queue_left(name: str | int) -> NoSpace:
    """There are as many System V queues as there may be."""
    most = sysv_limit("msgmni")
    return NoSpace(
        f"no room for message queue {name!r}: the system has as many System V queues as kernel.msgmni allows, {most}; "
        f"root raises it with `sysctl kernel.msgmni={2 * most}`; `ipcs -q` lists them, and `ipcrm -q` removes one"
    )


def too_large_for_sysv(name: str | int, nbytes: int, capacity: int) -> RecordTooLarge:
    """The message that a System V queue can never take."""
    most = sysv_limit("msgmax")
    if nbytes > most:
        return RecordTooLarge(
            f"a message of {nbytes} bytes is more than any System V queue takes: kernel.msgmax is {most}; root raises "
            f"it with `sysctl kernel.msgmax={nbytes}` (message queue {name!r})"
        )
    return RecordTooLarge(
        f"a message of {nbytes} bytes is more than message queue {name!r} holds, {format_size(capacity)} ({capacity} "
        f"bytes); set its capacity, up to kernel.msgmnb ({sysv_limit('msgmnb')}), or create it with a larger one"
    )
