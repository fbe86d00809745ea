"""An end of a pair that nobody has used, and nobody can use any more: the other one is told, and waits for nobody."""

from __future__ import annotations

import asyncio
import os
import pickle
import select
import signal
import subprocess
from multiprocessing.context import BaseContext

import pytest

import shmkit
from channel.ends import KINDS, WATCHDOG, Kind
from channel.test_face import under_every_start_method
from shmkit import _map, channel
from support import Processes

PAIRS = [kind for kind in KINDS if kind.paired]
every_pair = pytest.mark.parametrize("kind", PAIRS, ids=str)


def leave(end: channel.Channel, how: str) -> None:
    """Without a message."""
    if how == "close":
        end.close()
    elif how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)


def send_when_told(end: channel.Channel, told: channel.Channel) -> None:
    told.recv(WATCHDOG)
    end.send("after all", WATCHDOG)
    end.close()


def fill(end: channel.Channel) -> None:
    while True:
        end.send(bytes(100_000), WATCHDOG)


@pytest.mark.parametrize("how", ["close", "exit", "killed"])
@under_every_start_method(PAIRS)
def test_a_child_leaves_without_a_message(kind: Kind, start_method: BaseContext, how: str, process: Processes) -> None:
    """Its parent is told of an end, or that nobody receives, whichever end the child had."""
    receiver, given = channel.pair(kind.url)
    with receiver:
        process(leave, given, how, context=start_method)
        given.close()
        with pytest.raises(shmkit.EndOfStream):
            receiver.recv(WATCHDOG)
    given, sender = channel.pair(kind.url)
    with sender:
        process(leave, given, how, context=start_method)
        given.close()
        with pytest.raises(shmkit.Broken):
            fill(sender)


@under_every_start_method(PAIRS)
def test_the_end_of_a_child_that_has_not_sent_yet_is_none(
    kind: Kind, start_method: BaseContext, process: Processes
) -> None:
    """Though the one who handed it on has closed it, and time has passed."""
    receiver, sender = channel.pair(kind.url)
    told, tell = channel.pair("pipe:")
    with receiver, tell:
        process(send_when_told, sender, told, context=start_method)
        sender.close()
        told.close()
        assert not receiver.poll(0.2)
        assert receiver.try_recv() is None
        tell.send("now")
        assert list(receiver) == ["after all"]


@every_pair
def test_every_way_to_receive_tells_the_end(kind: Kind) -> None:
    """Also those that do not wait, and those in an event loop."""
    for receive in (
        lambda end: end.recv(),
        lambda end: end.try_recv(),
        lambda end: end.recv_bytes(WATCHDOG),
        lambda end: asyncio.run(end.recv_async(WATCHDOG)),
    ):
        receiver, sender = channel.pair(kind.url)
        with receiver:
            sender.close()
            assert receiver.poll(WATCHDOG)
            with pytest.raises(shmkit.EndOfStream):
                receive(receiver)


@every_pair
def test_a_descriptor_tells_the_end(kind: Kind) -> None:
    """That of the end that receives, and stays the same one."""
    receiver, sender = channel.pair(kind.url)
    with receiver:
        before = receiver.fileno()
        assert not select.select([receiver], [], [], 0)[0]
        sender.close()
        assert select.select([receiver], [], [], WATCHDOG)[0]
        with pytest.raises(shmkit.EndOfStream):
            receiver.recv()
        assert receiver.fileno() == before
    receiver, sender = channel.pair(kind.url)
    with receiver, sender:
        before = receiver.fileno()
        for number in range(3):
            sender.send(number)
            assert select.select([receiver], [], [], WATCHDOG)[0]
            assert receiver.recv(WATCHDOG) == number
            assert not select.select([receiver], [], [], 0)[0]
        assert receiver.fileno() == before


@every_pair
def test_every_way_to_send_tells_that_nobody_receives(kind: Kind) -> None:
    """Once there is no room any more, at the latest."""

    def try_to_fill(end: channel.Channel) -> None:
        while True:
            end.try_send(bytes(100_000))

    async def fill_in_loop(end: channel.Channel) -> None:
        while True:
            await end.send_async({"bytes": bytes(100_000)}, WATCHDOG)

    for send in (fill, try_to_fill, lambda end: asyncio.run(fill_in_loop(end))):
        receiver, sender = channel.pair(kind.url)
        with sender:
            receiver.close()
            with pytest.raises(shmkit.Broken):
                send(sender)


PROGRAM = """
import pickle, sys
end = pickle.load(sys.stdin.buffer)
print(end.recv(60) if sys.argv[1] == "receiver" else end.send("from afar", 60))
"""


@pytest.mark.parametrize("given", ["sender", "receiver"])
def test_an_end_that_was_pickled_for_anybody_is_waited_for(given: str, process: Processes) -> None:
    """An unrelated program may come later, though whoever pickled the end has closed it."""
    receiver, sender = channel.pair("ring:")
    kept, other = (receiver, sender) if given == "sender" else (sender, receiver)
    data = pickle.dumps(other)
    other.close()
    assert not receiver.poll(0.2) if given == "sender" else sender.try_send("from here")
    program = process.python(PROGRAM, given, stdin=subprocess.PIPE, text=False)
    said = program.communicate(data)[0].decode().strip()
    assert program.returncode == 0
    assert (receiver.recv(WATCHDOG), said) == ("from afar", "None") if given == "sender" else said == "from here"
    kept.close()


def test_a_descriptor_is_quiet_while_an_end_is_with_somebody_unknown() -> None:
    """What hangs up then says nothing of the end, and wakes nobody for ever."""
    receiver, sender = channel.pair("ring:")
    with receiver:
        receiver.fileno()
        data = pickle.dumps(sender)
        sender.close()
        assert receiver.try_recv() is None
        assert not select.select([receiver], [], [], 0)[0]
        with pickle.loads(data) as again:
            again.send(1)
            assert select.select([receiver], [], [], WATCHDOG)[0]
            assert receiver.recv(WATCHDOG) == 1
            assert not select.select([receiver], [], [], 0)[0]
        assert select.select([receiver], [], [], WATCHDOG)[0]
        with pytest.raises(shmkit.EndOfStream):
            receiver.recv(WATCHDOG)


def test_an_end_may_be_pickled_any_number_of_times() -> None:
    """Also when the other one, which takes no notice, has gone."""
    receiver, sender = channel.pair("ring:")
    for _ in range(2000):
        pickle.dumps(sender)
    copies = [pickle.loads(pickle.dumps(sender)) for _ in range(3)]
    receiver.close()
    for end in (sender, *copies):
        pickle.dumps(end)
        end.close()
    _map.forget_references()  # of pickles that nobody takes
