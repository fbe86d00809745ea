"""Modes of what is made by name: one rule, whoever makes it, before anything is made."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shmkit import fifo
from shmkit.files import FileLock
from shmkit.log import LogWriter
from shmkit.mqueue import PosixMessageQueue, SysVMessageQueue
from shmkit.semaphore import PosixSemaphore, SysVSemaphore
from shmkit.socket import listen_unix

FILES: list[Callable[[Path, Any], Any]] = [
    fifo.create,
    lambda path, mode: listen_unix(path, mode=mode),
    lambda path, mode: listen_unix(path, "datagram", mode=mode),
    lambda path, mode: LogWriter(path, mode=mode),
    lambda path, mode: LogWriter.create(path, mode=mode),
    lambda path, mode: FileLock(path, mode=mode).acquire(),
]
KINDS: list[Any] = [PosixMessageQueue, SysVMessageQueue, PosixSemaphore, SysVSemaphore]
WRONG = [-1, 0o1000, 0o4700, 2**40, True, 1.5, "600", None]


@pytest.mark.parametrize("mode", WRONG)
@pytest.mark.parametrize("make", FILES, ids=["fifo", "socket", "datagram", "log", "empty log", "lock"])
def test_a_mode_of_a_file_that_is_none(make: Callable[[Path, Any], Any], mode: Any, tmp_path: Path) -> None:
    """The rule and the value are named."""
    with pytest.raises(ValueError if type(mode) is int else TypeError, match=r"a mode is a .*number.*: got ") as caught:
        make(tmp_path / "made", mode)
    assert (oct(mode) if type(mode) is int else repr(mode)) in str(caught.value)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("mode", WRONG)
@pytest.mark.parametrize("kind", KINDS)
def test_a_mode_that_is_none(kind: Any, mode: Any, name: str) -> None:
    """The same of what is no file; a mode that is set obeys the rule, too."""
    error = ValueError if type(mode) is int else TypeError
    for make in (kind.create, kind.create_or_attach):
        with pytest.raises(error, match=r"a mode is a .*number.*: got "):
            make(name, mode=mode)
    made = kind.create(name, mode=0o640)
    try:
        if hasattr(kind, "mode"):
            with pytest.raises(error, match="a mode is a "):
                made.mode = mode
            assert made.mode == 0o640
    finally:
        made.unlink()
        made.close()
