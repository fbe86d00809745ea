"""Small messages of a pipe that pass from hand to hand (``_pair_meet.h``), beside those that the descriptor carries."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from shmkit import multiprocessing as mp
from shmkit.errors import SegmentNotFound
from support import wait_until
from support.log import Log

CORES = sorted(os.sched_getaffinity(0))
TWO_CORES = pytest.mark.skipif(len(CORES) < 2, reason="there is nobody to hand anything to while one runs")
DUPLEX = pytest.mark.parametrize("duplex", [True, False], ids=["socket", "pipe"])


@pytest.fixture
def apart() -> Iterator[None]:
    """This process on one core; a child goes to another by `elsewhere`."""
    os.sched_setaffinity(0, CORES[:1])
    yield
    os.sched_setaffinity(0, CORES)


def elsewhere(core: int = CORES[-1]) -> None:
    os.sched_setaffinity(0, [core])


def started(method: str, target: Callable[..., None], *args: Any) -> Any:
    process = mp.get_context(method).Process(target=target, args=args)
    process.start()
    return process


def ended(process: Any) -> None:
    process.join(30)
    assert process.exitcode == 0


def echo(receiver: Any, sender: Any, core: int) -> None:
    elsewhere(core)
    while (got := receiver.recv()) is not None:
        sender.send(got)


@TWO_CORES
@DUPLEX
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.usefixtures("apart")
def test_one_who_answers_at_once_is_handed_its_messages(method: str, duplex: bool) -> None:
    """Whatever they are: small, a little too large for that, and such as lie in memory."""
    if duplex:
        ours, theirs = mp.Pipe()
        ends = ours, ours, theirs, theirs
    else:
        there, out = mp.Pipe(False)
        back, here = mp.Pipe(False)
        ends = back, out, there, here
    process = started(method, echo, ends[2], ends[3], CORES[-1])
    sizes, number = (0, 8, 100, 2000, 2200, 10_000, 50_000), 0

    def was_handed() -> bool:
        nonlocal number
        for _ in range(200):
            number += 1
            data = bytes([number % 256]) * sizes[number % len(sizes)]
            ends[1].send((number, data))
            assert ends[0].recv() == (number, data)
        return bool(ends[1]._pair.handed(ends[1]._side) > 20)

    wait_until(was_handed)
    ends[1].send(None)
    ended(process)


def send_numbers(sender: Any, who: int, most: int, raw: bool) -> None:
    elsewhere()
    for number in range(most):
        data = pickle.dumps((who, number, b"x" * (number % 50)))
        if raw and number % 3 == 0:
            os.write(sender.fileno(), struct.pack("!i", len(data)) + data)
        elif number % 5 == 0:
            sender.send_bytes(data)
        else:
            sender.send((who, number, b"x" * (number % 50)))


@DUPLEX
@pytest.mark.usefixtures("apart")
def test_messages_of_each_sender_stay_in_order(duplex: bool) -> None:
    """Several processes, one of which writes to the descriptor by itself now and then."""
    receiver, sender = mp.Pipe(duplex)
    most = 3000
    processes = [started("fork", send_numbers, sender, who, most, who == 0) for who in range(3)]
    sender.close()
    following = [0, 0, 0]
    for _ in range(3 * most):
        who, number, data = receiver.recv()
        assert number == following[who]
        assert data == b"x" * (number % 50)
        following[who] += 1
    for process in processes:
        ended(process)
    with pytest.raises(EOFError):
        receiver.recv()


def frame(number: int) -> bytes:
    data = pickle.dumps(number)
    return struct.pack("!i", len(data)) + data


def writer_by_number(sender: Any) -> Callable[[int], Any]:
    """Through the descriptor's number, which it has asked for."""
    return lambda number: os.write(sender.fileno(), frame(number))


def writer_asked_before(sender: Any) -> Callable[[int], Any]:
    """The same, asked for when the pipe had no memory yet."""
    number_of_it = sender.fileno()
    return lambda number: os.write(number_of_it, frame(number))


def writer_without_memory(sender: Any) -> Callable[[int], Any]:
    """Through an end that was pickled, and has not found the pipe's memory."""
    data = bytes(ForkingPickler.dumps(sender))  # CPython 3.12.1 crashes if its view is collected in a circle
    with mock.patch("shmkit._pair.find_pair", side_effect=SegmentNotFound("it is gone")):
        other = pickle.loads(data)
    assert other._pair is None
    return other.send


def writer_behind_its_back(sender: Any) -> Callable[[int], Any]:
    """As a child would that Python did not see forked, when the pipe had no memory yet."""
    child = ctypes.CDLL(None).fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return lambda number: os.write(sender._handle, frame(number))


def send_between(make: Callable[[Any], Callable[[int], Any]], early: bool, duplex: bool) -> None:
    elsewhere(CORES[0])
    receiver, sender = mp.Pipe(duplex)
    back, here = mp.Pipe(False)
    write = make(sender) if early else None
    process = started("fork", echo, receiver, here, CORES[-1])
    write = write or make(sender)
    try:
        for number in range(0, 6000, 3):
            sender.send(number)
            assert back.recv() == number  # it waits for the next one, or will in a moment
            write(number + 1)
            sender.send(number + 2)
            assert back.recv() == number + 1
            assert back.recv() == number + 2
        sender.send(None)
        ended(process)
    finally:
        process.kill()


@TWO_CORES
@DUPLEX
@pytest.mark.parametrize(
    ("make", "early"),
    [
        (writer_by_number, False),
        (writer_asked_before, True),
        (writer_without_memory, False),
        (writer_behind_its_back, True),
    ],
)
def test_what_was_written_by_one_who_knows_of_nothing_is_not_overtaken(
    make: Callable[[Any], Callable[[int], Any]], early: bool, duplex: bool
) -> None:
    """By what is sent right after it, to a reader that waits."""
    # In a process of its own: what was pickled and is never found is kept until that ends.
    ended(started("fork", send_between, make, early, duplex))


def receive_for_ever(receiver: Any, log: Log) -> None:
    elsewhere()
    while True:
        receiver.recv()
        log[0] += 1


@DUPLEX
@pytest.mark.usefixtures("apart")
def test_a_reader_that_is_stopped_keeps_no_message_from_another(duplex: bool) -> None:
    """Wherever it was stopped: it had been in recv, and had not got what was sent since."""
    receiver, sender = mp.Pipe(duplex)
    log = Log()
    victim = started("fork", receive_for_ever, receiver, log)
    for number in range(60):
        before = log[0]
        sender.send(-1)
        while log[0] == before:
            pass
        os.kill(victim.pid, signal.SIGSTOP)
        wait_until(lambda: Path(f"/proc/{victim.pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt")
        sender.send(number)
        assert receiver.poll(0)
        assert receiver.recv() == number
        os.kill(victim.pid, signal.SIGCONT)
    victim.kill()
    victim.join()
    receiver.close()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        sender.send(0)


def close_after(sender: Any, most: int) -> None:
    elsewhere()
    for number in range(most):
        sender.send(number)


@DUPLEX
@pytest.mark.usefixtures("apart")
def test_the_end_comes_after_the_last_message(duplex: bool) -> None:
    """When the only writer has gone."""
    for most in (0, 1, 2, 30):
        receiver, sender = mp.Pipe(duplex)
        process = started("fork", close_after, sender, most)
        sender.close()
        assert [receiver.recv() for _ in range(most)] == list(range(most))
        with pytest.raises(EOFError):
            receiver.recv()
        ended(process)


@pytest.mark.usefixtures("apart")
def test_what_is_put_in_the_place_of_a_descriptor_gets_what_is_sent_then() -> None:
    """Whoever asks for its number may do that; the reader that waits at the old pipe is not meant."""
    receiver, sender = mp.Pipe()
    process = started("fork", echo, receiver, receiver, CORES[-1])
    for number in range(300):
        sender.send(number)
        assert sender.recv() == number
    kept = os.dup(sender.fileno())
    ours, theirs = socket.socketpair()
    with ours, theirs:
        os.dup2(theirs.fileno(), sender.fileno())
        for _ in range(20):
            sender.send_bytes(b"other")
            assert ours.recv(9, socket.MSG_WAITALL) == b"\0\0\0\5other"
        os.dup2(kept, sender.fileno())
    os.close(kept)
    sender.send(None)
    ended(process)


@pytest.mark.usefixtures("apart")
def test_a_socket_that_was_shut_down_sends_nothing_any_more() -> None:
    """Not to a reader that waits, either."""
    receiver, sender = mp.Pipe()
    process = started("fork", echo, receiver, receiver, CORES[-1])
    receiver.close()
    for number in range(300):
        sender.send(number)
        assert sender.recv() == number
    with socket.socket(fileno=os.dup(sender.fileno())) as same:
        same.shutdown(socket.SHUT_WR)
        with pytest.raises(BrokenPipeError):
            sender.send(1)
    process.join(30)
    assert process.exitcode == 1  # EOFError


@pytest.mark.usefixtures("apart")
def test_a_signal_in_the_wait_neither_loses_nor_doubles_a_message() -> None:
    """Handlers run, some raise: a call that has raised has not received."""
    receiver, sender = mp.Pipe()
    process = started("fork", echo, receiver, receiver, CORES[-1])
    rang = 0

    def ring(_signal: int, _frame: Any) -> None:
        nonlocal rang
        rang += 1

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        for number in range(3000):
            sender.send(number)
            assert sender.recv() == number
        wait_until(lambda: rang > 10)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    sender.send(None)
    ended(process)
