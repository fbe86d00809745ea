"""What others may have written is not unpickled: whoever can write a pickle can have its reader run anything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkit
from support import Processes, unique_name

PLAIN: list[Any] = [1, "two", b"three", (4.0, None), {"a": [5]}, np.arange(6)]


class Instance:
    """Goes by pickle, or as what pickle would make of it."""


class Reduced:
    def __reduce__(self) -> Any:
        return os.getpid, ()


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
@pytest.mark.parametrize("backing", ["posix", "file"])
def test_a_queue_that_others_may_write_to(mode: int, backing: Any, tmp_path: Path) -> None:
    name = unique_name("trust") if backing == "posix" else str(tmp_path / "queue")
    queue = shmkit.Queue.create(name, capacity="8 MiB", mode=mode, backing=backing)
    try:
        found = shmkit.Queue.attach(name, backing=backing)
        for get in (queue.get, found.get):
            for item in PLAIN:
                queue.put(item)
                assert np.array_equal(get(timeout=30), item)
            for item in (Instance(), Reduced(), [Reduced()], {"a": Instance()}):
                queue.put(item)
                with pytest.raises(shmkit.PickleRefused):
                    get(timeout=30)
        found.close()
    finally:
        queue.unlink()
        queue.close()


@pytest.mark.parametrize("make", [shmkit.Queue, lambda: shmkit.Queue.create(unique_name("own"), mode=0o644)])
def test_a_queue_of_ones_own(make: Any) -> None:
    """Others may read it, at most."""
    queue = make()
    queue.put(Reduced())
    assert queue.get(timeout=30) == os.getpid()
    queue.put([Instance()])
    assert type(queue.get(timeout=30)[0]) is Instance
    if queue.name is not None:
        queue.unlink()
    queue.close()


@pytest.mark.parametrize("mode", [0o666, 0o600])
def test_a_topic(mode: int) -> None:
    name = unique_name("trust")
    with shmkit.Publisher.create(name, mode=mode) as publisher, shmkit.Subscriber.attach(name) as subscriber:
        for item in PLAIN:
            publisher.publish(item)
            assert np.array_equal(subscriber.recv(timeout=30), item)
        publisher.publish(Reduced())
        if mode == 0o600:
            assert subscriber.latest() == os.getpid()
        else:
            with pytest.raises(shmkit.PickleRefused):
                subscriber.latest()
        publisher.unlink()


def _as_nobody(name: str) -> None:
    os.setgroups([])
    os.setuid(65534)
    queue = shmkit.Queue.attach(name, owner=0)
    queue.put(Reduced())
    queue.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_pickle(process: Processes) -> None:
    queue = shmkit.Queue.create(unique_name("trust"), mode=0o666)
    try:
        process(_as_nobody, queue.name).join(30)
        with pytest.raises(shmkit.PickleRefused, match="others"):
            queue.get(timeout=30)
    finally:
        queue.unlink()
        queue.close()
