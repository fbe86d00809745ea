"""Rings by name, over each kind of memory, and handed from process to process."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkit
from support import Processes
from unit import ring_children

WATCHDOG = ring_children.WATCHDOG
NAMED = ["posix", "sysv", "file"]


@pytest.fixture
def address(backing: str, name: str, tmp_path: Path) -> str:
    """A name as the backing wants it."""
    return str(tmp_path / name) if backing == "file" else name


def traffic(producer: shmkit.Ring, consumer: shmkit.Ring) -> None:
    """Several laps of bytes and arrays."""
    for number in range(50):
        producer.send(bytes([number]) * 300)
        producer.send(np.full((3, 5), number))
        assert consumer.recv() == bytes([number]) * 300
        with consumer.recv_view() as frame:
            assert (frame == number).all()
            assert frame.shape == (3, 5)


# ── by name ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("backing", NAMED)
def test_a_ring_is_found_by_its_name(backing: str, address: str) -> None:
    """Over every kind of named memory: two handles, one stream; unlink takes the name, and both go on."""
    with shmkit.Ring.create(address, 1024, backing=backing) as producer:
        try:
            with shmkit.Ring.attach(address, backing=backing) as consumer:
                assert (consumer.name, consumer.capacity) == (address, 1024)
                traffic(producer, consumer)
                producer.unlink()
                with pytest.raises(shmkit.SegmentNotFound):
                    shmkit.Ring.attach(address, backing=backing)
                traffic(producer, consumer)
        finally:
            shmkit.unlink(address, missing_ok=True, backing=backing)


@pytest.mark.parametrize("backing", NAMED)
def test_a_named_ring_stays_until_it_is_unlinked(backing: str, address: str) -> None:
    """With all that was sent and not received, though nobody is there."""
    with shmkit.Ring.create(address, 1024, backing=backing) as ring:
        ring.send_many([b"a", b"b", b"c"])
        assert ring.recv() == b"a"
    try:
        with shmkit.Ring.attach(address, backing=backing) as ring:
            assert len(ring) == 2
            assert list(ring) == [b"b", b"c"]
            assert (ring.statistics().sent, ring.statistics().received) == (3, 3)
    finally:
        shmkit.unlink(address, backing=backing)


@pytest.mark.parametrize("backing", NAMED)
def test_a_leased_ring_goes_with_its_last_handle(backing: str, address: str) -> None:
    """Not before, and not later."""
    ring = shmkit.Ring.create(address, 1024, backing=backing, lifetime="leased")
    other = shmkit.Ring.attach(address, backing=backing)
    ring.close()
    other.send(b"x")
    with shmkit.Ring.attach(address, backing=backing) as third:
        assert third.recv() == b"x"
    other.close()
    with pytest.raises(shmkit.SegmentNotFound):
        shmkit.Ring.attach(address, backing=backing)


@pytest.mark.parametrize("backing", [None, "memfd", "sysv"])
def test_a_ring_may_have_no_name(backing: str | None) -> None:
    """It has none to be asked for, and goes with its last process."""
    with shmkit.Ring.create(capacity=1024, backing=backing) as ring:
        traffic(ring, ring)
        with pickle.loads(pickle.dumps(ring)) as other:
            assert (other.capacity, other.name) == (1024, ring.name)
            ring.send(b"x")
            assert len(other) == 1


@pytest.mark.parametrize("backing", NAMED)
def test_create_refuses_a_name_that_is_taken(backing: str, address: str) -> None:
    """SegmentExists, and the ring that has it is untouched."""
    with shmkit.Ring.create(address, 1024, backing=backing, lifetime="leased") as ring:
        ring.send(b"x")
        with pytest.raises(shmkit.SegmentExists, match=os.path.basename(address)):
            shmkit.Ring.create(address, 2048, backing=backing)
        assert ring.recv() == b"x"


def test_attach_refuses_a_name_that_nobody_has(name: str) -> None:
    """SegmentNotFound, a FileNotFoundError, which names it."""
    with pytest.raises(shmkit.SegmentNotFound, match=name) as caught:
        shmkit.Ring.attach(name)
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize("backing", NAMED)
def test_create_or_attach_makes_it_once(backing: str, address: str) -> None:
    """Whoever comes first makes it, and all have the same; with another capacity it is refused, and undisturbed."""
    make = shmkit.Ring.create_or_attach
    with make(address, 1024, backing=backing, lifetime="leased") as ring, make(address, 1024, backing=backing) as other:
        ring.send(b"x")
        other.peek()
        with pytest.raises(ValueError, match=r"exists with capacity 1024: got 2048"):
            make(address, 2048, backing=backing)
        with pytest.raises(ValueError, match="power of two"):
            make(address, 1000, backing=backing)
        assert other.recv() == b"x"


def test_who_came_with_another_capacity_has_taken_and_told_nothing(name: str) -> None:
    """create_or_attach(role=…) that is refused leaves the role as it was: no EndOfStream to the consumer."""
    with shmkit.Ring.create(name, 1024, lifetime="leased", role="consumer") as ring:
        with pytest.raises(ValueError, match="capacity"):
            shmkit.Ring.create_or_attach(name, 2048, role="producer")
        with pytest.raises(TimeoutError):
            ring.recv(timeout=0)
        assert ring.statistics().producer_pid is None


def test_many_who_come_at_once_get_one_ring(process: Processes, make_name: Callable[[], str]) -> None:
    """create_or_attach from four processes at a time: what any of them sends is in the one ring that there is."""
    for _ in range(10):
        name = make_name()

        def come(name: str = name) -> None:
            with shmkit.Ring.create_or_attach(name, 1024) as ring:
                try:
                    ring.send(b"x")
                except shmkit.RoleTaken:
                    raise SystemExit(7) from None

        children = [process(come) for _ in range(4)]
        for child in children:
            child.join(WATCHDOG)
        codes = sorted(child.exitcode or 0 for child in children)
        with shmkit.Ring.attach(name) as ring:
            ring.unlink()
            assert codes == [0] * len(ring) + [7] * (4 - len(ring))
            assert len(ring) > 0


# ── what is no ring ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("backing", NAMED)
def test_a_segment_that_is_no_ring_is_refused(backing: str, address: str) -> None:
    """LayoutMismatch that names it, whatever its size; the segment is as it was."""
    with shmkit.Segment.create(address, 8192, backing=backing, lifetime="leased") as segment:
        segment.buf[:4] = b"mine"
        for call in (
            shmkit.Ring.attach,
            lambda name, backing: shmkit.Ring.create_or_attach(name, 1024, backing=backing),
        ):
            with pytest.raises(shmkit.LayoutMismatch, match=os.path.basename(address)):
                call(address, backing=backing)
        assert bytes(segment.buf[:4]) == b"mine"


def test_an_array_is_no_ring(name: str) -> None:
    """Though it is one of shmkit's."""
    array = shmkit.create(name, (4096,), "u1")
    try:
        with pytest.raises(shmkit.LayoutMismatch, match=name):
            shmkit.Ring.attach(name)
    finally:
        del array
        shmkit.unlink(name)


def test_a_file_that_is_nothing_of_ours_is_refused(tmp_path: Path) -> None:
    """Empty, short, long, random: an error that names it."""
    path = tmp_path / "notes"
    for content in (b"", b"short", bytes(100_000), np.random.default_rng(1).bytes(100_000)):
        path.write_bytes(content)
        with pytest.raises(shmkit.SegmentError, match="notes"):
            shmkit.Ring.attach(str(path), backing="file")
        assert path.read_bytes() == content


def test_a_ring_is_no_plain_segment(name: str) -> None:
    """Whoever attaches to it as a segment is told what it is."""
    with shmkit.Ring.create(name, 1024, lifetime="leased"), shmkit.Segment.attach(name, readonly=True) as segment:
        assert segment.kind == "ring"
        assert any(info.name == name and info.kind == "ring" for info in shmkit.Segment.list())


# ── from process to process ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("backing", ["memfd", *NAMED])
def test_a_ring_goes_to_a_child_as_an_argument(
    backing: str, address: str, start_method: BaseContext, process: Processes
) -> None:
    """Whatever it lies in and however the child starts; to and fro over two rings."""
    where = {"backing": backing, "lifetime": "leased"}
    there = shmkit.Ring.create(None if backing == "memfd" else address, 4096, **where)
    back = shmkit.Ring.create(None if backing == "memfd" else address + "b", 4096, **where)
    with there, back:
        child = process(ring_children.echo, there, back, context=start_method)
        for n in range(100):
            data = np.arange(n) if n % 2 else bytes([n]) * n
            there.send(data, timeout=WATCHDOG)
            got = back.recv(timeout=WATCHDOG)
            assert type(got) is type(data)
            assert (got == data).all() if isinstance(got, np.ndarray) else got == data
        there.close()
        with pytest.raises(shmkit.EndOfStream):
            back.recv(timeout=WATCHDOG)
        child.join(WATCHDOG)
        assert child.exitcode == 0


def test_every_method_works_across_processes(start_method: BaseContext, process: Processes) -> None:
    """A child sends in every way and this process receives in every way; then the other way round."""
    with shmkit.Ring.create(capacity=4096) as there, shmkit.Ring.create(capacity=4096) as back:
        ours, theirs = start_method.Pipe()
        child = process(ring_children.play, (there, back), theirs, context=start_method)
        theirs.close()

        ask(ours, 0, "send", b"a")
        assert ask(ours, 0, "try_send", np.arange(3)) is True
        assert ask(ours, 0, "send_many", [b"c", b"dd"]) == 2
        assert ask(ours, 0, "send_rows", b"eeff", 2) == 2
        ask(ours, 0, "write", b"reserved")
        assert len(there) == 7
        assert there.peek() == there.recv() == b"a"
        assert there.try_recv().tolist() == [0, 1, 2]
        assert there.recv_into(bytearray(8)) == 1
        assert there.recv_many(1) == [b"dd"]
        rows = bytearray(10)
        assert there.recv_many_into(rows, 2) == 2
        assert rows[:4] == b"eeff"
        with there.recv_view() as inside:
            assert bytes(inside) == b"reserved"

        back.send_many([b"a", np.arange(3), b"c", b"d", b"eee", b"fff", b"g"])
        assert ask(ours, 1, "peek") == ask(ours, 1, "recv") == b"a"
        assert ask(ours, 1, "try_recv").tolist() == [0, 1, 2]
        assert ask(ours, 1, "recv_view") == b"c"
        assert ask(ours, 1, "recv_many", 1) == [b"d"]
        assert ask(ours, 1, "recv_rows", 3) == b"eeefff"
        assert ask(ours, 1, "__next__") == b"g"
        assert isinstance(ask(ours, 0, "recv", 0), shmkit.RoleTaken)
        assert isinstance(ask(ours, 1, "recv", 0), TimeoutError)
        ours.send(None)
        child.join(WATCHDOG)
        assert child.exitcode == 0
        assert list(there) == []
        ours.close()


def ask(pipe: Connection, *order: Any) -> Any:
    """Has the child do something, and returns what came of it."""
    pipe.send(order)
    assert pipe.poll(WATCHDOG), "the child says nothing"
    return pipe.recv()


UNRELATED = """
import pickle, sys
import shmkit

how, = sys.argv[1:2]
ring = shmkit.Ring.attach(sys.argv[2]) if how == "name" else pickle.loads(bytes.fromhex(sys.stdin.readline()))
print(ring.capacity, flush=True)
for item in ring:
    print(type(item).__name__, bytes(item).hex(), flush=True)
"""


@pytest.mark.parametrize("how", ["name", "pickle", "pickle of an anonymous one"])
def test_an_unrelated_program_receives(process: Processes, name: str, how: str) -> None:
    """By name, or out of any pickle that a process of the same user is given while the ring lives."""
    anonymous = "anonymous" in how
    with shmkit.Ring.create(None if anonymous else name, 1024, lifetime="leased") as ring:
        program = process.python(UNRELATED, how.partition(" ")[0], name, stdin=subprocess.PIPE)
        assert program.stdin is not None
        assert program.stdout is not None
        if how != "name":
            program.stdin.write(pickle.dumps(ring).hex() + "\n")
            program.stdin.flush()
        assert program.stdout.readline() == "1024\n"
        for n in range(20):
            ring.send(bytes([n]) * 100, timeout=WATCHDOG)
        ring.send(np.arange(3, dtype="u1"), timeout=WATCHDOG)
        ring.close()
        output, _ = program.communicate(timeout=WATCHDOG)
    expected = [f"bytes {(bytes([n]) * 100).hex()}" for n in range(20)] + ["ndarray 000102"]
    assert output.splitlines() == expected
    assert program.returncode == 0


def test_a_copy_of_a_ring_is_another_handle() -> None:
    """copy and deepcopy go by reference, as pickle does; the role stays with the handle that has it."""
    with shmkit.Ring.create(capacity=1024) as ring:
        ring.send(b"x")
        for other in (copy.copy(ring), copy.deepcopy(ring)):
            with other:
                with pytest.raises(shmkit.RoleTaken):
                    other.send(b"y")
                assert other.peek() == b"x"


def test_a_closed_ring_goes_nowhere() -> None:
    """Pickling it is Closed, at once and not in the child."""
    ring = shmkit.Ring.create(capacity=1024)
    ring.close()
    with pytest.raises(shmkit.Closed):
        pickle.dumps(ring)


@pytest.mark.parametrize("named", [True, False])
def test_a_pickle_of_a_ring_that_is_gone_says_so(name: str, named: bool) -> None:
    """SegmentNotFound; while somebody may still be on its way to load it, the ring is not gone."""
    ring = shmkit.Ring.create(name if named else None, 1024, lifetime="leased")
    ring.send(b"x")
    text = pickle.dumps(ring)
    ring.close()
    with pickle.loads(text) as arrived:
        assert arrived.recv() == b"x"
    del ring, arrived
    shmkit.trim()
    with pytest.raises(shmkit.SegmentNotFound):
        pickle.loads(text)


def test_a_ring_is_some_hundred_bytes_in_a_pickle(name: str) -> None:
    """A reference, not the records."""
    with shmkit.Ring.create(name, "1 MiB", lifetime="leased") as ring:
        ring.send(bytes(100_000))
        text = pickle.dumps(ring)
        assert len(text) < 1000
        pickle.loads(text).close()
