"""Segments in pickles: how a reference finds its segment, and how long the segment waits for it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest

import shmkit
from shmkit import Segment, _map
from support import Processes, wait_until

RECEIVE = """
import pickle, sys, shmkit
segment = pickle.load(sys.stdin.buffer)
segment.buf[1] = 2
print(bytes(segment.buf[:2]), segment.readonly, segment.name)
"""


@pytest.fixture(params=["memfd", "posix", "leased", "file", "sysv", "sysv-anonymous"])
def segment(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> Iterator[Segment]:
    """A segment of each sort, of 100 bytes, whose first is 1."""
    make: dict[str, Any] = {
        "memfd": lambda: Segment.create(None, 100),
        "posix": lambda: Segment.create(name, 100),
        "leased": lambda: Segment.create(name, 100, lifetime="leased"),
        "file": lambda: Segment.create(tmp_path / name, 100, backing="file"),
        "sysv": lambda: Segment.create(name, 100, backing="sysv"),
        "sysv-anonymous": lambda: Segment.create(None, 100, backing="sysv"),
    }
    segment = make[request.param]()
    segment.buf[0] = 1
    yield segment
    segment.close()
    segment.unlink(missing_ok=True)


def sent(process: Processes, data: bytes, code: str = RECEIVE) -> str:
    """What an unrelated program says of a pickle."""
    program = process.python(code, stdin=subprocess.PIPE, stderr=subprocess.STDOUT, text=False)
    return str(program.communicate(data)[0].decode())


def test_a_pickled_segment_is_the_same_memory_in_another_program(segment: Segment, process: Processes) -> None:
    """Not a child, not a relative: any process of the same user."""
    said = sent(process, pickle.dumps(segment))
    assert said == f"b'\\x01\\x02' False {segment.name}\n"
    assert segment.buf[1] == 2


def test_a_process_has_a_segment_once(segment: Segment) -> None:
    """However often it arrives, it is one mapping."""
    one, other = (pickle.loads(pickle.dumps(segment)) for _ in range(2))
    assert one.mapping is other.mapping is segment.mapping


def test_a_pickle_may_be_loaded_several_times(segment: Segment, process: Processes) -> None:
    """It names the segment; it is not used up."""
    data = pickle.dumps(segment)
    for _ in range(2):
        assert sent(process, data).startswith("b'\\x01\\x02'")


def _child(segment: Segment, end: Connection) -> None:
    segment.buf[1] = segment.buf[0] + 1
    end.send(segment.readonly)
    end.recv()


def test_a_segment_is_an_argument_of_a_process(segment: Segment, start_method: BaseContext, process: Processes) -> None:
    """By fork, spawn and forkserver."""
    here, there = multiprocessing.Pipe()
    child = process(_child, segment, there, context=start_method)
    assert here.recv() is False
    assert segment.buf[1] == 2
    here.send(None)
    child.join()
    assert child.exitcode == 0
    here.close()
    there.close()


def _read_one(segment: Segment, end: Connection) -> None:
    end.recv()
    end.send(bytes(segment.buf[:1]))


def test_a_started_process_does_not_need_its_parents_segment(start_method: BaseContext, process: Processes) -> None:
    """It was given the descriptor: the parent may drop the segment before the child looks at it."""
    here, there = multiprocessing.Pipe()
    segment = Segment.create(None, 100)
    segment.buf[0] = 5
    child = process(_read_one, segment, there, context=start_method)
    segment.close()
    gc.collect()
    assert _map.parked() == (0, 0)
    here.send(None)
    assert here.recv() == b"\x05"
    child.join()
    here.close()
    there.close()


def test_several_references_in_the_arguments_are_one_descriptor(process: Processes) -> None:
    """A child is given a segment once, however many parts of it are among its arguments."""
    array = shmkit.zeros(10)
    here, there = multiprocessing.Pipe()
    child = process(_sum_all, [array[:5], array[5:], array.T, array.segment], there, context="spawn")
    array[:] = 1
    here.send(None)
    assert here.recv() == (5.0, 5.0, 10.0)
    child.join()
    assert child.exitcode == 0
    here.close()
    there.close()


def _sum_all(parts: list[Any], end: Connection) -> None:
    end.recv()
    first, second, whole, segment = parts
    assert len({id(part.segment.mapping) for part in (first, second, whole)} | {id(segment.mapping)}) == 1
    end.send((first.sum(), second.sum(), whole.sum()))


def test_a_dropped_segment_waits_for_its_references(process: Processes) -> None:
    """A sender drops its last view before the receiver has come: the memory is kept until then, and no longer."""
    segment = Segment.create(None, 100)
    segment.buf[0] = 1
    data = pickle.dumps(segment)
    segment.close()
    assert _map.parked()[0] == 1
    assert sent(process, data) == "b'\\x01\\x02' False None\n"
    wait_until(lambda: _map.parked() == (0, 0))


def test_a_leased_segment_waits_for_its_references(name: str, process: Processes) -> None:
    """Its name too."""
    segment = Segment.create(name, 100, lifetime="leased")
    segment.buf[0] = 1
    data = pickle.dumps(segment)
    segment.close()
    assert Path("/dev/shm", name).exists()
    assert sent(process, data) == f"b'\\x01\\x02' False {name}\n"
    wait_until(lambda: _map.parked() == (0, 0))
    assert not Path("/dev/shm", name).exists()


def test_every_reference_is_waited_for(process: Processes) -> None:
    """Two were made: one taken is not enough, however often it is loaded."""
    segment = Segment.create(None, 100)
    first, second = pickle.dumps(segment), pickle.dumps(segment)
    segment.close()
    sent(process, first)
    assert _map.parked()[0] == 1
    sent(process, second)
    wait_until(lambda: _map.parked() == (0, 0))


def test_what_waits_for_references_is_bounded() -> None:
    """The oldest goes first, and the newest always stays."""
    before = _map.limit_parked(2, 2**30)
    try:
        data = []
        for number in range(3):
            segment = Segment.create(None, 100)
            segment.buf[0] = number
            data.append(pickle.dumps(segment))
            segment.close()
        assert _map.parked()[0] == 2
        with pytest.raises(shmkit.SegmentNotFound, match=f"process {os.getpid()}, which sent it, has let it go"):
            pickle.loads(data[0])
        assert [pickle.loads(text).buf[0] for text in data[1:]] == [1, 2]
        assert _map.parked() == (0, 0)
        _map.limit_parked(2, 10)
        segment = Segment.create(None, 10**6)
        kept = pickle.dumps(segment)
        segment.close()
        assert pickle.loads(kept).size == 10**6
    finally:
        _map.limit_parked(*before)


def test_a_named_segment_waits_for_nobody(name: str) -> None:
    """Its name keeps it."""
    with Segment.create(name, 100) as segment:
        data = pickle.dumps(segment)
    assert _map.parked() == (0, 0)
    with pickle.loads(data) as again:
        again.unlink()


def test_a_reference_whose_sender_ended_is_not_found(process: Processes) -> None:
    """The error says which process would have had to live."""
    code = "import pickle, shmkit, sys; sys.stdout.buffer.write(pickle.dumps(shmkit.Segment.create(None, 9)))"
    sender = process.python(code, text=False)
    data = sender.communicate()[0]
    with pytest.raises(shmkit.SegmentNotFound, match=f"process {sender.pid}, which sent it, ended before"):
        pickle.loads(data)


def test_a_reference_to_a_replaced_segment_is_not_found(name: str, tmp_path: Path) -> None:
    """Another segment of that name is not the one that was meant."""
    for arguments in ({"name": name}, {"name": tmp_path / name, "backing": "file"}, {"name": name, "backing": "sysv"}):
        old = Segment.create(size=100, **arguments)
        data = pickle.dumps(old)
        old.unlink()
        old.close()
        with Segment.create(size=100, **arguments) as new:
            with pytest.raises(shmkit.SegmentNotFound):
                pickle.loads(data)
            new.unlink()


def test_a_descriptor_that_somebody_closed_is_noticed() -> None:
    """Closing all descriptors, as daemons do, does not make another file go in its place, nor be closed for it."""
    segment = Segment.create(None, 100)
    number = segment.fd
    os.close(number)
    other = os.open("/dev/null", os.O_RDONLY)
    assert other == number
    with pytest.raises(shmkit.SegmentError, match="closed its descriptor"):
        pickle.dumps(segment)
    segment.buf[0] = 1
    segment.close()
    os.fstat(other)
    os.close(other)


def test_a_readonly_segment_arrives_readonly(segment: Segment, process: Processes) -> None:
    """Reading is all that was handed on."""
    if segment.name is None:
        pytest.skip("anonymous memory is not attached to by name")
    reader = Segment.attach(segment.name, backing=segment.backing, readonly=True)
    code = RECEIVE.replace("segment.buf[1] = 2", "")
    assert sent(process, pickle.dumps(reader), code).startswith("b'\\x01\\x00' True")


def test_a_closed_segment_does_not_pickle(segment: Segment) -> None:
    """There is nothing that it could refer to."""
    segment.close()
    with pytest.raises(shmkit.Closed):
        pickle.dumps(segment)


def test_another_user_gets_nothing_by_a_pickle(segment: Segment, process: Processes) -> None:
    """Whatever its mode: sharing with others goes by name."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    code = """
import os, pickle, sys, shmkit
shmkit.Segment, shmkit.SegmentPermission  # imported while the files can be read
os.setuid(65534)
try:
    pickle.load(sys.stdin.buffer)
except shmkit.SegmentPermission as error:
    print(error)
"""
    assert "was received by user 65534" in sent(process, pickle.dumps(segment), code)
    segment.close()
    _map.forget_references()


def test_a_segment_survives_its_maker(process: Processes) -> None:
    """Once another process has it, the first may end."""
    code = """
import pickle, shmkit, sys
segment = shmkit.Segment.create(None, 100)
segment.buf[:4] = b"here"
sys.stdout.buffer.write(pickle.dumps(segment))
sys.stdout.flush()
sys.stdin.read()
"""
    maker = process.python(code, stdin=subprocess.PIPE, text=False)
    assert maker.stdout is not None
    segment = pickle.load(maker.stdout)
    maker.kill()
    maker.wait()
    assert bytes(segment.buf[:4]) == b"here"
    # And can be handed on by who has it now.
    code = "import pickle, sys; print(bytes(pickle.load(sys.stdin.buffer).buf[:4]))"
    assert sent(process, pickle.dumps(segment), code) == "b'here'\n"


def test_nothing_is_registered_with_the_standard_librarys_tracker(segment: Segment) -> None:
    """No tracker process is started, none is told anything."""
    code = "from multiprocessing import resource_tracker as tracker; print(tracker._resource_tracker._fd)"
    attach = "import pickle, sys; s = pickle.load(sys.stdin.buffer); s.close(); "
    result = subprocess.run(
        [sys.executable, "-c", attach + code], input=pickle.dumps(segment), capture_output=True, check=True
    )
    assert result.stdout == b"None\n"
    assert result.stderr == b""
