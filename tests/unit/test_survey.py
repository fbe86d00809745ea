"""The survey: what it says of living, dead, foreign and hostile objects, and that nobody can tell that it was made."""

from __future__ import annotations

import ctypes
import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import posix_ipc
import pytest
import sysv_ipc

import shmkit
from shmkit import _fields, _header
from shmkit.segment import sysv
from shmkit.survey import SharedObject, Survey, Watch, leftovers, processes
from shmkit.survey import reading as readings
from shmkit.survey.addresses import open_object, resolve
from support import Processes
from unit.cli_support import (
    make_leased_and_die,
    make_named_and_die,
    receive_and_die,
    removed_at_end,
    shmkit_says,
    take_and_die,
)

SHM = Path("/dev/shm")


def seen(name: str | int | None) -> SharedObject:
    (found,) = [each for each in Survey().objects() if each.name == name]
    return found


def in_file(name: str, content: bytes) -> Path:
    path = SHM / name
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.fixture
def header(name: str) -> bytearray:
    """The bytes of a good segment of 4096 bytes, for tests to spoil."""
    with shmkit.Segment.create(name, 4096) as segment:
        content = bytearray((SHM / name).read_bytes())
        segment.unlink()
    return content


def put(content: bytearray, field: str, value: int) -> bytearray:
    at, size = _header.FIELDS[field]
    content[at : at + size] = value.to_bytes(size, "little")
    return content


# ── what it says ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_array_is_seen_with_all_that_its_header_says(name: str) -> None:
    """Kind, size, resident memory, age, creator, users, dtype and shape."""
    with removed_at_end(name):
        array = shmkit.create(name, (3, 4), "float32", mode=0o640)
        found = seen(name)
        assert (found.address, found.backing, found.kind, found.state) == (name, "posix", "array", "whole")
        assert (found.size, found.lifetime, found.mode, found.uid) == (48, "named", 0o640, os.geteuid())
        assert found.resident == 2 * 4096
        assert found.creator is not None
        assert (found.creator.pid, found.creator.alive) == (os.getpid(), True)
        assert os.getpid() in [user.pid for user in found.users]
        assert abs(time.time() - (found.created or 0)) < 60
        assert found.details.words == "float32 3×4"
        assert found.details.facts["shape"] == [3, 4]
        assert not found.dead
        del array


def test_everything_of_it_is_fit_for_json(name: str) -> None:
    """Whatever there is, and the names of the fields are a promise."""
    with removed_at_end(name):
        ring = shmkit.Ring.create(name, "64 KiB")
        plain = json.loads(json.dumps(seen(name).as_json()))
    assert sorted(plain) == [
        "address", "attached", "backing", "changed", "created", "creator", "dead", "details", "id", "inode", "kind",
        "leased", "lifetime", "mode", "name", "path", "resident", "shmkit", "size", "state", "trouble", "uid", "users",
        "users_known", "words",
    ]  # fmt: skip
    assert sorted(plain["creator"]) == ["alive", "command", "pid", "uid"]
    assert sorted(plain["users"][0]) == ["command", "pid", "uid"]
    assert plain["mode"] == "0600"
    del ring


def test_a_ring_is_seen_with_counters_and_both_ends(name: str) -> None:
    """What statistics() says to a user, an onlooker reads too."""
    with removed_at_end(name):
        ring = shmkit.Ring.create(name, "64 KiB")
        ring.send(b"x" * 100)
        ring.send(b"y" * 10)
        ring.recv()
        facts = seen(name).details.facts
        counted = ring.statistics()
        assert (facts["capacity"], facts["used"], facts["waiting"]) == (65536, counted.used, 1)
        assert (facts["sent"], facts["received"], facts["bytes_sent"], facts["bytes_received"]) == (2, 1, 110, 100)
        for end in ("producer", "consumer"):
            assert (facts[end]["state"], facts[end]["pid"]) == ("alive", os.getpid())
        ring.close()
        facts = seen(name).details.facts
        assert [facts[end]["state"] for end in ("producer", "consumer")] == ["left", "left"]


def test_an_end_that_nobody_ever_had_is_nobodys(name: str) -> None:
    """A fresh ring."""
    with removed_at_end(name):
        shmkit.Ring.create(name, "64 KiB")
        facts = seen(name).details.facts
        assert [facts[end]["state"] for end in ("producer", "consumer")] == ["never", "never"]


def test_who_was_killed_is_known(name: str, make_name: Callable[[], str], process: Processes) -> None:
    """The end of a ring, the holder of a lock, the maker of an array: by the kernel's word, not by a pid."""
    ring, lock, array = name, make_name(), make_name()
    with removed_at_end(ring, lock, array):
        shmkit.Ring.create(ring, "64 KiB")
        shmkit.Lock.create(lock)
        workers = [
            process(receive_and_die, ring), process(take_and_die, lock), process(make_named_and_die, array)
        ]  # fmt: skip
        for worker in workers:
            worker.join()
        pids = [worker.pid for worker in workers]
        assert seen(ring).dead == (f"consumer {pids[0]}",)
        assert seen(lock).dead == (f"holder {pids[1]}",)
        creator = seen(array).creator
        assert creator is not None
        assert (creator.pid, creator.alive, creator.command) == (pids[2], False, None)


def test_a_pid_that_is_another_process_by_now_is_a_dead_ones(name: str, header: bytearray) -> None:
    """The start time decides."""
    with removed_at_end(name):
        in_file(name, put(put(header, "creator_pid", os.getpid()), "creator_start", 1))
        creator = seen(name).creator
        assert creator is not None
        assert creator.alive is False


def test_whom_proc_does_not_show_is_not_said_to_be_dead(
    name: str, make_name: Callable[[], str], process: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other users' processes where /proc hides them (hidepid), and all where it is not mounted."""
    left = make_name()
    with removed_at_end(name, left):
        shmkit.create(name, (3,))
        process(make_named_and_die, left).join()
        monkeypatch.setattr(processes, "process_start", lambda pid: 0)
        monkeypatch.setattr(os, "listdir", lambda path, listed=os.listdir: [] if path == "/proc" else listed(path))
        for found, alive in ((seen(name), None), (seen(left), False)):
            assert found.creator is not None
            assert found.creator.alive is alive
            assert found.users_known is False


def held(kind: str, name: str) -> object:
    made = {"Lock": shmkit.Lock, "RLock": shmkit.RLock, "RWLock": shmkit.RWLock}[kind].create(name)
    (made.write if kind == "RWLock" else made).acquire()
    return made


@pytest.mark.parametrize("kind", ["Lock", "RLock", "RWLock"])
def test_a_lock_names_its_holder(kind: str, name: str) -> None:
    """And that it lives."""
    with removed_at_end(name):
        lock = held(kind, name)
        found = seen(name)
        (cell,) = found.details.facts["cells"]
        assert found.details.facts["primitive"] == kind
        assert (cell["holder"], cell["holder_alive"]) == (os.getpid(), True)
        assert str(os.getpid()) in found.details.words
        del lock


def test_a_holder_that_let_go_before_it_ended_is_not_dead(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at the word and the question to the kernel."""
    with removed_at_end(name):
        lock = shmkit.Lock.create(name)
        lock.acquire()

        def ask(self: readings.Reading, byte: int) -> bool:
            if lock.locked():  # the survey may ask about others' locks too
                lock.release()
            return False

        monkeypatch.setattr(readings.Reading, "ask", ask)
        assert not seen(name).dead


@pytest.mark.parametrize("taken_over", [False, True])
def test_an_end_that_was_left_before_the_question_is_not_dead(
    taken_over: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that somebody else has taken since."""
    with removed_at_end(name):
        holders = [shmkit.Ring.create(name, "64 KiB", role="producer")]

        def ask(self: readings.Reading, byte: int) -> bool:
            if len(holders) == 1:
                holders[0].close()
                holders.append(shmkit.Ring.attach(name, role="producer" if taken_over else None))
            return False

        monkeypatch.setattr(readings.Reading, "ask", ask)
        found = seen(name)
        assert found.details.facts["producer"]["state"] == ("alive" if taken_over else "left")
        assert not found.dead
        holders.clear()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, which only root can")
def test_message_queues_are_seen_where_they_are_mounted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what waits in them."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", os.fsencode(tmp_path), b"mqueue", 0, None) != 0:
        pytest.skip(f"no mqueue can be mounted: {os.strerror(ctypes.get_errno())}")
    monkeypatch.setattr("shmkit.survey.find.QUEUES", str(tmp_path))
    try:
        queue = posix_ipc.MessageQueue("/" + name, posix_ipc.O_CREX, max_messages=5, max_message_size=100)
        try:
            queue.send(b"hello")
            found = seen(name)
            assert (found.address, found.kind, found.size) == (f"mq:{name}", "queue", 5)
            plain = json.loads(shmkit_says("inspect", f"mq:{name}", "--json").out)
            assert (plain["details"]["messages"], plain["details"]["most_messages"]) == (1, 5)
            assert shmkit_says("rm", "-f", "--foreign", f"mq:{name}").status == 0
            assert not list(tmp_path.iterdir())
        finally:
            queue.close()
    finally:
        libc.umount2(os.fsencode(tmp_path), 2)


def test_readers_of_a_rwlock_are_named(name: str) -> None:
    """Those that hold it for reading."""
    with removed_at_end(name):
        lock = shmkit.RWLock.create(name)
        assert seen(name).details.facts["cells"][0]["readers"] == []
        with lock.read:
            assert seen(name).details.facts["cells"][0]["readers"] == [os.getpid()]


def test_semaphores_events_conditions_and_barriers_are_read(make_name: Callable[[], str]) -> None:
    """Each by its own words."""
    names = [make_name() for _ in range(6)]
    with removed_at_end(*names):
        counted = shmkit.Semaphore.create(names[0], 3)
        counted.acquire()
        undone = shmkit.Semaphore.create(names[1], 4, undo=True)
        undone.acquire()
        event = shmkit.Event.create(names[2])
        event.set()
        shmkit.Condition.create(names[3])
        shmkit.Barrier.create(names[4], 3).abort()
        shmkit.AtomicInt64.create(names[5], -7)
        words = [seen(name).details.words for name in names]
        assert words == [
            "Semaphore, value 2", "Semaphore, value 3 of 4", "Event, set", words[3], "Barrier, broken: aborted",
            "AtomicInt64, -7",
        ]  # fmt: skip
        assert words[3].startswith("Condition, ")
        assert seen(names[1]).details.facts["cells"][0]["holders"] == [os.getpid()]
        del undone


def test_anonymous_memory_of_living_processes_is_seen(process: Processes) -> None:
    """By the descriptor of whoever has it; once, however many have it."""
    array = shmkit.zeros((700, 1000))
    inode = array.segment._facts.inode
    code = "import os, shmkit, sys; a = shmkit.ones((600, 1000)); print(a.segment._facts.inode, flush=True); input()"
    program = process.python(code, stdin=-1)
    assert program.stdout is not None
    theirs = int(program.stdout.readline())
    found = {each.inode: each for each in Survey().objects() if each.backing == "memfd"}
    assert found[inode].kind == found[theirs].kind == "array"
    assert found[theirs].address.startswith(f"memfd:{program.pid}/")
    assert [user.pid for user in found[theirs].users] == [program.pid]
    assert found[theirs].lifetime == "leased"
    with open_object(resolve(Survey(), found[theirs].address)) as opened:
        assert opened.read(found[theirs].payload_at, 8) == np.ones(1).tobytes()


def test_segments_in_files_are_seen_while_they_are_mapped(tmp_path: Path) -> None:
    """Elsewhere than in /dev/shm nobody looks for them, but at what processes have mapped."""
    path = tmp_path / "stored"
    segment = shmkit.Segment.create(path, 5000, backing="file")
    (found,) = [each for each in Survey().objects() if each.path == str(path)]
    assert (found.address, found.backing, found.kind, found.size) == (str(path), "file", "bytes", 5000)
    segment.close()
    del segment
    assert not [each for each in Survey().objects() if each.path == str(path)]
    assert resolve(Survey(), str(path)).size == 5000


def test_sysv_segments_are_seen_by_name_and_key(name: str) -> None:
    """shmkit's and others'; who has them attached."""
    ours = shmkit.Segment.create(name, 5000, backing="sysv")
    theirs = sysv_ipc.SharedMemory(None, sysv_ipc.IPC_CREX, size=4096)
    try:
        found = seen(name)
        assert (found.address, found.kind, found.size, found.attached) == (f"sysv:{name}", "bytes", 5000, 1)
        assert [user.pid for user in found.users] == [os.getpid()]
        assert found.leased is True
        raw = seen(theirs.key)
        assert (raw.address, raw.kind, raw.state) == (f"sysv:{theirs.key:#x}", "raw", "foreign")
        assert resolve(Survey(), f"sysv:{theirs.key}").id == theirs.id
        assert resolve(Survey(), f"sysv:#{theirs.id}").id == theirs.id
    finally:
        theirs.detach()
        theirs.remove()
        ours.unlink()


def test_others_objects_are_seen(name: str) -> None:
    """POSIX semaphores and raw memory; SysV semaphores and queues; whose they are, where names tell."""
    semaphore = posix_ipc.Semaphore("/" + name, posix_ipc.O_CREX, initial_value=3)
    raw = posix_ipc.SharedMemory("/psm_" + name, posix_ipc.O_CREX, size=5000)
    queue = sysv_ipc.MessageQueue(None, sysv_ipc.IPC_CREX)
    sets = sysv_ipc.Semaphore(None, sysv_ipc.IPC_CREX)
    try:
        queue.send(b"hello")
        found = seen(f"sem.{name}")
        assert (found.address, found.kind, found.details.facts) == (f"sem:{name}", "semaphore", {"value": 3})
        found = seen("psm_" + name)
        assert (found.kind, found.state, found.size) == ("raw", "foreign", 5000)
        assert found.details.words == "multiprocessing.shared_memory"
        found = seen(queue.key)
        assert (found.kind, found.size, found.details.facts["messages"]) == ("queue", 5, 1)
        assert seen(sets.key).details.facts == {"count": 1}
    finally:
        semaphore.unlink()
        semaphore.close()
        raw.close_fd()
        raw.unlink()
        queue.remove()
        sets.remove()


# ── the hostile, the unfinished, the vanishing ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("field", "value", "state"),
    [
        ("layout_version", 2, "other version"),
        ("layout_version", 2**32 - 1, "other version"),
        ("kind", 77, "unknown kind"),
        ("payload_size", 2**64 - 1, "corrupt"),
        ("payload_size", 2**40, "corrupt"),
        ("header_size", 0, "corrupt"),
        ("header_size", 4097, "corrupt"),
        ("header_size", 2**32 - 4096, "corrupt"),
        ("meta_size", 2**32 - 1, "corrupt"),
        ("flags", 0xFFFF0000, "corrupt"),
        ("identity", 0, "corrupt"),
    ],
)
def test_a_header_that_breaks_a_rule_is_told(name: str, header: bytearray, field: str, value: int, state: str) -> None:
    """Which rule, and the value; nothing that it claims is believed."""
    with removed_at_end(name):
        path = in_file(name, put(header, field, value))
        found = seen(name)
        assert found.state == state
        assert found.trouble
        assert found.size == (4096 if state == "unknown kind" else path.stat().st_size)


@pytest.mark.parametrize("kind", [_header.KIND_RING, _header.KIND_SYNC, _header.KIND_ARRAY])
@pytest.mark.parametrize("fill", [0x00, 0xFF, 0x41])
def test_a_payload_of_nonsense_does_no_harm(name: str, header: bytearray, kind: int, fill: int) -> None:
    """A ring, primitives or an array that the payload is not."""
    with removed_at_end(name):
        put(header, "kind", kind)
        header[4096:] = bytes([fill]) * 4096
        in_file(name, header)
        found = seen(name)
        assert found.state == "whole"
        json.dumps(found.as_json())


@pytest.mark.parametrize("letters", sorted(_fields.CELLS))
def test_cells_that_claim_what_cannot_be_do_no_harm(name: str, header: bytearray, letters: int) -> None:
    """All ones behind a cell's kind: counts, owners and parties beyond any bound."""
    with removed_at_end(name):
        put(header, "kind", _header.KIND_SYNC)
        header[4096:] = letters.to_bytes(4, "little") + b"\xff" * 4092
        in_file(name, header)
        found = seen(name)
        assert found.details.facts["cells"][0]["cell"] == _fields.CELLS[letters]
        json.dumps(found.as_json())


@pytest.mark.parametrize("length", [0, 1, 8, 255, 256, 4095])
def test_what_is_too_short_for_a_segment_is_raw_or_corrupt(name: str, header: bytearray, length: int) -> None:
    """Truncated anywhere."""
    with removed_at_end(name):
        in_file(name, header[:length])
        assert seen(name).state == ("foreign" if length < 256 else "corrupt")


def test_a_huge_hole_costs_nothing_to_look_at(name: str) -> None:
    """A sparse segment of a TiB: it is not read, and no page of it comes to be."""
    with removed_at_end(name):
        segment = shmkit.Segment.create(name, "1 TiB", reserve=False)
        found = seen(name)
        assert found.size == 2**40
        assert found.resident is not None
        assert found.resident <= 2 * 4096
        with open_object(found) as opened:
            assert opened.read(2**39, 2**20) == bytes(2**20)
        assert seen(name).resident == found.resident
        del segment


def test_what_is_no_regular_file_is_passed_over(name: str, make_name: Callable[[], str]) -> None:
    """A FIFO would block, a link leads elsewhere, a folder is none."""
    fifo, link, folder = SHM / name, SHM / make_name(), SHM / make_name()
    os.mkfifo(fifo)
    link.symlink_to("/etc/passwd")
    folder.mkdir()
    try:
        assert not [each for each in Survey().objects() if each.path in (str(fifo), str(link), str(folder))]
    finally:
        fifo.unlink()
        link.unlink()
        folder.rmdir()


def test_what_vanishes_between_the_list_and_the_look_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gone, it is passed over; replaced, it is not taken for the old one."""
    with removed_at_end(name):
        shmkit.Segment.create(name, 100)
        found = seen(name)
        (SHM / name).unlink()
        with pytest.raises(shmkit.SegmentNotFound, match="has just gone"):
            open_object(found)
        shmkit.Segment.create(name, 100)
        with pytest.raises(shmkit.SegmentNotFound, match="has just gone"):
            open_object(found)
        opened = readings.open_file

        def vanishing(path: str, follow: bool = False) -> object:
            if path.endswith(name):
                os.unlink(path)
            return opened(path, follow)

        monkeypatch.setattr("shmkit.survey.find.open_file", vanishing)
        assert not [each for each in Survey().objects() if each.name == name]


def test_a_truncation_while_it_is_read_only_shortens_what_is_read(name: str) -> None:
    """Where a mapping would be SIGBUS."""
    with removed_at_end(name):
        shmkit.create(name, (10000,))
        found = seen(name)
        with open_object(found) as opened:
            os.truncate(SHM / name, 5000)
            assert len(opened.read(found.payload_at, 80000)) == 5000 - 4096
            assert opened.read(20000, 100) == b""


def half_make_and_die(name: str) -> None:
    """Is killed between the kernel's making of a SysV segment and its header."""

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), 9)

    from shmkit import _make

    sysv._make.format_sysv = die  # type: ignore[attr-defined]
    assert _make is sysv._make
    shmkit.Segment.create(name, 5000, backing="sysv")


def test_what_its_maker_left_half_made_is_told_and_collected(name: str, process: Processes) -> None:
    """A SysV segment has its key before it has its header."""
    maker = process(half_make_and_die, name)
    maker.join()
    (found,) = [each for each in Survey().objects() if each.backing == "sysv"]
    assert found.state == "half made"
    left, lease = leftovers()
    assert left.address == found.address
    assert lease.why == f"it bears the leases of {found.address}, which goes too"
    assert sorted(shmkit.collect()) == sorted([left.label, lease.label])
    assert not leftovers()


def test_a_file_that_is_in_the_making_is_not_taken_for_a_leftover(name: str, process: Processes) -> None:
    """Where the file system knows no nameless files: its maker holds its lease until it is whole."""
    code = (
        "import os, shmkit; from shmkit.segment import file; file.NAMELESS = False\n"
        "def init(mapping, at): print('at work', flush=True); input()\n"
        f"shmkit.Segment._create({name!r}, 100, init=init)"
    )
    with removed_at_end(name):
        program = process.python(code, stdin=-1)
        assert program.stdout is not None
        assert program.stdout.readline() == "at work\n"
        (found,) = [each for each in Survey().posix() if each.path and "unfinished" in each.path]
        assert found.state == "in the making"
        assert not leftovers()
        program.kill()
        program.wait()
        (found,) = [each for each in Survey().posix() if each.path and "unfinished" in each.path]
        assert found.state == "half made"
        (left,) = leftovers()
        assert "never finished" in left.why
        assert left.label in shmkit.collect()


# ── nobody can tell ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_looking_takes_no_lease(name: str) -> None:
    """While it is being looked at, the last user of a leased segment leaves: the name goes with it."""
    array = shmkit.create(name, (100,), lifetime="leased")
    found = seen(name)
    assert found.leased is True
    with open_object(found):
        del array
        assert not (SHM / name).exists()


def test_watching_takes_no_role_and_keeps_nothing_open(name: str) -> None:
    """Both ends are free for others, and no descriptor stays."""
    with removed_at_end(name):
        ring = shmkit.Ring.create(name, "64 KiB")
        watch = Watch()
        watch.look()
        before = len(os.listdir("/proc/self/fd"))
        (rate,) = [each for each in watch.look() if each.address == name]
        assert len(os.listdir("/proc/self/fd")) == before
        assert rate.details.facts["producer"]["state"] == rate.details.facts["consumer"]["state"] == "never"
        other = shmkit.Ring.attach(name, role="producer")
        ring.close()
        other.close()


def test_looking_changes_no_byte(name: str, make_name: Callable[[], str]) -> None:
    """Nor the time at which it was last changed."""
    names = [name, make_name(), make_name()]
    with removed_at_end(*names):
        shmkit.Ring.create(names[0], "64 KiB")
        shmkit.Lock.create(names[1])
        shmkit.create(names[2], (100,))
        before = [((SHM / each).read_bytes(), (SHM / each).stat().st_mtime_ns) for each in names]
        list(Survey().objects())
        leftovers()
        Watch().look()
        assert [((SHM / each).read_bytes(), (SHM / each).stat().st_mtime_ns) for each in names] == before


# ── what the dead left ──────────────────────────────────────────────────────────────────────────────────────────────


def test_leftovers_are_what_a_collection_removes(name: str, make_name: Callable[[], str], process: Processes) -> None:
    """All that and nothing else: not what lives, not what has a name of its own."""
    left, named, alive = name, make_name(), make_name()
    with removed_at_end(named):
        # In this order: whoever makes a segment may collect first.
        array = shmkit.create(alive, (10,), lifetime="leased")
        for target, of in ((make_named_and_die, named), (make_leased_and_die, left)):
            process(target, of).join()
        found = leftovers()
        assert [each.address for each in found] == [left]
        assert "has died" in found[0].why
        assert sorted(each.label for each in found) == sorted(shmkit.collect())
        assert not leftovers()
        assert (SHM / named).exists()
        del array


def test_a_leased_sysv_segment_of_the_dead_is_a_leftover(name: str, process: Processes) -> None:
    """And so is a lease whose segment has gone."""
    make = f"shmkit.Segment.create({name!r}, 100, backing='sysv', lifetime='leased')"
    code = f"import os, shmkit; segment = {make}; os.kill(os.getpid(), 9)"
    process.python(code).wait()
    left, lease = leftovers()
    assert left.label.startswith("SysV segment ")
    assert sorted(shmkit.collect()) == sorted([left.label, lease.label])
    process.python(code).wait()
    left, lease = leftovers()
    sysv_ipc.remove_shared_memory(int(left.label.split()[-1]))
    (left,) = leftovers()
    assert "has gone" in left.why
    assert shmkit.collect() == [left.label]


# ── rates ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rates_are_what_went_through_meanwhile(name: str) -> None:
    """None at the first look; then records, bytes and sleeps per second."""
    with removed_at_end(name):
        ring = shmkit.Ring.create(name, "64 KiB")
        watch = Watch()

        def look() -> object:
            (rate,) = [each for each in watch.look() if each.address == name]
            return rate

        first = look()
        assert first.sent is None  # type: ignore[attr-defined]
        for _ in range(10):
            ring.send(b"x" * 50)
        second = look()
        assert second.sent > 0  # type: ignore[attr-defined]
        assert second.bytes_sent == pytest.approx(second.sent * 50)  # type: ignore[attr-defined]
        assert (second.received, second.gauge.waiting) == (0, 10)  # type: ignore[attr-defined]
        third = look()
        assert third.sent == 0  # type: ignore[attr-defined]


def test_another_ring_of_the_same_name_begins_anew(name: str) -> None:
    """Its counters are not compared with those of the one before."""
    with removed_at_end(name):
        ring = shmkit.Ring.create(name, "64 KiB")
        ring.send(b"x")
        watch = Watch()
        watch.look()
        shmkit.unlink(name)
        shmkit.Ring.create(name, "64 KiB")
        (rate,) = [each for each in watch.look() if each.address == name]
        assert rate.sent is None


def test_a_ring_that_comes_and_goes_is_seen_coming_and_going(name: str) -> None:
    """Also over SysV, and anonymous."""
    watch = Watch()
    assert not [each for each in watch.look() if each.address == f"sysv:{name}"]
    ring = shmkit.Ring.create(name, "64 KiB", backing="sysv")
    try:
        assert [each for each in watch.look() if each.address == f"sysv:{name}"]
    finally:
        shmkit.unlink(name, backing="sysv")
        ring.close()
        del ring
    assert not [each for each in watch.look() if each.address == f"sysv:{name}"]


def test_unreadable_modes_are_printed_as_they_are(name: str) -> None:
    """A mode is four octal digits, whatever it is."""
    with removed_at_end(name):
        path = in_file(name, b"raw")
        path.chmod(stat.S_IRUSR)
        assert seen(name).as_json()["mode"] == "0400"
