"""Sockets with what the standard library leaves to the reader of manual pages; they are the standard library's objects.

UNIX: ``listen_unix``, ``connect_unix``, ``pair`` for streams, packets and datagrams; ``peer_of`` and ``check_peer`` say
who is at the other end before anything is read from it; ``send_descriptors`` and ``send_shared`` hand descriptors, and
shared arrays and segments, to any process of the same user.  TCP: ``listen_tcp``, ``connect_tcp`` with deadlines,
keep-alive and without Nagle's delays; ``authenticate`` makes both sides prove that they know a key.
"""

from __future__ import annotations

from shmkit.socket.authentication import Handshake, authenticate
from shmkit.socket.descriptors import (
    DESCRIPTORS_MOST,
    receive_descriptors,
    receive_shared,
    send_descriptors,
    send_shared,
)
from shmkit.socket.listener import Listener
from shmkit.socket.tcp import connect_tcp, listen_tcp, tune
from shmkit.socket.unix import Peer, check_peer, connect_unix, listen_unix, pair, peer_of

__all__ = [
    "DESCRIPTORS_MOST",
    "Handshake",
    "Listener",
    "Peer",
    "authenticate",
    "check_peer",
    "connect_tcp",
    "connect_unix",
    "listen_tcp",
    "listen_unix",
    "pair",
    "peer_of",
    "receive_descriptors",
    "receive_shared",
    "send_descriptors",
    "send_shared",
    "tune",
]
