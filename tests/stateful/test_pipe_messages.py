"""Both ways through a pipe, whatever is sent and however it is received, against the list of what was sent."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shmkit import multiprocessing as mp

CORES = sorted(os.sched_getaffinity(0))
HANDED_MOST = 2152  # bytes of a message that may pass from hand to hand
LARGE_LEAST = 16385  # bytes of a message that lies in memory
PICKLED = len(pickle.dumps(b"x" * 1000, 5)) - 1000

sizes = st.one_of(
    st.integers(0, 120),
    st.integers(HANDED_MOST - PICKLED - 20, HANDED_MOST + 20),
    st.integers(LARGE_LEAST - PICKLED - 20, LARGE_LEAST + 20),
)
# Sent as an object or as its pickle's bytes, received as the one or the other.
ways = st.tuples(st.booleans(), st.booleans(), st.booleans())
messages = st.tuples(sizes, ways, ways)
bursts = st.lists(st.lists(messages, min_size=1, max_size=3), min_size=1, max_size=12)


def send(end: Any, data: bytes, as_bytes: bool) -> None:
    if as_bytes:
        end.send_bytes(pickle.dumps(data, 5))
    else:
        end.send(data)


def receive(end: Any, as_bytes: bool, look: bool) -> Any:
    if look:
        assert end.poll(30)
    return pickle.loads(end.recv_bytes()) if as_bytes else end.recv()


def answer(receiver: Any, sender: Any) -> None:
    os.sched_setaffinity(0, CORES[-1:])
    while (plan := receiver.recv()) is not None:
        for (_, as_bytes, look), (back_as_bytes, _, _) in plan:
            send(sender, receive(receiver, as_bytes, look), back_as_bytes)


@pytest.fixture(params=[True, False], ids=["socket", "pipe"], scope="module")
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """Where to send to, and where to receive the same from."""
    if request.param:
        ours, theirs = mp.Pipe()
        four = ours, ours, theirs, theirs
    else:
        there, out = mp.Pipe(False)
        back, here = mp.Pipe(False)
        four = out, back, there, here
    os.sched_setaffinity(0, CORES[:1])
    process = mp.get_context("fork").Process(target=answer, args=four[2:])
    process.start()
    for end in four[2:]:
        end.close()
    yield four[:2]
    four[0].send(None)
    process.join(30)
    os.sched_setaffinity(0, CORES)
    assert process.exitcode == 0
    process.close()
    for end in four[:2]:
        end.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bursts=bursts)
def test_all_that_is_sent_comes_back_in_order(ends: tuple[Any, Any], bursts: list[list[Any]]) -> None:
    """Sizes about those at which a message goes another way; several under way at once."""
    sender, receiver = ends
    number = 0
    sender.send([(there, back) for burst in bursts for _, there, back in burst])
    for burst in bursts:
        sent = []
        for size, (as_bytes, _, _), _ in burst:
            number += 1
            data = bytes([number % 251]) * size
            sent.append(data)
            send(sender, data, as_bytes)
        for data, (_, _, (_, as_bytes, look)) in zip(sent, burst, strict=True):
            assert receive(receiver, as_bytes, look) == data
    assert not receiver.poll(0)
