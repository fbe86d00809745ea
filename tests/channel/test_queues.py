"""What channels over message queues have of their own: priorities, types, several senders, and the queue's life."""

from __future__ import annotations

import ctypes
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import shmkit
from channel.ends import WATCHDOG, running
from shmkit import channel, mqueue
from shmkit.channel import queues
from shmkit.mqueue import posix
from support import Processes, wait_until

SCHEMES = ["mq", "sysvmq"]
schemes = pytest.mark.parametrize("scheme", SCHEMES)


def raw(scheme: str, name: str, **options: Any) -> Any:
    kind = mqueue.PosixMessageQueue if scheme == "mq" else mqueue.SysVMessageQueue
    return kind.create(name, **options)


@contextmanager
def ends(url: str, senders: int = 1, **options: Any) -> Iterator[list[channel.Channel]]:
    with channel.listen(url, **options) as receiver:
        sending = [channel.connect(url, **options) for _ in range(senders)]
        yield [receiver, *sending]
        for sender in sending:
            sender.close()


def test_the_highest_priority_comes_first(name: str) -> None:
    """Among equals the first that was sent; what an end says of itself comes with its messages."""
    with channel.listen(f"mq://{name}") as receiver:
        low, high = channel.connect(f"mq://{name}"), channel.connect(f"mq://{name}?priority=7")
        for number in range(3):
            low.send(("low", number))
            high.send(("high", number))
        assert [receiver.recv(WATCHDOG) for _ in range(6)] == [("high", n) for n in range(3)] + [
            ("low", n) for n in range(3)
        ]
        high.close()
        low.close()
        with pytest.raises(shmkit.EndOfStream):
            receiver.recv(WATCHDOG)


@pytest.mark.parametrize("priority", ["-1", "32768", "high"])
def test_a_priority_that_is_none(priority: str, name: str) -> None:
    """ValueError says what there is."""
    with channel.listen(f"mq://{name}"), pytest.raises(ValueError, match="priority"):
        channel.connect(f"mq://{name}", priority=priority)


def test_types_share_one_queue(name: str) -> None:
    """Each receiver gets those of its type, and the end of those."""
    url = f"sysvmq://{name}"
    with channel.listen(f"{url}?type=2") as second, channel.listen(f"{url}?type=1&keep=yes") as first:
        ones, twos = channel.connect(f"{url}?type=1"), channel.connect(f"{url}?type=2")
        for number in range(5):
            twos.send(("two", number))
            ones.send(("one", number))
        ones.close()
        assert list(first) == [("one", number) for number in range(5)]
        twos.close()
        assert list(second) == [("two", number) for number in range(5)]


@schemes
def test_several_send(scheme: str, name: str) -> None:
    """The end comes when all of them have taken leave."""
    with ends(f"{scheme}://{name}", 3) as (receiver, *senders):

        def send(who: int) -> None:
            for number in range(50):
                senders[who].send((who, number), timeout=WATCHDOG)
            senders[who].close()

        threads = [threading.Thread(target=send, args=(who,)) for who in range(3)]
        for thread in threads:
            thread.start()
        came = list(receiver)
        for thread in threads:
            thread.join(WATCHDOG)
        for who in range(3):
            assert [number for sender, number in came if sender == who] == list(range(50))


@schemes
def test_one_that_stays_keeps_the_end_away(scheme: str, name: str) -> None:
    """It has sent nothing yet, and is known all the same."""
    with ends(f"{scheme}://{name}", 2) as (receiver, one, other):
        one.send(1)
        one.close()
        assert receiver.recv(WATCHDOG) == 1
        with pytest.raises(TimeoutError):
            receiver.recv(0.05)
        other.send(2)
        assert receiver.recv(WATCHDOG) == 2


@schemes
def test_what_was_kept_is_received_by_the_next(scheme: str, name: str) -> None:
    """Though nobody listened meanwhile; the last one removes the queue."""
    url = f"{scheme}://{name}"
    channel.listen(url, keep=True).close()
    with channel.connect(url) as sender:
        sender.send("for later")
    with channel.listen(url) as receiver:
        assert list(receiver) == ["for later"]
    with pytest.raises(shmkit.NoPeer, match="no message queue"):
        channel.connect(url)


@schemes
def test_connecting_waits_for_a_queue(scheme: str, name: str) -> None:
    """NoPeer when the time is up."""
    url = f"{scheme}://{name}"
    with pytest.raises(shmkit.NoPeer):
        channel.connect(url, timeout=0.01)
    with running(channel.connect, url) as result:
        pass
    assert isinstance(result[0], shmkit.NoPeer)

    def connect() -> None:
        with channel.connect(url, timeout=WATCHDOG) as sender:
            sender.send("here")

    with running(connect) as result, channel.listen(url) as receiver:
        assert receiver.recv(WATCHDOG) == "here"
    assert result == [None]


def test_a_posix_queue_has_one_receiver(name: str, process: Processes) -> None:
    """RoleTaken for the second; when the first was killed, the next takes over what waits."""
    url = f"mq://{name}"
    program = process.python(
        dedent(f"""
        import time, shmkit
        receiver = shmkit.listen({url!r})
        print("listening", flush=True)
        time.sleep(3600)
        """),
        text=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline().strip() == "listening"
    with pytest.raises(shmkit.RoleTaken, match="receives from message queue"):
        channel.listen(url)
    with channel.connect(url) as sender:
        sender.send("waits")
        program.send_signal(signal.SIGKILL)
        program.wait()
        with channel.listen(url) as receiver:
            assert receiver.recv(WATCHDOG) == "waits"


@schemes
def test_a_sender_is_told_that_the_receiver_was_killed(scheme: str, name: str, process: Processes) -> None:
    """As soon as nothing fits any more; the queue stays, as nobody removed it."""
    url = f"{scheme}://{name}"
    program = process.python(
        dedent(f"""
        import shmkit
        receiver = shmkit.listen({url!r})
        print(receiver.recv(), flush=True)
        receiver.poll(None)
        import time
        time.sleep(3600)
        """),
        text=True,
    )
    sender = channel.connect(url, timeout=WATCHDOG)
    sender.send("hello")
    assert program.stdout is not None
    assert program.stdout.readline().strip() == "hello"
    program.send_signal(signal.SIGKILL)
    program.wait()
    with pytest.raises(shmkit.Broken) as caught:
        for _ in range(1000):
            sender.send(bytes(4000), timeout=WATCHDOG)
    if scheme == "sysvmq":
        assert isinstance(caught.value, shmkit.PeerDied)
        assert caught.value.pid == program.pid
    sender.close(0.0)
    channel.listen(url).close()


@schemes
def test_a_queue_that_others_write_to_is_refused(scheme: str, name: str) -> None:
    """What comes is unpickled: only this user, and root, may have sent it."""
    queue = raw(scheme, name, mode=0o622)
    try:
        with pytest.raises(shmkit.Refused, match="mode 0622"):
            channel.listen(f"{scheme}://{name}")
    finally:
        queue.unlink()
        queue.close()


@schemes
def test_what_is_no_message_is_refused_and_gone(scheme: str, name: str) -> None:
    """RecordCorrupt; the next message is received as ever."""
    with ends(f"{scheme}://{name}") as (receiver, sender):
        queue = receiver.queue  # type: ignore[attr-defined]
        for junk in (b"x", b"\xa7" * 16, os.urandom(100)):
            queue.send(junk)
            with pytest.raises(shmkit.RecordCorrupt):
                receiver.recv(WATCHDOG)
        sender.send("well")
        assert receiver.recv(WATCHDOG) == "well"


def test_limits_are_explained(name: str) -> None:
    """Which one, and how to have another."""
    with ends(f"mq://{name}?max_messages=2&max_message_size=100") as (receiver, sender):
        assert receiver.queue.max_messages == 2  # type: ignore[attr-defined]
        sender.send(bytes(84))
        with pytest.raises(
            shmkit.RecordTooLarge, match=r"85 bytes.*for 100 at most.*max_message_size=101.*msgsize_max"
        ):
            sender.send(bytes(85))
        with pytest.raises(TimeoutError):
            sender.send(1, timeout=0.01)
        assert receiver.recv(WATCHDOG) == bytes(84)
    with pytest.raises(ValueError, match=r"fs\.mqueue\.msg_max"):
        channel.listen(f"mq://{name}?max_messages=60000")
    with pytest.raises(ValueError, match="max_messages"):
        channel.listen(f"mq://{name}?max_messages=many")
    with ends(f"sysvmq://{name}?capacity=1000") as (receiver, sender):
        with pytest.raises(shmkit.RecordTooLarge, match=r"1000 bytes.*holds, 1000 B.*kernel\.msgmnb"):
            sender.send(bytes(1000))
        with pytest.raises(shmkit.RecordTooLarge, match=r"kernel\.msgmax is .*`sysctl kernel\.msgmax=100016`"):
            sender.send(bytes(100_000))
        sender.send(bytes(900))
        assert receiver.recv(WATCHDOG) == bytes(900)


@schemes
def test_a_queue_that_no_greeting_fits(scheme: str, name: str) -> None:
    """Somebody else made it: ValueError says what it would have to hold, at either end; it is left alone."""
    options = {"max_message_size": 47} if scheme == "mq" else {"capacity": 47}
    queue = raw(scheme, name, **options)
    for call in (channel.listen, channel.connect):
        with pytest.raises(ValueError, match=rf"{name}'.* at most 47 bytes.* has 48"):
            call(f"{scheme}://{name}")
    queue.unlink()
    queue.close()


@schemes
def test_the_smallest_queue(scheme: str, name: str) -> None:
    """What the ends say to each other fits, and so does a small message."""
    option = "max_message_size" if scheme == "mq" else "capacity"
    with channel.listen(f"{scheme}://{name}?{option}=48") as receiver:
        with channel.connect(f"{scheme}://{name}") as sender:
            with pytest.raises(TimeoutError):
                receiver.recv(0.01)
            sender.send(bytes(32))
            assert receiver.recv(WATCHDOG) == bytes(32)
        with pytest.raises(shmkit.EndOfStream):
            receiver.recv(WATCHDOG)


def test_a_farewell_that_no_longer_fits(name: str) -> None:
    """The queue was made smaller meanwhile: the end closes all the same."""
    with channel.listen(f"sysvmq://{name}") as receiver:
        sender = channel.connect(f"sysvmq://{name}")
        sender.queue.capacity = 10  # type: ignore[attr-defined]
        assert receiver.try_recv() is None
        sender.close()


def test_a_key_is_a_number() -> None:
    """As C programs have it."""
    key = 0x53480000 + os.getpid() % 65536
    with ends(f"sysvmq://{key:#x}") as (receiver, sender):
        assert receiver.queue.key == key  # type: ignore[attr-defined]
        sender.send(1)
        assert receiver.recv(WATCHDOG) == 1


@pytest.mark.parametrize("project", [None, 1, 7, 127])
def test_a_path_is_the_key_that_ftok_gives(project: int | None, tmp_path: Path) -> None:
    """So a C program meets it."""
    path = tmp_path / "a file"
    path.touch()
    key = ctypes.CDLL(None).ftok(os.fsencode(path), project or 1)
    with ends(f"sysvmq://{path}".replace(" ", "%20"), project=project) as (receiver, sender):
        assert receiver.queue.key == key  # type: ignore[attr-defined]
        theirs = mqueue.SysVMessageQueue.attach(key)
        sender.send(1)
        assert receiver.recv(WATCHDOG) == 1
        theirs.close()


def test_a_path_of_no_file(tmp_path: Path, name: str) -> None:
    """SegmentNotFound says so, and a project without a path is ValueError."""
    for call in (channel.listen, channel.connect):
        with pytest.raises(shmkit.SegmentNotFound, match=r"there is no file '.*none'.*ftok"):
            call(f"sysvmq://{tmp_path}/none")
        with pytest.raises(ValueError, match="goes with the path of a file"):
            call(f"sysvmq://{name}?project=1")


@pytest.mark.parametrize("url", ["mq:", "mq://", "sysvmq:", "mq://a/b", "mq://a?priority=1&size=3"])
def test_an_address_that_is_none(url: str) -> None:
    """ValueError says what is wrong with it."""
    for call in (channel.listen, channel.connect):
        with pytest.raises(ValueError, match=r"name|option"):
            call(url)
    with pytest.raises(ValueError, match="does not go"):
        channel.pair("mq:")


@pytest.mark.parametrize("start_method", ["fork", "spawn"], indirect=True)
@schemes
def test_a_sender_is_handed_on(scheme: str, name: str, process: Processes, start_method: Any) -> None:
    """To a child that is given it; both are waited for."""
    with channel.listen(f"{scheme}://{name}") as receiver:
        with channel.connect(f"{scheme}://{name}") as sender:
            child = process(_send_one, sender, context=start_method)
            assert receiver.recv(WATCHDOG) == "from the child"
            sender.send("from the parent", timeout=WATCHDOG)
            child.join(WATCHDOG)
        assert list(receiver) == ["from the parent"]
        with pytest.raises(shmkit.ChannelError, match="one receiver"):
            receiver.__reduce__()


def _send_one(sender: channel.Channel) -> None:
    with sender:
        sender.send("from the child", timeout=WATCHDOG)


@schemes
def test_a_forked_child_leaves_the_queue_alone(scheme: str, name: str, process: Processes) -> None:
    """It closes what it inherited, and the queue is there for the parent."""
    with ends(f"{scheme}://{name}") as (receiver, sender):
        pid = os.fork()
        if not pid:
            receiver.close()
            sender.close()
            os._exit(0)
        wait_until(lambda: os.waitpid(pid, os.WNOHANG) != (0, 0))
        sender.send(1, timeout=WATCHDOG)
        assert receiver.recv(WATCHDOG) == 1


def test_the_ends_are_what_they_are_called(name: str) -> None:
    """Their classes are public, for isinstance."""
    with ends(f"mq://{name}") as (receiver, sender):
        assert isinstance(receiver, channel.QueueReceiver)
        assert isinstance(sender, queues.QueueSender)


WAITING = """
import ctypes, threading
import shmkit
from shmkit.channel import queues
from shmkit.mqueue import posix
from shmkit.files.watching import Hint
from shmkit.mqueue import posix

CLONE_NEWNS, CLONE_NEWIPC, MS_PRIVATE = 0x20000, 0x8000000, 0x44000
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(CLONE_NEWNS | CLONE_NEWIPC) or libc.mount(b"none", b"/", None, MS_PRIVATE, None):
    raise SystemExit("not allowed")
if libc.mount(b"none", folder.encode(), b"mqueue", 0, None):
    raise SystemExit("not allowed")
assert folder in open("/proc/self/mountinfo").read()
assert posix.folder_of_queues()
# Nobody looks on his own account: who is not told waits for ever.
looking = threading.Event()
class Told(Hint):
    _TOLD_MOST = 1e6
    def pause(self, deadline, also=-1):
        assert self.told
        self._pause = max(self._pause, 1e6 if not looking.is_set() else 0)
        looking.set()
        super().pause(deadline, also)
queues.Hint = Told
posix.folder_of_queues = queues.folder_of_queues = lambda: folder
def connect():
    with shmkit.connect("mq://" + name, timeout=watchdog) as sender:
        sender.send("told", watchdog)
thread = threading.Thread(target=connect)
thread.start()
assert looking.wait(watchdog)
with shmkit.listen("mq://" + name) as receiver:
    assert receiver.recv(watchdog) == "told"
    thread.join()
print("told")
"""


def test_who_waits_for_a_queue_is_told_of_it(name: str, tmp_path: Path) -> None:
    """Where queues are seen as files; the test mounts them in a namespace of its own."""
    done = subprocess.run(
        [sys.executable, "-c", f"folder, name, watchdog = {str(tmp_path)!r}, {name!r}, {WATCHDOG}\n{WAITING}"],
        check=False,
        capture_output=True,
        text=True,
        timeout=2 * WATCHDOG,
    )
    if "not allowed" in done.stderr:
        pytest.skip("no namespaces here")
    assert done.stdout == "told\n", done.stderr


def test_where_queues_are_seen_as_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the system's table of mounts says; what is a part of it, or has an odd name, does not count."""
    table = tmp_path / "mountinfo"
    lines = ["22 1 0:5 / /proc rw - proc none rw", "30 1 0:20 /x /part rw - mqueue none rw"]
    lines += ["31 1 0:20 / /odd\\040name rw - mqueue none rw", "32 1 0:20 / /dev/mqueue rw shared:9 - mqueue mq rw"]
    monkeypatch.setattr("builtins.open", lambda *_, **__: io.StringIO(table.read_text()))
    table.write_text("\n".join(lines))
    assert posix.folder_of_queues() == "/dev/mqueue"
    table.write_text("\n".join(lines[:3]))
    assert posix.folder_of_queues() is None
