"""Other people's libraries, each used the fastest way its documentation shows."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from shmkit.cli.bench.face import Channel, Contender, Job

_serial = itertools.count()
_FOREVER = 1e6  # seconds: faster-fifo wants a number
_WAITS = frozenset({"one by one", "round trip", "sleeps", "frames", "frame trips"})


# -- faster-fifo --------------------------------------------------------------------------------------------------


class _FasterFifo(Channel):
    def __init__(self, job: Job, *, pickles: bool) -> None:
        from faster_fifo import Queue

        plain = {} if pickles else {"loads": bytes, "dumps": bytes}
        self.queue = Queue(max_size_bytes=max(job.capacity, 2 * job.size), **plain)
        self.warm = 2 * job.slots + 2

    def sender(self) -> Any:
        return self

    receiver = sender

    def send(self, message: bytes) -> None:
        self.queue.put(message, True, _FOREVER)

    def recv(self) -> Any:
        return self.queue.get(True, _FOREVER)

    def send_many(self, messages: list[bytes]) -> None:
        self.queue.put_many(messages, True, _FOREVER)

    def recv_many(self, most: int) -> list[Any]:
        return self.queue.get_many(True, _FOREVER, most)  # type: ignore[no-any-return]

    def send_array(self, array: np.ndarray[Any, Any]) -> None:
        self.queue.put(array, True, _FOREVER)

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        for _ in range(count):
            yield np.frombuffer(self.queue.get(True, _FOREVER))


class FasterFifo(Contender):
    """Without its pickling, which halves its rate, where bytes are sent."""

    name = "faster-fifo"
    module, package = "faster_fifo", "faster-fifo"
    kinds = frozenset({"one by one", "round trip", "sleeps", "lists", "frames", "frame trips", "objects", "crowd"})

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _FasterFifo(job, pickles=pattern.kind in ("objects", "crowd"))


# -- pyzmq --------------------------------------------------------------------------------------------------------


class _Zmq(Channel):
    """PUSH to PULL over a socket in the abstract name space: nothing of it stays in a file system."""

    def __init__(self, job: Job) -> None:
        self.address = f"ipc://@shmkit-bench-{os.getpid()}-{next(_serial)}"
        self.depth = min(1000, job.slots)

    def _socket(self, kind: int) -> Any:
        import zmq

        self.context = zmq.Context()
        self.socket = self.context.socket(kind)
        self.socket.sndhwm = self.socket.rcvhwm = self.depth
        return self.socket

    def sender(self) -> Any:
        import zmq

        self._socket(zmq.PUSH).bind(self.address)
        self.send = self.send_array = self.socket.send
        return self

    def receiver(self) -> Any:
        import zmq

        self._socket(zmq.PULL).connect(self.address)
        self.recv = self.socket.recv
        return self

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        for _ in range(count):
            yield np.frombuffer(self.socket.recv(copy=False).buffer)

    def leave(self) -> None:
        self.socket.close()
        self.context.term()


class Zmq(Contender):
    """PUSH and PULL; frames are received without a copy."""

    name = "pyzmq"
    module, package = "zmq", "pyzmq"
    kinds = _WAITS

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Zmq(job)


# -- iceoryx2 -----------------------------------------------------------------------------------------------------


class _Iceoryx(Channel):
    """Publish and subscribe with back-pressure; its files are in a folder, and have a prefix, of their own."""

    def __init__(self, job: Job) -> None:
        self.depth, self.size = min(job.slots, 1000), job.size
        self.warm = 2 * self.depth + 2
        self.prefix = f"shmkit_bench_{os.getpid()}_{next(_serial)}_"
        self.folder = tempfile.mkdtemp(prefix=self.prefix)

    def _service(self) -> Any:
        import iceoryx2 as iox

        iox.set_log_level(iox.LogLevel.Error)
        config = iox.config.default()
        config.global_cfg.root_path = iox.Path.new(self.folder)
        config.global_cfg.prefix = iox.FileName.new(self.prefix)
        self.node = iox.NodeBuilder.new().config(config).create(iox.ServiceType.Ipc)
        return (
            self.node.service_builder(iox.ServiceName.new("bench"))
            .publish_subscribe(iox.Slice[ctypes.c_uint8])
            .enable_safe_overflow(False)
            .history_size(0)
            .max_publishers(1)
            .max_subscribers(1)
            .subscriber_max_buffer_size(self.depth)
            .open_or_create()
        )

    def sender(self) -> Any:
        import iceoryx2 as iox

        self.service = self._service()
        self.port = (
            self.service.publisher_builder()
            .initial_max_slice_len(self.size)
            .backpressure_strategy(iox.BackpressureStrategy.RetryUntilDelivered)
            .create()
        )
        while self.service.dynamic_config.number_of_subscribers == 0:  # what nobody subscribes to is dropped
            os.sched_yield()
        return self

    def receiver(self) -> Any:
        self.service = self._service()
        self.port = self.service.subscriber_builder().create()
        return self

    def send(self, message: Any) -> None:
        sample = self.port.loan_slice_uninit(self.size)
        ctypes.memmove(sample.payload_ptr, message, self.size)
        sample.assume_init().send()

    def send_array(self, array: np.ndarray[Any, Any]) -> None:
        sample = self.port.loan_slice_uninit(self.size)
        ctypes.memmove(sample.payload_ptr, array.ctypes.data, self.size)
        sample.assume_init().send()

    def slots(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        for _ in range(count):
            sample = self.port.loan_slice_uninit(self.size)
            yield np.frombuffer(sample.payload().as_memory_view())
            sample.assume_init().send()

    def try_recv(self) -> bytes | None:
        sample = self.port.receive()
        if sample is None:
            return None
        message = ctypes.string_at(sample.payload_ptr, self.size)
        sample.delete()
        return message

    def recv(self) -> bytes:
        while (message := self.try_recv()) is None:
            pass
        return message

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        receive = self.port.receive
        for _ in range(count):
            while (sample := receive()) is None:
                pass
            yield np.frombuffer(sample.payload().as_memory_view())
            sample.delete()

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for file in Path("/dev/shm").glob(f"{self.prefix}*"):
            file.unlink(missing_ok=True)


class Iceoryx(Contender):
    """Loans and samples; its subscriber only polls, so both sides spin."""

    name = "iceoryx2"
    module = package = "iceoryx2"
    kinds = frozenset({"one by one", "polled", "round trip", "frames", "frame trips", "in place"})

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Iceoryx(job)
