"""What every channel does, through ends that options and servers make: as test_face asks it of the plain kinds."""

from __future__ import annotations

import inspect
import threading
import zlib
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest

from channel import ends, test_coroutines, test_face
from channel.ends import KEY, WATCHDOG, Kind, same
from shmkit import channel
from support import Processes

VARIANTS = [
    Kind("abstract seqpacket", "unix://@{name}?type=seqpacket", duplex=True, most=150_000),
    Kind("mq with priority", "mq://{name}", sender="?priority=3", most=8000),
    Kind("sysvmq of a type", "sysvmq://{name}?type=7", descriptor=False, most=8000),
    Kind("sysvmq by key", "sysvmq://{number}", descriptor=False, most=8000),
    Kind("file synced", "file://{path}", sender="?sync=yes", descriptor=False, notices_receiver=False, bounded=False),
    Kind("file synced now and then", "file://{path}", sender="?sync=0.01", descriptor=False, bounded=False),
]
SERVED = [
    Kind("served unix", "unix://{path}", duplex=True),
    Kind("served seqpacket", "unix://{path}?type=seqpacket", duplex=True, most=150_000),
    Kind("served tcp", "tcp://127.0.0.1:0", duplex=True),
]


def core() -> Iterator[Callable[[Kind, Path, str], None]]:
    """The tests that every kind passes, and that need nothing but a kind."""
    for module in (test_face, test_coroutines):
        for test in vars(module).values():
            if inspect.isfunction(test) and test.__name__.startswith("test_"):
                marks = [mark.args[1] for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
                if marks == [ends.KINDS] and [*inspect.signature(test).parameters] == ["kind", "tmp_path", "name"]:
                    yield test


CORE = list(core())
every_test = pytest.mark.parametrize("test", CORE, ids=lambda test: test.__name__.removeprefix("test_"))


def numbered(kind: Kind, name: str) -> Kind:
    """With a key that nobody else uses, where one belongs."""
    number = zlib.crc32(name.encode()) & 0x7FFFFFFF | 1
    return Kind(**{**vars(kind), "url": kind.url.replace("{number}", str(number))})


def serve(kind: Kind, folder: Path, name: str) -> tuple[channel.Channel, channel.Channel]:
    """The end that a server has accepted, and the one that has connected."""
    options: dict[str, Any] = {"key": KEY} if kind.url.startswith("tcp") else {}
    accepted: list[channel.Channel] = []
    with channel.serve(ends.address(kind, folder, name), **options) as server:
        accepting = threading.Thread(target=lambda: accepted.append(server.accept(WATCHDOG)))
        accepting.start()
        try:
            sender = ends.connect(kind, server.url)
        finally:
            accepting.join()
    return accepted[0], sender


def test_the_core_is_not_empty() -> None:
    """It is found by what the tests look like."""
    assert len(CORE) > 12


@every_test
@pytest.mark.parametrize("kind", VARIANTS, ids=str)
def test_options_change_nothing_else(
    kind: Kind, test: Callable[[Kind, Path, str], None], tmp_path: Path, name: str
) -> None:
    """Whatever they are about."""
    test(numbered(kind, name), tmp_path, name)


@every_test
@pytest.mark.parametrize("kind", SERVED, ids=str)
def test_an_accepted_end_is_as_one_that_listened(
    kind: Kind, test: Callable[[Kind, Path, str], None], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does what the end of ``listen`` does."""
    for module in (ends, test_face):
        monkeypatch.setattr(module, "make", serve)
    test(kind, tmp_path, name)


@pytest.mark.parametrize("kind", VARIANTS, ids=str)
@pytest.mark.parametrize("start_method", ["fork", "forkserver"], indirect=True)
def test_a_child_sends(kind: Kind, start_method: BaseContext, process: Processes, tmp_path: Path, name: str) -> None:
    """With the options that its end has."""
    kind = numbered(kind, name)
    with ends.listen(kind, ends.address(kind, tmp_path, name)) as receiver:
        child = process(ends.connect_and_send, kind, receiver.url, context=start_method)
        assert same(list(receiver), ends.messages(kind.most))
    child.join(WATCHDOG)
    assert child.exitcode == 0


@pytest.mark.parametrize("kind", SERVED, ids=str)
def test_a_server_of_several_children(kind: Kind, process: Processes, tmp_path: Path, name: str) -> None:
    """Each has an end of its own, which ends when that child has closed."""
    options: dict[str, Any] = {"key": KEY} if kind.url.startswith("tcp") else {}
    with channel.serve(ends.address(kind, tmp_path, name), **options) as server:
        children = [process(ends.connect_and_send, kind, server.url) for _ in range(3)]
        accepted = [server.accept(WATCHDOG) for _ in children]
        for end in accepted:
            with end:
                assert same(list(end), ends.messages(kind.most))
    for child in children:
        child.join(WATCHDOG)
        assert child.exitcode == 0
