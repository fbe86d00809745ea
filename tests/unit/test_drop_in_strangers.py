"""A process that comes by an end of a pipe by other ways than a start: it has the messages, or is told why not."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import reduction, resource_sharer
from typing import Any

import numpy as np
import pytest

from shmkit import multiprocessing as mp

N = 50_000

BY_DESCRIPTOR = """
import sys
import numpy as np
import shmkit
from shmkit import multiprocessing as mp
from shmkit.multiprocessing.connection import Connection

if sys.argv[2] == "own":  # a heap, with blocks of the same numbers
    here, there = mp.Pipe()
    kept = []
    for number in range(5):
        here.send(np.full(50_000, number))
        kept.append(there.recv())
end = Connection(int(sys.argv[1]), writable=False)
assert end.recv() == "small"
for receive in (end.recv, end.recv_bytes, end.recv):
    try:
        print("got", receive())
    except shmkit.SegmentNotFound as error:
        assert "never been given" in str(error) and "pickled" in str(error), error
assert end.recv() == "last"
if sys.argv[2] == "own":
    assert [int(array.sum()) for array in kept] == [number * 50_000 for number in range(5)]
print("fine")
"""

BY_PICKLE = """
import pickle
import sys
from multiprocessing import process
import numpy as np

process.current_process().authkey = bytes.fromhex(sys.argv[1])
end = pickle.loads(sys.stdin.buffer.read())
assert np.array_equal(end.recv(), np.arange(50_000))
assert end.recv_bytes() == b"x" * 50_000
end.send(np.arange(50_000)) if end.writable else None
print("fine")
"""


@pytest.fixture(params=[True, False], ids=["socket", "pipe"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    made = mp.Pipe(request.param)
    yield made
    for end in made:
        end.close()


@pytest.mark.parametrize("heap", ["own", "none"])
def test_by_its_descriptor_alone(ends: Any, heap: str) -> None:
    """Small messages come; of a large one it is told, and never given anything else; nobody waits for anybody."""
    receiver, sender = ends
    sender.send("small")
    for _ in range(3):
        sender.send(np.arange(N))
    sender.send("last")
    number = receiver.fileno()
    argv = [sys.executable, "-c", BY_DESCRIPTOR, str(number), heap]
    done = subprocess.run(argv, pass_fds=[number], capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")
    sender.send(np.arange(N))  # what it did not take is taken back, or goes with the pipe
    assert np.array_equal(receiver.recv(), np.arange(N))


def test_by_a_pickle(ends: Any) -> None:
    """Which carries what the ends have in common."""
    receiver, sender = ends
    sender.send(np.arange(N))
    sender.send_bytes(b"x" * N)
    key = bytes(multiprocessing.current_process().authkey).hex()
    data = bytes(reduction.ForkingPickler.dumps(receiver))
    try:
        argv = [sys.executable, "-c", BY_PICKLE, key]
        done = subprocess.run(argv, input=data, capture_output=True, check=False, timeout=100)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"fine\n", b"")
        if receiver.writable:
            assert np.array_equal(sender.recv(), np.arange(N))
    finally:
        resource_sharer.stop()  # its thread and its socket
