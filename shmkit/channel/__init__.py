"""Every mechanism of the kernel behind one face: to change the mechanism is to change an address.

::

    with shmkit.listen("unix:///run/user/1000/jobs") as inbox:  # in one program
        for message in inbox:
            ...
    with shmkit.connect("unix:///run/user/1000/jobs") as outbox:  # in another
        outbox.send({"frame": array})

===================================  ==========  =====================================================================
address                              both ways?  what it is
===================================  ==========  =====================================================================
``ring://name``                      no          shared memory, without system calls
``pipe:`` (``?duplex=yes``)          (yes)       an anonymous pipe, for ``pair``
``fifo:///path``                     no          a pipe with a name
``unix:///path``, ``unix://@name``   yes         a UNIX socket; ``?type=seqpacket`` for packets
``tcp://host:port``                  yes         another machine; both sides prove that they know a key
``mq://name``, ``sysvmq://name``     no          message queues of the kernel, with priorities and with types
``file:///path``                     no          a log on disk, which can be replayed
===================================  ==========  =====================================================================

Where a channel is one way, who listens receives and who connects sends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from shmkit.channel.base import LINGER, MAX_MESSAGE, Channel, ChannelStatistics
from shmkit.channel.logs import LOG_OPTIONS, LogReceiver, LogSender, connect_log, listen_log
from shmkit.channel.options import Rules, checked, size
from shmkit.channel.pipes import FIFO_OPTIONS, PIPE_OPTIONS, connect_fifo, listen_fifo, pair_pipe
from shmkit.channel.queues import POSIX_OPTIONS, SYSV_OPTIONS, QueueReceiver, QueueSender, connect_queue, listen_queue
from shmkit.channel.rings import RING_OPTIONS, RingChannel, connect_ring, listen_ring, pair_ring
from shmkit.channel.sockets import (
    TCP_OPTIONS,
    UNIX_OPTIONS,
    PacketChannel,
    Server,
    connect_socket,
    listen_socket,
    pair_sockets,
)
from shmkit.channel.sockets import serve as serve_socket
from shmkit.channel.stream import StreamChannel
from shmkit.channel.url import Address, parse_url
from shmkit.waiting import seconds_of

__all__ = [
    "LINGER",
    "MAX_MESSAGE",
    "Channel",
    "ChannelStatistics",
    "LogReceiver",
    "LogSender",
    "PacketChannel",
    "QueueReceiver",
    "QueueSender",
    "RingChannel",
    "Server",
    "StreamChannel",
    "connect",
    "listen",
    "pair",
    "serve",
]


class _Mechanism(NamedTuple):
    options: Rules
    listen: Callable[..., Channel] | None
    connect: Callable[..., Channel] | None
    pair: Callable[..., tuple[Channel, Channel]] | None
    serve: Callable[..., Server] | None = None
    paired: tuple[str, ...] = ()
    """The options of ``pair``."""


_MECHANISMS = {
    "ring": _Mechanism(RING_OPTIONS, listen_ring, connect_ring, pair_ring, paired=("capacity",)),
    "pipe": _Mechanism(PIPE_OPTIONS, None, None, pair_pipe, paired=tuple(PIPE_OPTIONS)),
    "fifo": _Mechanism(FIFO_OPTIONS, listen_fifo, connect_fifo, None),
    "unix": _Mechanism(UNIX_OPTIONS, listen_socket, connect_socket, pair_sockets, serve_socket, ("type",)),
    "tcp": _Mechanism(TCP_OPTIONS, listen_socket, connect_socket, None, serve_socket),
    "mq": _Mechanism(POSIX_OPTIONS, listen_queue, connect_queue, None),
    "sysvmq": _Mechanism(SYSV_OPTIONS, listen_queue, connect_queue, None),
    "file": _Mechanism(LOG_OPTIONS, listen_log, connect_log, None),
}


def _prepared(
    url: str, how: str, options: dict[str, Any]
) -> tuple[Callable[..., Any], Address, dict[str, Any], dict[str, Any]]:
    """What makes it, and what from: the options that are its own, and those that every channel has."""
    address = parse_url(url)
    mechanism = _MECHANISMS[address.scheme]
    make = getattr(mechanism, how)
    if make is None:
        able = [scheme for scheme, other in _MECHANISMS.items() if getattr(other, how) is not None]
        raise ValueError(f"{how}({url!r}) does not go: {', '.join(able)} can")
    given = checked(address, options, {**mechanism.options, "max_message": size(1)})
    common = {"max_message": given.pop("max_message", MAX_MESSAGE)}
    if how == "pair":
        takes = f"it is written {address.scheme}: and takes {', '.join([*mechanism.paired, 'max_message'])}"
        if address.place:
            raise ValueError(f"pair({url!r}): two ends without a name have no place {address.place!r}; {takes}")
        for name in given.keys() - mechanism.paired:
            raise ValueError(f"pair({url!r}): two ends without a name have no option {name!r}; {takes}")
    return make, address, given, common


def listen(url: str, **options: Any) -> Channel:
    """The end that waits for another to ``connect``: it exists when this returns, and waits when it is first used.

    Its other end is the first one that connects (``serve`` is for many).  Options may also stand in the address:

    * ``max_message``: the most bytes that a message may have, at least 1, 1 GiB; a larger one takes no memory;
    * ``capacity`` (ring, fifo): how many bytes may be under way;
    * ``mode`` (fifo, unix): of the file, 0600; ``trust`` (fifo): even though others may write to it;
    * ``type`` (unix): "stream" or "seqpacket"; ``users`` (unix): who may connect, this user and root if not given;
    * ``max_messages`` and ``max_message_size`` (mq), ``capacity`` (sysvmq): what the queue holds, if it is made;
      ``keep``: it stays, with its messages, when this end is closed; ``type`` (sysvmq): receive only those;
    * ``project`` (sysvmq, for a path): the number that ``ftok`` is given with it, 1;
    * ``start``, ``skip_corrupt`` (file): where to begin ("first", "end", or a number), and whether to pass over what is
      spoilt;
    * ``key`` (tcp): what both sides have to know, at least 8 bytes; children of one program know one already.

    ValueError: the address or an option is none.  SegmentExists, RoleTaken: somebody listens there; Refused.
    """
    make, address, given, common = _prepared(url, "listen", options)
    made: Channel = make(address, given, common)
    return made


def connect(url: str, *, timeout: float | None = 0.0, **options: Any) -> Channel:
    """The end that connects to one that listens; waits up to ``timeout`` seconds for one (None: for ever).

    Options as for ``listen``; ``writers`` (fifo): "many" if several processes send, small messages only; ``priority``
    (mq) and ``type`` (sysvmq) of the messages that this end sends; ``sync`` (file): when they have to be on the disk.

    NoPeer: nobody listens there; TimeoutError: who does says nothing (tcp); RoleTaken: somebody else sends already;
    Refused: it is another user, or does not know the key; ValueError: the address or an option is none.
    """
    seconds_of(timeout)
    make, address, given, common = _prepared(url, "connect", options)
    made: Channel = make(address, given, common, timeout)
    return made


def pair(url: str = "pipe:", **options: Any) -> tuple[Channel, Channel]:
    """Two ends without a name: for ``pipe:`` and ``ring:`` the one that receives and the one that sends, for
    ``unix:`` (and ``pipe:?duplex=yes``) two that do both.

    Hand one to a child process, as an argument, and close it here: as long as this process has it too, it is not closed
    when the child closes it, or dies.
    """
    make, address, given, common = _prepared(url if ":" in url else f"{url}:", "pair", options)
    made: tuple[Channel, Channel] = make(address, given, common)
    return made


def serve(url: str, **options: Any) -> Server:
    """For many connections (unix, tcp): ``accept(timeout)`` gives an end for each.  Options as for ``listen``."""
    make, address, given, common = _prepared(url, "serve", options)
    made: Server = make(address, given, common)
    return made
