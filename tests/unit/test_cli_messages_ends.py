"""How cat, tee, pub and sub end: in time, by signals, when a reader leaves; and what they say of mistakes."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit import EndOfStream
from support import Processes
from unit.cli_support import NOBODY, removed_at_end, shmkit_says, user_says
from unit.message_support import PIPE, new_url, read_until, starter

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can")


@pytest.fixture
def url(tmp_path: Path) -> Callable[[str], str]:
    """An address of that kind, which nobody has."""
    return lambda kind: new_url(kind, tmp_path)


@pytest.fixture
def start(process: Processes) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts the command as a program, with bytes on its pipes."""
    return starter(process)


# ── ends: time, counts, signals, readers that leave ─────────────────────────────────────────────────────────────────


def test_time_outs_have_a_status_of_their_own(url: Callable[[str], str], name: str) -> None:
    """124, as timeout(1) has it; nobody there is trouble."""
    for kind in ("ring", "unix", "fifo", "mq", "sysvmq"):
        said = shmkit_says("cat", "--timeout", "0.05", url(kind))
        assert said == (124, "", "shmkit: no message within 0.05 s\n"), kind
        said = shmkit_says("pub", "--wait", "0.05", url(kind), "x")
        assert said.status == 1
        assert re.fullmatch(r"shmkit: [^\n]*(nobody|no )[^\n]*\n", said.err), kind
    for kind in ("topic", "queue"):
        assert shmkit_says("cat", "--wait", "0.05", f"{kind}://{name}") == (
            1,
            "",
            f"shmkit: there is no {kind} {name!r}\n",
        )


def test_a_count_ends_it_and_leaves_the_rest(name: str) -> None:
    """Of several addresses together."""
    with removed_at_end(name):
        assert shmkit_says("pub", f"queue://{name}", "a", "b", "c", "d", "--count", "3").status == 0
        assert shmkit_says("cat", "--count", "2", name, name).out == "a\nb\n"
        assert shmkit_says("cat", name).out == "c\n"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (signal.SIGINT, "unix"),
        (signal.SIGTERM, "fifo"),
        (signal.SIGHUP, "ring"),
        (signal.SIGINT, "mq"),
    ],
)
def test_a_signal_ends_it_in_order_and_silently(
    number: int, kind: str, url: Callable[[str], str], start: Callable[..., Any]
) -> None:
    """By that signal, for the shell to see; the other end sees an end, and no death; no name is left."""
    address = url(kind)
    with shmkit.listen(address) as end:
        sender = start("pub", address)
        sender.stdin.write(b"one\n")
        sender.stdin.flush()
        assert end.recv(30) == b"one"
        sender.send_signal(number)
        assert sender.wait(timeout=60) == -number
        assert sender.stderr.read() == b""
        with pytest.raises(EndOfStream):
            end.recv(30)
    receiver = start("cat", address)
    with shmkit.connect(address, timeout=30) as end:
        end.send_bytes(b"two")
        assert read_until(receiver.stdout, b"\n") == b"two\n"
        receiver.send_signal(number)
        assert receiver.wait(timeout=60) == -number
        assert receiver.stderr.read() == b""
    if kind in ("unix", "fifo"):
        assert not os.path.exists(address.partition("://")[2])


@pytest.mark.parametrize("arguments", [["cat", "-f"], ["sub", "--replay"]], ids=lambda words: words[0])
def test_a_reader_that_leaves_ends_it_at_once(arguments: list[str], name: str, start: Callable[..., Any]) -> None:
    """By SIGPIPE, as coreutils: also while nothing comes, so that no message is taken for nobody."""
    with removed_at_end(name):
        queue = shmkit.Queue.create(name)
        queue.put(b"one")
        program = start(*arguments, f"queue://{name}")
        read_until(program.stdout, b"one\n")
        program.stdout.close()
        assert program.wait(timeout=60) == -signal.SIGPIPE
        assert program.stderr.read() == b""
        queue.close()


def test_tee_ends_by_sigpipe_and_its_receiver_sees_the_end(
    url: Callable[[str], str], start: Callable[..., Any]
) -> None:
    """As coreutils' tee."""
    address = url("unix")
    with shmkit.listen(address) as end:
        copier = start("tee", address)
        copier.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            copier.stdin.write(b"x\n" * 100000)
            copier.stdin.close()
        assert copier.wait(timeout=60) == -signal.SIGPIPE
        assert copier.stderr.read() == b""
        assert list(end) == []


def test_what_a_killed_sender_sent_is_written_and_its_death_told(
    url: Callable[[str], str], start: Callable[..., Any], process: Processes
) -> None:
    """Status 1; cat --follow goes on with the next one."""
    for follow in ([], ["--follow"]):
        address = url("unix")
        receiver = start("cat", *follow, address)
        sender = start("pub", "--wait", "30", address)
        sender.stdin.write(b"one\n")
        sender.stdin.flush()
        assert read_until(receiver.stdout, b"\n") == b"one\n"
        sender.kill()
        told = read_until(receiver.stderr, b"\n")
        assert re.fullmatch(rb"shmkit: [^\n]*(killed|died|end)[^\n]*\n", told)
        if follow:
            assert start("pub", "--wait", "30", address, "two").wait(timeout=60) == 0
            assert read_until(receiver.stdout, b"\n") == b"two\n"
            receiver.kill()
        else:
            assert receiver.wait(timeout=60) == 1


def test_a_full_disk_is_told(name: str, start: Callable[..., Any]) -> None:
    """In a line; status 1."""
    with removed_at_end(name), open("/dev/full", "wb") as full:
        assert shmkit_says("pub", f"queue://{name}", "one").status == 0
        program = start("cat", name, stdout=full)
        assert program.communicate(timeout=60)[1] == b"shmkit: standard output: No space left on device\n"
        assert program.returncode == 1


def test_without_standard_input_there_is_nothing_on_it(name: str, process: Processes) -> None:
    """<&-"""
    with removed_at_end(name):
        line = f"{sys.executable} -m shmkit pub queue://{name} <&-"
        program = process.popen(["/bin/sh", "-c", line], stderr=PIPE)
        assert program.communicate(timeout=60)[1] == ""
        assert program.returncode == 0


# ── mistakes ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cat", "./file"], "of a file it is file:///"),
        (["cat", "gopher://x"], "it begins with one of"),
        (["cat", "ring://"], "it is written ring://name"),
        (["cat", "queue://"], "it is written queue://NAME"),
        (["cat", "pipe:"], "does not go"),
        (["cat", ""], "no address"),
        (["cat", "ring://x?speed=9"], "has no option 'speed'"),
        (["cat", "queue://x?maxsize=3"], "has no option 'maxsize'"),
        (["pub", "queue://x?maxsize=many", "1"], "is a number: got 'many'"),
        (["pub", "queue://x?backpressure=hope", "1"], "hope"),
        (["pub", "topic://x?slot_size=much", "1"], "much"),
        (["pub", "topic://a/b", "1"], "is written topic://NAME"),
        (["cat", "--connect", "ring://x"], "who connects sends"),
        (["pub", "--listen", "ring://x", "1"], "who listens receives"),
        (["cat", "--listen", "topic://x"], "nobody who listens"),
        (["sub", "--latest", "ring://x"], "--latest is for topics"),
        (["cat", "--format", "csv", "ring://x"], "there is no format 'csv'"),
        (["cat", "--format", "size:0", "ring://x"], "there is no format 'size:0'"),
        (["cat", "-0", "--format", "npy", "ring://x"], "-0 is for lines"),
        (["cat", "--count", "0", "ring://x"], "from 1: got '0'"),
        (["cat", "--timeout=-1", "ring://x"], "a number of seconds: got"),
        (["cat", "--timeout", "nan", "ring://x"], "a number of seconds: got 'nan'"),
        (["pub", "--format", "json", "topic://x", "{"], "is no JSON"),
        (["pub", "--format", "text", "topic://x", "\udcff"], "no UTF-8"),
        (["cat", "tcp://127.0.0.1:1"], "--key-file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_status_2_and_a_line(arguments: list[str], words: str) -> None:
    """Which says what would be right; and nothing is made."""
    before = set(os.listdir("/dev/shm"))
    said = shmkit_says(*arguments)
    assert said.status == 2
    assert not said.out
    assert words in said.err
    assert "Traceback" not in said.err
    assert set(os.listdir("/dev/shm")) == before


def test_trouble_is_status_1_and_a_line(name: str, make_name: Callable[[], str], tmp_path: Path) -> None:
    """Nothing of that name; of another kind; no such folder; no key."""
    array = make_name()
    with removed_at_end(array):
        shmkit.create(array, (3,))
        for arguments, words in (
            (["cat", name], f"there is no ring, queue or topic {name!r}"),
            (["cat", array], "is no ring, queue or topic"),
            (["pub", array, "x"], "is no ring, queue or topic"),
            (["pub", f"queue://{array}", "x"], "array"),
            (["pub", f"topic://{array}", "x"], "array"),
            (["cat", f"queue://{array}"], "array"),
            (["cat", f"topic://{array}"], "array"),
            (["cat", "unix:///nowhere/at/all"], "No such file"),
            (["pub", "file:///nowhere/at/all", "x"], "nowhere"),
            (["cat", "--key-file", f"{tmp_path}/none", "tcp://127.0.0.1:0"], "No such file"),
        ):
            said = shmkit_says(*arguments)
            assert said.status == 1, (arguments, said)
            assert words in said.err, arguments
            assert re.fullmatch(r"shmkit: [^\n]+\n", said.err)
            assert "[Errno" not in said.err


@pytest.mark.parametrize(
    ("form", "data", "words", "whole"),
    [
        ("json", b"1\n2\n{\n", "line 3 is no JSON", 2),
        ("text", b"one\n\xff\n", "line 2 is no UTF-8", 1),
        ("size:4", b"abcdab", "within a message: 2 bytes of 4", 1),
        ("prefixed", b"\0\0\0\1a\0\0", "within a length: 2 bytes of 4", 1),
        ("prefixed", b"\0\0\0\5ab", "within a message: 2 bytes of 5", 0),
        ("prefixed", b"\xff\xff\xff\xff", "announces a message of 4294967295", 0),
        ("npy", b"\x93NUMPY\x01\0junk", "array 1 is no .npy", 0),
        ("npy", b"hello", "array 1 is no .npy", 0),
    ],
)
def test_what_is_no_message_ends_it_after_those_before(
    form: str, data: bytes, words: str, whole: int, name: str, start: Callable[..., Any]
) -> None:
    """Status 1; what stood before was sent."""
    with removed_at_end(name):
        program = start("pub", "--format", form, f"queue://{name}")
        err = program.communicate(data, timeout=60)[1].decode()
        assert words in err
        assert re.fullmatch(r"shmkit: standard input[^\n]+\n", err)
        assert program.returncode == 1
        queue = shmkit.Queue.attach(name)
        assert queue.qsize() == whole
        queue.close()


def test_an_npy_that_would_be_a_pickle_is_refused(name: str, start: Callable[..., Any]) -> None:
    """Nothing that comes in is run."""
    written = io.BytesIO()
    np.save(written, np.array([{}], object), allow_pickle=True)
    with removed_at_end(name):
        program = start("pub", "--format", "npy", f"queue://{name}")
        assert b"is no .npy" in program.communicate(written.getvalue(), timeout=60)[1]
        assert program.returncode == 1


@pytest.mark.parametrize(
    ("form", "value", "words"),
    [
        ("npy", {"a": 1}, "a dict, which is no array"),
        ("raw", {"a": 1}, "a dict, which is no bytes"),
        ("size:3", b"four", "has 4 bytes, not 3"),
        ("json", dict, "a type, for which JSON has no word"),
    ],
)
def test_what_the_format_cannot_say_is_told(form: str, value: Any, words: str, name: str) -> None:
    """Status 1; what came before is written."""
    with removed_at_end(name):
        queue = shmkit.Queue.create(name)
        queue.put(value)
        said = shmkit_says("cat", "--format", form, name)
        assert said.status == 1
        assert words in said.err
        queue.close()


# ── other users ─────────────────────────────────────────────────────────────────────────────────────────────────────


@as_root
def test_what_another_user_has_is_refused_and_not_touched(
    make_name: Callable[[], str], url: Callable[[str], str]
) -> None:
    """A line for each, and no message is lost."""
    queue_name, topic_name, ring_name = make_name(), make_name(), make_name()
    with removed_at_end(queue_name, topic_name, ring_name), ExitStack() as open_here:
        queue = shmkit.Queue.create(queue_name)
        queue.put("secret")
        publisher = open_here.enter_context(shmkit.Publisher.create(topic_name))
        ring = open_here.enter_context(shmkit.Ring.create(ring_name, mode=0o666))
        ring.send(b"secret")
        shmkit_says("cat", "queue://warm-up", "--wait", "0")
        shmkit_says("cat", "topic://warm-up", "--wait", "0")
        shmkit_says("cat", "--timeout", "0", "ring://warm-up")
        shmkit_says("pub", "--wait", "0", "fifo:///nowhere/at/all", "x")
        for arguments in (
            *(["cat", f"{kind}://{each}"] for kind, each in (("queue", queue_name), ("topic", topic_name))),
            *(["cat", each, "--timeout", "0.1"] for each in (queue_name, topic_name, ring_name)),
            *(["pub", f"{kind}://{each}", "x"] for kind, each in (("queue", queue_name), ("topic", topic_name))),
            ["pub", "--wait", "0.1", f"ring://{ring_name}", "x"],
        ):
            said = user_says(NOBODY, *arguments)
            assert said.status == 1, (arguments, said)
            assert not said.out
            assert re.fullmatch(r"shmkit: [^\n]+\n", said.err), arguments
        assert queue.qsize() == 1
        assert publisher.published == 0
        assert ring.recv(0) == b"secret"
        queue.close()


def test_help_is_quick_to_make() -> None:
    """The parser asks for none of the mechanisms: those are imported by what uses them."""
    code = """
import sys, shmkit.cli
shmkit.cli.build_parser()
print([name for name in sys.modules if name.startswith(("numpy", "shmkit.channel", "shmkit._ring"))])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def completion_of(shell: str) -> str:
    pytest.importorskip("shtab", reason="completion scripts are written by shtab (shmkit[cli])")
    return shmkit_says("completion", shell).out


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_them(shell: str) -> None:
    """Their names and options."""
    script = completion_of(shell)
    for word in ("cat", "tee", "pub", "sub", "format", "follow", "latest", "key-file"):
        assert word in script
