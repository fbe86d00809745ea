"""Coroutines send and receive what calls that wait do, also between processes."""

from __future__ import annotations

import asyncio
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkit
from channel import ends
from channel.ends import KINDS, WATCHDOG, Kind, both, same
from shmkit import channel
from support import Processes

every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


def values(most: int) -> list[Any]:
    """Bytes, arrays and arrays within objects: tiny, and as large as goes."""
    large = min(most // 2, 200_000)
    return [
        b"",
        b"plain bytes",
        bytes(range(256)) * (large // 256),
        bytearray(b"more"),
        np.arange(12, dtype="i4").reshape(3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.zeros((0, 3)),
        np.array(5.0),
        np.zeros(2, [("a", "f4"), ("b", "u1", (2, 2))]),
        np.random.default_rng(3).random(large // 8),
        {"one": np.arange(large // 4, dtype="u1"), "more": [np.arange(3.0), (np.zeros((2, 2), "c8"), b"bytes")]},
    ]


def alike(one: Any, other: Any) -> bool:
    """The same types, dtypes, shapes and values, however deep."""
    if isinstance(one, dict):
        return type(other) is dict and list(one) == list(other) and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, (tuple, list)):
        return type(one) is type(other) and len(one) == len(other) and all(map(alike, one, other))
    return same(one, other) and getattr(one, "shape", None) == getattr(other, "shape", None)


@every_kind
def test_coroutines_carry_bytes_and_arrays(kind: Kind, tmp_path: Path, name: str) -> None:
    """As they are, also within objects; in memory of their own, which may be written."""

    async def carry(receiver: channel.Channel, sender: channel.Channel) -> list[Any]:
        received = []
        for value in values(kind.most):
            sending = asyncio.ensure_future(sender.send_async(value, WATCHDOG))
            received.append(await receiver.recv_async(WATCHDOG))
            await sending
        return received

    with both(kind, tmp_path, name) as (receiver, sender):
        received = asyncio.run(carry(receiver, sender))
    sent = values(kind.most)
    assert len(received) == len(sent)
    for one, other in zip(sent, received, strict=True):
        assert alike(one, other)
        if isinstance(other, np.ndarray):
            assert other.flags.writeable
            assert other.flags.f_contiguous == one.flags.f_contiguous
    assert received[-1]["one"].flags.writeable


async def _send_all(end: channel.Channel, most: int) -> None:
    """Sends every value, and on a duplex channel gets each of them back."""
    for value in values(most):
        await end.send_async(value, WATCHDOG)
        if end.duplex:
            assert alike(value, await end.recv_async(WATCHDOG))
    end.close()


def _send(end: channel.Channel, most: int) -> None:
    asyncio.run(_send_all(end, most))


def _connect_and_send(kind: Kind, url: str) -> None:
    _send(ends.connect(kind, url), kind.most)


@every_kind
@pytest.mark.parametrize("start_method", ["fork", "forkserver"], indirect=True)
def test_coroutines_of_two_processes(
    kind: Kind, start_method: BaseContext, process: Processes, tmp_path: Path, name: str
) -> None:
    """Bytes, arrays and objects come from another process's coroutines; they go back where the channel is duplex."""

    async def receive(receiver: channel.Channel) -> list[Any]:
        received = []
        for _ in values(kind.most):
            received.append(await receiver.recv_async(WATCHDOG))
            if receiver.duplex:
                await receiver.send_async(received[-1], WATCHDOG)
        with pytest.raises(shmkit.EndOfStream):
            await receiver.recv_async(WATCHDOG)
        return received

    if kind.paired:
        receiver, sender = channel.pair(kind.url)
        child = process(_send, sender, kind.most, context=start_method)
        sender.close()
    else:
        receiver = ends.listen(kind, ends.address(kind, tmp_path, name))
        child = process(_connect_and_send, kind, receiver.url, context=start_method)
    with receiver:
        assert alike(asyncio.run(receive(receiver)), values(kind.most))
    child.join(WATCHDOG)
    assert child.exitcode == 0
