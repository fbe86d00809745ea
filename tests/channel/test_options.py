"""Options in addresses and calls: one rule at either end, and errors that say it."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

import shmkit
from channel.ends import KEY, WATCHDOG, running
from shmkit import channel

PLACES = {
    "ring": "ring://{name}",
    "fifo": "fifo://{path}",
    "unix": "unix://{path}",
    "tcp": "tcp://127.0.0.1:1",
    "mq": "mq://{name}",
    "sysvmq": "sysvmq://{name}",
    "file": "file://{path}",
}
# Scheme, option, values that are none, and a part of the rule.
WRONG: list[tuple[str, str, list[Any], str]] = [
    ("ring", "capacity", ["abc", "-1", "0", "", "1000", 1.5, True], "size|power of two"),
    *((scheme, "max_message", ["abc", "-1", "0", 0, -1, 1.5, True, 2**63], "size") for scheme in PLACES),
    ("fifo", "capacity", ["abc", "-5", "1EiB", "4GiB", 2.5], "size"),
    ("fifo", "mode", ["abc", "999", "77777", "-1", "", 0o1777, 1.5, True], "from 0 to 0o777"),
    ("fifo", "writers", ["banana", 2], "'one' or 'many'"),
    ("fifo", "trust", ["maybe", 7], "yes or no"),
    ("unix", "mode", ["abc", "-1", "7777777", "1000", 0o1000], "from 0 to 0o777"),
    ("unix", "users", ["root", "-5", "", "0,", 5, [-1], ["root"], [2**32], b"0"], "users are"),
    ("unix", "type", ["dgram", 1], "'stream' or 'seqpacket'"),
    ("tcp", "key", ["short", b"", 12, [1] * 9], "a key"),
    ("mq", "max_messages", ["abc", "0", "100000000", 1.5, True], "a number from 1 to 65536"),
    ("mq", "max_message_size", ["abc", "-1", "1GiB", "8", "47"], "size"),
    ("mq", "priority", ["99999999", "-1", "high"], "a number from 0"),
    ("mq", "keep", ["perhaps"], "yes or no"),
    ("sysvmq", "type", ["-1", "0", "x", 2**31 - 1], "a number from 1"),
    ("sysvmq", "capacity", ["x", "-1", "4GiB", "1", 47], "size"),
    ("sysvmq", "project", ["0", "128", "x", 256], "a number from 1 to 127"),
    ("file", "start", ["abc", "-1", "banana", -1, 1.5], "'first', 'end' or a number from 0"),
    ("file", "skip_corrupt", ["x"], "yes or no"),
    ("file", "sync", ["banana", "nan", "-1", -1, float("nan"), "-inf", b"x"], "a number of seconds"),
    ("file", "mode", ["rw", "8", "1777"], "from 0 to 0o777"),
]
CASES = [
    (call, scheme, name, value, rule)
    for scheme, name, values, rule in WRONG
    for call in (channel.listen, channel.connect, *([channel.serve] if scheme in ("unix", "tcp") else []))
    for value in values
]


@pytest.mark.parametrize(("call", "scheme", "option", "value", "rule"), CASES)
def test_a_value_that_is_none(
    call: Any, scheme: str, option: str, value: Any, rule: str, name: str, tmp_path: Path
) -> None:
    """The option, the address, the rule and the value are named, at either end; nothing is made."""
    url = PLACES[scheme].format(name=name, path=tmp_path / "place")
    shown = "" if option == "key" else f".*got {re.escape(repr(value))[:9]}" if not isinstance(value, list) else ""
    with pytest.raises((ValueError, TypeError), match=f"option '{option}' of '{re.escape(url)}.*: .*({rule}){shown}"):
        call(url, **{option: value})
    if isinstance(value, str):
        with pytest.raises(ValueError, match=f"option '{option}' of '{re.escape(url)}.*: .*({rule})"):
            call(f"{url}?{option}={value}")
    assert not os.listdir(tmp_path)


def test_a_secret_is_not_shown() -> None:
    """Neither from the address nor from the call."""
    for call in (lambda: channel.connect("tcp://a:1?key=s3cret"), lambda: channel.connect("tcp://a:1", key="s3cret")):
        with pytest.raises(ValueError, match="8 bytes: got 6") as caught:
            call()
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(("mode", "is_there"), [("600", 0o600), ("0o644", 0o644), ("0", 0), (0o400, 0o400)])
def test_a_mode_is_what_the_file_has(mode: Any, is_there: int, tmp_path: Path) -> None:
    """Of a socket and of a log; the same address does for either end."""
    with channel.listen(f"unix://{tmp_path / 'socket'}", mode=mode):
        assert stat.S_IMODE(os.stat(tmp_path / "socket").st_mode) == is_there


def test_an_option_of_the_other_side_is_allowed(name: str, tmp_path: Path) -> None:
    """One address does for both ends."""
    for url in (
        f"fifo://{tmp_path / 'fifo'}?writers=many&capacity=64KiB&mode=600",
        f"mq://{name}?priority=3&max_messages=2",
        f"sysvmq://{name}?type=3&capacity=1KiB",
        f"file://{tmp_path / 'log'}?start=first&sync=no&skip_corrupt=yes&mode=640",
        f"ring://{name}?capacity=4KiB",
    ):
        with channel.listen(url) as receiver, channel.connect(url) as sender:
            sender.send("over")
            assert receiver.recv(WATCHDOG) == "over"
    url = f"unix://{tmp_path / 'socket'}?mode=600&users={os.geteuid()},0&type=seqpacket"
    with channel.listen(url) as receiver, running(receiver.meet, WATCHDOG), channel.connect(url) as sender:
        sender.send("over")
        assert receiver.recv(WATCHDOG) == "over"


def test_what_is_none_is_as_if_it_were_not_given(tmp_path: Path) -> None:
    """So a caller can pass on what it was given."""
    with channel.listen(f"fifo://{tmp_path / 'fifo'}?mode=640", mode=None, capacity=None):
        assert stat.S_IMODE(os.stat(tmp_path / "fifo").st_mode) == 0o640


@pytest.mark.parametrize("timeout", ["1", True, float("nan")])
@pytest.mark.parametrize("scheme", PLACES)
def test_a_time_out_that_is_none(scheme: str, timeout: Any, name: str, tmp_path: Path) -> None:
    """Also where nobody is waited for; nothing is made."""
    options = {"key": KEY} if scheme == "tcp" else {}
    with pytest.raises((TypeError, ValueError), match="timeout must be"):
        channel.connect(PLACES[scheme].format(name=name, path=tmp_path / "place"), timeout=timeout, **options)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("unix:?users=1", "no option 'users'; it is written unix: and takes type, max_message"),
        ("unix:?mode=600", "no option 'mode'"),
        ("unix:///path", "no place '/path'"),
        ("ring://name", "no place 'name'; it is written ring: and takes capacity"),
        ("pipe:?trust=yes", "no option 'trust'"),
        ("pipe:?capacity=abc", "option 'capacity'"),
        *(
            (f"{url}max_message=0", "'max_message' of .*: it is a size from 1 B")
            for url in ("pipe:?", "ring:?", "unix:?")
        ),
    ],
)
def test_what_a_pair_does_not_take(url: str, what: str) -> None:
    """ValueError says what it takes."""
    with pytest.raises(ValueError, match=what):
        channel.pair(url)


def test_a_fifo_of_a_listen_that_fails_goes(tmp_path: Path) -> None:
    """One that this call made; one that was there stays."""
    path = tmp_path / "fifo"
    with pytest.raises(shmkit.Refused):
        channel.listen(f"fifo://{path}?mode=666")
    assert not path.exists()
    os.mkfifo(path)
    path.chmod(0o666)
    with pytest.raises(shmkit.Refused):
        channel.listen(f"fifo://{path}")
    assert path.exists()
    path.chmod(0o600)
    with channel.listen(f"fifo://{path}"), pytest.raises(shmkit.RoleTaken):
        channel.listen(f"fifo://{path}")


@pytest.mark.parametrize(
    "url", ["ring://{}:x", "mq://{}:1", "sysvmq://{}:b:c", "unix://@{}:b", "mq://{}[x", "file://{}:7"]
)
def test_a_name_with_a_colon(url: str, name: str, tmp_path: Path) -> None:
    """It is a part of the name: only TCP has ports."""
    url = url.format(tmp_path / "log" if url.startswith("file") else name)
    with channel.listen(url) as receiver, running(receiver.meet, WATCHDOG):
        with channel.connect(url, timeout=WATCHDOG) as sender:
            sender.send("over")
            assert receiver.recv(WATCHDOG) == "over"


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("unix://@", "a name comes after the @"),
        ("unix:///x?type=stream&type=seqpacket", "it says twice what option 'type' is"),
        ("ring://x?capacity=1KiB&max_message=1&capacity=1KiB", "twice what option 'capacity' is"),
        ("ring://a#b", "after the # .'b'. means nothing"),
        ("ring", "it has no scheme"),
        ("bogus://x", "there is no scheme 'bogus'"),
        ("tcp://host:x", "Port could not be cast"),
        ("tcp://[host:1", "Invalid IPv6 URL"),
        ("ring://a\nb?capacity=1KiB#c", "means nothing"),
    ],
)
def test_an_address_that_is_none(url: str, what: str) -> None:
    """ValueError says why, and what there is."""
    for call in (channel.listen, channel.connect):
        with pytest.raises(ValueError, match=f"is no address of a channel: .*{what}.* Known are ring://name"):
            call(url)
