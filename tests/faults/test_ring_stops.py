"""A stopped end of a ring is slow, not dead."""

from __future__ import annotations

import os
import signal

import pytest

import shmkit
from support import Processes


def produce(ring: shmkit.Ring) -> None:
    """Sends one record, then stops itself, then sends another."""
    ring.send(b"before")
    os.kill(os.getpid(), signal.SIGSTOP)
    ring.send(b"after")
    ring.close()


def test_a_stopped_producer_is_waited_for_and_not_called_dead(process: Processes) -> None:
    """Time-outs hold while it stands still; it goes on where it was."""
    with shmkit.Ring.create(capacity=4096) as ring:
        child = process(produce, ring)
        assert ring.recv(timeout=30) == b"before"
        assert child.pid is not None
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                ring.recv(timeout=0.1)
        os.kill(child.pid, signal.SIGCONT)
        assert ring.recv(timeout=30) == b"after"
        with pytest.raises(shmkit.EndOfStream):
            ring.recv(timeout=30)
