"""Waiting for an atomic to change: woken, timed out, interrupted, and beside processes that are killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest

import shmkit
from support import Processes, wait_until
from unit import atomic_children as children

WATCHDOG = 60.0
TIMES = 2000


class Element:
    """An element of an AtomicArray, waited for as one atomic."""

    def __init__(self, array: shmkit.AtomicArray, where: int) -> None:
        self.array, self.where = array, where

    def wait(self, value: int, timeout: float | None = None) -> bool:
        return self.array.wait(self.where, value, timeout)

    def change(self) -> None:
        self.array.add(self.where)

    def notify(self, n: int = 1) -> None:
        self.array.notify(self.where, n)

    def notify_all(self) -> None:
        self.array.notify_all(self.where)


def make(what: str) -> tuple[Any, Callable[[], Any]]:
    """Something at 0 that can be waited for, and what makes it 1."""
    if what == "element":
        element = Element(shmkit.AtomicArray(shmkit.zeros(4, "int64")), 2)
        return element, element.change
    word = getattr(shmkit, what)()
    return word, word.test_and_set if what == "AtomicFlag" else word.add


@pytest.fixture(params=["AtomicInt64", "AtomicUInt64", "AtomicFlag", "element"])
def what(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def sleeps(thread: threading.Thread) -> bool:
    """a thread sleeps"""
    stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
    return stat[stat.rindex(")") + 2] == "S"


def start(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


# ── one process ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_differs_is_not_waited_for(what: str) -> None:
    """True at once, whatever the time-out."""
    word, _ = make(what)
    for timeout in (None, 0, -1.0, 0.0, 30):
        assert word.wait(1, timeout) is True


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -1e300, 1e-9, 0.003])
def test_what_does_not_change_times_out(what: str, timeout: float) -> None:
    """False, and not before the time is up; a time-out in the past only looks."""
    word, _ = make(what)
    begun = time.monotonic()
    assert word.wait(0, timeout) is False
    assert time.monotonic() - begun >= timeout


def test_a_timeout_that_is_no_time(what: str) -> None:
    """As with the other primitives: not a number, no number."""
    word, _ = make(what)
    with pytest.raises(ValueError, match="nan"):
        word.wait(0, float("nan"))
    for bad in ("1", [], b""):
        with pytest.raises(TypeError):
            word.wait(0, bad)
    assert word.wait(1, 10**400)


@pytest.mark.parametrize("bad", [0, -1])
def test_fewer_than_one_cannot_be_woken(what: str, bad: int) -> None:
    """ValueError; any larger number may be."""
    word, _ = make(what)
    with pytest.raises(ValueError, match="one or more"):
        word.notify(bad)
    with pytest.raises(TypeError):
        word.notify(1.0)
    word.notify(10**30)


def test_threads_are_woken(what: str) -> None:
    """One by one, or all at once, with nobody else to wake them; the GIL is free while they sleep."""
    for wake in (lambda word: word.notify_all(), lambda word: word.notify(3), lambda word: [word.notify()] * 3):
        word, change = make(what)
        answers: list[bool] = []
        threads = [start(lambda word=word, answers=answers: answers.append(word.wait(0, WATCHDOG))) for _ in range(3)]
        change()
        wake(word)
        for thread in threads:
            thread.join(WATCHDOG)
        assert answers == [True] * 3


def test_who_is_not_notified_sees_the_change_all_the_same(what: str) -> None:
    """When its slice ends: whoever changed it may have been killed before it could notify."""
    word, change = make(what)
    answers: list[bool] = []
    thread = start(lambda: answers.append(word.wait(0)))
    wait_until(lambda: sleeps(thread))
    change()
    thread.join(WATCHDOG)
    assert answers == [True]


def test_a_change_of_the_upper_half_alone_is_seen() -> None:
    """The kernel compares 32 bits, the sleeper 64."""
    for kind in (shmkit.AtomicInt64, shmkit.AtomicUInt64):
        word = kind(7)
        answers: list[bool] = []
        thread = start(lambda word=word, answers=answers: answers.append(word.wait(7)))
        word.add(1 << 40)
        word.notify()
        thread.join(WATCHDOG)
        assert answers == [True]
        assert not word.wait(7 + (1 << 40), 0.002)


def test_a_notification_without_a_change_wakes_nobody_for_good(what: str) -> None:
    """It looks, and sleeps again until its time is up."""
    word, _ = make(what)
    done = threading.Event()
    answers: list[bool] = []

    def wait() -> None:
        answers.append(word.wait(0, 0.05))
        done.set()

    thread = start(wait)
    while not done.is_set():
        word.notify_all()
    thread.join(WATCHDOG)
    assert answers == [False]


def test_closing_ends_a_wait() -> None:
    """Another thread's close: Closed, at the end of the slice."""
    word = shmkit.AtomicInt64()
    errors: list[str] = []

    def wait() -> None:
        try:
            word.wait(0)
        except shmkit.Closed as error:
            errors.append(str(error))

    thread = start(wait)
    word.close()
    thread.join(WATCHDOG)
    assert len(errors) == 1


# ── several processes ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("order", ["relaxed", "seq_cst"])
def test_no_addition_is_lost(start_method: BaseContext, process: Processes, order: str) -> None:
    """Four processes count in the same words: the sum is exact, in the weakest order too."""
    counter, words = shmkit.AtomicInt64(), shmkit.AtomicArray(shmkit.zeros(3, "uint64"))
    workers = [process(children.add_often, counter, words, TIMES, order, context=start_method) for _ in range(4)]
    for worker in workers:
        worker.join(WATCHDOG)
        assert worker.exitcode == 0
    assert counter.load() == 4 * TIMES
    assert sum(words) == 4 * TIMES


def test_no_swap_is_lost(start_method: BaseContext, process: Processes) -> None:
    """Four processes count by compare-and-swap, over the point where the word wraps in a signed one."""
    counter = shmkit.AtomicUInt64(2**63 - TIMES)
    workers = [process(children.swap_often, counter, TIMES, context=start_method) for _ in range(4)]
    for worker in workers:
        worker.join(WATCHDOG)
        assert worker.exitcode == 0
    assert counter.load() == 2**63 + 3 * TIMES


def test_processes_wake_each_other(start_method: BaseContext, process: Processes) -> None:
    """A ball goes to and fro; each side sleeps until it is its turn."""
    ball = shmkit.AtomicInt64()
    worker = process(children.answer, ball, 300, context=start_method)
    for turn in range(300):
        ball.store(2 * turn + 1, "release")
        ball.notify()
        assert ball.wait(2 * turn + 1, WATCHDOG)
    worker.join(WATCHDOG)
    assert (worker.exitcode, ball.load()) == (0, 600)


def test_a_flag_guards(start_method: BaseContext, process: Processes) -> None:
    """Acquire and release on a flag make plain additions to shared memory whole."""
    flag, total = shmkit.AtomicFlag(), shmkit.zeros(1, "int64")
    workers = [process(children.guard, flag, total, 300, context=start_method) for _ in range(4)]
    for worker in workers:
        worker.join(WATCHDOG)
        assert worker.exitcode == 0
    assert total[0] == 1200


def test_a_waiter_that_is_killed_takes_nothing_with_it(process: Processes) -> None:
    """A wake-up that went to the dead is not missed by the living, who look when their slice ends."""
    word, began = shmkit.AtomicInt64(), shmkit.AtomicFlag()
    for _ in range(5):
        began.clear()
        waiter = process(children.wait_for_change, word, began)
        assert began.wait(False, WATCHDOG)
        answers: list[bool] = []
        thread = start(lambda answers=answers: answers.append(word.wait(0, WATCHDOG)))
        waiter.kill()
        word.add()
        word.notify()
        thread.join(WATCHDOG)
        assert answers == [True]
        waiter.join()
        word.store(0)


def test_a_notifier_that_is_killed_leaves_a_whole_word(process: Processes) -> None:
    """Whatever it was doing: the word counts what it did, and who waits goes on."""
    word = shmkit.AtomicInt64()
    for _ in range(5):
        before = word.load()
        notifier = process(children.notify_for_ever, word)
        assert word.wait(before, WATCHDOG)
        notifier.kill()
        notifier.join()
        last = word.load()
        assert last > before
        assert not word.wait(last, 0.002)
        word.add()
        assert word.load() == last + 1


# ── signals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_signal_is_handled_within_a_wait(what: str) -> None:
    """Its handler runs, and the wait goes on; what the handler raises ends it."""
    word, change = make(what)
    seen: list[int] = []

    def handler(number: int, frame: object) -> None:
        seen.append(number)
        if len(seen) == 3:
            raise InterruptedError("enough")

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        ended = threading.Event()

        def send() -> None:
            while not ended.is_set():
                sent = len(seen)
                os.kill(os.getpid(), signal.SIGUSR1)
                wait_until(lambda sent=sent: len(seen) > sent or ended.is_set())
                if len(seen) >= 3:
                    return

        thread = threading.Thread(target=send)
        with pytest.raises(InterruptedError, match="enough"):
            thread.start()
            word.wait(0, WATCHDOG)
        ended.set()
        thread.join(WATCHDOG)
        seen.append(0)
        assert not word.wait(0, 0)
        change()
        assert word.wait(0, 0)
    finally:
        signal.signal(signal.SIGUSR1, before)


STORM = """
import signal, sys, time, shmkit
word = shmkit.AtomicInt64()
seen = []
signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
begun = time.monotonic()
answer = word.wait(0, 0.3)
spent = time.monotonic() - begun
signal.setitimer(signal.ITIMER_REAL, 0)
print(answer, spent >= 0.3, len(seen) > 3)
"""


def test_a_timeout_holds_in_a_storm_of_signals(process: Processes) -> None:
    """Signals neither end a wait nor prolong it without bound."""
    output, _ = process.python(STORM).communicate(timeout=WATCHDOG)
    assert output.split() == ["False", "True", "True"]


INTERRUPT = """
import signal
import shmkit
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it
try:
    print("waiting", flush=True)
    shmkit.AtomicFlag().wait()
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_ends_a_wait(process: Processes) -> None:
    """KeyboardInterrupt out of a wait without a time-out."""
    program = process.python(INTERRUPT)
    assert program.stdout is not None
    assert program.stdout.readline() == "waiting\n"
    program.send_signal(signal.SIGINT)
    output, _ = program.communicate(timeout=WATCHDOG)
    assert output == "interrupted\n"
