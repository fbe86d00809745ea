"""``shmkit rm`` and ``shmkit gc``: what they remove, what they refuse, and that they say so."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import posix_ipc
import pytest
import sysv_ipc

import shmkit
from support import Processes
from support.terminal import Terminal
from unit.cli_support import (
    NOBODY,
    SHMKIT,
    make_leased_and_die,
    make_named_and_die,
    program_says,
    removed_at_end,
    shmkit_says,
    user_says,
)

SHM = Path("/dev/shm")


# ── rm ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rm_removes_what_is_shmkits(make_name: Callable[[], str]) -> None:
    """Each by its name; whoever has it mapped keeps it."""
    names = [make_name() for _ in range(3)]
    with removed_at_end(*names):
        array = shmkit.create(names[0], (10,))
        shmkit.Ring.create(names[1], "64 KiB")
        shmkit.Lock.create(names[2])
        said = shmkit_says("rm", "-f", *names)
        assert (said.status, said.err) == (0, "")
        assert said.out.startswith(f"removed {names[0]}, still in use by {os.getpid()} (")
        assert not any((SHM / name).exists() for name in names)
        array[:] = 1
        assert array.sum() == 10


def test_rm_refuses_what_is_not_shmkits(name: str) -> None:
    """Unless it is told otherwise."""
    memory = posix_ipc.SharedMemory("/" + name, posix_ipc.O_CREX, size=100)
    memory.close_fd()
    said = shmkit_says("rm", "-f", name)
    assert said == (1, "", f"shmkit: {name} is not shmkit's: --foreign removes it all the same\n")
    assert (SHM / name).exists()
    assert shmkit_says("rm", "-f", "--foreign", name).status == 0
    assert not (SHM / name).exists()


def test_rm_without_a_terminal_asks_nobody(name: str, process: Processes) -> None:
    """And removes nothing."""
    with removed_at_end(name):
        shmkit.create(name, (10,))
        said = program_says(process, "rm", name, stdin=-3)
        assert said.status == 1
        assert "nobody is there to answer" in said.err
        assert (SHM / name).exists()


@pytest.mark.parametrize(
    ("answer", "gone"), [("y\n", True), ("Yes\n", True), ("\n", False), ("n\n", False), ("\x04", False)]
)
def test_rm_asks_on_a_terminal(answer: str, gone: bool, name: str) -> None:
    """What it is, how large, and who still uses it; only a yes is a yes."""
    with removed_at_end(name):
        array = shmkit.create(name, (10,))
        with Terminal([*SHMKIT, "rm", name], 200) as terminal:
            terminal.read(lambda text: "[y/N]" in text)
            assert re.search(
                rf"Remove array {name} \(80 B\), still in use by {os.getpid()} \(.*\)\? ", terminal.written
            )
            terminal.press(answer)
            assert terminal.wait() == 0
        assert (SHM / name).exists() is not gone
        assert ("removed" if gone else "kept") in terminal.written
        del array


def test_ctrl_c_at_the_question_removes_nothing(name: str) -> None:
    """Status 130."""
    with removed_at_end(name):
        shmkit.create(name, (10,))
        with Terminal([*SHMKIT, "rm", name]) as terminal:
            terminal.read(lambda text: "[y/N]" in text)
            terminal.press("\x03")
            assert terminal.wait() == 130
        assert "Traceback" not in terminal.written
        assert (SHM / name).exists()


def test_rm_takes_patterns_of_shmkits_own(make_name: Callable[[], str]) -> None:
    """Nothing of others, and nothing anonymous, is meant by one."""
    base = make_name()
    names = [f"{base}-{letter}" for letter in "abc"]
    foreign = SHM / f"{base}-x"
    foreign.write_bytes(b"raw")
    try:
        for name in names:
            shmkit.Segment.create(name, 10)
        said = shmkit_says("rm", "-f", f"{base}-*")
        assert said.status == 0
        assert said.out.count("removed") == 3
        assert foreign.exists()
        assert shmkit_says("rm", f"{base}-*").status == 1
        assert shmkit_says("rm", "-f", f"{base}-*") == (0, "", "")
    finally:
        foreign.unlink()


def test_rm_goes_on_after_what_fails(make_name: Callable[[], str]) -> None:
    """All that can be removed is; the status says that something was not."""
    first, second = make_name(), make_name()
    with removed_at_end(first, second):
        shmkit.Segment.create(first, 10)
        shmkit.Segment.create(second, 10)
        said = shmkit_says("rm", "-f", first, "memfd:1/1", "/dev/null", second)
        assert said.out == f"removed {first}\nremoved {second}\n"
        assert shmkit_says("rm", "-f", first).status == 0


def test_rm_removes_every_kind_of_thing(name: str, tmp_path: Path) -> None:
    """Files, SysV segments with the leases that belong to them, and, if told, semaphores and queues."""
    path = tmp_path / "stored"
    shmkit.Segment.create(path, 10, backing="file")
    segment = shmkit.Segment.create(name, 10, backing="sysv")
    semaphore = posix_ipc.Semaphore("/" + name, posix_ipc.O_CREX)
    semaphore.close()
    sets, queue = sysv_ipc.Semaphore(None, sysv_ipc.IPC_CREX), sysv_ipc.MessageQueue(None, sysv_ipc.IPC_CREX)
    said = shmkit_says("rm", "-f", str(path), f"sysv:{name}")
    assert (said.status, said.err) == (0, "")
    assert not path.exists()
    assert not list(SHM.glob("shmkit.lease.*"))
    theirs = [f"sem:{name}", f"sysvsem:#{sets.id}", f"sysvmq:{queue.key:#x}"]
    assert shmkit_says("rm", "-f", *theirs).status == 1
    said = shmkit_says("rm", "-f", "--foreign", *theirs)
    assert (said.status, said.err) == (0, "")
    assert not (SHM / f"sem.{name}").exists()
    for address in theirs[1:]:
        assert shmkit_says("inspect", address).status == 1
    del segment


def test_rm_of_anonymous_memory_says_that_it_has_no_name(process: Processes) -> None:
    """It goes with its last process."""
    code = "import shmkit; array = shmkit.ones((600, 1000)); print(flush=True); input()"
    program = process.python(code, stdin=-1)
    assert program.stdout is not None
    program.stdout.readline()
    found = json.loads(shmkit_says("ls", "--json", f"memfd:{program.pid}/*").out)["objects"][0]["address"]
    said = shmkit_says("rm", "-f", found)
    assert said.status == 1
    assert "no name to be removed" in said.err


def test_a_corrupt_segment_can_be_removed(name: str) -> None:
    """It is shmkit's, whatever became of it."""
    with removed_at_end(name):
        shmkit.Segment.create(name, 4096)
        os.truncate(SHM / name, 300)
        assert shmkit_says("rm", "-f", name).status == 0
        assert not (SHM / name).exists()


def test_another_one_that_has_the_name_by_now_is_not_removed(name: str) -> None:
    """What was asked about is what is removed."""
    with removed_at_end(name):
        shmkit.create(name, (10,))
        with Terminal([*SHMKIT, "rm", name]) as terminal:
            terminal.read(lambda text: "[y/N]" in text)
            shmkit.unlink(name)
            shmkit.create(name, (20,))
            terminal.press("y\n")
            assert terminal.wait() == 1
        assert "has just gone" in terminal.written
        assert shmkit.attach(name).shape == (20,)


# ── gc ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_gc_removes_what_the_dead_left_and_says_why(make_name: Callable[[], str], process: Processes) -> None:
    """After a dry run that removes nothing; what has a name of its own stays, whoever made it is dead."""
    left, named = make_name(), make_name()
    with removed_at_end(named):
        alive = shmkit.create(make_name(), (10,), lifetime="leased")
        process(make_named_and_die, named).join()
        child = process(make_leased_and_die, left)
        child.join()
        why = rf"{left} \(8 KiB\): it is leased, its maker \(process {child.pid}\) has died, and nobody uses it\n"
        said = shmkit_says("gc", "--dry-run")
        assert said.status == 0
        assert re.fullmatch(rf"would remove {why}1 object, 8 KiB\n", said.out)
        assert (SHM / left).exists()
        plain = json.loads(shmkit_says("gc", "--dry-run", "--json").out)
        assert [each["address"] for each in plain["found"]] == [left]
        assert (plain["dry_run"], plain["removed"]) == (True, [])
        said = shmkit_says("gc")
        assert said.status == 0
        assert re.fullmatch(rf"removed {why}1 object, 8 KiB\n", said.out)
        assert not (SHM / left).exists()
        assert (SHM / named).exists()
        assert shmkit_says("gc") == (0, "The dead left nothing.\n", "")
        del alive


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can")
def test_gc_leaves_other_users_leftovers_to_them(name: str, process: Processes) -> None:
    """It says whose they are."""
    process(make_leased_and_die, name).join()
    os.chmod(SHM / name, 0o644)
    said = user_says(NOBODY, "gc")
    assert said.status == 0
    assert said.out.startswith(f"left {name} (8 KiB) to user 0, whose it is: ")
    assert (SHM / name).exists()
    assert shmkit_says("gc").out.startswith(f"removed {name}")


def test_gc_looks_into_another_folder(tmp_path: Path, process: Processes) -> None:
    """At files that were left half made."""
    code = f"""
import os, shmkit
from shmkit.segment import file
file.NAMELESS = False
def init(mapping, at): os.kill(os.getpid(), 9)
shmkit.Segment._create({str(tmp_path / "x")!r}, 100, backing="file", init=init)
"""
    process.python(code).wait()
    (half_made,) = tmp_path.iterdir()
    said = shmkit_says("gc", "--folder", str(tmp_path))
    assert said.status == 0
    assert "it was never finished: its maker has died" in said.out
    assert not half_made.exists()
