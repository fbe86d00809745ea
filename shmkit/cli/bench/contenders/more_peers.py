"""More of other people's libraries, each used the fastest way its documentation shows."""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from shmkit.cli.bench.face import Channel, Contender, Job

__all__ = ["Cloudtoid", "Kickmsg", "Momentum", "PySharedMemory", "Subetha", "Torch"]

_serial = itertools.count()
_FRAMES = frozenset({"frames", "frame trips"})
_WAITS = frozenset({"one by one", "round trip", "sleeps"}) | _FRAMES
_PATIENCE = 30.0


def _name() -> str:
    return f"shmkit-bench-{os.getpid()}-{next(_serial)}"


# -- cloudtoid ----------------------------------------------------------------------------------------------------


class _Cloudtoid(Channel):
    """A queue of bytes in a mapped file; its publisher is told when it is full, and waits here by trying again."""

    def __init__(self, job: Job) -> None:
        self.folder = tempfile.mkdtemp(prefix="shmkit-bench-", dir="/dev/shm")
        self.name = _name()  # its semaphore is found by the name alone
        self.capacity = max(job.capacity, 4 * (job.size + 64))
        self.warm = 2 * job.slots

    def sender(self) -> Any:
        from cloudtoid_interprocess import Publisher

        self.end: Any = Publisher(self.name, self.capacity, self.folder)
        self.try_send = self.end.try_send
        return self

    def receiver(self) -> Any:
        from cloudtoid_interprocess import Subscriber

        self.end = Subscriber(self.name, self.capacity, self.folder)
        self.receive = self.end.receive
        return self

    def send(self, message: Any) -> None:
        while not self.try_send(message):
            os.sched_yield()

    def send_array(self, array: np.ndarray[Any, Any]) -> None:
        self.send(array.view(np.uint8))

    def recv(self) -> bytes:
        while (message := self.receive(_PATIENCE)) is None:
            pass
        return message  # type: ignore[no-any-return]

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        for _ in range(count):
            yield np.frombuffer(self.recv())

    def leave(self) -> None:
        self.end.close()

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for file in Path("/dev/shm").glob(f"*{self.name}*"):
            file.unlink(missing_ok=True)


class Cloudtoid(Contender):
    """``try_send`` and ``receive``, which waits."""

    name = "cloudtoid"
    module, package = "cloudtoid_interprocess", "cloudtoid-interprocess"
    kinds = _WAITS

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Cloudtoid(job)


# -- subetha ------------------------------------------------------------------------------------------------------


class _Subetha(Channel):
    """``Channel``, whose items have 52 bytes at most; both sides try until it goes."""

    def __init__(self, job: Job) -> None:
        from subetha import Channel as Items

        self.folder = tempfile.mkdtemp(prefix="shmkit-bench-", dir="/dev/shm")
        self.items: Any = Items(f"{self.folder}/items", 1024)

    def sender(self) -> Any:
        return self

    receiver = sender

    def send(self, message: bytes) -> None:
        while not self.items.send(message):
            pass

    def try_recv(self) -> bytes | None:
        return self.items.recv()  # type: ignore[no-any-return]

    def recv(self) -> bytes:
        receive = self.items.recv
        while (message := receive()) is None:
            pass
        return message  # type: ignore[no-any-return]

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Subetha(Contender):
    """Items of 52 bytes at most; spins."""

    name = "subetha"
    module, package = "subetha", "subetha-ipc"
    kinds = frozenset({"one by one", "polled", "round trip"})
    largest = 52

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Subetha(job)


# -- kickmsg ------------------------------------------------------------------------------------------------------


class _Kickmsg(Channel):
    """A topic; a subscriber that is too slow loses messages, so only what is answered can be compared."""

    def __init__(self, job: Job) -> None:
        import kickmsg

        config = kickmsg.Config()
        config.max_subscribers = 1
        config.sub_ring_capacity = 16
        config.pool_size = 32
        config.max_payload_size = max(job.size, 64)
        self.name = _name()
        self.region: Any = kickmsg.SharedRegion.create(self.name, kickmsg.ChannelType.PubSub, config)
        self.end: Any = kickmsg.Subscriber(self.region)
        self.publisher: Any = kickmsg.Publisher(self.region)
        self.warm = 64

    def sender(self) -> Any:
        self.send = self.publisher.send
        return self

    def receiver(self) -> Any:
        return self

    def send_array(self, array: np.ndarray[Any, Any]) -> None:
        slot = self.publisher.allocate()
        np.asarray(slot)[: array.nbytes] = array.view(np.uint8)
        slot.publish(array.nbytes)

    def recv(self) -> bytes:
        while (message := self.end.receive(_PATIENCE)) is None:
            pass
        return message  # type: ignore[no-any-return]

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        for _ in range(count):
            view = self.end.receive_view(_PATIENCE)
            yield np.frombuffer(view, np.float64)
            view.release()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.region.unlink()
        for file in Path("/dev/shm").glob(f"*{self.name}*"):
            file.unlink(missing_ok=True)


class Kickmsg(Contender):
    """``send`` and ``receive``; frames by ``allocate``, ``publish`` and ``receive_view``."""

    name = "kickmsg"
    module = package = "kickmsg"
    kinds = frozenset({"round trip", "sleeps", "frame trips"})

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Kickmsg(job)


# -- momentumx ----------------------------------------------------------------------------------------------------


class _Momentum(Channel):
    """A stream in its synchronous mode, which loses nothing."""

    def __init__(self, job: Job) -> None:
        self.size, self.depth = job.size, max(2, min(job.slots, 16))
        self.name = _name()
        self.warm = 2 * self.depth
        self.made = mmap.mmap(-1, mmap.PAGESIZE)

    def sender(self) -> Any:
        import momentumx

        self.end: Any = momentumx.Producer(self.name, self.size, self.depth, sync=True)
        self.made[0] = 1
        while self.end.subscriber_count < 1:
            os.sched_yield()
        return self

    def receiver(self) -> Any:
        import momentumx

        while not self.made[0]:
            os.sched_yield()
        self.end = momentumx.Consumer(self.name)
        return self

    def send_array(self, array: np.ndarray[Any, Any]) -> None:
        buffer = self.end.next_to_send()
        np.frombuffer(buffer, np.uint8)[:] = array.view(np.uint8)
        buffer.send(array.nbytes)

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        for _ in range(count):
            buffer = self.end.receive()
            yield np.frombuffer(buffer, np.float64)[: self.size // 8]
            buffer.release()

    def close(self) -> None:
        for file in Path("/dev/shm").glob(f"*{self.name}*"):
            file.unlink(missing_ok=True)


class Momentum(Contender):
    """Its buffers, written and read as arrays."""

    name = "momentumx"
    module = package = "momentumx"
    kinds = frozenset({"frames"})

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Momentum(job)


# -- queues of objects --------------------------------------------------------------------------------------------


class _Queue(Channel):
    """Two ends with put and get."""

    def __init__(self, sender: Any, receiver: Any) -> None:
        self.putter, self.getter = sender, receiver

    def sender(self) -> Any:
        self.send = self.send_array = self.putter.put
        return self

    def receiver(self) -> Any:
        self.recv = self.getter.get
        return self

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        get = self.getter.get
        for _ in range(count):
            yield get()


class _Acknowledged(_Queue):
    def sender(self) -> Any:
        self.is_sender = True
        return super().sender()

    def leave(self) -> None:
        if getattr(self, "is_sender", False):
            self.putter.wait_for_all_ack(1)
            self.putter.close()
        else:
            self.getter.close()


class PySharedMemory(Contender):
    """``create_shared_memory_pair``, with as many messages as there are slots."""

    name = "py-sharedmemory"
    module, package = "py_sharedmemory", "py-sharedmemory"
    kinds = _WAITS

    def channel(self, job: Job, pattern: Any) -> Channel:
        import multiprocessing

        from py_sharedmemory import create_shared_memory_pair

        context = multiprocessing.get_context("fork")
        return _Acknowledged(*create_shared_memory_pair(capacity=max(2, min(job.slots, 64)), ctx=context))


class _Tensors(_Queue):
    def send_array(self, array: np.ndarray[Any, Any]) -> None:
        import torch

        self.putter.put(torch.from_numpy(array.copy()))

    def sender(self) -> Any:
        self.send = self.putter.put
        return self

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        get = self.getter.get
        for _ in range(count):
            yield get().numpy()


class Torch(Contender):
    """``torch.multiprocessing.Queue`` of tensors; each is a copy, as both processes would go on sharing it."""

    name = "torch Queue"
    module = package = "torch"
    kinds = frozenset({"round trip"}) | _FRAMES

    def channel(self, job: Job, pattern: Any) -> Channel:
        import torch.multiprocessing

        queue = torch.multiprocessing.get_context("fork").Queue(job.slots if pattern.kind in _FRAMES else 0)
        return _Tensors(queue, queue)
