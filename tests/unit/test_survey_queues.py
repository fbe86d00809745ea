"""Queues, heaps and topics as the survey sees them, living, dead and hostile; and nobody can tell."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import shmkit
from shmkit import _fields, _header
from shmkit.survey import SharedObject, Survey, Watch
from support import Processes
from unit.cli_support import removed_at_end, shmkit_says

SHM = Path("/dev/shm")


def seen(name: str) -> SharedObject:
    (found,) = [each for each in Survey().posix() if each.name == name]
    return found


@pytest.fixture
def queue(name: str) -> Iterator[shmkit.Queue]:
    with removed_at_end(name):
        queue = shmkit.Queue.create(name, 10, capacity="64 MiB")
        yield queue
        queue.close()


@pytest.fixture
def publisher(name: str) -> Iterator[shmkit.Publisher]:
    with removed_at_end(name):
        publisher = shmkit.Publisher.create(name, slots=4, slot_size="64 KiB")
        yield publisher
        publisher.close()


# ── what it says ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_queue_is_seen_with_its_items_and_blocks(queue: shmkit.Queue, name: str) -> None:
    """As its own statistics say it."""
    for _ in range(3):
        queue.put(np.zeros(10_000))
    kept = queue.get()
    facts = seen(name).details.facts
    own = queue.statistics()
    assert facts["queue"] == "Queue"
    assert {key: facts[key] for key in ("items", "put", "got", "maxsize")} == {
        "items": 2,
        "put": 3,
        "got": 1,
        "maxsize": 10,
    }
    assert (facts["put"], facts["got"]) == (own["put"], own["got"])
    assert (facts["blocks_held"], facts["blocks_queued"]) == (1, 2)
    assert facts["in_use"] >= 3 * kept.nbytes
    assert facts["limit"] == 64 << 20
    assert seen(name).details.words.startswith("2 of 10 items wait, ")
    del kept
    assert seen(name).details.facts["blocks_held"] == 0


def test_the_queues_of_an_anonymous_heap_are_seen(process: Processes, wait_until: Callable[..., object]) -> None:
    """All of them, in the memory that they share."""
    program = process.python(
        "import shmkit, time; a, b = shmkit.Queue(5), shmkit.Queue(); a.put(1); a.put(2); b.put('x' * 5000); "
        "print('ready', flush=True); time.sleep(60)"
    )
    assert program.stdout is not None
    program.stdout.readline()
    (found,) = [
        each for each in Survey().memory() if each.kind == "heap" and program.pid in [user.pid for user in each.users]
    ]
    facts = found.details.facts
    assert sorted((one["items"], one["maxsize"]) for one in facts["queues"]) == [(1, 0), (2, 5)]
    assert found.details.words.startswith("2 queues, 3 items wait")


def _get_and_die(name: str) -> None:
    held = shmkit.Queue.attach(name).get()
    assert held is not None
    os.kill(os.getpid(), signal.SIGKILL)


def test_blocks_of_the_dead_are_told(queue: shmkit.Queue, name: str, process: Processes) -> None:
    """Until somebody who needs memory, or waits, has swept them up."""
    queue.put(np.zeros(10_000))
    child = process(_get_and_die, name)
    child.join()
    found = seen(name)
    assert found.details.dead == (f"holder {child.pid}",)
    assert "dead holder" in shmkit_says("ls", name).out


def _get_and_leave(name: str) -> None:
    queue = shmkit.Queue.attach(name)
    queue.get()
    queue.close()


def test_who_left_in_order_is_not_dead(queue: shmkit.Queue, name: str, process: Processes) -> None:
    """Nothing of it is left."""
    queue.put(np.zeros(10_000))
    process(_get_and_leave, name).join()
    assert seen(name).details.dead == ()


def test_a_topic_is_seen_with_its_publisher(publisher: shmkit.Publisher, name: str) -> None:
    """Alive; then gone in order."""
    publisher.publish(b"one")
    publisher.publish(b"two")
    facts = seen(name).details.facts
    assert facts["producer"] == {"state": "alive", "pid": os.getpid()}
    assert (facts["published"], facts["slots"], facts["slot_size"]) == (2, 4, 65536)
    publisher.close()
    facts = seen(name).details.facts
    assert (facts["producer"]["state"], facts["state"]) == ("left", "closed")


def _publish_and_die(name: str) -> None:
    shmkit.Publisher.attach(name).publish(b"last words")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_publisher_is_told(publisher: shmkit.Publisher, name: str, process: Processes) -> None:
    """By its pid."""
    publisher.close()
    child = process(_publish_and_die, name)
    child.join()
    assert seen(name).details.dead == (f"publisher {child.pid}",)


def test_rates_of_queues_and_topics_are_what_went_through(
    queue: shmkit.Queue, make_name: Callable[[], str], name: str
) -> None:
    """What nobody counts is None."""
    topic = make_name()
    with removed_at_end(topic):
        publisher = shmkit.Publisher.create(topic, slots=4, slot_size=100)
        watch = Watch()
        watch.look()
        for number in range(5):
            queue.put(number)
            publisher.publish(number)
        queue.get()
        rates = {rate.address: rate for rate in watch.look()}
        assert (rates[name].gauge.sent, rates[name].gauge.received, rates[name].gauge.waiting) == (5, 1, 4)
        assert (rates[name].gauge.used, rates[name].gauge.capacity) == (4, 10)
        assert rates[name].sent
        assert rates[name].bytes_sent is None
        assert rates[topic].gauge.sent == 5
        assert rates[topic].received is None
        publisher.close()


def test_the_commands_show_them(queue: shmkit.Queue, make_name: Callable[[], str], name: str) -> None:
    """A queue is one, whatever it lies in; its size is what it may use."""
    queue.put(1)
    topic = make_name()
    with removed_at_end(topic):
        with shmkit.Publisher.create(topic, slots=4, slot_size=100) as publisher:
            publisher.publish(1)
            line = shmkit_says("ls", "--kind", "queue", name).out.splitlines()[1]
            assert line.split()[:4] == [name, "queue", "64", "MiB"]
            assert "1 of 10 items wait" in line
            said = shmkit_says("inspect", topic).out
            assert f"process {os.getpid()}, alive" in said
            assert "maxsize" in shmkit_says("inspect", name).out
            said = shmkit_says("top", "--once", "--interval", "0.05", name, topic).out
            assert {line.split()[1] for line in said.splitlines()[1:]} == {"queue", "topic"}
            for command in (("ls", name), ("inspect", topic), ("top", "--once", "--interval", "0.05")):
                json.loads(shmkit_says(*command, "--json").out)


# ── nonsense, and nobody can tell ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [_header.KIND_HEAP, _header.KIND_TOPIC])
@pytest.mark.parametrize("fill", [0x00, 0xFF, 0x41, None])
def test_a_payload_of_nonsense_does_no_harm(name: str, kind: int, fill: int | None) -> None:
    """A heap or a topic that the payload is not; random bytes too."""
    with removed_at_end(name):
        with shmkit.Segment.create(name, 1 << 20):
            content = bytearray((SHM / name).read_bytes())
        at, size = _header.FIELDS["kind"]
        content[at : at + size] = kind.to_bytes(size, "little")
        for seed in range(20 if fill is None else 1):
            noise = np.random.default_rng(seed).bytes(1 << 20)
            content[-(1 << 20) :] = noise if fill is None else bytes([fill]) * (1 << 20)
            (SHM / name).write_bytes(content)
            found = seen(name)
            assert found.state == "whole"
            json.dumps(found.as_json())
            Watch().look()


@pytest.mark.parametrize("field", [*sorted(_fields.HEAP), "blocks"])
@pytest.mark.parametrize("value", [0, 1, 2**31, 2**63, 2**64 - 1])
def test_a_heap_that_contradicts_itself_does_no_harm(queue: shmkit.Queue, name: str, field: str, value: int) -> None:
    """One field of a good one is spoilt; the copy that is looked at is nobody's."""
    queue.put(np.zeros(10_000))
    path = SHM / name
    copy = path.with_name(f"{name}c")
    spoilt = 4096 + (_fields.HEAP[field][0] if field != "blocks" else 0)
    with path.open("rb") as source:
        head = bytearray(source.read(1 << 20))
    if field == "blocks":
        spoilt = 4096 + int.from_bytes(head[4096 + 16 : 4096 + 24], "little") + _fields.BLOCK_SIZE
        for at in range(spoilt, spoilt + 40 * _fields.BLOCK_SIZE, 8):
            head[at : at + 8] = value.to_bytes(8, "little")
    else:
        size = min(_fields.HEAP[field][1], 8)
        head[spoilt : spoilt + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
    with removed_at_end(copy.name):
        copy.write_bytes(head)
        os.truncate(copy, path.stat().st_size)
        copy.chmod(0o600)
        found = seen(copy.name)
        json.dumps(found.as_json())
        Watch().look()


def test_looking_changes_no_byte_and_wakes_nobody(publisher: shmkit.Publisher, name: str) -> None:
    """Of a topic; and a hole of a heap stays a hole."""
    publisher.publish(b"x")
    before = ((SHM / name).read_bytes(), (SHM / name).stat().st_mtime_ns)
    list(Survey().objects())
    Watch().look()
    assert ((SHM / name).read_bytes(), (SHM / name).stat().st_mtime_ns) == before


def test_looking_into_a_heap_makes_no_memory_of_its_holes(queue: shmkit.Queue, name: str) -> None:
    """Its file has as many blocks afterwards."""
    queue.put(np.zeros(10_000))
    blocks = (SHM / name).stat().st_blocks
    seen(name)
    Watch().look()
    assert (SHM / name).stat().st_blocks == blocks
