"""Signals that are collected, queued with values, and sent to the process that was meant."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

import pytest

import shmkit
from shmkit.signals import ProcessHandle, Signal, collecting, queue
from support import Processes, wait_until

WATCHDOG = 30.0


def other_threads() -> bool:
    """Whether threads of libraries may take signals away from this one."""
    return len(os.listdir("/proc/self/task")) > 1


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
    for wrong in (0, 65, -1, True):
        for call in (lambda n: queue(os.getpid(), n), collecting):
            with pytest.raises(ValueError, match="signal is a number"):
                call(wrong)  # type: ignore[no-untyped-call]
    for value in (2**31, -(2**31) - 1):
        with pytest.raises(ValueError, match="32 bits"):
            queue(os.getpid(), signal.SIGUSR1, value)
    with pytest.raises(ValueError, match="pid"):
        queue(0, signal.SIGUSR1)
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


def test_another_thread_may_get_it() -> None:
    """It is collected all the same, only who sent it is not known."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with collecting(signal.SIGUSR2) as signals:
            signal.pthread_kill(thread.ident or 0, signal.SIGUSR2)
            assert signals.wait(WATCHDOG) == Signal(signal.SIGUSR2, 0, 0, 0)
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)
            assert signals.wait(WATCHDOG).pid == os.getpid()
    finally:
        stop.set()
        thread.join()


def test_other_threads_than_the_main_one_are_told() -> None:
    """RuntimeError, as the main thread would get the signals; where it blocks them, all is well."""
    result: list[Any] = []

    def collect() -> None:
        try:
            with collecting(signal.SIGUSR2) as signals:
                os.kill(os.getpid(), signal.SIGUSR2)
                result.append(signals.wait(WATCHDOG).number)
        except RuntimeError as error:
            result.append(error)

    def run() -> Any:
        thread = threading.Thread(target=collect)
        thread.start()
        thread.join(WATCHDOG)
        return result.pop()

    assert isinstance(run(), RuntimeError)
    if not other_threads():
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        try:
            assert run() == signal.SIGUSR2
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


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
