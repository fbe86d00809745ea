"""Signals that are collected, queued with values, and sent to the process that was meant."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import resource
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import shmkit
from shmkit.signals import ProcessHandle, Signal, collecting, queue
from support import Processes, wait_until

WATCHDOG = 30.0


def test_signals_wait_until_they_are_asked_for() -> None:
    """No handler runs, and nothing ends; afterwards all is as before."""
    came = []
    previous = signal.signal(signal.SIGUSR1, lambda *_: came.append(1))
    try:
        with collecting(signal.SIGUSR1, signal.SIGTERM) as signals:
            assert signals.try_wait() is None
            with pytest.raises(TimeoutError):
                signals.wait(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.wait(WATCHDOG).number == signal.SIGTERM
            os.kill(os.getpid(), signal.SIGUSR1)
            assert next(signals).number == signal.SIGUSR1
            assert "SIGTERM" in repr(signals)
        assert not came
        os.kill(os.getpid(), signal.SIGUSR1)
        wait_until(lambda: came == [1])
        with pytest.raises(shmkit.Closed):
            signals.wait(0)
        assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_what_was_not_asked_for_is_treated_as_ever() -> None:
    """The handler runs when the block is left."""
    came = []
    previous = signal.signal(signal.SIGUSR1, lambda *_: came.append(1))
    try:
        with collecting(signal.SIGUSR1):
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
            assert not came
        assert came == [1]
    finally:
        signal.signal(signal.SIGUSR1, previous)


PROGRAM = """
import signal, sys
from shmkit.signals import collecting
with collecting(signal.SIGTERM, signal.SIGRTMIN, signal.SIGRTMIN + 1) as signals:
    print("ready", flush=True)
    for came in signals:
        print(came.number - signal.SIGRTMIN, came.value, came.pid, came.uid, flush=True)
        if came.number == signal.SIGTERM:
            break
"""


def _receive_several() -> None:
    here = os.getpid()
    with collecting(signal.SIGUSR1, signal.SIGRTMIN) as signals:
        for value in (1, 2, 3):
            queue(here, signal.SIGUSR1, value)
            queue(here, signal.SIGRTMIN, value)
        came = [signals.wait(WATCHDOG) for _ in range(4)]
        assert [one.number for one in came] == [signal.SIGUSR1, *[signal.SIGRTMIN] * 3]
        assert [one.value for one in came] == [1, 1, 2, 3]
        assert signals.try_wait() is None
        queue(here, signal.SIGUSR1, 4)
        assert signals.wait(WATCHDOG) == Signal(signal.SIGUSR1, 4, here, os.getuid())


def test_a_standard_signal_waits_once(process: Processes) -> None:
    """However often it was sent, and with whatever values; from SIGRTMIN on every one is kept."""
    # A child has one thread: another could take a signal while the first waits.
    child = process(_receive_several)
    child.join(WATCHDOG)
    assert child.exitcode == 0


def test_values_are_queued_in_order(process: Processes) -> None:
    """None is lost or merged, and each says who sent it."""
    program = process.python(PROGRAM, text=True)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    values = [0, 1, -1, 2**31 - 1, -(2**31), *range(50)]
    for value in values:
        queue(program.pid, signal.SIGRTMIN, value)
    for value in values:
        assert program.stdout.readline() == f"0 {value} {os.getpid()} {os.getuid()}\n"
    with ProcessHandle(program.pid) as handle:
        assert handle.alive
        handle.send(signal.SIGTERM)
        assert program.stdout.readline().split()[2] == str(os.getpid())
        handle.wait(WATCHDOG)
        assert not handle.alive
        program.wait(WATCHDOG)
        with pytest.raises(ProcessLookupError, match="has ended"):
            handle.send(signal.SIGTERM)


def test_bad_arguments() -> None:
    """Each is named."""
    ours = ProcessHandle(os.getpid())
    for wrong in (0, 65, -1, True, 2**40, 1.5, None, "", "15", "HUNGUP", "SIGHUNGUP", "sigterm", "SIG_DFL", "_DFL"):
        for call in (lambda n: queue(os.getpid(), n), collecting, ours.send):
            with pytest.raises(ValueError, match=re.escape(f"'SIGTERM' or 'TERM': got {wrong!r}")):
                call(wrong)  # type: ignore[no-untyped-call]
    ours.close()
    for text in ("1", 1.5, None, True):
        with pytest.raises(TypeError, match="a signal's value is a whole number: got "):
            queue(os.getpid(), signal.SIGUSR1, text)  # type: ignore[arg-type]
        for take in (ProcessHandle, lambda pid: queue(pid, signal.SIGUSR1)):
            with pytest.raises(TypeError, match="a pid is a whole number: got "):
                take(text)
    for pid in (-1, 0, 2**31, 2**40, 2**70):
        for take in (ProcessHandle, lambda pid: queue(pid, signal.SIGUSR1)):
            with pytest.raises(ValueError, match=rf"a pid is a number from 1 to 2\*\*31 - 1: got {pid}"):
                take(pid)
    for value in (2**31, -(2**31) - 1):
        with pytest.raises(ValueError, match="32 bits"):
            queue(os.getpid(), signal.SIGUSR1, value)
    with pytest.raises(ValueError, match="which"):
        collecting()
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV):
        with pytest.raises(ValueError, match="cannot be collected"):
            collecting(number)
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    for call in (ProcessHandle, lambda pid: queue(pid, signal.SIGUSR1)):
        with pytest.raises(ProcessLookupError, match=str(child)):
            call(child)
    with ProcessHandle(os.getpid()) as handle, pytest.raises(TimeoutError):
        handle.wait(0.01)
    with pytest.raises(shmkit.Closed):
        handle.send(signal.SIGUSR1)


def test_signals_have_names() -> None:
    """As signal.Signals has them, with SIG or without."""
    with collecting("USR1", "SIGUSR2", "RTMIN") as signals, ProcessHandle(os.getpid()) as handle:
        handle.send("SIGUSR1")
        assert signals.wait(WATCHDOG).number == signal.SIGUSR1
        queue(os.getpid(), "USR2", 5)
        came = signals.wait(WATCHDOG)
        assert (came.number, came.value) == (signal.SIGUSR2, 5)
        queue(os.getpid(), "SIGRTMIN", 6)
        assert signals.wait(WATCHDOG).value == 6


@contextmanager
def idle_threads(count: int) -> Iterator[list[threading.Thread]]:
    """Threads that block no signal, as those of numerical libraries are: started before anybody asked for signals."""
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_another_thread_may_get_it() -> None:
    """It is collected all the same, with its value and who sent it."""
    with idle_threads(1) as (thread,), collecting(signal.SIGUSR2, signal.SIGRTMIN) as signals:
        signal.pthread_kill(thread.ident or 0, signal.SIGUSR2)
        assert signals.wait(WATCHDOG) == Signal(signal.SIGUSR2, 0, os.getpid(), os.getuid())
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)
        assert signals.wait(WATCHDOG).pid == os.getpid()
        for value in (7, -1, 2**31 - 1, -(2**31), 0):
            queue(os.getpid(), signal.SIGRTMIN, value)
            assert signals.wait(WATCHDOG) == Signal(signal.SIGRTMIN, value, os.getpid(), os.getuid())
        assert signals.lost == 0


FLOOD = """
import os, sys
from shmkit.signals import queue
pid, number, first, count = map(int, sys.argv[1:])
for value in range(first, first + count):
    while True:
        try:
            queue(pid, number, value)
            break
        except BlockingIOError:
            os.sched_yield()
"""


def test_no_value_is_lost_whichever_thread_takes_it(process: Processes) -> None:
    """Three processes queue thousands, to one with five threads that take them: each comes once, from its sender."""
    each = 2000
    number = int(signal.SIGRTMIN) + 1
    with idle_threads(5), collecting(number) as signals:
        senders = [
            process.python(FLOOD, str(os.getpid()), str(number), str(one * each), str(each), text=True)
            for one in range(3)
        ]
        came = [signals.wait(WATCHDOG) for _ in range(3 * each)]
        assert sorted(one.value for one in came) == list(range(3 * each))
        assert all(one.pid == senders[one.value // each].pid for one in came)
        assert signals.lost == 0
        with pytest.raises(TimeoutError):
            signals.wait(0.01)


def test_what_there_is_no_room_for_is_counted() -> None:
    """70,000 signals to a thread that takes them while nobody reads: those that are missing are `lost`."""
    sent, came = 70_000, 0
    with idle_threads(1) as (thread,), collecting(signal.SIGRTMIN) as signals:
        for _ in range(sent):
            while True:
                try:
                    signal.pthread_kill(thread.ident or 0, signal.SIGRTMIN)
                    break
                except BlockingIOError:  # so many wait for the thread
                    time.sleep(0)
        wait_until(lambda: signals.lost > 0)
        deadline = time.monotonic() + WATCHDOG
        while came + signals.lost < sent and time.monotonic() < deadline:
            came += signals.try_wait() is not None
        assert came + signals.lost == sent
        assert came >= 4096


def test_any_thread_may_collect() -> None:
    """The main thread, which does not block them, takes them; they come to who asked."""
    result: list[Any] = []

    def collect() -> None:
        with collecting(signal.SIGUSR2, signal.SIGRTMIN) as signals:
            os.kill(os.getpid(), signal.SIGUSR2)
            result.append(signals.wait(WATCHDOG).number)
            queue(os.getpid(), signal.SIGRTMIN, 5)
            result.append(signals.wait(WATCHDOG).value)

    thread = threading.Thread(target=collect)
    thread.start()
    thread.join(WATCHDOG)
    assert result == [signal.SIGUSR2, 5]


def test_collectors_may_be_within_each_other() -> None:
    """The newest has a signal; what it has not read goes to the next, with its value; at the end all is as before."""
    number = signal.SIGRTMIN
    before = signal.getsignal(signal.SIGUSR1)
    with idle_threads(2), collecting(number, signal.SIGUSR1) as outer:
        with collecting(number) as inner:
            for value in range(10):
                queue(os.getpid(), number, value)
            values = [inner.wait(WATCHDOG).value for _ in range(4)]
            os.kill(os.getpid(), signal.SIGUSR1)
            assert outer.wait(WATCHDOG).number == signal.SIGUSR1
        values += [outer.wait(WATCHDOG).value for _ in range(6)]
        assert sorted(values) == list(range(10))
        assert outer.try_wait() is None
    assert signal.getsignal(signal.SIGUSR1) == before
    assert action_of(number) == 0


def test_the_newest_has_what_waits_for_its_own_thread() -> None:
    """Where all threads block it, and whichever asks first."""
    with collecting(signal.SIGUSR1, signal.SIGUSR2) as outer:
        with collecting(signal.SIGUSR1) as inner:
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
            assert outer.try_wait() is None
            assert not select.select([outer], [], [], 0)[0]
            assert inner.wait(WATCHDOG).number == signal.SIGUSR1
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)
            assert inner.try_wait() is None
            assert outer.wait(WATCHDOG).number == signal.SIGUSR2
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        assert outer.wait(WATCHDOG).number == signal.SIGUSR1


def action_of(number: int) -> int:
    """The address of what handles it; 0: SIG_DFL."""
    found = (ctypes.c_ulong * 32)()
    assert ctypes.CDLL(None).sigaction(number, None, found) == 0
    return found[0]


def test_it_may_be_left_in_any_order() -> None:
    """Two that overlap: each leaves when it will."""
    one, other = collecting(signal.SIGRTMIN), collecting(signal.SIGRTMIN)
    with idle_threads(1) as (thread,):
        one.__enter__()
        other.__enter__()
        one.__exit__(None, None, None)
        signal.pthread_kill(thread.ident or 0, signal.SIGRTMIN)
        assert other.wait(WATCHDOG).number == signal.SIGRTMIN
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
        other.__exit__(None, None, None)
    assert action_of(signal.SIGRTMIN) == 0
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGRTMIN])


def test_other_handlers_are_left_alone() -> None:
    """One of another signal runs within the block; one that was there before runs after it, for what was not read."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    try:
        with idle_threads(1) as (thread,):
            with collecting(signal.SIGUSR2):
                signal.pthread_kill(thread.ident or 0, signal.SIGUSR2)
                os.kill(os.getpid(), signal.SIGUSR1)
                wait_until(lambda: came == [signal.SIGUSR1])
            wait_until(lambda: came == [signal.SIGUSR1, signal.SIGUSR2])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_handler_that_was_installed_meanwhile_stays() -> None:
    """It is its owner's."""
    came: list[int] = []
    before = signal.getsignal(signal.SIGUSR2)
    try:
        with collecting(signal.SIGUSR2):
            signal.signal(signal.SIGUSR2, lambda n, _: came.append(n))
        os.kill(os.getpid(), signal.SIGUSR2)
        wait_until(lambda: came == [signal.SIGUSR2])
    finally:
        signal.signal(signal.SIGUSR2, before)


PUT_BACK = """
import faulthandler, os, signal, sys
from shmkit.signals import collecting
came, before, how = [], sys.argv[1], sys.argv[2]
if before == "handled":
    signal.signal(signal.SIGUSR2, lambda *_: came.append(1))
elif before == "ignored":
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
with collecting(signal.SIGUSR2), open(os.devnull, "w") as nowhere:
    # This one takes what a collector has installed for what was there before it.
    faulthandler.register(signal.SIGUSR2, file=nowhere.fileno(), chain=how == "chained")
if how == "unregistered":
    faulthandler.unregister(signal.SIGUSR2)
for _ in range(3):
    os.kill(os.getpid(), signal.SIGUSR2)
with collecting(signal.SIGUSR2) as signals:
    os.kill(os.getpid(), signal.SIGUSR2)
    assert signals.wait(20).number == signal.SIGUSR2
print(len(came))
"""


@pytest.mark.parametrize("how", ["unregistered", "chained"])
@pytest.mark.parametrize(
    ("before", "code", "said"), [("handled", 0, "3"), ("ignored", 0, "0"), ("default", -signal.SIGUSR2, "")]
)
def test_a_handler_that_is_put_back_too_late_does_as_before(
    process: Processes, how: str, before: str, code: int, said: str
) -> None:
    """It would send the signal to itself for ever, which no other signal ends."""
    program = process.python(PUT_BACK, before, how, text=True)
    out, _ = program.communicate(timeout=WATCHDOG)
    assert (program.returncode, out.strip()) == (code, said)


def test_a_forked_child_collects_its_own() -> None:
    """Not the parent's, nor the parent the child's, whichever of its threads takes them."""
    number = signal.SIGRTMIN
    with idle_threads(2), collecting(number) as signals:
        for value in range(20):
            queue(os.getpid(), number, value)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                assert signals.try_wait() is None
                with idle_threads(1):
                    queue(os.getpid(), number, 99)
                    assert signals.wait(WATCHDOG) == Signal(number, 99, os.getpid(), os.getuid())
                    assert select.select([signals], [], [], 0)[0] == []
                code = 0
            finally:
                os._exit(code)
        assert sorted(signals.wait(WATCHDOG).value for _ in range(20)) == list(range(20))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert signals.try_wait() is None


def test_a_child_needs_no_other_descriptors() -> None:
    """Where it may have no more, its pipe takes the place of the parent's."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with idle_threads(1), collecting(signal.SIGRTMIN) as signals:
                most = max(map(int, os.listdir("/proc/self/fd"))) + 1
                for fd in set(range(most)) - set(map(int, os.listdir("/proc/self/fd"))):
                    os.dup2(0, fd)
                resource.setrlimit(resource.RLIMIT_NOFILE, (most + 2, most + 2))
                grandchild = os.fork()
                queue(os.getpid(), signal.SIGRTMIN, 3)
                assert signals.wait(WATCHDOG).pid == os.getpid()
                code = 0
                if grandchild:
                    code = os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_blocks_come_and_go_under_a_flood(process: Processes) -> None:
    """Between them the outer block has the signals: none is lost on the way, at whichever instant a block is left."""
    count = 3000
    number = int(signal.SIGRTMIN) + 2
    values: list[int] = []
    with idle_threads(3), collecting(number) as outer:
        process.python(FLOOD, str(os.getpid()), str(number), "0", str(count), text=True)
        deadline = time.monotonic() + WATCHDOG
        while len(values) < count and time.monotonic() < deadline:
            with collecting(number) as inner:
                came = inner.try_wait()
                if came is not None:
                    values.append(came.value)
            came = outer.try_wait()
            if came is not None:
                values.append(came.value)
        assert outer.lost == 0
    assert sorted(values) == list(range(count))


def test_coroutines_wait_for_signals() -> None:
    """While the loop goes on."""

    async def talk() -> list[int]:
        came = []
        with collecting(signal.SIGUSR1) as signals:
            with pytest.raises(TimeoutError):
                await signals.wait_async(0.01)
            asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGUSR1)
            async for one in signals:
                came.append(one.number)
                if len(came) == 3:
                    break
                os.kill(os.getpid(), signal.SIGUSR1)
        return came

    assert asyncio.run(talk()) == [signal.SIGUSR1] * 3


def test_it_is_entered_once() -> None:
    """RuntimeError the second time, and again usable afterwards."""
    signals = collecting(signal.SIGUSR1)
    for _ in range(2):
        with signals:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert signals.wait(WATCHDOG).number == signal.SIGUSR1
            with pytest.raises(RuntimeError, match="already"):
                signals.__enter__()
