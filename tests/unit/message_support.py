"""What the tests of cat, tee, pub and sub share: addresses that nobody has, and the commands as programs."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import Processes, unique_name
from unit.cli_support import SHMKIT

PIPE = subprocess.PIPE


def new_url(kind: str, folder: Path) -> str:
    """An address of that kind, which nobody has."""
    name = unique_name(kind)
    return {
        "abstract": f"unix://@{name}",
        "seqpacket": f"unix://{folder}/{name[-8:]}?type=seqpacket",
        "fifo": f"fifo://{folder}/{name}",
        "unix": f"unix://{folder}/{name[-8:]}",
        "file": f"file://{folder}/{name}",
    }.get(kind, f"{kind}://{name}")


def starter(process: Processes) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts the command as a program, with bytes on its pipes."""

    def started(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        options = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE, "text": False, **options}
        return process.popen([*SHMKIT, *arguments], **options)

    return started


def read_until(stream: Any, wanted: bytes, watchdog: float = 30.0) -> bytes:
    """What comes, until that has come: a pipe of a living program has no end."""
    seen = b""
    while wanted not in seen:
        assert select.select([stream], [], [], watchdog)[0], f"only {seen!r} came"
        piece = os.read(stream.fileno(), 65536)
        assert piece, f"only {seen!r} came, and the end"
        seen += piece
    return seen
