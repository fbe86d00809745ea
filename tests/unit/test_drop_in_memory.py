"""SharedMemory and ShareableList of the drop-in, beside the standard library's on the same names."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import multiprocessing.managers
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing import shared_memory as theirs
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import shmkit
from shmkit.multiprocessing import managers
from shmkit.multiprocessing import shared_memory as ours
from support import Processes

LISTS = {"ours": ours.ShareableList, "theirs": theirs.ShareableList}


@pytest.fixture
def memory(name: str) -> Iterator[ours.SharedMemory]:
    made = ours.SharedMemory(name, create=True, size=100)
    yield made
    made.close()
    if os.path.exists(f"/dev/shm/{name}"):
        made.unlink()


def in_child(code: str, *argv: str) -> subprocess.CompletedProcess[str]:
    program = f"import sys, os\nfrom shmkit.multiprocessing import shared_memory\n{code}"
    return subprocess.run([sys.executable, "-c", program, *argv], capture_output=True, text=True, check=False)


def test_each_attaches_to_the_others(memory: ours.SharedMemory, make_name: Callable[[], str]) -> None:
    other = theirs.SharedMemory(memory.name)
    assert memory.buf is not None
    other.buf[7] = 42
    assert memory.buf[7] == 42
    assert (other.size, other.name) == (memory.size, memory.name) == (100, memory.name)
    other.close()
    made = theirs.SharedMemory(make_name(), create=True, size=10)
    mine = ours.SharedMemory(made.name)
    assert mine.size == made.size
    assert mine.buf is not None
    mine.buf[3] = 9
    assert made.buf[3] == 9
    mine.close()
    made.close()
    made.unlink()


@pytest.mark.parametrize("track", [True, False])
def test_track_is_taken_on_every_version(name: str, track: bool) -> None:
    made = ours.SharedMemory(name, create=True, size=8, track=track)
    ours.SharedMemory(name, track=track).close()
    made.close()
    made.unlink()


def test_views_live_on_after_close(memory: ours.SharedMemory) -> None:
    assert memory.buf is not None
    view, array = memory.buf, np.ndarray((25,), "int32", buffer=memory.buf)
    array[:] = range(25)
    memory.close()
    memory.close()
    memory.unlink()
    assert memory.buf is None
    gc.collect()
    assert array.sum() == 300
    assert view[4] == 1
    array[0] = 5


def test_attaching_never_deletes(memory: ours.SharedMemory) -> None:
    """Nor does the end of who attached, and its resource tracker has nothing to say."""
    done = in_child("shared_memory.SharedMemory(sys.argv[1])", memory.name)
    assert (done.returncode, done.stderr) == (0, "")
    ours.SharedMemory(memory.name).close()


def test_unlinked_by_somebody_else_is_no_leak(name: str) -> None:
    """Neither the creator's tracker complains, nor that of who unlinked it."""
    done = in_child(
        "import subprocess\n"
        "made = shared_memory.SharedMemory(sys.argv[1], create=True, size=8)\n"
        "code = 'import sys; from shmkit.multiprocessing import shared_memory as s;'\n"
        "code += 's.SharedMemory(sys.argv[1]).unlink()'\n"
        "print(subprocess.run([sys.executable, '-c', code, sys.argv[1]]).returncode)",
        name,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 0)


def test_a_real_leak_is_cleaned_up(name: str) -> None:
    """By the tracker of who made it, who is told; with track=False it stays."""
    done = in_child("shared_memory.SharedMemory(sys.argv[1], create=True, size=8)", name)
    assert "1 leaked shared_memory object" in done.stderr
    with pytest.raises(FileNotFoundError):
        ours.SharedMemory(name)
    done = in_child("shared_memory.SharedMemory(sys.argv[1], create=True, size=8, track=False)", name)
    assert done.stderr == ""
    left = ours.SharedMemory(name, track=False)
    left.close()
    left.unlink()


def test_a_tracker_that_has_died_is_replaced() -> None:
    """It is told without being asked first whether it lives: the write says so."""
    ran = in_child(
        "from multiprocessing import resource_tracker as tracker; import signal, warnings\n"
        "shared_memory.SharedMemory(create=True, size=1).unlink()\n"
        "first = tracker._resource_tracker._pid\n"
        "os.kill(first, signal.SIGKILL); os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)\n"
        "with warnings.catch_warnings(record=True) as said:\n"
        "    warnings.simplefilter('always')\n"
        "    left = shared_memory.SharedMemory(create=True, size=1)\n"
        "assert len(said) == 1 and 'died unexpectedly' in str(said[0].message), said\n"
        "assert tracker._resource_tracker._pid not in (None, first)\n"
        "print(left.name)\n"
    )
    assert ran.returncode == 0, ran.stderr
    assert "leaked shared_memory" in ran.stderr
    assert not os.path.exists(f"/dev/shm/{ran.stdout.strip()}")


@pytest.mark.parametrize("word", ["a:b", "a\tb"])
def test_names_that_no_line_of_text_can_say_are_left_to_the_standard_library(
    name: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(resource_tracker, "register", lambda *what: told.append(what))
    monkeypatch.setattr(resource_tracker, "unregister", lambda *what: told.append(what))
    made = ours.SharedMemory(f"{name}{word}", create=True, size=1)
    made.unlink()
    made.close()
    assert told == [(f"/{name}{word}", "shared_memory")] * 2


def test_what_cannot_be_tracked_is_not_left_behind(name: str) -> None:
    """The standard library raises the same, and leaves it."""
    with pytest.raises(UnicodeEncodeError):
        ours.SharedMemory(f"{name}\N{SNOWMAN}", create=True, size=1)
    assert not os.path.exists(f"/dev/shm/{name}\N{SNOWMAN}")
    made = ours.SharedMemory(f"{name}\N{SNOWMAN}", create=True, size=1, track=False)
    made.close()
    made.unlink()


def test_a_made_up_name_that_is_taken_is_not_used(
    memory: ours.SharedMemory, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where a program makes them up: by a function in the place of the standard library's."""
    names = iter([name, f"{name}-2"])
    monkeypatch.setattr(theirs, "_make_filename", lambda: next(names))
    made = ours.SharedMemory(create=True, size=1)
    assert made.name == f"{name}-2"
    made.close()
    made.unlink()


@pytest.mark.parametrize("size", [1, 4096, 4097, 20 << 20])  # the last one's room is reserved in several pieces
def test_its_size_is_the_one_asked_for_and_its_room_is_reserved(name: str, size: int) -> None:
    made = ours.SharedMemory(name, create=True, size=np.int64(size))  # type: ignore[arg-type]
    status = os.stat(f"/dev/shm/{name}")
    assert (made.size, status.st_size, status.st_mode & 0o777) == (size, size, 0o600)
    assert status.st_blocks * 512 >= size
    made.close()
    made.unlink()
    with pytest.raises(TypeError):
        ours.SharedMemory(name, create=True, size=float(size))  # type: ignore[arg-type]
    assert not os.path.exists(f"/dev/shm/{name}")


def test_no_room_is_an_exception_and_no_sigbus(name: str) -> None:
    status = os.statvfs("/dev/shm")
    with pytest.raises(OSError, match="free") as caught:
        ours.SharedMemory(name, create=True, size=2 * status.f_frsize * status.f_blocks + 2**40)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(FileNotFoundError):
        ours.SharedMemory(name)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"create": True, "size": -1}, ValueError),
        ({"create": True, "size": 0}, ValueError),
        ({"create": True}, ValueError),
        ({}, ValueError),
        ({"name": None}, ValueError),
        ({"name": "shmkit-test-there-is-none"}, FileNotFoundError),
        ({"name": "a\0b", "create": True, "size": 8}, ValueError),
        ({"create": True, "size": "8"}, TypeError),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        ours.SharedMemory(**arguments)


def test_a_name_that_is_taken(memory: ours.SharedMemory) -> None:
    with pytest.raises(FileExistsError, match=memory.name):
        ours.SharedMemory(memory.name, create=True, size=8)


def test_a_pickle_is_a_reference(memory: ours.SharedMemory) -> None:
    pickled = pickle.dumps(memory)
    other = pickle.loads(pickled)
    other.buf[0] = 7
    assert memory.buf is not None
    assert memory.buf[0] == 7
    other.close()
    memory.unlink()
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickled)


def write(name: str) -> None:
    found = ours.SharedMemory(name)
    assert found.buf is not None
    found.buf[0] = 42
    found.close()


def test_children(memory: ours.SharedMemory, start_method: Any, process: Processes) -> None:
    child = process(write, memory.name, context=start_method)
    child.join(60)
    assert child.exitcode == 0
    assert memory.buf is not None
    assert memory.buf[0] == 42


# ------------------------------------------------------------------------------------------------------------ lists

ITEMS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.booleans(), st.none(), st.binary(max_size=40),
    st.text(st.characters(codec="utf-8"), max_size=40), st.binary(max_size=9).map(lambda head: head + b"\0\0"),
)  # fmt: skip


def closed(*lists: Any) -> None:
    for each in lists:
        each.shm.close()
    lists[0].shm.unlink()


@given(st.lists(ITEMS, max_size=12))
def test_a_list_keeps_everything_exactly(items: list[Any]) -> None:
    """Also what ends with NULs, and text whose bytes are more than its characters."""
    made = ours.ShareableList(items)
    found = pickle.loads(pickle.dumps(made))
    assert list(found) == list(made) == items
    assert [type(item) for item in found] == [type(item) for item in items]
    closed(made, found)


@given(st.lists(st.one_of(st.integers(0, 9), st.binary(max_size=20), st.text("ab\0é", max_size=9)), min_size=1))
def test_the_standard_library_reads_it_its_way(items: list[Any]) -> None:
    """Without the NULs at the end, as it does; what it stores is read as it would read that."""
    made = ours.ShareableList(items)
    found = theirs.ShareableList(name=made.shm.name)
    plain = [item.rstrip("\0") if isinstance(item, str) else item for item in items]
    plain = [item.rstrip(b"\0") if isinstance(item, bytes) else item for item in plain]
    assert list(found) == plain
    found[0] = b"xyz"
    assert made[0] == b"xyz"
    made[0] = b"q\0"
    assert (made[0], found[0]) == (b"q\0", b"q")
    closed(made, found)


@pytest.mark.parametrize(("maker", "finder"), [("ours", "ours"), ("ours", "theirs"), ("theirs", "ours")])
def test_lists_of_both(maker: str, finder: str) -> None:
    made = LISTS[maker]([1, 2.5, True, None, "text", b"bytes"])
    found = LISTS[finder](name=made.shm.name)
    assert list(found) == [1, 2.5, True, None, "text", b"bytes"]
    assert found.format == made.format
    found[0], found[4] = -7, "other"
    assert (made[0], made[4], made[-1]) == (-7, "other", b"bytes")
    assert (made.count(-7), made.index("other"), len(made)) == (1, 4, 6)
    closed(made, found)


def test_what_a_list_refuses() -> None:
    made = ours.ShareableList(["text", 1])
    with pytest.raises(ValueError, match="exceeds available storage"):
        made[0] = "é" * 5
    for index in (2, -3):
        with pytest.raises(IndexError, match="out of range"):
            made[index]
        with pytest.raises(IndexError, match="out of range"):
            made[index] = 1
    with pytest.raises(struct.error):
        made[1] = 2**63
    with pytest.raises(KeyError):
        ours.ShareableList([object()])
    assert list(made) == ["text", 1]
    closed(made)


@pytest.mark.parametrize("installed", [False, True])
def test_what_a_manager_of_memory_makes(installed: bool) -> None:
    """Ours, which go with the manager, in a program that has installed them too."""
    if installed:
        shmkit.install()
    package = multiprocessing.managers if installed else managers
    try:
        with package.SharedMemoryManager() as manager:
            memory, items = manager.SharedMemory(8), manager.ShareableList(["a\0", b"b\0", 3])
            for made in (memory, items.shm, items):
                assert type(made).__module__ == "shmkit.multiprocessing.shared_memory"
            assert list(items) == ["a\0", b"b\0", 3]
            names = memory.name, items.shm.name
            memory.close()
            items.shm.close()
        for name in names:
            with pytest.raises(FileNotFoundError):
                ours.SharedMemory(name)
    finally:
        shmkit.uninstall()


VALUES = """
import multiprocessing as theirs, multiprocessing.sharedctypes
import shmkit, shmkit.multiprocessing as ours, shmkit.multiprocessing.sharedctypes
if sys.argv[1] == "install":
    shmkit.install()
package = theirs if sys.argv[1] == "install" else ours
own, types = package.Lock(), package.sharedctypes
for value in (
    types.Value("i", 7), types.Array("i", 3), types.synchronized(types.RawValue("i")), package.Value("i"),
    package.Array("i", 3), types.Value("i", lock=own),
):
    assert type(value.get_lock()).__module__ == "shmkit.multiprocessing.synchronize"
assert types.Value("i", 7).value == 7 and value.get_lock() is own
assert not hasattr(types.Value("i", lock=False), "get_lock")
"""


@pytest.mark.parametrize("face", ["drop-in", "install"])
def test_the_locks_of_values(face: str) -> None:
    """Wherever they are made."""
    done = in_child(VALUES, face)
    assert (done.returncode, done.stderr) == (0, "")
