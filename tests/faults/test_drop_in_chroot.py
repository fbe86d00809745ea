"""Children that change their root to where no /proc is: what goes on, and what says why it does not."""

from __future__ import annotations

import os

import pytest

from faults.test_drop_in_environment import FACES, run

BARE = """
import pickle, signal, tempfile
import numpy as np, shmkit
from shmkit._heap import process_heap
N = 100_000
FORMS = [np.arange(N), {"a": np.arange(N), "b": [np.ones(N), 1]}, b"x" * N, bytearray(b"y" * N), "é" * N, 7]
def same(got, sent):
    if isinstance(sent, np.ndarray): return got.dtype == sent.dtype and got.flags.writeable and (got == sent).all()
    if isinstance(sent, dict): return list(got) == list(sent) and all(same(got[key], sent[key]) for key in sent)
    if isinstance(sent, list): return len(got) == len(sent) and all(map(same, got, sent))
    return type(got) is type(sent) and got == sent
def bare(what):
    def child():
        signal.alarm(60)
        os.chroot(folder)
        os.chdir("/")
        what()
    return in_fork(child)
def held():
    process_heap().collect()
    return process_heap().statistics()["blocks_held"]
folder = tempfile.mkdtemp()
"""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="it takes root"),
    pytest.mark.parametrize("face", FACES),
]


def test_large_messages_are_received(face: str) -> None:
    """In whatever form, by a child that has never used its end; what they lay in is free then."""
    run(
        face,
        BARE
        + """
for duplex in (False, True):
    for sent in FORMS:
        receiver, sender = mp.Pipe(duplex)
        assert in_fork(lambda: None) == 0  # what the ends have in common is there
        sender.send(sent)
        before = held()
        def receive():
            assert same(receiver.recv(), sent)
            sender.send(1)
        assert bare(receive) == 0
        assert receiver.recv() == 1
        assert held() == before - (sent is not FORMS[-1]), (held(), before)
        sender.send(sent)
        sender.send_bytes(b"z" * N)
        def receive():
            assert same(pickle.loads(receiver.recv_bytes()), sent)
            assert receiver.recv_bytes() == b"z" * N
        assert bare(receive) == 0
        receiver.close(), sender.close()
os.rmdir(folder)
print("fine")
""",
    )


def test_messages_are_sent(face: str) -> None:
    """Large ones through the pipe."""
    run(
        face,
        BARE
        + """
for duplex in (False, True):
    receiver, sender = mp.Pipe(duplex)
    def send():
        for sent in FORMS: sender.send(sent)
        sender.send_bytes(b"z" * N)
    got = []
    def receive():
        for sent in FORMS: got.append(same(receiver.recv(), sent))
        got.append(receiver.recv_bytes() == b"z" * N)
    thread = threading.Thread(target=receive)
    thread.start()
    assert bare(send) == 0
    thread.join()
    assert got == [True] * 7
    receiver.close(), sender.close()
os.rmdir(folder)
print("fine")
""",
    )


def test_a_parent_that_has_used_its_ends_goes_on_and_so_do_its_children(face: str) -> None:
    """Who it is, is known; under what name it would hold another block, is not."""
    run(
        face,
        BARE
        + """
left, right = mp.Pipe()
left.send(1)
assert right.recv() == 1
os.chroot(folder)
os.chdir("/")
signal.alarm(60)
for sent in FORMS:
    thread = threading.Thread(target=left.send, args=(sent,))
    thread.start()
    assert same(right.recv(), sent)
    thread.join()
def child():
    for sent in FORMS: assert same(right.recv(), sent)
thread = threading.Thread(target=lambda: [left.send(sent) for sent in FORMS])
thread.start()
assert in_fork(child) == 0
thread.join()
print("fine")
""",
    )


def test_what_needs_a_name_says_what_to_do(face: str) -> None:
    """Queues that a child has not used before; used before, they go on, and locks in any case."""
    run(
        face,
        BARE
        + """
lock, event, queue, array = mp.Lock(), mp.Event(), mp.Queue(), shmkit.ones(1000)
queue.put(1)
queue.put(2)
def refused(call):
    try:
        call()
    except shmkit.SegmentError as error:
        assert "/proc" in str(error) and "chroot" in str(error) and "before" in str(error), error
    else:
        raise AssertionError("it can")
def child():
    with lock: pass
    assert not event.is_set()
    refused(queue.get)
    assert array.sum() == 1000
assert bare(child) == 0
def child():
    with lock: pass
    assert queue.get() == 1
    os.chroot(folder)
    with lock: event.set()
    assert queue.get() == 2
    queue.put(3)
assert in_fork(child) == 0
assert event.is_set() and queue.get() == 3
receiver, sender = mp.Pipe()
begun, ready, late = os.pipe(), os.pipe(), []
def child():
    os.write(begun[1], b"1")
    os.read(ready[0], 1)
    refused(receiver.recv)
def send():
    os.read(begun[0], 1)
    late.append(shmkit.ones(1000))  # later than the fork
    sender.send(late[0])
    os.write(ready[1], b"1")
thread = threading.Thread(target=send)
thread.start()
assert bare(child) == 0
thread.join()
os.rmdir(folder)
print("fine")
""",
    )


def test_with_a_proc_of_its_own_nothing_is_different(face: str) -> None:
    run(
        face,
        BARE
        + """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
os.mkdir(f"{folder}/proc")
lock, queue, (receiver, sender) = mp.Lock(), mp.Queue(), mp.Pipe(False)
queue.put(np.arange(N))
sender.send(np.arange(N))
def child():
    assert libc.unshare(0x20000) == 0 and libc.mount(b"none", b"/", None, 0x44000, None) == 0
    assert libc.mount(b"/proc", f"{folder}/proc".encode(), None, 0x5000, None) == 0
    os.chroot(folder)
    os.chdir("/")
    with lock: pass
    assert same(queue.get(), np.arange(N))
    assert same(receiver.recv(), np.arange(N))
assert in_fork(child) == 0
os.rmdir(f"{folder}/proc")
os.rmdir(folder)
print("fine")
""",
    )
