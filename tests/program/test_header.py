"""``shmkit.h``: a C or C++ program at one end of a ring, Python at the other; what is lost when either is killed."""

from __future__ import annotations

import re
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkit
from support import REPOSITORY, Processes, wait_until

from .conftest import LANGUAGES, PRESENT, Compiled

CAPACITY = 1 << 16
WATCHDOG = 30.0
COUNT = 3000


def checksum(body: bytes) -> int:
    total = 14695981039346656037
    for byte in body:
        total = (total ^ byte) * 1099511628211 % (1 << 64)
    return total


def message(number: int) -> bytes:
    """As peer.c makes it."""
    body = bytes((number * 31 + at * 7) & 255 for at in range(48))
    return struct.pack("<QQ", number, checksum(body)) + body


def whole(record: Any, number: int) -> bool:
    found, total = struct.unpack_from("<QQ", record)
    body = bytes(record[16:])
    return bool(found == number and total == checksum(body) and len(body) in (48, number * 7919 % 3000))


@pytest.fixture
def peer(compiled: Compiled, process: Processes) -> Any:
    def start(
        *words: object, language: str = "", options: tuple[str, ...] = (), env: dict[str, str] | None = None
    ) -> Any:
        argv = [compiled("peer.c", language, *options), *(str(word) for word in words)]
        return process.popen(argv, stdout=subprocess.PIPE, env=env)

    return start


def answer(program: Any) -> str:
    return str(program.communicate(timeout=60)[0])


def test_the_header_can_be_found(process: Processes) -> None:
    """By a function, and by a command whose output a compiler understands."""
    assert (Path(shmkit.get_include()) / "shmkit.h").is_file()
    told = process.popen([sys.executable, "-m", "shmkit.include"], stdout=subprocess.PIPE).communicate(timeout=60)[0]
    assert told == f"-I{shmkit.get_include()}\n"
    path = process.popen([sys.executable, "-m", "shmkit.include", "--path"], stdout=subprocess.PIPE)
    assert path.communicate(timeout=60)[0] == f"{shmkit.get_include()}\n"


def test_the_header_is_what_the_package_s_own_headers_say() -> None:
    """The protocol stands in one place: the single file is made of it, and is not older."""
    made = subprocess.run(
        [sys.executable, "-c", "import c_header, sys; sys.stdout.write(c_header.make())"],
        cwd=REPOSITORY, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert (Path(shmkit.get_include()) / "shmkit.h").read_text() == re.sub(r"\n{3,}", "\n\n", made)


def test_every_name_has_the_prefix() -> None:
    """A program that includes it gets no other new names, and no macro but what the system lacks."""
    text = (Path(shmkit.get_include()) / "shmkit.h").read_text()
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    macros = set(re.findall(r"^# *define (\w+)", code, re.MULTILINE))
    functions = set(re.findall(r"^static [^\n(=;]*?\b(\w+)\(", code, re.MULTILINE))
    types = set(re.findall(r"^} (\w+);", code, re.MULTILINE))
    system = re.compile(r"_GNU_SOURCE|(O|AT|F|MFD|RENAME)_[A-Z_]+")
    assert len(functions) > 50
    assert len(types) > 10
    assert not [name for name in macros if not name.startswith("SHMKIT_") and not system.fullmatch(name)]
    assert not [name for name in functions | types if not name.startswith("shmkit_")]


@pytest.mark.parametrize("case", ["limits", "misuse", "views", "forked"])
def test_within_one_program(case: str, language: str, compiled: Compiled, process: Processes, name: str) -> None:
    """Time-outs, limits, wrong use, views that are given back out of turn, forked children."""
    program = process.popen([compiled("cases.c", language), case, name], stdout=subprocess.PIPE)
    assert program.communicate(timeout=60)[0] == ""
    assert program.returncode == 0


def test_system_headers_before_it_are_told_of(language: str, tmp_path: Path) -> None:
    """Strict C hides what the header needs: an error that says what to do, not a hundred."""
    if "c11" not in language:
        pytest.skip("C++ compilers declare everything")
    source = tmp_path / "late.c"
    source.write_text('#include <stdio.h>\n#include "shmkit.h"\nint main(void) { return 0; }\n')
    command = [*LANGUAGES[language], "-fsyntax-only", f"-I{shmkit.get_include()}", str(source)]
    refused = subprocess.run(command, check=False, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "compile with -D_GNU_SOURCE" in refused.stderr
    assert subprocess.run([*command, "-D_GNU_SOURCE"], check=False).returncode == 0


def test_several_files_of_a_program_may_include_it(language: str, tmp_path: Path, compiled: Compiled) -> None:
    """Everything in it is of the file that includes it."""
    del compiled
    for stem in ("one", "two"):
        (tmp_path / f"{stem}.c").write_text(
            f'#include "shmkit.h"\nint {stem}(void);\nint {stem}(void) {{ return (int)sizeof(shmkit_producer_t); }}\n'
            + ("int one(void);\nint main(void) { return one() == two() ? 0 : 1; }\n" if stem == "two" else "")
        )
    if language == "none":
        pytest.skip("needs a C compiler")
    target = tmp_path / "both"
    command = [*LANGUAGES[language], "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{shmkit.get_include()}"]
    subprocess.run([*command, "-o", target, tmp_path / "one.c", tmp_path / "two.c"], check=True)
    subprocess.run([target], check=True)


# ------------------------------------------------------------------------------------------------ records, both ways


@pytest.mark.parametrize("what", ["bytes", "small"])
def test_python_receives_what_c_sends(what: str, language: str, peer: Any, name: str) -> None:
    """Every record whole and in its order, then EndOfStream."""
    with shmkit.Ring.create(name, CAPACITY) as ring:
        program = peer("send", name, "attach", what, COUNT, "close", language=language)
        for number in range(COUNT):
            assert whole(ring.recv(WATCHDOG), number)
        with pytest.raises(shmkit.EndOfStream):
            ring.recv(WATCHDOG)
        assert answer(program) == "ready\nall: done\n"
        ring.unlink()


def test_c_receives_what_python_sends(language: str, peer: Any, name: str) -> None:
    """It checks every record itself; the end comes after the last."""
    with shmkit.Ring.create(name, CAPACITY) as ring:
        program = peer("recv", name, "attach", "small", COUNT + 1, "close", language=language)
        for number in range(COUNT):
            ring.send(message(number), WATCHDOG)
        ring.close()
        assert answer(program) == "ready\nend: the other end has closed the ring\n"
        ring.unlink()


def test_two_c_programs_share_a_ring(language: str, peer: Any, name: str) -> None:
    """One of C, one of each language."""
    receiver = peer("recv", name, "create", "bytes", COUNT, "close")
    assert receiver.stdout.readline() == "ready\n"
    sender = peer("send", name, "attach", "bytes", COUNT, "close", language=language)
    assert answer(sender) == "ready\nall: done\n"
    assert answer(receiver) == "all: done\n"
    shmkit.unlink(name)


def test_python_attaches_to_a_ring_that_c_made(language: str, peer: Any, name: str) -> None:
    """Its header keeps every rule, its mode is 0600, and it says who made it."""
    program = peer("send", name, "create", "array", 9, "stay", language=language)
    assert program.stdout.readline() == "ready\n"
    with shmkit.Ring.attach(name) as ring:
        assert ring.capacity == CAPACITY
        assert ring.segment.creator_pid == program.pid
        assert ring.segment.lifetime == "named"
        assert Path(f"/dev/shm/{name}").stat().st_mode & 0o7777 == 0o600
        for number in range(9):
            array = ring.recv(WATCHDOG)
            assert array.dtype == np.float64
            assert array.shape == (number % 4, 3)
            assert (array.ravel() == number + np.arange(array.size) / 8).all()
        program.send_signal(signal.SIGTERM)
        with pytest.raises(shmkit.EndOfStream):
            ring.recv(WATCHDOG)
        ring.unlink()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype="f8").reshape(3, 4),
        np.asfortranarray(np.arange(6, dtype="f8").reshape(2, 3)),
        np.zeros((), "f8"),
        np.zeros((0, 7), "f8"),
        np.zeros(5, "u1"),
        np.zeros(3, "U7"),
        np.zeros(3, "M8[ns]"),
        np.zeros(2, "c16"),
        np.zeros(4, [("x", "<f4"), ("y", "<i2", (3,))]),
        np.zeros((1,) * 32, "?"),
    ],
    ids=lambda array: f"{array.dtype.str}-{array.ndim}",
)
def test_c_reads_what_an_array_is(array: Any, peer: Any, name: str) -> None:
    """Dtype, size of an element, order, shape and values."""
    with shmkit.Ring.create(name, CAPACITY) as ring:
        program = peer("recv", name, "attach", "echo-array", 1, "close")
        ring.send(array, WATCHDOG)
        total = float(array.sum()) if array.dtype == np.float64 else 0.0
        dtype = array.dtype.str if array.dtype.names is None else repr(np.lib.format.dtype_to_descr(array.dtype))
        order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        shape = "".join(f"{side}," for side in array.shape)
        # How large an element with fields is, C knows by the array's bytes.
        assert answer(program).splitlines()[1] == f"{dtype} {array.dtype.itemsize} {order} ({shape}) {total:g}"
        ring.unlink()


# ----------------------------------------------------------------------------------------------------------- deaths


def test_python_is_told_when_c_is_killed(language: str, peer: Any, name: str) -> None:
    """After the last record that it had sent; a Python producer takes over from it."""
    with shmkit.Ring.create(name, CAPACITY) as ring:
        program = peer("send", name, "attach", "small", 5, "stay", language=language)
        assert program.stdout.readline() == "ready\n"
        assert program.stdout.readline() == "all: done\n"
        program.kill()
        for number in range(5):
            assert whole(ring.recv(WATCHDOG), number)
        with pytest.raises(shmkit.PeerDied) as caught:
            ring.recv(WATCHDOG)
        assert caught.value.pid == program.pid
        with shmkit.Ring.attach(name) as heir:
            heir.send(b"on", WATCHDOG)
            assert ring.recv(WATCHDOG) == b"on"
        ring.unlink()


def test_a_c_program_that_ends_without_a_word_is_dead(peer: Any, name: str) -> None:
    """exit() without close is no end of stream: there might have been more."""
    with shmkit.Ring.create(name, CAPACITY) as ring:
        answer(peer("send", name, "attach", "small", 1, "vanish"))
        ring.recv(WATCHDOG)
        with pytest.raises(shmkit.PeerDied):
            ring.recv(WATCHDOG)
        ring.unlink()


def hold(name: str, role: str) -> None:
    with shmkit.Ring.attach(name, role=role) as ring:
        if role == "producer":
            ring.send(message(0))
        signal.pause()


@pytest.mark.parametrize(("role", "does"), [("consumer", "send"), ("producer", "recv")])
def test_c_is_told_when_python_is_killed(
    role: str, does: str, language: str, peer: Any, name: str, process: Processes
) -> None:
    """A sender when the ring is full, a receiver when all is received."""
    with shmkit.Ring.create(name, CAPACITY) as ring:
        child = process(hold, name, role)
        wait_until(lambda: getattr(ring.statistics(), f"{role}_pid") == child.pid)
        program = peer(does, name, "attach", "small", COUNT * 10, "close", language=language)
        assert program.stdout.readline() == "ready\n"
        child.kill()
        assert answer(program) == "end: the process at the other end has died\n"
        ring.unlink()


@pytest.mark.parametrize(
    "place", ["ring.fill.word", "ring.publish.before", "ring.publish.tail", "ring.claim.open", "ring.close.state"]
)
def test_c_is_killed_at_each_step_of_sending(place: str, peer: Any, name: str) -> None:
    """What was committed is received whole, in order and once; then PeerDied, or EndOfStream if it had said so."""
    with shmkit.Ring.create(name, CAPACITY) as ring:
        program = peer(
            "send", name, "attach", "bytes", 40, "close", options=("-DSHMKIT_DEBUG",),
            env={"SHMKIT_FAILPOINT": f"{place}:{0 if 'fill' not in place and 'publish' not in place else 20}"},
        )  # fmt: skip
        got = 0
        with pytest.raises((shmkit.PeerDied, shmkit.EndOfStream)):
            while True:
                assert whole(ring.recv(WATCHDOG), got)
                got += 1
        assert program.wait(60) == -signal.SIGKILL
        expected = {"ring.publish.tail": 21, "ring.claim.open": 0, "ring.close.state": 40}
        assert got == expected.get(place, 20)
        ring.unlink()


@pytest.mark.parametrize("place", ["ring.release.before", "ring.release.head"])
def test_c_is_killed_at_each_step_of_receiving(place: str, peer: Any, name: str) -> None:
    """Its successor gets what it had not given back, the record in its hands at most twice and none never."""
    with shmkit.Ring.create(name, CAPACITY) as ring:
        for number in range(40):
            ring.send(message(number), WATCHDOG)
        program = peer(
            "recv", name, "attach", "small", 40, "close", options=("-DSHMKIT_DEBUG",),
            env={"SHMKIT_FAILPOINT": f"{place}:20"},
        )  # fmt: skip
        assert program.wait(60) == -signal.SIGKILL
        first = 20 if place == "ring.release.before" else 21
        successor = peer("recv", name, "attach", "echo-array", 40 - first, "close")
        assert answer(successor).count("bytes") == 40 - first
        ring.unlink()


# --------------------------------------------------------------------------------------------------- what is refused


def test_what_is_no_ring_is_refused(peer: Any, name: str) -> None:
    """A missing one, another kind of segment, another layout, one cut short: each said in words, and nothing hangs."""
    assert "No such file" in answer(peer("recv", name, "attach", "small", 1, "close"))
    path = Path(f"/dev/shm/{name}")
    refused = "begin: this is no ring that this program can read\n"
    with shmkit.Segment.create(name, 4096) as segment:
        assert answer(peer("recv", name, "attach", "small", 1, "close")) == refused
        segment.unlink()
    with shmkit.Ring.create(name, CAPACITY) as ring:
        good = path.read_bytes()
        ring.unlink()
    spoilt = {
        "empty": b"",
        "cut short": good[:-1],
        "cut within the header": good[:200],
        "another layout": good[:8] + b"\x63" + good[9:],
        "another magic": b"x" + good[1:],
        "no capacity": good[:4096] + bytes(8) + good[4104:],
        "a capacity that is no power of two": good[:4096] + struct.pack("<Q", CAPACITY - 8) + good[4104:],
        "larger than it is": good[:16] + struct.pack("<Q", 1 << 62) + good[24:],
    }
    for what, content in spoilt.items():
        path.write_bytes(content)
        assert answer(peer("recv", name, "attach", "small", 1, "close")) == refused, what
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert "begin: the system refused" in answer(peer("recv", name, "attach", "small", 1, "close"))
    path.unlink()


def test_a_role_that_is_taken(peer: Any, name: str) -> None:
    """Both ways: C of Python's, Python of C's."""
    with shmkit.Ring.create(name, CAPACITY, role="producer") as ring:
        assert answer(peer("send", name, "attach", "small", 1, "close")) == "begin: another process has that end\n"
        program = peer("recv", name, "attach", "small", 1, "close")
        assert program.stdout.readline() == "ready\n"
        with shmkit.Ring.attach(name) as other, pytest.raises(shmkit.RoleTaken, match=str(program.pid)):
            other.recv(0)
        ring.send(message(0))
        assert answer(program) == "all: done\n"
        ring.unlink()


@pytest.mark.parametrize(
    "spoil",
    [b"\xff" * 8, bytes(8), struct.pack("<Q", 1 | (2 << 48) | (1 << 52)), struct.pack("<Q", 9 | (2 << 48) | (1 << 52))],
    ids=["ones", "zeros", "shorter than its head", "an array without a description"],
)
def test_a_corrupt_record_is_no_crash(spoil: bytes, peer: Any, name: str) -> None:
    """Whatever stands in the ring: the C side says so."""
    with shmkit.Ring.create(name, CAPACITY) as ring:
        ring.send(message(0), WATCHDOG)
        ring.segment.buf[4096 : 4096 + len(spoil)] = spoil  # the record's word, behind the ring's header
        assert "contradicts itself" in answer(peer("recv", name, "attach", "echo-array", 1, "close"))
        ring.unlink()


def test_a_signal_stops_a_wait_where_the_program_says_so(language: str, peer: Any, name: str) -> None:
    """The handler's variable is looked at; without a signal the wait would go on."""
    with shmkit.Ring.create(name, CAPACITY) as ring:
        program = peer("recv", name, "attach", "small", 1, "close", language=language)
        assert program.stdout.readline() == "ready\n"
        wait_until(lambda: ring.statistics().consumer_waits > 0)
        program.send_signal(signal.SIGTERM)
        assert answer(program) == "end: stopped by this program\n"
        ring.unlink()


def test_a_leased_ring_goes_with_its_last_user(peer: Any, name: str) -> None:
    """Which may be the C program."""
    ring = shmkit.Ring.create(name, CAPACITY, lifetime="leased")
    program = peer("recv", name, "attach", "small", 1, "close")
    assert program.stdout.readline() == "ready\n"
    ring.send(message(0))
    ring.close()
    assert answer(program) == "all: done\n"
    assert not Path(f"/dev/shm/{name}").exists()


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
@pytest.mark.parametrize("source", ["peer.c", "cases.c"])
def test_it_is_free_of_undefined_behaviour(source: str, compiled: Compiled, process: Processes, name: str) -> None:
    """The cases, under the address and undefined-behaviour sanitizers."""
    program = compiled(source, "gcc-c11", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    if source == "cases.c":
        runs = [[case] for case in ("limits", "misuse", "views", "forked")]
        for words in runs:
            done = process.popen([program, *words, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            assert done.communicate(timeout=60) == ("", "")
        return
    receiver = process.popen([program, "recv", name, "create", "bytes", "500", "close"], stdout=subprocess.PIPE)
    assert receiver.stdout is not None
    assert receiver.stdout.readline() == "ready\n"
    sender = process.popen([program, "send", name, "attach", "bytes", "500", "close"], stdout=subprocess.PIPE)
    assert answer(sender) == "ready\nall: done\n"
    assert answer(receiver) == "all: done\n"
    shmkit.unlink(name)


def test_there_was_a_compiler() -> None:
    """What is skipped above is skipped on purpose."""
    assert PRESENT or not shutil.which("cc")
