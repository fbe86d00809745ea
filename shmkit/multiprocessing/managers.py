"""``multiprocessing.managers``, whose server does not let the dead keep others waiting.

Everything is the standard library's but ``SyncManager``, which ``Manager()`` makes: a lock that a killed client held
goes to the next who asks, and no item of a queue goes to a client that was killed while it waited for one.

The server asks the kernel whose a connection is, and keeps a handle of that process (a pidfd): no pid that somebody
else has later is taken for it, and a forked child that inherited the connection does not keep it alive.  A client on
another machine is not known by that; it is one that lives for ever, as in the standard library.
"""

from __future__ import annotations

import contextlib
import multiprocessing.managers as _theirs
import os
import queue
import select
import socket
import struct
import threading
from collections.abc import Iterable
from typing import Any

from shmkit.multiprocessing._same import attributes_of
from shmkit.multiprocessing.shared_memory import ShareableList, SharedMemory
from shmkit.signals import ProcessHandle
from shmkit.waiting import Deadline

__all__ = ["BaseManager", "BaseProxy", "SharedMemoryManager", "SyncManager", "Token"]

__getattr__, __dir__ = attributes_of(_theirs)

BaseManager = _theirs.BaseManager
BaseProxy = _theirs.BaseProxy
Token = _theirs.Token

LOOK_EVERY = 0.05  # seconds between two looks whether the holder of a lock lives
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid


class _Client:
    """Whom a thread of the server serves."""

    def __init__(self, connection: Any) -> None:
        self._poll = select.poll()
        self._poll.register(connection.fileno(), select.POLLRDHUP)
        self._process: ProcessHandle | None = None
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as asked:
            pid = _CREDENTIALS.unpack(asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]
            if pid > 0:  # 0: it is on another machine, or in another pid namespace
                self._process = ProcessHandle(pid)
                self._poll.register(self._process.fileno(), select.POLLIN)

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process is not None and not self._process.alive

    @property
    def gone(self) -> bool:
        """Whether nobody will receive what it is answered.  For the thread that serves it, which has the connection."""
        return bool(self._poll.poll(0))


class _Serving(threading.local):
    client: _Client | None = None  # None: a thread that serves nobody


_serving = _Serving()


class _Server(_theirs.Server):
    def serve_client(self, conn: Any) -> None:
        _serving.client = _Client(conn)
        super().serve_client(conn)


class _Lock:
    """``threading.Lock``, in the server: free when the client that holds it has ended."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._changed = threading.Condition(self._mutex)
        self._waiting = 0
        self._held = False
        self._holder: _Client | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if timeout != -1:
            if not blocking:
                raise ValueError("can't specify a timeout for a non-blocking call")
            if timeout < 0:
                raise ValueError("timeout value must be a non-negative number")
        with self._mutex:
            if self._held and not self._wait(0 if not blocking else None if timeout == -1 else timeout):
                return False
            self._held, self._holder = True, _serving.client
        return True

    def _wait(self, seconds: float | None) -> bool:
        """With the mutex held, until it is free, or its holder has ended; False: it was not in time."""
        deadline = Deadline(seconds)
        self._waiting += 1
        try:
            while self._held and not (self._holder is not None and self._holder.ended):
                if deadline.passed:
                    return False
                self._changed.wait(min(LOOK_EVERY, deadline.left()))
        finally:
            self._waiting -= 1
        return True

    def release(self) -> None:
        with self._mutex:
            if not self._held:
                raise RuntimeError("release unlocked lock")
            self._held, self._holder = False, None
            if self._waiting:
                self._changed.notify()

    def locked(self) -> bool:
        return self._held

    def __repr__(self) -> str:  # as of what it stands for: it is what str() of a proxy is
        return f"<{'locked' if self._held else 'unlocked'} _thread.lock object at {id(self):#x}>"

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *of: object) -> None:
        self.release()


class _RLock(_Lock):
    """``threading.RLock``, likewise.  It is held by a thread of the server, each of which serves one of a client."""

    def __init__(self) -> None:
        super().__init__()
        self._owner: threading.Thread | None = None
        self._count = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._is_owned():
            self._count += 1
            return True
        if not super().acquire(blocking, timeout):
            return False
        self._owner, self._count = threading.current_thread(), 1
        return True

    def release(self) -> None:
        if not self._is_owned():
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if self._count == 0:
            self._owner = None
            super().release()

    def __repr__(self) -> str:
        owner, state = self._owner, "locked" if self._held else "unlocked"
        number = 0 if owner is None else owner.ident
        return f"<{state} _thread.RLock object owner={number} count={self._count} at {id(self):#x}>"

    # What threading.Condition asks of a lock.

    def _is_owned(self) -> bool:
        return self._owner is threading.current_thread()

    def _release_save(self) -> int:
        count, self._count = self._count, 1
        self.release()
        return count

    def _acquire_restore(self, count: int) -> None:
        super().acquire()
        self._owner, self._count = threading.current_thread(), count


def _condition(lock: Any = None) -> threading.Condition:
    made: Any = _RLock() if lock is None else lock
    return threading.Condition(made)


class _Queue(queue.Queue):  # type: ignore[type-arg]
    """``queue.Queue``, in the server: who has gone before an item was taken out for it gets nothing.

    That is asked each time, and not only after a wait: the call of a client that was killed may be heard late.
    """

    def _get(self) -> Any:
        client = _serving.client
        if client is not None and client.gone:
            self.not_empty.notify()  # which it was told instead of somebody else
            raise EOFError("the client that waited for an item has ended")
        return super()._get()

    def __repr__(self) -> str:
        return f"<queue.Queue object at {id(self):#x}>"


class SyncManager(_theirs.SyncManager):
    """A manager of the usual shared objects, in a process of its own."""

    _Server = _Server

    @classmethod
    def _stands_for(cls, kind: type) -> bool:
        return kind is _theirs.SyncManager  # what is derived has a registry, and is passed to its server by its name


class SharedMemoryManager(_theirs.SharedMemoryManager):
    """A manager, in a process of its own, that removes the shared memory which it was asked for when it ends."""

    _address: Any
    _authkey: Any
    _Client: Any

    def SharedMemory(self, size: int) -> SharedMemory:  # noqa: N802
        """A new block of that size."""
        made = SharedMemory(create=True, size=size)
        self._track(made)
        return made

    def ShareableList(self, sequence: Iterable[Any] | None) -> ShareableList:  # noqa: N802
        """A new list of these."""
        made = ShareableList(sequence)
        self._track(made.shm)
        return made

    def _track(self, memory: Any) -> None:
        try:
            with self._Client(self._address, authkey=self._authkey) as conn:
                _theirs.dispatch(conn, None, "track_segment", (memory.name,))  # type: ignore[attr-defined]
        except BaseException:
            memory.unlink()
            raise


_made: Any
for _name, _made, _proxy in (
    ("Lock", _Lock, "AcquirerProxy"),
    ("RLock", _RLock, "AcquirerProxy"),
    ("Condition", _condition, "ConditionProxy"),
    ("Queue", _Queue, None),
    ("JoinableQueue", _Queue, None),
):
    SyncManager.register(_name, _made, None if _proxy is None else getattr(_theirs, _proxy))
