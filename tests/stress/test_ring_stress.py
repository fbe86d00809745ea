"""Rings under load from real processes; every scenario stands in SCENARIOS.md under its test's name."""

from __future__ import annotations

import contextlib
import os
import re
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

import shmkit
from stress import traffic
from stress.traffic import WATCHDOG, Plan
from support import Processes, wait_until

SCENARIOS = Path(__file__).with_name("SCENARIOS.md")

# A run of the suite takes seconds; `make soak` a hundred times as long.
scale = pytest.mark.parametrize(
    "scale", [1, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(3600)], id="soak")]
)


def end_well(*children: BaseProcess, watchdog: float = 3000.0) -> None:
    """Waits for all, or for the first that fails: the others may then wait for it in vain."""

    def settled() -> bool:
        """all children have ended, or one has failed"""
        codes = [child.exitcode for child in children]
        return None not in codes or any(codes)

    wait_until(settled, watchdog)
    assert [child.exitcode for child in children] == [0] * len(children)


def emptied(ring: shmkit.Ring, records: int) -> None:
    """Its stream has ended, every byte is free, and it has counted right."""
    with pytest.raises(shmkit.EndOfStream):
        ring.try_recv()
    now = ring.statistics()
    assert (now.sent, now.received, now.waiting, now.used) == (records, records, 0, 0)
    assert now.bytes_sent == now.bytes_received


@scale
@pytest.mark.parametrize("capacity", [1024, 16 * 1024, 1024 * 1024], ids=["1 KiB", "16 KiB", "1 MiB"])
def test_one_stream_in_all_ways(process: Processes, start_method: BaseContext, capacity: int, scale: int) -> None:
    """Every way of sending meets every way of receiving: complete, in order, whole, then EndOfStream."""
    spawned = start_method.get_start_method() != "fork"
    plan = Plan(stream=1, count=15_000 if spawned else 50_000, most=min(capacity - 64, 200_000), seed=capacity)
    with shmkit.Ring.create(capacity=capacity) as ring:
        args = (ring, plan.scaled(scale))
        children = [process(target, *args, context=start_method) for target in (traffic.consume, traffic.produce)]
        end_well(*children)
        emptied(ring, plan.count * scale)


@scale
@pytest.mark.parametrize("backing", ["posix", "sysv", "file"])
def test_one_stream_over_named_memory(
    process: Processes, name: str, backing: str, scale: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What the ring lies in makes no difference."""
    address = str(tmp_path_factory.mktemp("rings") / name) if backing == "file" else name
    plan = Plan(stream=2, count=20_000 * scale, most=4000)
    with shmkit.Ring.create(address, 8192, backing=backing, lifetime="leased") as ring:
        end_well(process(traffic.produce, ring, plan), process(traffic.consume, ring, plan))
        emptied(ring, plan.count)


@scale
def test_both_ends_sleep_and_wake(process: Processes, scale: int) -> None:
    """Phases in which one end does nothing until the other sleeps: each is woken, none sleeps on."""
    plan = Plan(stream=3, count=6000 * scale, most=900, pauses=True)
    with shmkit.Ring.create(capacity=2048) as ring:
        end_well(process(traffic.produce, ring, plan), process(traffic.consume, ring, plan))
        now = ring.statistics()
        assert min(now.producer_waits, now.consumer_waits, now.producer_wakes, now.consumer_wakes) > 0
        emptied(ring, plan.count)


@scale
@pytest.mark.parametrize("pauses", [False, True])
def test_more_processes_than_cores(process: Processes, pauses: bool, scale: int) -> None:
    """Two rings, four processes, on the two cores that there may be: a spinning end keeps nobody from its work."""
    plans = [Plan(stream=stream, count=20_000 * scale, most=2000, pauses=pauses) for stream in (4, 5)]
    with shmkit.Ring.create(capacity=4096) as first, shmkit.Ring.create(capacity=64 * 1024) as second:
        children = [
            process(target, ring, plan)
            for ring, plan in zip((first, second), plans, strict=True)
            for target in (traffic.produce, traffic.consume)
        ]
        end_well(*children)
        emptied(first, plans[0].count)
        emptied(second, plans[1].count)


@scale
def test_all_on_one_core(process: Processes, scale: int) -> None:
    """Nobody can be running while the other end waits for it: who spins there would never be answered."""
    plan = Plan(stream=6, count=10_000 * scale, most=900, pauses=True)

    def on_one_core(target: object, ring: shmkit.Ring) -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        assert callable(target)
        target(ring, plan)

    with shmkit.Ring.create(capacity=2048) as ring:
        end_well(*(process(on_one_core, target, ring) for target in (traffic.produce, traffic.consume)))
        emptied(ring, plan.count)


@scale
def test_a_pipeline_of_views(process: Processes, scale: int) -> None:
    """What lies in one ring is sent from there into the next, through two stages."""
    plan = Plan(stream=7, count=30_000 * scale, most=3000)
    rings = [shmkit.Ring.create(capacity=capacity) for capacity in (4096, 16384, 4096)]
    try:
        end_well(
            process(traffic.produce, rings[0], plan),
            process(traffic.pass_on, rings[0], rings[1]),
            process(traffic.pass_on, rings[1], rings[2]),
            process(traffic.consume, rings[2], plan),
        )
    finally:
        for ring in rings:
            ring.close()


@scale
def test_there_and_back(process: Processes, scale: int) -> None:
    """Each record is answered before the next is sent: both ends of both rings are empty and full in turn."""
    plan = Plan(stream=8, count=30_000 * scale, most=900)
    with shmkit.Ring.create(capacity=1024) as there, shmkit.Ring.create(capacity=1024) as back:
        child = process(traffic.pass_on, there, back)
        for number in range(plan.count):
            there.send(traffic.record(plan.stream, number, plan.most), timeout=WATCHDOG)
            traffic.check(back.recv(timeout=WATCHDOG), plan.stream, number, plan.most)
        there.close()
        with pytest.raises(shmkit.EndOfStream):
            back.recv(timeout=WATCHDOG)
        end_well(child)


@scale
def test_rows_by_the_thousand(process: Processes, start_method: BaseContext, scale: int) -> None:
    """Batches of any size out of one array and into another; they meet in no place."""
    count = 1_000_000 * scale
    with shmkit.Ring.create(capacity=64 * 1024) as ring:
        producer = process(traffic.produce_rows, ring, count, 1, context=start_method)
        end_well(process(traffic.consume_rows, ring, count, 2, context=start_method), producer)
        emptied(ring, count)


@scale
@pytest.mark.parametrize(("senders", "receivers"), [(2, 2), (1, 3), (3, 1)])
def test_several_threads_at_each_end(process: Processes, senders: int, receivers: int, scale: int) -> None:
    """The threads of the two processes take turns: each record arrives once, each sender's in order."""
    plan = Plan(stream=0, count=10_000 * scale, most=700)
    with shmkit.Ring.create(capacity=4096) as ring:
        end_well(
            process(traffic.produce_in_threads, ring, plan, senders),
            process(traffic.consume_in_threads, ring, plan, receivers, senders),
        )
        emptied(ring, plan.count * senders)


@scale
def test_frames_of_megabytes(process: Processes, scale: int) -> None:
    """Copies that are made without the GIL, in a ring of few of them."""
    plan = Plan(stream=9, count=400 * scale, most=1_500_000)
    with shmkit.Ring.create(capacity="4 MiB") as ring:
        end_well(process(traffic.produce, ring, plan), process(traffic.consume, ring, plan))
        emptied(ring, plan.count)


@scale
def test_ends_that_come_and_go(process: Processes, scale: int) -> None:
    """Producers and consumers leave in order, each at its own time and followed by another: one unbroken stream."""
    generations, each = 12 * scale, 500

    def send(ring: shmkit.Ring, first: int) -> None:
        for number in range(first, first + each):
            sent = False
            while not sent:
                # After one consumer has left a full ring, its successor comes.
                with contextlib.suppress(shmkit.Broken):
                    ring.send(traffic.record(10, number, 900), timeout=WATCHDOG)
                    sent = True

    def receive(ring: shmkit.Ring, first: int, count: int) -> None:
        for number in range(first, first + count):
            item = None
            while item is None:
                # After the end of one stream, that of its successor comes.
                with contextlib.suppress(shmkit.EndOfStream):
                    item = ring.recv(timeout=WATCHDOG)
            traffic.check(item, 10, number, 900)

    def one_after_the_other(target: object, ring: shmkit.Ring, *shares: tuple[int, ...]) -> None:
        with_own = Processes()
        try:
            for share in shares:
                end_well(with_own(target, ring, *share))  # type: ignore[arg-type]
        finally:
            with_own.end()

    with shmkit.Ring.create(capacity=2048) as ring:
        total = generations * each
        sending = [(first,) for first in range(0, total, each)]
        receiving = [(first, min(700, total - first)) for first in range(0, total, 700)]
        end_well(
            process(one_after_the_other, send, ring, *sending),
            process(one_after_the_other, receive, ring, *receiving),
        )
        emptied(ring, total)


def test_every_scenario_is_described() -> None:
    """SCENARIOS.md has a section for each test here, in the same order, and no other."""
    (section,) = re.findall(r"^## The ring$.*?(?=^## |\Z)", SCENARIOS.read_text(), re.MULTILINE | re.DOTALL)
    described = re.findall(r"^### (test_\w+)$", section, re.MULTILINE)
    here = [name for name in globals() if name.startswith("test_") and name != "test_every_scenario_is_described"]
    assert described == here
