"""Another user of the machine: refused in words, and nothing that comes from there is unpickled.

A child gives up root's rights for those of `nobody`; so these tests run as root.
"""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmkit
from shmkit import fifo
from shmkit.channel.frame import HEADER, MARK, PICKLE, WHOLE
from shmkit.log import LogReader, LogWriter
from shmkit.mqueue import PosixMessageQueue, SysVMessageQueue
from shmkit.socket import connect_unix
from support import Processes

WATCHDOG = 30.0
NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


class Bomb:
    """Whoever unpickles it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


def frame_of(bomb: Bomb) -> bytes:
    text = pickle.dumps(bomb)
    return HEADER.pack(MARK, PICKLE, 0, 0, len(text)) + text + WHOLE


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that everybody may go through, and make files in."""
    made = Path(tempfile.mkdtemp(prefix="shmkit-strangers-"))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def stranger(process: Processes) -> Callable[[Callable[[], Any]], str]:
    """Runs it as another user, and says what came of it: an exception's name and words, or "done"."""

    def run(call: Callable[[], Any]) -> str:
        reading, writing = os.pipe()

        def child() -> None:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.umask(0)
            try:
                call()
                said = "done"
            except BaseException as error:
                said = f"{type(error).__name__}: {error}"
            os.write(writing, said.encode())
            os._exit(0)

        try:
            started = process(child)
            os.close(writing)
            writing = -1
            with open(os.dup(reading)) as answer:
                said = answer.read()
            started.join(WATCHDOG)
            return said
        finally:
            os.close(reading)
            if writing >= 0:
                os.close(writing)

    return run


def test_a_segment(stranger: Any, name: str) -> None:
    """The kernel refuses what has its usual mode, and shmkit what everybody may open, unless told whose it is."""
    with shmkit.Segment.create(name, 4096) as segment:
        assert "SegmentPermission" in stranger(lambda: shmkit.Segment.attach(name))
        os.chmod(f"/dev/shm/{name}", 0o666)
        said = stranger(lambda: shmkit.Segment.attach(name))
        assert "SegmentPermission" in said
        assert f"belongs to user 0, and this process to user {NOBODY}" in said
        assert stranger(lambda: shmkit.Segment.attach(name, owner=0)) == "done"
        segment.unlink()


def test_a_reference_that_is_unpickled_elsewhere(stranger: Any, name: str) -> None:
    """A pickled array says whose it is."""
    array = shmkit.create(name, 10, "u1")
    text = pickle.dumps(array)
    assert "was received by user 65534" in stranger(lambda: pickle.loads(text))
    del array
    shmkit.unlink(name)


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_a_ring(mode: int, stranger: Any, name: str) -> None:
    """Theirs of ours, and ours of theirs, which root could open."""
    with shmkit.listen(f"ring://{name}?capacity=1KiB"):
        os.chmod(f"/dev/shm/{name}", mode)
        assert "SegmentPermission" in stranger(lambda: shmkit.connect(f"ring://{name}"))
    assert stranger(lambda: shmkit.Ring.create(name, 1024, mode=mode)) == "done"
    with pytest.raises(shmkit.SegmentPermission, match=f"belongs to user {NOBODY}"):
        shmkit.connect(f"ring://{name}")
    os.unlink(f"/dev/shm/{name}")


@pytest.mark.parametrize("kind", ["", "?type=seqpacket"])
@pytest.mark.parametrize("abstract", [False, True])
def test_a_unix_socket(kind: str, abstract: bool, stranger: Any, folder: Path, name: str) -> None:
    """Where the file lets anybody in, and an abstract name has none, the kernel says who came."""
    trace = folder / "unpickled"
    place = f"@{name}" if abstract else f"{folder}/socket"
    bomb = frame_of(Bomb(trace))

    def attack() -> None:
        # Not shmkit's own end, which might keep to the rules.
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET if kind else socket.SOCK_STREAM) as sock:
            sock.connect("\0" + name if abstract else place)
            try:
                sock.sendall(bomb)
                sock.settimeout(WATCHDOG)
                while sock.recv(100):
                    pass
            except ConnectionError:
                pass  # thrown out before it had sent all, or before what it had sent was read

    if not abstract:
        with shmkit.listen(f"unix://{place}{kind}"):
            assert "PermissionError" in stranger(lambda: connect_unix(place, "seqpacket" if kind else "stream"))
    with shmkit.serve(f"unix://{place}{kind}{'&' if kind else '?'}mode=666") as server:
        with pytest.raises(TimeoutError):

            def accept() -> None:
                server.accept(0.5).recv(0.5)

            pid = os.fork()
            if pid == 0:
                os._exit(0 if stranger_alone(attack) else 1)
            accept()
        assert server.refused == 1
        assert os.waitpid(pid, 0)[1] == 0
    assert not trace.exists()


def stranger_alone(call: Callable[[], Any]) -> bool:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    call()
    return True


def test_a_tcp_port(stranger: Any, folder: Path) -> None:
    """Who comes has to know the key, whoever it is; before that nothing is taken for a message."""
    trace = folder / "unpickled"
    bomb = frame_of(Bomb(trace))
    with shmkit.serve("tcp://127.0.0.1:0", key=b"known to us") as server:
        port = int(server.url.rpartition(":")[2])

        def attack() -> None:
            with socket.create_connection(("127.0.0.1", port), WATCHDOG) as sock:
                try:
                    sock.sendall(bomb)
                    while sock.recv(100):
                        pass
                except ConnectionError:
                    pass

        pid = os.fork()
        if pid == 0:
            os._exit(0 if stranger_alone(attack) else 1)
        with pytest.raises(TimeoutError):
            server.accept(0.5).recv(0.5)
        assert os.waitpid(pid, 0)[1] == 0
        assert server.refused == 1
    assert not trace.exists()


def test_a_fifo(stranger: Any, folder: Path) -> None:
    """Ours is closed to them; theirs, though root could read it, is not believed."""
    ours, theirs = folder / "ours", folder / "theirs"
    with shmkit.listen(f"fifo://{ours}"):
        assert "PermissionError" in stranger(lambda: shmkit.connect(f"fifo://{ours}"))
    assert stranger(lambda: fifo.create(theirs, 0o666)) == "done"
    with pytest.raises(shmkit.Refused, match=str(NOBODY)):
        shmkit.listen(f"fifo://{theirs}")
    reading = os.open(theirs, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(shmkit.Refused, match=str(NOBODY)):
            shmkit.connect(f"fifo://{theirs}")
    finally:
        os.close(reading)


def test_a_posix_queue(stranger: Any, name: str) -> None:
    """The same."""
    with shmkit.listen(f"mq://{name}?max_messages=2&max_message_size=512"):
        assert "Permission" in stranger(lambda: shmkit.connect(f"mq://{name}"))
    made = stranger(lambda: PosixMessageQueue.create(name, max_messages=2, max_message_size=512, mode=0o666))
    assert made == "done"
    try:
        for call in (shmkit.listen, shmkit.connect):
            with pytest.raises((shmkit.Refused, shmkit.SegmentPermission), match=str(NOBODY)):
                call(f"mq://{name}")
    finally:
        with PosixMessageQueue.attach(name, owner=NOBODY) as queue:
            queue.unlink()


def test_a_system_v_queue(stranger: Any, name: str) -> None:
    """The same."""
    with shmkit.listen(f"sysvmq://{name}"):
        assert "Permission" in stranger(lambda: shmkit.connect(f"sysvmq://{name}"))
    key = struct.unpack("i", os.urandom(3) + b"\x01")[0]
    assert stranger(lambda: SysVMessageQueue.create(key, mode=0o666)) == "done"
    try:
        for call in (shmkit.listen, shmkit.connect):
            with pytest.raises((shmkit.Refused, shmkit.SegmentPermission), match=str(NOBODY)):
                call(f"sysvmq://{key}")
    finally:
        with SysVMessageQueue.attach(key, owner=NOBODY) as queue:
            queue.unlink()


def test_a_log(stranger: Any, folder: Path) -> None:
    """The same: what anybody else could have written is not unpickled."""
    ours, theirs, trace = folder / "ours", folder / "theirs", folder / "unpickled"
    with LogWriter(ours) as log:
        log.append(b"x")
    assert "PermissionError" in stranger(lambda: LogReader(ours))
    assert "PermissionError" in stranger(lambda: LogWriter(ours))

    def write() -> None:
        with shmkit.connect(f"file://{theirs}?mode=666") as sender:
            sender.send(Bomb(trace))

    assert stranger(write) == "done"
    with pytest.raises(shmkit.Refused, match=str(NOBODY)):
        shmkit.listen(f"file://{theirs}")
    with pytest.raises(shmkit.Refused, match=str(NOBODY)):
        shmkit.connect(f"file://{theirs}")
    assert not trace.exists()


def test_a_log_of_ours_that_others_may_write_to(folder: Path) -> None:
    """Its mode is enough."""
    path = folder / "log"
    with LogWriter(path) as log:
        log.append(b"x")
    path.chmod(0o666)
    with pytest.raises(shmkit.Refused):
        LogReader(path)
