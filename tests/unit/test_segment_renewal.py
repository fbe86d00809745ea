"""A named segment that was closed and unlinked is kept for the next one, if nobody else has it; nobody ever notices."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import pickle
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import posix_ipc
import pytest

import shmkit
from shmkit import Segment
from support import Processes

HIDDEN = ".shmkit-unfinished-"


@pytest.fixture(autouse=True)
def _cold() -> Iterator[None]:
    """Nothing kept before or after."""
    shmkit.trim()
    yield
    shmkit.trim()


def inode(segment: Segment) -> int:
    return int(segment.mapping.facts.inode)


def made_and_gone(name: str, content: bytes = b"old" * 1000, **options: Any) -> int:
    """The inode of a segment that was written to, closed and unlinked."""
    segment = Segment.create(name, 10_000, **options)
    segment.buf[: len(content)] = content
    number = inode(segment)
    segment.close()
    segment.unlink()
    return number


def kept() -> list[str]:
    return [entry for entry in os.listdir("/dev/shm") if entry.startswith(HIDDEN)]


def test_the_next_segment_of_that_size_is_the_same_memory(name: str, make_name: Callable[[], str]) -> None:
    """Pages that are there, and all zeros again; of the old one nothing is left but its memory."""
    old = made_and_gone(name)
    assert len(kept()) == 1
    with Segment.create(make_name(), 10_000, mode=0o640) as segment:
        assert inode(segment) == old
        assert bytes(segment.buf) == bytes(10_000)
        path = Path("/dev/shm", str(segment.name))
        assert path.stat().st_ino == old
        assert path.stat().st_mode & 0o777 == 0o640
        assert not kept()
        with Segment.attach(segment.name) as other:
            segment.buf[0] = 1
            assert other.buf[0] == 1
        segment.unlink()


def test_it_is_another_segment(name: str) -> None:
    """References to the old one find nothing."""
    segment = Segment.create(name, 10_000)
    data = pickle.dumps(segment)
    number, identity = inode(segment), segment.mapping.facts.identity
    segment.close()
    segment.unlink()
    with Segment.create(name, 10_000) as again:
        assert inode(again) == number
        assert again.mapping.facts.identity != identity
        with pytest.raises(shmkit.SegmentNotFound, match="another segment has its name"):
            pickle.loads(data)
        again.unlink()


def test_an_array_takes_it_too(name: str) -> None:
    """Header, description and all; and what it leaves, bytes take."""
    array = shmkit.create(name, 1250, "f8")
    array[:] = 7
    number = inode(array.segment)
    del array
    shmkit.attach(name).segment.unlink()
    assert not kept()
    segment = Segment.create(name, 10_000)
    first = inode(segment)
    segment.close()
    segment.unlink()
    assert number != first
    array = shmkit.create(name, 1250, "f8")
    assert inode(array.segment) == first
    assert not array.any()
    assert shmkit.attach(name).shape == (1250,)
    del array
    shmkit.unlink(name)


def test_memory_that_was_not_written_to_is_not_filled(name: str) -> None:
    """A segment without a reservation stays without pages."""
    segment = Segment.create(name, 10_000, reserve=False)
    segment.close()
    segment.unlink()
    with Segment.create(name, 10_000, reserve=False) as again:
        assert os.stat(f"/dev/shm/{name}").st_blocks * 512 == 4096
        again.unlink()


def test_a_reservation_is_made_where_there_was_none(name: str) -> None:
    """What is asked for now counts."""
    segment = Segment.create(name, 10_000, reserve=False)
    segment.close()
    segment.unlink()
    with Segment.create(name, 10_000) as again:
        assert os.stat(f"/dev/shm/{name}").st_blocks * 512 >= 10_000
        again.unlink()


def test_a_leased_one_takes_it_as_well(name: str) -> None:
    """And goes with its last user, as ever."""
    old = made_and_gone(name)
    with Segment.create(name, 10_000, lifetime="leased") as segment:
        assert inode(segment) == old
        assert Path("/dev/shm", name).exists()
        with Segment.attach(name) as other:
            assert other.lifetime == "leased"
    assert not Path("/dev/shm", name).exists()
    assert not kept()


def test_another_size_is_made_anew(name: str) -> None:
    """Only what fits exactly is taken."""
    old = made_and_gone(name)
    with Segment.create(name, 20_000) as segment:
        assert inode(segment) != old
        segment.unlink()


def attached_elsewhere(name: str, process: Processes) -> object:
    program = process.python(
        f"import shmkit, sys; s = shmkit.Segment.attach({name!r}); print(flush=True); sys.stdin.readline(); "
        "print(bytes(s.buf[:3]))",
        stdin=subprocess.PIPE,
    )
    assert program.stdout is not None
    program.stdout.readline()
    return program


def mapped_by_a_stranger(name: str, process: Processes) -> object:
    memory = posix_ipc.SharedMemory("/" + name)
    view = mmap.mmap(memory.fd, 0)
    memory.close_fd()
    return view


def opened_by_a_stranger(name: str, process: Processes) -> object:
    return open(f"/dev/shm/{name}", "rb")


def attached_here(name: str, process: Processes) -> object:
    return Segment.attach(name, readonly=True)


def linked_elsewhere(name: str, process: Processes) -> object:
    os.link(f"/dev/shm/{name}", f"/dev/shm/{name}-link")
    return Path(f"/dev/shm/{name}-link")


@pytest.mark.parametrize(
    "have", [attached_elsewhere, mapped_by_a_stranger, opened_by_a_stranger, attached_here, linked_elsewhere]
)
def test_what_somebody_else_has_is_left_to_him(
    have: Callable[[str, Processes], Any], name: str, process: Processes
) -> None:
    """Attached, mapped, only open, or under another name, by shmkit or not: he keeps the old bytes."""
    segment = Segment.create(name, 10_000)
    segment.buf[:3] = b"old"
    number = inode(segment)
    other = have(name, process)
    segment.close()
    segment.unlink()
    with Segment.create(name, 10_000) as again:
        assert inode(again) != number
        again.buf[:3] = b"new"
        if isinstance(other, subprocess.Popen):
            assert other.communicate("\n")[0] == "b'old'\n"
        elif isinstance(other, mmap.mmap):
            assert other[4096:4099] == b"old"
            other.close()
        elif isinstance(other, Segment):
            assert bytes(other.buf[:3]) == b"old"
            other.close()
        elif isinstance(other, Path):
            assert other.read_bytes()[4096:4099] == b"old"
            other.unlink()
        else:
            other.seek(4096)
            assert other.read(3) == b"old"
            other.close()
        again.unlink()
    assert not Path("/dev/shm", name).exists()


def test_what_a_view_still_shows_is_not_used_again(name: str) -> None:
    """The mapping is in use; the name goes, the memory stays as it is."""
    segment = Segment.create(name, 10_000)
    view = segment.ndarray(10_000, "u1")
    view[:] = 5
    segment.close()
    segment.unlink()
    with Segment.create(name, 10_000) as again:
        again.buf[0] = 9
        assert set(view) == {5}
        again.unlink()


def _look(segment: Segment, end: Any) -> None:
    end.recv()
    end.send(bytes(segment.buf[:3]))


def test_what_a_child_inherited_is_not_used_again(name: str, process: Processes) -> None:
    """A fork's copies share one open file, which the kernel cannot tell from one of ours: we can."""
    here, there = multiprocessing.Pipe()
    segment = Segment.create(name, 10_000)
    segment.buf[:3] = b"old"
    child = process(_look, segment, there)
    segment.close()
    segment.unlink()
    with Segment.create(name, 10_000) as again:
        again.buf[:3] = b"new"
        here.send(None)
        assert here.recv() == b"old"
        child.join()
        again.unlink()
    here.close()
    there.close()


def _reuse(name: str, end: Any) -> None:
    with Segment.create(name, 10_000) as segment:
        end.send(inode(segment))
        segment.unlink()


def test_a_child_does_not_take_what_its_parent_keeps(name: str, process: Processes) -> None:
    """Each has its own; and the child's goes with it."""
    here, there = multiprocessing.Pipe()
    old = made_and_gone(name)
    child = process(_reuse, name, there)
    assert here.recv() != old
    child.join()
    with Segment.create(name, 10_000) as segment:
        assert inode(segment) == old
        segment.unlink()
    shmkit.trim()
    assert not kept()
    here.close()
    there.close()


def test_nothing_is_kept_beyond_the_process(name: str, process: Processes) -> None:
    """Neither by a program that ends, nor by a child of multiprocessing, which ends without atexit."""
    code = (
        "import shmkit; s = shmkit.Segment.create({name!r}, 9999); s.close(); s.unlink(); import os; "
        "print(len([n for n in os.listdir('/dev/shm') if 'unfinished' in n]))"
    )
    assert process.python(code.format(name=name)).communicate()[0] == "1\n"
    assert not kept()
    child = process(made_and_gone, name)
    child.join()
    assert not kept()


def test_what_a_killed_process_kept_is_collected(name: str, process: Processes) -> None:
    """One hidden file at most, until the next create."""
    code = f"""
import os, shmkit, signal
s = shmkit.Segment.create({name!r}, 9999)
s.close()
s.unlink()
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert process.python(code).wait() == -signal.SIGKILL
    assert len(kept()) == 1
    shmkit.collect()
    assert not kept()


def test_at_most_one_is_kept_and_none_that_is_large(make_name: Callable[[], str]) -> None:
    """Memory that nobody asked for is not worth much."""
    names = [make_name() for _ in range(3)]
    segments = [Segment.create(name, 10_000 * (number + 1)) for number, name in enumerate(names)]
    for segment in segments:
        segment.close()
        segment.unlink()
    assert len(kept()) == 1
    shmkit.trim()
    assert not kept()
    with Segment.create(names[0], 17 * 2**20, reserve=False) as large:
        pass
    large.unlink()
    assert not kept()


def test_what_is_kept_is_nobodys_to_see(name: str) -> None:
    """Neither listed nor to be attached to, nor collected while its keeper lives."""
    made_and_gone(name)
    (hidden,) = kept()
    assert not [info for info in Segment.list() if info.backing == "posix"]
    with pytest.raises(ValueError, match="shmkit's own"):
        Segment.attach(hidden)
    shmkit.collect()
    assert kept() == [hidden]


def test_a_name_that_is_taken_is_left_alone(name: str, make_name: Callable[[], str]) -> None:
    """Also when what would get it lies ready."""
    made_and_gone(name)
    for options in ({}, {"reserve": False}):
        with Segment.create(name, 5, reserve=False) as taken:
            with pytest.raises(shmkit.SegmentExists):
                Segment.create(name, 10_000, **options)
            taken.unlink()
    with Segment.create(make_name(), 10_000) as segment:
        segment.unlink()


def test_a_hidden_name_that_somebody_removed_does_no_harm(name: str) -> None:
    """The next segment is made anew."""
    old = made_and_gone(name)
    Path("/dev/shm", kept()[0]).unlink()
    with Segment.create(name, 10_000) as segment:
        assert inode(segment) != old
        assert Path("/dev/shm", name).exists()
        segment.unlink()


def test_collectors_and_makers_do_not_disturb_each_other(make_name: Callable[[], str], process: Processes) -> None:
    """Files that are looked into at any moment: never a signal, never a foreign byte, nothing left."""
    stop = threading.Event()
    looker = process.python("import shmkit, sys\nwhile True: shmkit.collect()")
    wrong = []

    def work(mark: int) -> None:
        name = make_name()
        while not stop.is_set():
            with Segment.create(name, 10_000) as segment:
                if any(segment.buf[::500]):
                    wrong.append(mark)
                segment.buf[:] = bytes([mark]) * 10_000
            segment.unlink()

    threads = [threading.Thread(target=work, args=(number + 1,)) for number in range(3)]
    for thread in threads:
        thread.start()
    threading.Event().wait(1.0)
    stop.set()
    for thread in threads:
        thread.join()
    looker.kill()
    looker.wait()
    assert not wrong
    shmkit.trim()
    assert not kept()
