"""The kernel's message queues, POSIX and System V, by what they have in common."""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit.mqueue import PosixMessageQueue, SysVMessageQueue, unlink_posix, unlink_sysv
from support import Processes, alive, wait_until
from unit import mqueue_children as children

WATCHDOG = 60.0
KINDS: dict[str, Any] = {"posix": PosixMessageQueue, "sysv": SysVMessageQueue}
UNLINK: dict[str, Callable[..., None]] = {"posix": unlink_posix, "sysv": unlink_sysv}


@pytest.fixture(params=KINDS)
def which(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def kind(which: str) -> Any:
    return KINDS[which]


@pytest.fixture
def make(kind: Any, which: str, make_name: Callable[[], str]) -> Iterator[Callable[..., Any]]:
    """Makes queues that end with the test."""
    made: list[Any] = []

    def create(*args: Any, **options: Any) -> Any:
        made.append(kind.create(make_name(), *args, **options))
        return made[-1]

    yield create
    for queue in made:
        UNLINK[which](queue.name, missing_ok=True)
        queue.close()


def test_a_name_is_created_attached_and_unlinked(kind: Any, name: str) -> None:
    """With the exceptions that a caller would catch anyway."""
    with pytest.raises(FileNotFoundError) as missing:
        kind.attach(name)
    assert type(missing.value) is shmkit.SegmentNotFound
    made = kind.create(name)
    assert (type(made), made.name, len(made), made.closed, made.mode) == (kind, name, 0, False, 0o600)
    assert made.owner == os.geteuid()
    with pytest.raises(FileExistsError) as exists:
        kind.create(name)
    assert type(exists.value) is shmkit.SegmentExists
    found, again, travelled = kind.attach(name), kind.create_or_attach(name), pickle.loads(pickle.dumps(made))
    for number, sender in enumerate((made, found, again, travelled)):
        sender.send(b"%d" % number)
    assert [receiver.recv() for receiver in (travelled, again, found, made)] == [b"0", b"1", b"2", b"3"]
    made.unlink()
    with pytest.raises(shmkit.SegmentNotFound):
        kind.attach(name)
    with pytest.raises(shmkit.SegmentNotFound):
        made.unlink()
    new = kind.create_or_attach(name)
    new.unlink()
    for one in (made, found, again, travelled, new):
        one.close()
        one.close()
        assert one.closed


def test_messages_come_as_they_were_sent(make: Callable[..., Any]) -> None:
    """Whole, one by one, in order; of whatever has bytes."""
    queue = make()
    for message in (b"", b"\0", b"x" * 8192, bytearray(b"abc"), memoryview(b"12345")[1:3], np.arange(3, dtype="<i2")):
        queue.send(message)
        assert len(queue) == 1
        assert queue.recv() == bytes(message)
    for number in range(5):
        assert queue.try_send(b"%d" % number)
    assert bool(queue)
    assert [queue.try_recv() for _ in range(6)] == [b"0", b"1", b"2", b"3", b"4", None]
    assert bool(queue)


def test_a_mode_is_what_was_asked(kind: Any, name: str) -> None:
    """Whatever the umask; and it can be changed."""
    before = os.umask(0o777)
    try:
        for asked in (0o600, 0o642):
            with kind.create(name, mode=asked) as queue:
                assert queue.mode == asked
                queue.mode = 0o620
                assert queue.mode == 0o620
                queue.unlink()
    finally:
        os.umask(before)


def test_what_is_no_message(make: Callable[..., Any]) -> None:
    """TypeError or ValueError, and the queue is empty."""
    queue = make()
    for bad in ("text", None, 5, [b"x"]):
        for send in (queue.send, queue.try_send):
            with pytest.raises(TypeError, match="bytes-like"):
                send(bad)
    with pytest.raises(ValueError, match="ascontiguousarray"):
        queue.send(np.zeros(8)[::2])
    for send in (queue.send, queue.try_send):
        with pytest.raises(shmkit.RecordTooLarge, match=r"8193.*8192.*sysctl"):
            send(b"x" * 8193)
    for bad in ("1", [], b"1", True):
        with pytest.raises(TypeError, match="timeout"):
            queue.recv(bad)
    with pytest.raises(ValueError, match="nan"):
        queue.recv(math.nan)
    assert len(queue) == 0


@pytest.mark.parametrize("bad", ["", "a/b", "a\0b", "x" * 300, "/", ".", "..", None, 1.5, b"x", True])
def test_names_that_cannot_be(kind: Any, which: str, bad: Any) -> None:
    """ValueError or TypeError from whatever takes a name."""
    if which == "sysv" and bad in ("a/b", "/", ".", ".."):
        return  # text that is hashed may be any
    for call in (kind.create, kind.attach, kind.create_or_attach, UNLINK[which]):
        with pytest.raises((ValueError, TypeError)):
            call(bad)


def test_there_is_no_constructor(kind: Any) -> None:
    """TypeError that says what to call."""
    with pytest.raises(TypeError, match="create"):
        kind()


def test_a_closed_handle(make: Callable[..., Any], which: str) -> None:
    """Closed from everything, and it says so; the queue stays."""
    queue = make()
    queue.send(b"stays")
    assert queue.name in repr(queue)
    other = KINDS[which].attach(queue.name)
    queue.close()
    assert repr(queue).endswith(": closed>")
    calls: list[Callable[[], Any]] = [
        *(queue.recv, queue.try_recv, queue.statistics, lambda: queue.send(b""), lambda: queue.try_send(b"")),
        *(lambda: queue.recv(1.0), lambda: len(queue), lambda: queue.mode, lambda: queue.owner),
        lambda: pickle.dumps(queue),
    ]
    for call in calls:
        with pytest.raises(shmkit.Closed):
            call()
    assert other.recv() == b"stays"
    other.close()


def test_time_outs(make: Callable[..., Any]) -> None:
    """TimeoutError, not before its time, from an empty queue and from a full one; nothing is lost or sent."""
    queue = make()
    for timeout in (0, 0.0, -1, -math.inf, 1e-9, 1e-6, 0.003, 0.2):
        begun = time.monotonic()
        with pytest.raises(TimeoutError, match="nothing came"):
            queue.recv(timeout)
        assert time.monotonic() - begun >= timeout
    count = 0
    while queue.try_send(b"x" * 4096):
        count += 1
    for timeout in (0, -1, 0.003, 0.2):
        begun = time.monotonic()
        with pytest.raises(TimeoutError, match="full"):
            queue.send(b"x" * 4096, timeout)
        assert time.monotonic() - begun >= timeout
    assert len(queue) == count
    assert queue.recv(10**400) == b"x" * 4096


@pytest.mark.parametrize("timeout", [None, WATCHDOG])
def test_a_wait_ends_when_there_is_something(make: Callable[..., Any], timeout: float | None) -> None:
    """A message, for who receives; room, for who sends."""
    queue = make()
    came: list[bytes] = []
    receiver = threading.Thread(target=lambda: came.append(queue.recv(timeout)))
    receiver.start()
    queue.send(b"here")
    receiver.join(WATCHDOG)
    assert came == [b"here"]
    while queue.try_send(b"x" * 8000):
        pass
    count = len(queue)
    sender = threading.Thread(target=lambda: queue.send(b"last", timeout) or queue.send(b"x" * 8000, timeout))
    sender.start()
    for _ in range(count):
        assert queue.recv(WATCHDOG) == b"x" * 8000
    assert queue.recv(WATCHDOG) in (b"last", b"x" * 8000)
    assert queue.recv(WATCHDOG) in (b"last", b"x" * 8000)
    sender.join(WATCHDOG)
    assert len(queue) == 0


def test_processes_talk(make: Callable[..., Any], start_method: BaseContext, process: Processes) -> None:
    """To and fro, under every start method."""
    there, back = make(), make()
    child = process(children.echo, there, back, 50, context=start_method)
    for number in range(50):
        there.send(b"%d" % number)
        assert back.recv(WATCHDOG) == b"%d" % number
    child.join(WATCHDOG)
    assert child.exitcode == 0


def test_many_to_many(make: Callable[..., Any], process: Processes) -> None:
    """Each message is received once; those of one sender come to each receiver in order."""
    queue, results = make(), shmkit.Queue()
    senders = [process(children.send_numbers, queue, who, 300) for who in range(3)]
    receivers = [process(children.count_until_end, queue, results) for _ in range(2)]
    for sender in senders:
        sender.join(WATCHDOG)
    for _ in receivers:
        queue.send(b"", WATCHDOG)
    came = [results.get(timeout=WATCHDOG) for _ in receivers]
    assert sorted(came[0] + came[1]) == sorted(b"%d %d" % (who, number) for who in range(3) for number in range(300))
    for messages in came:
        for who in range(3):
            numbers = [int(message.split()[1]) for message in messages if int(message.split()[0]) == who]
            assert numbers == sorted(numbers)
    for receiver in receivers:
        receiver.join(WATCHDOG)


def test_a_forked_child_uses_the_same_queue(make: Callable[..., Any], process: Processes) -> None:
    """What it has inherited is a handle of its own: closing it closes nothing here."""
    queue = make()

    def child() -> None:
        queue.send(b"from the child", WATCHDOG)
        queue.close()

    forked = process(child)
    assert queue.recv(WATCHDOG) == b"from the child"
    forked.join(WATCHDOG)
    queue.send(b"again")
    assert queue.recv() == b"again"


def test_a_killed_receiver_takes_no_message(make: Callable[..., Any], process: Processes) -> None:
    """It was waiting when it died: whoever comes next gets it."""
    queue = make()
    for _ in range(3):
        ready = shmkit.Event()
        waiter = process(children.wait_for_message, queue, ready)
        assert ready.wait(WATCHDOG)
        waiter.kill()
        waiter.join()
        queue.send(b"for somebody")
        assert queue.recv(WATCHDOG) == b"for somebody"


def test_unlink_while_in_use(make: Callable[..., Any], which: str) -> None:
    """POSIX: whoever is attached goes on.  System V: it is gone at once, and waits end."""
    queue = make()
    other = KINDS[which].attach(queue.name)
    queue.send(b"before")
    ends: list[Any] = []

    def wait() -> None:
        try:
            ends.append(other.recv(WATCHDOG))
            ends.append(other.recv(WATCHDOG))
        except Exception as error:
            ends.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    wait_until(lambda: ends)
    queue.unlink()
    if which == "posix":
        queue.send(b"after")
        waiter.join(WATCHDOG)
        assert ends == [b"before", b"after"]
    else:
        waiter.join(WATCHDOG)
        assert ends[0] == b"before"
        assert type(ends[1]) is shmkit.SegmentNotFound
        for call in (queue.recv, queue.try_recv, lambda: queue.recv(1.0), lambda: queue.send(b""), queue.statistics):
            with pytest.raises(shmkit.SegmentNotFound, match="removed"):
                call()
        assert repr(queue).endswith(": removed>")
    other.close()


def test_a_pickle_is_of_one_queue(kind: Any, name: str) -> None:
    """Not of the next one that has its name."""
    made = kind.create(name)
    text = pickle.dumps(made)
    made.unlink()
    with pytest.raises(shmkit.SegmentNotFound):
        pickle.loads(text)
    following = kind.create(name)
    with pytest.raises(shmkit.SegmentNotFound, match="another one"):
        pickle.loads(text)
    following.unlink()
    made.close()
    following.close()


# ── signals ─────────────────────────────────────────────────────────────────────────────────────────────────────────

STORM = """
import signal, sys, time
from shmkit import mqueue
kind, name, how = sys.argv[1:]
queue = getattr(mqueue, kind).attach(name)
seen = []
signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
if how == "send":
    while queue.try_send(b"x" * 4096):
        pass
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
begun = time.monotonic()
try:
    answer = queue.send(b"x" * 4096, 0.3) if how == "send" else queue.recv(0.3)
except TimeoutError:
    answer = "late"
spent = time.monotonic() - begun
signal.setitimer(signal.ITIMER_REAL, 0)
print(answer, spent >= 0.3, len(seen) > 3)
"""


@pytest.mark.parametrize("how", ["send", "recv"])
def test_a_timeout_holds_in_a_storm_of_signals(make: Callable[..., Any], how: str, process: Processes) -> None:
    """Signals neither end a wait nor prolong it without bound."""
    queue = make()
    output, _ = process.python(STORM, type(queue).__name__, queue.name, how).communicate(timeout=WATCHDOG)
    assert output.split() == ["late", "True", "True"]


RAISING = """
import signal, sys
from shmkit import mqueue
kind, name, timeout = sys.argv[1:]
queue = getattr(mqueue, kind).attach(name)
class Mine(Exception): pass
def handler(*_): raise Mine
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it
signal.signal(signal.SIGUSR1, handler)
try:
    print("waiting", flush=True)
    queue.recv(None if timeout == "None" else float(timeout))
except (KeyboardInterrupt, Mine) as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize("timeout", ["None", "60"])
def test_what_a_handler_raises_ends_a_wait(make: Callable[..., Any], timeout: str, process: Processes) -> None:
    """Ctrl-C, and whatever else a handler raises; no message is taken."""
    queue = make()
    for signum, name in ((signal.SIGINT, "KeyboardInterrupt"), (signal.SIGUSR1, "Mine")) * 2:
        program = process.python(RAISING, type(queue).__name__, queue.name, timeout)
        assert program.stdout is not None
        assert program.stdout.readline() == "waiting\n"
        # One that comes just before the system call would wait for it: it is sent until it is seen.
        while alive(program.pid):
            with contextlib.suppress(ProcessLookupError):
                program.send_signal(signum)
            with contextlib.suppress(AssertionError):
                wait_until(lambda pid=program.pid: not alive(pid), 1.0)
        assert program.communicate(timeout=WATCHDOG)[0] == f"{name}\n"
    queue.send(b"still here")
    assert queue.recv() == b"still here"


# ── other users ─────────────────────────────────────────────────────────────────────────────────────────────────────

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")

STRANGER = """
import os, sys, shmkit
from shmkit import mqueue
kind, name = sys.argv[1:]
kind = getattr(mqueue, kind)
kind.attach  # imported before the rights to read are gone
os.setuid(65534)
for call in (lambda: kind.attach(name), lambda: kind.attach(name, owner=0), lambda: kind.create_or_attach(name),
             lambda: getattr(mqueue, "unlink_posix" if "Posix" in kind.__name__ else "unlink_sysv")(name)):
    try:
        print(call())
    except shmkit.SegmentPermission as error:
        print(error.errno, "user" in str(error))
"""


@root
def test_another_user_may_not(make: Callable[..., Any], process: Processes) -> None:
    """Neither receive, send nor unlink what has mode 0600."""
    queue = make()
    output, _ = process.python(STRANGER, type(queue).__name__, queue.name).communicate(timeout=WATCHDOG)
    assert output.splitlines() == ["13 True"] * 4
    queue.send(b"x")
    assert queue.recv() == b"x"


THEIRS = """
import os, sys
from shmkit import mqueue
kind, name = sys.argv[1:]
kind = getattr(mqueue, kind)
os.setuid(65534)
queue = kind.create(name, mode=0o666)
print("made", flush=True)
sys.stdin.read()
queue.unlink()
"""


@root
def test_what_another_user_made_is_refused(kind: Any, name: str, process: Processes) -> None:
    """Unless it is said whose it may be: messages could be anything."""
    program = process.python(THEIRS, kind.__name__, name, stdin=-1)
    assert program.stdout is not None
    assert program.stdout.readline() == "made\n"
    for call in (kind.attach, kind.create_or_attach):
        with pytest.raises(shmkit.SegmentPermission, match="owner=65534"):
            call(name)
    with kind.attach(name, owner=65534) as queue:
        queue.send(b"x")
        assert queue.owner == 65534
        with pickle.loads(pickle.dumps(queue)) as same:
            assert same.recv() == b"x"
    program.communicate("", timeout=WATCHDOG)


@root
def test_limits_of_names_and_modes_hold_for_children(make: Callable[..., Any], process: Processes) -> None:
    """A queue for a group and others is open to them, if it is said."""
    queue = make(mode=0o666)
    code = STRANGER.replace("lambda: kind.attach(name, owner=0)", "lambda: kind.attach(name, owner=0).recv()")
    queue.send(b"public")
    output, _ = process.python(code, type(queue).__name__, queue.name).communicate(timeout=WATCHDOG)
    assert output.splitlines() == ["13 True", "b'public'", "13 True", "13 True"]
