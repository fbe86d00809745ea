"""Large messages of a pipe lie in shared memory: what arrives, whose it is, and what goes through the descriptor."""

from __future__ import annotations

import array
import fcntl
import gc
import multiprocessing
import os
import pickle
import signal
import struct
import termios
import threading
from collections import deque
from collections.abc import Iterator
from multiprocessing import reduction
from multiprocessing.connection import Connection as StdlibConnection
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import shmkit
from shmkit import multiprocessing as mp
from shmkit._heap import process_heap
from shmkit._pair import LARGE
from shmkit.multiprocessing import connection
from support import Processes, wait_until

NOTE = 56


@pytest.fixture(params=[True, False], ids=["socket", "pipe"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """Who receives, and who sends; what they have used is back when both are closed."""
    heap = process_heap()
    before = held(heap)
    receiver, sender = mp.Pipe(request.param)
    yield receiver, sender
    receiver.close()
    sender.close()
    gc.collect()
    wait_until(lambda: held(heap) == before)


def held(heap: Any) -> int:
    heap.collect()
    return int(heap.statistics()["blocks_held"])


def unread(end: Any) -> int:
    number = array.array("i", [0])
    fcntl.ioctl(end.fileno(), termios.FIONREAD, number)
    return number[0]


def same(got: Any, sent: Any) -> bool:
    if isinstance(sent, np.ndarray):
        return type(got) is type(sent) and got.dtype == sent.dtype and np.array_equal(got, sent)
    if isinstance(sent, list | tuple):
        return type(got) is type(sent) and len(got) == len(sent) and all(map(same, got, sent))
    if isinstance(sent, dict):
        return list(got) == list(sent) and all(same(got[key], sent[key]) for key in sent)
    return bool(type(got) is type(sent) and got == sent)


N = 30_000
LARGE_ONES = {
    "bytes": os.urandom(N),
    "text": "é" * N,
    "array": np.arange(N),
    "structured": np.zeros(N, [("a", "i4"), ("b", "f8", (2,))]),
    "big-endian": np.arange(N, dtype=">i4"),
    "two-dimensional": np.arange(N).reshape(100, -1),
    "fortran": np.asfortranarray(np.arange(N).reshape(100, -1)),
    "strided": np.arange(3 * N)[::3],
    "objects": np.array([1, None, "x"] * N, dtype=object),
    "times": np.arange(N).astype("M8[s]"),
    "container": [{"a": np.arange(N), "b": (1, np.zeros(3))}, b"x" * N],
    "bytearray": bytearray(b"y" * N),
}


@pytest.mark.parametrize("kind", LARGE_ONES)
def test_large_objects_arrive_as_they_were(ends: Any, kind: str) -> None:
    receiver, sender = ends
    sent = LARGE_ONES[kind]
    sender.send(sent)
    assert unread(receiver) == NOTE
    assert same(receiver.recv(), sent)
    sender.send(sent)
    assert same(pickle.loads(receiver.recv_bytes()), sent)
    sender.send_bytes(pickle.dumps(sent, 5))  # an older one has NumPy forget the order of bytes
    assert same(receiver.recv(), sent)
    if isinstance(sent, np.ndarray) and not sent.dtype.hasobject and sent.flags.forc and sent.dtype.names is None:
        sender.send(sent)
        assert receiver.recv().flags.f_contiguous == sent.flags.f_contiguous


@pytest.mark.parametrize("size", [0, 1, LARGE - 1, LARGE, LARGE + 1])
def test_small_messages_are_the_standard_librarys(ends: Any, size: int) -> None:
    """Byte for byte, up to what it writes in one call."""
    receiver, sender = ends
    data = bytes(size)
    sender.send_bytes(data)
    if size < LARGE:
        assert os.read(receiver.fileno(), 2 * LARGE) == struct.pack("!i", size) + data
    else:
        assert unread(receiver) == NOTE
        assert receiver.recv_bytes() == data


def test_what_is_received_is_the_receivers_own(ends: Any) -> None:
    receiver, sender = ends
    sent = np.arange(N)
    sender.send(sent)
    sender.send([sent, sent[:10]])
    one, (two, _) = receiver.recv(), receiver.recv()
    receiver.close()
    sender.close()
    sent[:] = -1
    for got in (one, two):
        assert got.flags.writeable
        got[0] = 77
    assert same(one[1:], np.arange(1, N))
    assert same(two[1:], np.arange(1, N))


def test_read_only_buffers_stay_so(ends: Any) -> None:
    receiver, sender = ends
    sent = pickle.PickleBuffer(bytes(N))
    sender.send(sent)
    assert memoryview(receiver.recv()).readonly
    sender.send(sent)
    assert memoryview(receiver.recv_bytes()).readonly


class Reduced:
    def __init__(self, data: Any) -> None:
        self.data = data


def reduce_reduced(item: Reduced) -> Any:
    return Reduced, (("registered", item.data),)


def reduce_array(item: Any) -> Any:
    return Reduced, (("an array of", item.shape),)


def test_registered_reducers_count(ends: Any) -> None:
    receiver, sender = ends
    reducers = reduction.ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    reduction.ForkingPickler.register(Reduced, reduce_reduced)
    try:
        sender.send(Reduced(np.arange(N)))
        assert receiver.recv().data[0] == "registered"
        reduction.ForkingPickler.register(np.ndarray, reduce_array)
        sender.send(np.arange(N))
        assert receiver.recv().data == ("an array of", (N,))
    finally:
        reducers.pop(Reduced, None)
        reducers.pop(np.ndarray, None)


def test_too_short_a_buffer_and_too_long_a_message(ends: Any) -> None:
    receiver, sender = ends
    data = os.urandom(N)
    into = bytearray(N + 10)
    sender.send_bytes(data)
    assert receiver.recv_bytes_into(into, 10) == N
    assert into[10:] == data
    sender.send_bytes(data)
    with pytest.raises(multiprocessing.BufferTooShort) as caught:
        receiver.recv_bytes_into(bytearray(3))
    assert caught.value.args == (data,)
    sender.send_bytes(data)
    assert receiver.recv_bytes(N) == data
    sender.send_bytes(data)
    with pytest.raises(OSError, match="bad message length"):
        receiver.recv_bytes(N - 1)
    assert receiver.closed or not receiver.readable


def test_a_reader_that_does_not_come_holds_its_sender_back(ends: Any) -> None:
    """Not before a real pipe would, and not for good."""
    receiver, sender = ends
    done: list[int] = []

    def send() -> None:
        for number in range(20):
            sender.send(np.full(N * 10, number))
            done.append(number)

    thread = threading.Thread(target=send)
    thread.start()
    wait_until(lambda: sender._pair.waiting(1 if sender._side else 0)[0] == 2)
    assert len(done) < 20
    assert [int(receiver.recv()[0]) for _ in range(20)] == list(range(20))
    thread.join()


def test_more_than_any_pipe_holds_waits_for_its_reader(ends: Any) -> None:
    receiver, sender = ends
    caught: list[BaseException] = []
    data = bytes((16 << 20) + 1)

    def send() -> None:
        try:
            sender.send_bytes(data)
            sender.send_bytes(data)
        except BrokenPipeError as error:
            caught.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    assert receiver.recv_bytes() == data
    wait_until(receiver.poll)
    wait_until(lambda: unread(receiver) == NOTE)
    assert thread.is_alive()
    receiver.close()
    thread.join()
    assert len(caught) == 1


def test_nobody_left_to_read(ends: Any) -> None:
    receiver, sender = ends
    sender.send(np.arange(N))
    receiver.close()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(3):
            sender.send(np.arange(N))


def test_the_end_after_the_last_message(ends: Any) -> None:
    receiver, sender = ends
    sender.send(np.arange(N))
    sender.close()
    assert same(receiver.recv(), np.arange(N))
    with pytest.raises(EOFError):
        receiver.recv()


def test_a_note_that_somebody_read_and_did_not_follow(ends: Any) -> None:
    """As one who was killed there: its memory comes back once what was sent later is taken."""
    receiver, sender = ends
    sender.send(np.arange(N))
    assert len(os.read(receiver.fileno(), NOTE)) == NOTE
    sender.send(np.arange(N))
    assert sender._pair.waiting(sender._side)[0] == 2
    receiver.recv()
    assert sender._pair.waiting(sender._side) == (0, 0)


def test_a_connection_by_its_descriptor(ends: Any) -> None:
    """One who knows nothing of the other end sends what the standard library sends, and understands what it is sent."""
    receiver, sender = ends
    again = connection.Connection(os.dup(receiver.fileno()), writable=receiver.writable)
    with again:
        sender.send(np.arange(N))
        assert same(again.recv(), np.arange(N))
        sender.send(np.arange(N))
        assert same(pickle.loads(again.recv_bytes()), np.arange(N))
        sender.send_bytes(bytes(N))
        assert again.recv_bytes() == bytes(N)
    with connection.Connection(os.dup(sender.fileno()), readable=sender.readable) as plain:
        thread = threading.Thread(target=plain.send, args=(np.arange(N),))
        thread.start()
        assert same(receiver.recv(), np.arange(N))
        thread.join()


@given(data=st.data())
def test_any_messages_in_any_form(data: st.DataObject) -> None:
    """Against a deque: each message once, in order, whole, whatever it was sent as and is received as."""
    receiver, sender = mp.Pipe(data.draw(st.booleans()))
    model: deque[Any] = deque()
    size = st.one_of(st.integers(0, 40), st.integers(LARGE - 200, LARGE + 200), st.integers(0, 60_000))
    with receiver, sender:
        for _ in range(data.draw(st.integers(1, 20))):
            action = data.draw(st.sampled_from(["send", "send array", "send_bytes", "recv", "recv_bytes", "poll"]))
            assert receiver.poll() is bool(model)
            if action.startswith("send") and len(model) < 3:
                sent: Any = data.draw(st.binary(min_size=1, max_size=1)) * data.draw(size)
                if action == "send array":
                    sent = np.frombuffer(sent, "u1").copy()
                elif data.draw(st.booleans()):
                    sent = [sent, 1]
                if action == "send_bytes":
                    sender.send_bytes(pickle.dumps(sent))
                else:
                    sender.send(sent)
                model.append(sent)
            elif action.startswith("recv") and model:
                got = receiver.recv() if action == "recv" else pickle.loads(receiver.recv_bytes())
                assert same(got, model.popleft())
        while model:
            assert same(receiver.recv(), model.popleft())
        assert not receiver.poll()


# --------------------------------------------------------------------------------------------------------- processes


METHODS = multiprocessing.get_all_start_methods()


@pytest.mark.parametrize("method", METHODS)
def test_to_a_child_and_back(process: Processes, method: str) -> None:
    here, there = mp.Pipe()
    child = process(echo_to_none, there, context=method)
    there.close()
    for sent in LARGE_ONES.values():
        here.send(sent)
        assert same(here.recv(), sent)
    assert here._pair.waiting(here._side) == (0, 0)
    here.send(None)
    assert here.recv() is None
    child.join()
    here.close()


def echo_to_none(end: Any) -> None:
    got: Any = 0
    while got is not None:
        got = end.recv()
        end.send(got)


def send_and_close(way: Any) -> None:
    receiver, sender = mp.Pipe(False)
    sender.send(np.arange(N))
    way.send(receiver)
    receiver.close()
    way.recv()  # it has arrived
    sender.send(np.arange(N) + 1)
    sender.close()
    way.recv()


@pytest.mark.parametrize("method", METHODS)
def test_a_connection_that_is_sent_has_its_messages(process: Processes, method: str) -> None:
    """Those too that were sent before it was, by a process that has closed it since."""
    way, other = mp.Pipe()
    child = process(send_and_close, other, context=method)
    other.close()
    receiver = way.recv()
    assert same(receiver.recv(), np.arange(N))
    way.send("arrived")
    assert same(receiver.recv(), np.arange(N) + 1)
    with pytest.raises(EOFError):
        receiver.recv()
    way.send("read")
    child.join()
    receiver.close()
    way.close()


def send_and_exit(sender: Any) -> None:
    for number in range(3):
        sender.send(np.full(N, number))


@pytest.mark.parametrize("method", METHODS)
def test_what_was_sent_outlives_its_sender(process: Processes, method: str) -> None:
    receiver, sender = mp.Pipe(False)
    child = process(send_and_exit, sender, context=method)
    sender.close()
    child.join()
    assert child.exitcode == 0
    process_heap().collect()
    for number in range(3):
        assert same(receiver.recv(), np.full(N, number))
    with pytest.raises(EOFError):
        receiver.recv()
    receiver.close()


def test_a_fork_leaves_the_parents_messages_alone(process: Processes) -> None:
    receiver, sender = mp.Pipe(False)
    sender.send(np.arange(N))
    child = process(sender.close)
    child.join()
    process_heap().collect()
    assert sender._pair.waiting(1)[0] == 1
    assert same(receiver.recv(), np.arange(N))
    receiver.close()
    sender.close()


def without_memory(sender: Any) -> None:
    keep = sender.fileno()
    for fd in range(3, 256):
        if fd != keep:
            try:
                os.close(fd)
            except OSError:
                pass
    sender.send([np.arange(N), 1])
    sender.send(np.arange(N))
    sender.send_bytes(bytes(N))


def test_without_its_memory_messages_go_through_the_pipe(process: Processes) -> None:
    """As of a daemon that has closed all descriptors that it does not know."""
    receiver, sender = mp.Pipe(False)
    child = process(without_memory, sender)
    sender.close()
    got, one = receiver.recv()
    assert one == 1
    assert same(got, np.arange(N))
    assert got.flags.writeable
    assert same(receiver.recv(), np.arange(N))
    assert receiver.recv_bytes() == bytes(N)
    child.join()
    assert child.exitcode == 0
    receiver.close()


def writes(sender: Any, lock: Any, me: int, count: int) -> None:
    chance = np.random.default_rng(me)
    for number in range(count):
        data = chance.integers(0, 256, int(chance.integers(1, 60_000)), "u1")
        with lock:
            sender.send((me, number, int(data.sum()), data))


def reads(receiver: Any, lock: Any, answer: Any) -> None:
    seen = []
    while True:
        with lock:
            try:
                me, number, total, data = receiver.recv()
            except EOFError:
                break
        assert int(data.sum()) == total
        seen.append((me, number))
    answer.send(seen)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_many_writers_and_many_readers_with_locks(process: Processes, method: str) -> None:
    context = mp.get_context(method)
    receiver, sender = context.Pipe(False)
    reading, writing = context.Lock(), context.Lock()
    answers = []
    readers = []
    for _ in range(2):
        answer, answerer = context.Pipe(False)
        readers.append(process(read_alone, receiver, sender, reading, answerer, context=context))
        answerer.close()
        answers.append(answer)
    writers = [process(writes, sender, writing, me, 60, context=context) for me in range(2)]
    sender.close()
    receiver.close()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    seen = [answer.recv() for answer in answers]
    for reader in readers:
        reader.join()
    for one in seen:
        for me in range(2):
            numbers = [number for who, number in one if who == me]
            assert numbers == sorted(numbers)
    assert sorted(item for one in seen for item in one) == [(me, number) for me in range(2) for number in range(60)]
    for answer in answers:
        answer.close()


def read_alone(receiver: Any, sender: Any, lock: Any, answer: Any) -> None:
    sender.close()
    reads(receiver, lock, answer)


@pytest.mark.parametrize("method", METHODS)
def test_who_sends_from_the_same_end_has_its_messages_to_itself(process: Processes, method: str) -> None:
    """A block has a message of one process, and then of another: the first does not take it for its own, lost."""
    context = mp.get_context(method)
    receiver, sender = context.Pipe(False)
    turns = [context.Pipe() for _ in range(2)]
    senders = [process(sends_in_turn, sender, turn[1], context=context) for turn in turns]
    (first, _), (second, _) = turns
    for size in (N, 2 * N):
        first.send(size)
        assert receiver.recv_bytes() == bytes(size)
    second.send(N)
    assert second.recv() == "sent"
    first.send(None)
    assert [first.recv() for _ in range(3)] == ["sent", "sent", (0, 0)]
    assert receiver.recv_bytes() == bytes(N)
    second.send(None)
    for one in senders:
        one.join()
        assert one.exitcode == 0
    for end in (receiver, sender, *turns[0], *turns[1]):
        end.close()


def sends_in_turn(end: Any, turn: Any) -> None:
    while (size := turn.recv()) is not None:
        end.send_bytes(bytes(size))
        turn.send("sent")
    turn.send(end._pair.waiting(end._side))


@pytest.mark.parametrize("method", METHODS)
def test_another_process_message_in_the_same_block_is_not_ones_own(process: Processes, method: str) -> None:
    """Two that never sent before send from both ends, by turns through one block: each message stays its receiver's."""
    context = mp.get_context(method)
    one, other = context.Pipe()
    here, there = context.Pipe()
    first = process(sends_before, one, here, context=context)
    second = process(sends_after, other, there, context=context)
    first.join()
    second.join()
    for end in (one, other, here, there):
        end.close()
    assert first.exitcode == second.exitcode == 0


def sends_before(end: Any, turn: Any) -> None:
    end.send_bytes(bytes(N))
    assert turn.recv() == "its block is free, and has another message"
    end.send_bytes(bytes(2 * N))
    assert turn.recv() == "that was taken"
    assert end._pair.waiting(end._side) == (0, 0)
    turn.send("what was taken is known")
    assert end.recv_bytes() == b"x" * N


def sends_after(end: Any, turn: Any) -> None:
    assert end.recv_bytes() == bytes(N)
    gc.collect()
    end.send_bytes(b"x" * N)
    turn.send("its block is free, and has another message")
    assert end.recv_bytes() == bytes(2 * N)
    turn.send("that was taken")
    assert turn.recv() == "what was taken is known"


def send_under_signals(sender: Any) -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    for number in range(200):
        sender.send(np.full(N * (1 + number % 5), number))
        sender.send(number)
    signal.setitimer(signal.ITIMER_REAL, 0)


def receive_under_signals(receiver: Any) -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.0013, 0.0013)
    for number in range(200):
        assert same(receiver.recv(), np.full(N * (1 + number % 5), number))
        assert receiver.recv() == number
    signal.setitimer(signal.ITIMER_REAL, 0)


def test_signals_in_the_middle(process: Processes) -> None:
    receiver, sender = mp.Pipe(False)
    children = [process(send_under_signals, sender), process(receive_under_signals, receiver)]
    receiver.close()
    sender.close()
    for child in children:
        child.join()
        assert child.exitcode == 0


def test_a_receiver_that_is_stopped_loses_nothing(process: Processes) -> None:
    here, there = mp.Pipe()
    child = process(echo_to_none, there)
    there.close()
    for number in range(20):
        os.kill(child.pid or 0, signal.SIGSTOP)
        here.send(np.full(N, number))
        os.kill(child.pid or 0, signal.SIGCONT)
        assert same(here.recv(), np.full(N, number))
    here.send(None)
    here.recv()
    child.join()
    here.close()


# -------------------------------------------------------------------------------- the standard library's, beside ours


@pytest.mark.parametrize("ours_listens", [True, False])
def test_a_plain_peer_is_sent_plain_messages(ours_listens: bool) -> None:
    """Who listens, and who connects, may be any program: nothing but the standard library's messages goes there."""
    theirs = __import__("multiprocessing.connection", fromlist=["Listener"])
    listening, connecting = (connection, theirs) if ours_listens else (theirs, connection)
    with listening.Listener(authkey=b"key") as listener:
        made: list[Any] = []
        thread = threading.Thread(target=lambda: made.append(connecting.Client(listener.address, authkey=b"key")))
        thread.start()
        accepted = listener.accept()
        thread.join()
    with accepted, made[0] as client:
        assert {type(accepted).__module__, type(client).__module__} == {
            "multiprocessing.connection", "shmkit.multiprocessing.connection",
        }  # fmt: skip
        for one, other in ((accepted, client), (client, accepted)):
            sender = threading.Thread(target=one.send, args=(LARGE_ONES["container"],))
            sender.start()
            assert same(other.recv(), LARGE_ONES["container"])
            sender.join()


def test_installed_in_place() -> None:
    bound, module = multiprocessing.connection.Pipe, multiprocessing.connection
    code = bound.__code__
    before = multiprocessing.Pipe()
    shmkit.install(only={"pipe"})
    try:
        made = [bound(), multiprocessing.Pipe(), module.Pipe(), multiprocessing.get_context("spawn").Pipe(False)]
        for receiver, sender in made:
            assert isinstance(receiver, StdlibConnection)
            assert type(receiver).__module__ == "shmkit.multiprocessing.connection"
            sender.send(np.arange(N))
            assert unread(receiver) == NOTE
            assert same(receiver.recv(), np.arange(N))
        assert type(multiprocessing.Lock()).__module__ == "multiprocessing.synchronize"
    finally:
        shmkit.uninstall()
    assert bound.__code__ is code
    plain = bound()
    assert type(plain[0]) is type(before[0]) is StdlibConnection
    made[0][0].send(np.arange(N))
    assert same(made[0][1].recv(), np.arange(N))
    for pair in (*made, before, plain):
        for end in pair:
            end.close()


@pytest.mark.parametrize("wrong", [b"\xff\xff\xff\xfd", b"\xff\xff\xff\xff" + b"\xff" * 8])
def test_a_length_that_is_none(ends: Any, wrong: bytes) -> None:
    receiver, sender = ends
    os.write(sender.fileno(), wrong)
    with pytest.raises(OSError, match="bad message length"):
        receiver.recv()


def test_a_note_of_nothing(ends: Any) -> None:
    """A forged or outdated note never has anybody read what is not its message."""
    receiver, sender = ends
    os.write(sender.fileno(), struct.pack("!i", -2) + bytes(NOTE - 4))
    with pytest.raises(shmkit.SegmentNotFound, match="never been given"):
        receiver.recv()
    sender.send(np.arange(N))
    note = os.read(receiver.fileno(), NOTE)
    for at in (16, 24):  # what the block's word would have to say
        os.write(sender.fileno(), note[:at] + bytes(8) + note[at + 8 :])
        with pytest.raises(shmkit.ShmkitError, match="contradicts itself"):
            receiver.recv()
    os.write(sender.fileno(), note)
    assert same(receiver.recv(), np.arange(N))
    os.write(sender.fileno(), note)
    with pytest.raises(OSError, match="taken by another reader"):
        receiver.recv()
