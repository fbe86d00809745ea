"""What must hold of a Pipe, whoever makes it: real descriptors, whole messages, and the end of the stream."""

from __future__ import annotations

import multiprocessing
import os
import select
import struct
import threading
from collections.abc import Callable, Iterator
from multiprocessing import connection
from typing import Any

import pytest

import shmkit
import shmkit.multiprocessing
from support import Processes

LARGE = 3 << 20


@pytest.fixture(params=["stdlib", "drop-in", "install"])
def pipe(request: pytest.FixtureRequest) -> Iterator[Callable[..., tuple[Any, Any]]]:
    ends: list[Any] = []
    module = shmkit.multiprocessing if request.param == "drop-in" else multiprocessing

    def make(duplex: bool = True) -> tuple[Any, Any]:
        made = module.Pipe(duplex)
        ends.extend(made)
        return made

    if request.param == "install":
        shmkit.install()
    yield make
    shmkit.uninstall()
    for end in ends:
        end.close()


@pytest.mark.parametrize("size", [0, 1, 16_384, LARGE])
def test_objects_are_read_as_bytes_and_the_other_way_round(pipe: Any, size: int) -> None:
    receiver, sender = pipe()
    data = os.urandom(size)

    def send() -> None:
        sender.send(data)
        sender.send_bytes(multiprocessing.reduction.ForkingPickler.dumps(data))
        sender.send_bytes(data)

    thread = threading.Thread(target=send)
    thread.start()
    assert multiprocessing.reduction.ForkingPickler.loads(receiver.recv_bytes()) == data
    assert receiver.recv() == data
    assert receiver.recv_bytes() == data
    thread.join()


def test_raw_writes_are_messages(pipe: Any) -> None:
    receiver, sender = pipe(False)
    os.write(sender.fileno(), struct.pack("!i", 3) + b"abc")
    assert receiver.recv_bytes() == b"abc"


def test_a_descriptor_that_selects(pipe: Any) -> None:
    receiver, sender = pipe()
    assert not receiver.poll(0)
    sender.send(1)
    for _ in range(2):  # level-triggered
        assert select.select([receiver.fileno()], [], [], 30)[0] == [receiver.fileno()]
        assert connection.wait([receiver], 30) == [receiver]
        assert receiver.poll()
    assert receiver.recv() == 1
    assert select.select([receiver.fileno()], [], [], 0)[0] == []


def test_the_end_of_the_stream(pipe: Any) -> None:
    receiver, sender = pipe()
    sender.send("last")
    sender.close()
    assert receiver.recv() == "last"
    assert receiver.poll()
    with pytest.raises(EOFError):
        receiver.recv()
    with pytest.raises(BrokenPipeError):
        receiver.send(1)


def ends_without_a_word(sender: Any, large: bool) -> None:
    sender.send("first")
    if large:
        os.write(sender.fileno(), struct.pack("!i", 100) + b"half")
    os.kill(os.getpid(), 9)


@pytest.mark.parametrize("half", [False, True])
def test_a_sender_that_was_killed(pipe: Any, half: bool, process: Processes) -> None:
    """Between messages, or in the middle of one: EOFError or OSError, and never a message that is not whole."""
    receiver, sender = pipe(False)
    child = process(ends_without_a_word, sender, half)
    sender.close()
    child.join()
    assert receiver.recv() == "first"
    with pytest.raises((EOFError, OSError)):
        receiver.recv()


def polls(receiver: Any, answer: Any) -> None:
    answer.send((receiver.poll(30), receiver.poll(0)))


def test_another_process_polls_and_takes_nothing(pipe: Any, process: Processes) -> None:
    receiver, sender = pipe(False)
    answer, answerer = pipe(False)
    sender.send("whole")
    process(polls, receiver, answerer).join()
    assert answer.recv() == (True, True)
    assert receiver.recv() == "whole"


def takes(receiver: Any, lock: Any, answer: Any, count: int) -> None:
    for _ in range(count):
        with lock:
            data = receiver.recv_bytes()
        answer.send((len(data), data[:1] * len(data) == data))


@pytest.mark.parametrize("size", [10, 300_000])
def test_several_readers_with_a_lock(pipe: Any, size: int, process: Processes) -> None:
    """Each message goes to one of them, whole."""
    receiver, sender = pipe(False)
    answers, lock = [pipe(False) for _ in range(3)], multiprocessing.Lock()
    for _, answerer in answers:
        process(takes, receiver, lock, answerer, 4)
    for number in range(12):
        sender.send_bytes(bytes([number]) * (size + number))
    got = sorted(answer.recv() for answer, _ in answers for _ in range(4))
    assert got == [(size + number, True) for number in range(12)]


def test_too_short_a_buffer_has_the_message(pipe: Any) -> None:
    receiver, sender = pipe()
    sender.send_bytes(b"longer")
    with pytest.raises(multiprocessing.BufferTooShort) as caught:
        receiver.recv_bytes_into(bytearray(3))
    assert caught.value.args == (b"longer",)
