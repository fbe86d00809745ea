"""What stands where the standard library's queues have the two ends of a pipe: ``_reader`` and ``_writer``.

Programs wait for the first with ``multiprocessing.connection.wait`` and ``select``; some use both as they would use
the connections.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

from shmkit._queue import QueueBase
from shmkit._queue_end import Share
from shmkit.errors import Empty

__all__ = ["Reader", "Writer"]

LOOK_EVERY = 0.25  # seconds between two looks whether anybody is left who could put


class _End:
    """One end, which is closed for itself."""

    readable = False
    writable = False

    def __init__(self, queue: QueueBase, writers: Share | None = None) -> None:
        self._queue: QueueBase | None = queue
        self._shortened: tuple[weakref.ref[Any], str] | None = None
        self._writers = writers  # of whom this process is one, until it drops its part; None: they are not counted

    def _open(self) -> QueueBase:
        if self._queue is None:
            raise OSError("handle is closed")
        return self._queue

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._queue is None

    def close(self) -> None:
        """End its use."""
        self._queue = None
        self._lengthen()

    def shorten(self, face: Any, name: str, method: Callable[..., Any]) -> None:
        """Has `face` call a method of shmkit's queue where it would call this end, as long as that says the same."""
        if self._queue is not None:
            face.__dict__[name] = method
            self._shortened = weakref.ref(face), name

    def _lengthen(self) -> None:
        shortened, self._shortened = self._shortened, None
        if shortened is not None and (face := shortened[0]()) is not None:
            face.__dict__.pop(shortened[1], None)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *of: object) -> None:
        self.close()


class Reader(_End):
    """Where items come out."""

    readable = True
    writes_too = True  # whether this process has the other end

    def read_alone(self) -> None:
        """This process has the other end no more: so it is to see when nobody has it."""
        self.writes_too = False
        self._lengthen()

    def shorten(self, face: Any, name: str, method: Callable[..., Any]) -> None:
        """While this process has the other end too."""
        if self.writes_too or self._writers is None:
            super().shorten(face, name, method)

    def fileno(self) -> int:
        """A descriptor that is readable while there is something to get."""
        return self._open().fileno()

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether there is something to get; waits for it, at most `timeout` seconds, None: for ever."""
        return self._open()._poll(timeout)

    def recv(self) -> Any:
        """The next item.  EOFError when this process has closed the other end, and nobody is left who has it."""
        queue = self._open()
        while self._writers is not None and not self.writes_too:
            # Whoever can put is asked for first: what the last of them has put is there then.
            written = self._writers.is_held()
            try:
                return QueueBase.get(queue, written, LOOK_EVERY)
            except Empty:
                if not written:
                    raise EOFError from None
        return queue.get()

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """The next item, pickled."""
        data = bytes(ForkingPickler.dumps(self.recv()))
        if maxlength is not None and len(data) > maxlength:
            raise OSError("bad message length")
        return data


class Writer(_End):
    """Where they go in."""

    writable = True
    other: Reader | None = None

    def close(self) -> None:
        """End its use; whoever reads may find that nobody is left who puts."""
        super().close()
        if self._writers is not None and self.other is not None:
            self.other.read_alone()
            self._writers.drop()

    def fileno(self) -> int:
        """The descriptor of the memory that items are in: putting never has to wait for it."""
        return int(self._open().heap.segment.fd)

    def send(self, obj: Any) -> None:
        """Put an item."""
        self._open().put(obj)

    def send_bytes(self, data: Any, offset: int = 0, size: int | None = None) -> None:
        """Put an item that is pickled."""
        view = memoryview(data).cast("B")
        self._open().put(ForkingPickler.loads(view[offset : None if size is None else offset + size]))
