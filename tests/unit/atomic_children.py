"""What children do with atomics; importable, so that spawned ones can do it too."""

from __future__ import annotations

from typing import Any

import shmkit

WATCHDOG = 60.0


def add_often(counter: shmkit.AtomicInt64, words: shmkit.AtomicArray, times: int, order: Any) -> None:
    """Counts in both."""
    for number in range(times):
        counter.add(1, order)
        words.add(number % len(words), 1, order)


def swap_often(counter: shmkit.AtomicUInt64, times: int) -> None:
    """Counts by compare-and-swap."""
    for _ in range(times):
        done, seen = False, counter.load("relaxed")
        while not done:
            done, seen = counter.compare_exchange(seen, seen + 1)


def answer(ball: shmkit.AtomicInt64, times: int) -> None:
    """Plays back: waits for odd numbers, and makes them even."""
    for turn in range(times):
        assert ball.wait(2 * turn, WATCHDOG)
        assert ball.load("acquire") == 2 * turn + 1
        ball.store(2 * turn + 2, "release")
        ball.notify()


def guard(flag: shmkit.AtomicFlag, total: Any, times: int) -> None:
    """Adds to what the flag guards, not atomically."""
    for _ in range(times):
        while flag.test_and_set("acquire"):
            flag.wait(True, 1.0)
        total[0] += 1
        flag.clear("release")
        flag.notify()


def wait_for_change(word: Any, began: shmkit.AtomicFlag) -> None:
    """Says that it waits, and waits for ever."""
    began.test_and_set()
    began.notify_all()
    word.wait(0)


def notify_for_ever(word: shmkit.AtomicInt64) -> None:
    """Changes and notifies until it is killed."""
    while True:
        word.add(1)
        word.notify_all()
