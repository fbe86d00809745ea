"""cat, tee, pub and sub: messages between shell pipelines and every address."""

from __future__ import annotations

import io
import json
import os
import re
import select
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit import EndOfStream
from support import Processes
from support.waiting import wait_until
from unit.cli_support import removed_at_end, shmkit_says
from unit.message_support import PIPE, new_url, read_until, starter

STREAMS = ("ring", "fifo", "unix", "abstract", "seqpacket", "mq", "sysvmq")


@pytest.fixture
def url(tmp_path: Path) -> Callable[[str], str]:
    """An address of that kind, which nobody has."""
    return lambda kind: new_url(kind, tmp_path)


@pytest.fixture
def start(process: Processes) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts the command as a program, with bytes on its pipes."""
    return starter(process)


# ── from one pipeline to another, and to programs ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", STREAMS)
def test_a_pipeline_goes_on_in_another(kind: str, url: Callable[[str], str], start: Callable[..., Any]) -> None:
    """Whoever is first waits for the other; the bytes are the same, and both end by themselves."""
    address = url(kind)
    lines = b"".join(b"%d a line \xff\n" % number for number in range(500)) + b"no end"
    receiver = start("cat", address, stdin=subprocess.DEVNULL)
    sender = start("pub", "--wait", "30", address)
    assert sender.communicate(lines, timeout=60) == (b"", b"")
    out, err = receiver.communicate(timeout=60)
    assert (out, err) == (lines + b"\n", b"")
    assert sender.returncode == receiver.returncode == 0


@pytest.mark.parametrize("kind", ["ring", "unix"])
def test_a_program_receives_what_a_pipeline_sends(
    kind: str, url: Callable[[str], str], start: Callable[..., Any]
) -> None:
    """As bytes, text, objects and arrays, as the format says."""
    for form, given, wanted in (
        ("lines", b"one\ntwo\n", [b"one", b"two"]),
        ("text", "eins\nzwä\n".encode(), ["eins", "zwä"]),
        ("json", b'{"a": [1, 2.5, null]}\n"text"\n', [{"a": [1, 2.5, None]}, "text"]),
        ("size:3", b"abcdef", [b"abc", b"def"]),
        ("prefixed", b"\0\0\0\2ab\0\0\0\1c", [b"ab", b"c"]),
        ("whole", b"all\nof\nit", [b"all\nof\nit"]),
    ):
        with shmkit.listen(url(kind)) as end:
            sender = start("pub", "--format", form, end.url)
            sender.stdin.write(given)
            sender.stdin.close()
            assert list(end) == wanted, form
            assert sender.wait(timeout=60) == 0, sender.stderr.read()


@pytest.mark.parametrize("kind", ["ring", "fifo", "mq"])
def test_a_pipeline_receives_what_a_program_sends(
    kind: str, url: Callable[[str], str], start: Callable[..., Any], process: Processes
) -> None:
    """Objects as JSON, arrays as .npy."""
    address = url(kind)
    receiver = start("cat", address, "--format", "json", "--count", "4")
    child = process(send_to, address, [{"a": 1}, "text", b"bytes", np.arange(3)])
    out, err = receiver.communicate(timeout=60)
    child.join()
    assert [json.loads(line) for line in out.splitlines()] == [{"a": 1}, "text", "bytes", [0, 1, 2]], err
    assert receiver.returncode == 0


def send_to(address: str, values: list[Any]) -> None:
    with shmkit.connect(address, timeout=30) as end:
        for value in values:
            end.send(value)


def test_a_key_opens_tcp(start: Callable[..., Any], tmp_path: Path) -> None:
    """Which port was chosen is said."""
    key = tmp_path / "key"
    key.write_text("a secret of many letters\n")
    receiver = start("cat", "--key-file", str(key), "tcp://127.0.0.1:0")
    said = read_until(receiver.stderr, b"\n").decode()
    (address,) = re.findall(r"listening at (tcp://127\.0\.0\.1:\d+)\n", said)
    assert start("pub", "--key-file", str(key), address, "hello").wait(timeout=60) == 0
    assert receiver.communicate(timeout=60)[0] == b"hello\n"
    assert receiver.returncode == 0
    said = shmkit_says("cat", "tcp://127.0.0.1:0")
    assert (said.status, "--key-file" in said.err) == (2, True)


def test_either_end_of_a_socket_may_listen(url: Callable[[str], str], start: Callable[..., Any]) -> None:
    """pub --listen, cat --connect."""
    address = url("unix")
    sender = start("pub", "--listen", address, "one", "two")
    receiver = start("cat", "--connect", "--wait", "30", address)
    assert receiver.communicate(timeout=60) == (b"one\ntwo\n", b"")
    assert sender.wait(timeout=60) == receiver.returncode == 0


# ── logs, queues, topics ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_log_is_read_to_its_end_and_followed(url: Callable[[str], str], start: Callable[..., Any]) -> None:
    """cat as cat; cat --follow and sub as tail -f, which go on after the writer has gone."""
    address = url("file")
    assert shmkit_says("pub", address, "one", "two").status == 0
    assert shmkit_says("cat", address) == (0, "one\ntwo\n", "")
    assert shmkit_says("cat", f"{address}?start=1") == (0, "two\n", "")
    follower = start("cat", "--follow", "--count", "3", address)
    new_ones = start("sub", address)
    read_until(follower.stdout, b"two\n")
    # One that shows only what is new has to be there before it comes.
    log = Path(address.removeprefix("file://"))
    wait_until(lambda: has_open(new_ones.pid, log))
    assert shmkit_says("pub", address, "three").status == 0
    assert read_until(follower.stdout, b"three\n") == b"three\n"
    assert follower.wait(timeout=60) == 0
    assert read_until(new_ones.stdout, b"\n") == b"three\n"
    new_ones.send_signal(signal.SIGTERM)
    assert new_ones.wait(timeout=60) == -signal.SIGTERM


def has_open(pid: int, path: Path) -> bool:
    folder = Path(f"/proc/{pid}/fd")
    try:
        return any(link.samefile(path) for link in folder.iterdir() if link.exists())
    except FileNotFoundError:
        return False


def test_a_queue_is_emptied_and_waited_for(name: str, start: Callable[..., Any]) -> None:
    """What a sender made stays there until it is removed."""
    with removed_at_end(name):
        assert shmkit_says("pub", f"queue://{name}", "one", "two").status == 0
        assert shmkit_says("cat", f"queue://{name}") == (0, "one\ntwo\n", "")
        assert shmkit_says("cat", name) == (0, "", "")
        queue = shmkit.Queue.attach(name)
        follower = start("sub", name, "--format", "json", "--count", "2")
        queue.put({"a": np.float32(0.5)})
        assert read_until(follower.stdout, b"\n") == b'{"a": 0.5}\n'
        assert shmkit_says("pub", name, "[1]", "--format", "json").status == 0
        assert follower.communicate(timeout=60)[0] == b"[1]\n"
        queue.shutdown()
        assert shmkit_says("cat", "--follow", name) == (0, "", "")
        said = shmkit_says("pub", name, "three")
        assert (said.status, bool(re.fullmatch(r"shmkit: [^\n]+\n", said.err))) == (1, True)
        queue.close()


def test_a_topic_keeps_what_was_published(name: str, start: Callable[..., Any]) -> None:
    """A subscriber hears what comes; with --replay what is there; with --latest the newest."""
    with removed_at_end(name):
        assert shmkit_says("pub", f"topic://{name}?slots=4", "one", "two").status == 0
        assert shmkit_says("cat", name) == (0, "one\ntwo\n", "")
        assert shmkit_says("sub", "--latest", "--count", "1", name) == (0, "two\n", "")
        assert shmkit_says("sub", "--replay", "--count", "1", name) == (0, "one\n", "")
        live = start("sub", name)
        with shmkit.Publisher.attach(name) as publisher:
            # Until it is there, it hears nothing.
            wait_until(lambda: publisher.publish("hello") or select.select([live.stdout], [], [], 0)[0])
        with shmkit.Publisher.attach(name) as publisher:
            publisher.publish("the next publisher's")
        read_until(live.stdout, b"the next publisher's\n")


def test_a_subscriber_waits_for_its_topic_and_says_what_it_lost(name: str, start: Callable[..., Any]) -> None:
    """A name that is not there yet; and values that were overtaken."""
    with removed_at_end(name):
        subscriber = start("sub", "--replay", "--wait", "60", "--count", "10", name)
        assert shmkit_says("pub", f"topic://{name}?slots=16", *map(str, range(10))).status == 0
        assert subscriber.communicate(timeout=60) == (b"".join(b"%d\n" % number for number in range(10)), b"")
        with shmkit.Publisher.attach(name) as publisher:
            slow = start("sub", name, "--format", "raw", stdout=PIPE)
            wait_until(lambda: publisher.publish(b"x" * 4096) or select.select([slow.stdout], [], [], 0)[0])
            # Nobody reads the pipe: when it is full, the subscriber stands still.
            for _ in range(1000):
                publisher.publish(b"x" * 4096)
            publisher.publish(b"the last")
        read_until(slow.stdout, b"the last")
        slow.send_signal(signal.SIGINT)
        assert slow.wait(timeout=60) == -signal.SIGINT
        assert re.search(rb"\d+ messages were overtaken", slow.stderr.read())


def test_a_ring_is_received_from_whatever_its_capacity(name: str) -> None:
    """Which its maker has chosen; another one that is asked for is a mistake."""
    with removed_at_end(name), shmkit.Ring.create(name, "64 KiB") as ring:
        ring.send(b"a frame")
        assert shmkit_says("cat", "--count", "1", name) == (0, "a frame\n", "")
        said = shmkit_says("cat", f"ring://{name}?capacity=128KiB")
        assert said.status == 2
        assert "exists with capacity" in said.err


def test_a_leased_topic_goes_with_its_publisher(name: str) -> None:
    """--leased; as the name of a queue, too."""
    for address in (f"topic://{name}", f"queue://{name}"):
        assert shmkit_says("pub", "--leased", address, "x").status == 0
        assert not os.path.exists(f"/dev/shm/{name}")


@pytest.mark.parametrize("kind", ["unix", "ring", "mq"])
def test_one_sender_after_the_other(kind: str, url: Callable[[str], str], start: Callable[..., Any]) -> None:
    """cat --follow listens again; its socket, queue or FIFO is gone when it ends."""
    address = url(kind)
    receiver = start("cat", "--follow", address)
    for word in (b"one\n", b"two\n", b"three\n"):
        assert start("pub", "--wait", "30", address, word[:-1].decode()).wait(timeout=60) == 0
        assert read_until(receiver.stdout, word) == word
    receiver.send_signal(signal.SIGINT)
    assert receiver.wait(timeout=60) == -signal.SIGINT
    assert receiver.stderr.read() == b""


# ── tee ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (["lines"], b"one\n\ntwo\nno end"),
        (["lines", "-0"], b"one\0two\0\0" + b"x" * 200000 + b"\0last"),
        (["size:4"], bytes(range(256)) * 16),
        (["prefixed"], b"\0\0\0\0\0\0\0\5\n\0abc"),
        (["raw"], os.urandom(300000)),
        (["whole"], b""),
    ],
    ids=lambda value: "".join(value) if isinstance(value, list) else "",
)
def test_tee_copies_to_the_byte(form: list[str], data: bytes, name: str, start: Callable[..., Any]) -> None:
    """And what is sent is the same, too."""
    with removed_at_end(name):
        copier = start("tee", "--format", *form, f"queue://{name}")
        assert copier.communicate(data, timeout=60) == (data, b"")
        assert copier.returncode == 0
        out = start("cat", name, "--format", *form).communicate(timeout=60)[0]
        assert out == data + (b"\0" if "-0" in form else b"\n" if form == ["lines"] else b"")


def test_arrays_go_through_as_npy(name: str, start: Callable[..., Any]) -> None:
    """Several in one stream, of every layout."""
    arrays = [np.arange(6.0).reshape(2, 3), np.zeros((0, 3), "u1"), np.array(5), np.ones((3, 2), order="F")]
    written = io.BytesIO()
    for array in arrays:
        np.save(written, array)
    with removed_at_end(name):
        copier = start("tee", "--format", "npy", f"queue://{name}")
        assert copier.communicate(written.getvalue(), timeout=60) == (written.getvalue(), b"")
        out = io.BytesIO(start("cat", name, "--format", "npy").communicate(timeout=60)[0])
        for array in arrays:
            np.testing.assert_array_equal(np.load(out), array)
        assert not out.read()


def test_tee_goes_on_when_one_of_its_receivers_has_gone(url: Callable[[str], str], start: Callable[..., Any]) -> None:
    """Which is said once; status 1."""
    first, second = url("unix"), url("ring")
    with shmkit.listen(first) as leaves, shmkit.listen(second) as stays:
        copier = start("tee", first, second)
        copier.stdin.write(b"one\n")
        copier.stdin.flush()
        assert leaves.recv(30) == stays.recv(30) == b"one"
        leaves.close()
        for word in (b"two\n", b"three\n", b"four\n"):
            copier.stdin.write(word)
            copier.stdin.flush()
            assert stays.recv(30) == word[:-1]
        out, err = copier.communicate(timeout=60)
        assert out == b"one\ntwo\nthree\nfour\n"
        assert re.fullmatch(rb"shmkit: unix://[^\n]+\n", err)
        assert copier.returncode == 1
        with pytest.raises(EndOfStream):
            stays.recv(30)


def test_what_has_no_room_is_waited_for_or_dropped(name: str, start: Callable[..., Any]) -> None:
    """A full queue holds the pipeline up; --timeout ends it with 124; --drop counts."""
    lines = b"".join(b"%d\n" % number for number in range(10))
    with removed_at_end(name):
        dropping = start("pub", "--drop", f"queue://{name}?maxsize=3")
        assert (
            dropping.communicate(lines, timeout=60)[1]
            == b"shmkit: 7 messages were dropped: there was no room for them\n"
        )
        assert dropping.returncode == 0
        waiting = start("pub", "--timeout", "0.2", name)
        assert b"had no room within 0.2 s" in waiting.communicate(lines, timeout=60)[1]
        assert waiting.returncode == 124
        patient = start("pub", name)
        patient.stdin.write(lines)
        patient.stdin.close()
        queue = shmkit.Queue.attach(name)
        assert [queue.get(timeout=30) for _ in range(13)] == [b"0", b"1", b"2", *lines.split()]
        assert patient.wait(timeout=60) == 0
        queue.close()
