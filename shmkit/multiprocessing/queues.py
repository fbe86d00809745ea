"""``multiprocessing.queues`` over shmkit's: no thread, no pipe, no lock, arrays without pickling, no wait for the dead.

What the standard library does later, in a thread, is done by ``put``: so an item that cannot be pickled is reported
(``_on_queue_feeder_error``) before ``put`` returns, and what is changed after it is not sent.
"""

from __future__ import annotations

import multiprocessing.queues as _theirs
import threading
from typing import Any

from shmkit._queue_end import new_share
from shmkit.multiprocessing._derived import counts_on
from shmkit.multiprocessing._ends import Reader, Writer
from shmkit.multiprocessing._same import attributes_of
from shmkit.multiprocessing._spawning import check_spawning, is_for_forks
from shmkit.queue import JoinableQueue as _JoinableQueue
from shmkit.queue import Queue as _Queue
from shmkit.queue import SimpleQueue as _SimpleQueue

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]

__getattr__, __dir__ = attributes_of(_theirs)

SEM_VALUE_MAX = 2**31 - 1  # what the standard library calls a queue without a limit

# What the standard library's queues are made of, and these are not.  Whoever derives from one and has a thread, a lock
# or a pickle of his own for it (loky does, and with it joblib) keeps that.
_MADE_OF = frozenset(
    [
        *["_buffer", "_feed", "_finalize_close", "_finalize_join", "_jointhread", "_joincancelled", "_notempty"],
        *["_opid", "_recv_bytes", "_reset", "_rlock", "_sem", "_send_bytes", "_start_thread", "_thread", "_wlock"],
    ]
)


class Queue(_theirs.Queue):  # type: ignore[type-arg]
    """A queue between processes; see ``shmkit.Queue``, which it is."""

    _kind: type[_Queue] = _Queue

    @classmethod
    def _stands_for(cls, kind: type) -> bool:
        return not counts_on(kind, _theirs.Queue, _MADE_OF)

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        self._maxsize = maxsize if maxsize > 0 else SEM_VALUE_MAX
        self._ignore_epipe = False  # for concurrent.futures
        self._is_fork_ctx = is_for_forks(ctx)
        self._stand_on(self._kind(maxsize))

    def _stand_on(self, queue: _Queue) -> None:
        self._queue = queue
        self._reader = Reader(queue)
        self._writer = Writer(queue)
        self._poll = self._reader.poll
        self._closed = False
        queue._report_to(self)
        # Without a step in between, where nobody has other words for it.
        if type(self).get is _get_of_queue:
            self.get = queue._get_direct  # type: ignore[method-assign]
        if type(self).put is _put_of_queue:
            self.put = queue._put_reporting  # type: ignore[method-assign]

    def __getstate__(self) -> Any:
        check_spawning(self, self._is_fork_ctx)
        return self._ignore_epipe, self._maxsize, self._queue

    def __setstate__(self, state: Any) -> None:
        self._ignore_epipe, self._maxsize, queue = state
        self._is_fork_ctx = False
        self._stand_on(queue)

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put `obj`; queue.Full if there is no room, at once or in time.  ValueError if this handle was closed."""
        self._queue._put_reporting(obj, block, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Remove an item and return it; queue.Empty if there is none, at once or in time.  ValueError if closed."""
        return self._queue._get_direct(block, timeout)

    def get_nowait(self) -> Any:
        """``get(False)``."""
        return self.get(False)

    def put_nowait(self, obj: Any) -> None:
        """``put(obj, False)``."""
        self.put(obj, False)

    def qsize(self) -> int:
        """How many items are in it."""
        return self._queue.qsize()

    def empty(self) -> bool:
        """Whether nothing is in it."""
        return not self._reader.poll()

    def full(self) -> bool:
        """Whether a put would have to wait."""
        return self._queue.full()

    def close(self) -> None:
        """End the use of this handle: what was put is in the queue, for others."""
        self._closed = self._queue._face_closed = True
        if self._queue._was_put:  # as where a thread closes them, which starts with the first put
            self._reader.close()
            self._writer.close()

    def join_thread(self) -> None:
        """Return at once: what was put is in the queue already."""
        assert self._closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self) -> None:
        """Do nothing: exiting never waits for a reader."""

    def _terminate_broken(self) -> None:
        # Of concurrent.futures, when a worker has died.
        self._reader.close()
        self.close()

    def _after_fork(self) -> None:
        """A forked child's handle knows by itself that it is another process's."""


_get_of_queue = Queue.get
_put_of_queue = Queue.put


class JoinableQueue(Queue, _theirs.JoinableQueue):  # type: ignore[type-arg]
    """A Queue that counts what has been done: ``task_done`` and ``join``."""

    _kind = _JoinableQueue
    _queue: _JoinableQueue

    def task_done(self) -> None:
        """Declare that an item that was got has been dealt with.  ValueError if there were not that many."""
        self._queue.task_done()

    def join(self) -> None:
        """Wait until every item that was put has been declared done."""
        self._queue.join()


class SimpleQueue(_theirs.SimpleQueue):  # type: ignore[type-arg]
    """A queue with few words, beneath pools and executors; who has closed its writing end sees the others go."""

    @classmethod
    def _stands_for(cls, kind: type) -> bool:
        return not counts_on(kind, _theirs.SimpleQueue, _MADE_OF)

    def __init__(self, *, ctx: Any = None) -> None:
        self._is_fork_ctx = is_for_forks(ctx)
        self._stand_on(_SimpleQueue(), 0)

    def _stand_on(self, queue: _SimpleQueue, writers: int) -> None:
        share = new_share(queue, writers)  # 0: the first
        self._queue = queue
        self._reader = Reader(queue, share)
        self._writer = Writer(queue, share)
        self._writer.other = self._reader
        self._poll = self._reader.poll
        # Pools hold the first while they empty a queue; there is nothing that it would have to keep others from.
        self._rlock, self._wlock = threading.Lock(), threading.Lock()
        self._share = share

    def __getstate__(self) -> Any:
        check_spawning(self, self._is_fork_ctx)
        return self._queue, self._share.number, self._reader.closed, self._writer.closed

    def __setstate__(self, state: Any) -> None:
        queue, writers, no_reader, no_writer = state
        self._is_fork_ctx = False
        self._stand_on(queue, writers)
        if no_reader:
            self._reader.close()
        if no_writer:
            self._writer.close()

    def put(self, obj: Any) -> None:
        """Put `obj`.  What pickling raises, if it cannot be pickled; OSError if this handle was closed."""
        if (direct := self.__dict__.get("put")) is not None:  # whoever keeps the method calls this one
            direct(obj)
            return
        if type(self).put is _put_of_simple and type(self._writer) is Writer:
            self._writer.shorten(self, "put", self._queue._put_simple)
        self._writer.send(obj)

    def get(self) -> Any:
        """Remove an item and return it; wait for one.  OSError if this handle was closed; EOFError (`Reader.recv`)."""
        if (direct := self.__dict__.get("get")) is not None:
            return direct()
        if type(self).get is _get_of_simple and type(self._reader) is Reader:
            self._reader.shorten(self, "get", self._queue._get_simple)
        return self._reader.recv()

    def empty(self) -> bool:
        """Whether nothing is in it."""
        return not self._reader.poll()

    def close(self) -> None:
        """End the use of this handle."""
        self._reader.close()
        self._writer.close()


_get_of_simple = SimpleQueue.get
_put_of_simple = SimpleQueue.put
