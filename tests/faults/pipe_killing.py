"""A program that kills one end of a pipe, again and again, and sees what the other finds, and that no memory is left.

    pipe_killing.py failpoints CASE NAME…        the victim dies by SIGKILL where it passes NAME (debug build)
    pipe_killing.py instants CASE TRIALS SEED    the parent kills the victim after a random time

CASE says who is killed: the `sender`; the `receiver`; a `sharer`, one of two receivers of the same end, who take turns
with a lock.  Messages carry their number, and all of their bytes follow from it.  Prints a line of JSON per trial.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import traceback
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

import shmkit
from shmkit import multiprocessing as mp
from shmkit._heap import process_heap
from support.log import Log
from support.processes import die_with_parent
from support.waiting import wait_until

WATCHDOG = 30.0
SKIPS = (0, 1, 5)
MESSAGES = 60
RETURNED, TAKEN, STARTED = range(3)


def made(number: int, large: bool) -> Any:
    """The message of that number: of each form that there is, in turn."""
    data = np.random.default_rng(number).integers(0, 256, 20_000 + number * 977 % 60_000, "u1")
    form = number % 4 if large or number % 3 else 4
    if form == 0:
        return number, data.tobytes()
    if form == 1:
        return {"number": number, "data": [data, data[::2].copy()]}
    if form == 2:
        return np.concatenate([np.array([number], "i8").view("u1"), data])
    return number, "small" if form == 4 else data.tobytes().decode("latin-1")


def check(got: Any, number: int, large: bool) -> None:
    expected = made(number, large)
    if isinstance(expected, np.ndarray):
        assert isinstance(got, np.ndarray)
        assert np.array_equal(got, expected), f"torn: {number}"
        got[:] = 0  # it is the receiver's own
    elif isinstance(expected, dict):
        assert got["number"] == number, f"{got['number']} instead of {number}"
        assert all(map(np.array_equal, got["data"], expected["data"])), f"torn: {number}"
    else:
        assert got == expected, f"{got[0]} instead of {number}"


def number_of(got: Any) -> int:
    if isinstance(got, np.ndarray):
        return int(got[:8].view("i8")[0])
    return int(got["number"] if isinstance(got, dict) else got[0])


def fork(run: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            die_with_parent()
            run()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return pid


def reap(pid: int, what: str) -> int:
    """The signal that it died of, or 0."""
    ended: list[int] = []

    def has_ended() -> bool:
        pid_now, status = os.waitpid(pid, os.WNOHANG)
        ended.append(status)
        return pid_now != 0

    wait_until(has_ended, WATCHDOG, f"the end of {what}")
    status = ended[-1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"{what} failed"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def send_all(end: Any, log: Log, large: bool, most: int) -> None:
    for number in range(most):
        try:
            end.send(made(number, large))
        except (BrokenPipeError, ConnectionResetError):
            return
        log[RETURNED] = number + 1


def receive_some(end: Any, lock: Any, log: Log, large: bool, most: int) -> None:
    for _ in range(most):
        with lock:
            try:
                got = end.recv()
            except (EOFError, ConnectionResetError):
                return
            check(got, number_of(got), large)
            log[TAKEN] += 1


def trial(case: str, seed: int, failpoint: str = "", after: float = 0.0) -> dict[str, int]:
    chance = random.Random(seed)
    receiver, sender = mp.Pipe(chance.random() < 0.5)
    log, lock = Log(), mp.Lock()
    large = case == "sharer"
    most = MESSAGES if failpoint else 10_000
    what = f"{case}, {failpoint or after}, seed {seed}"

    def victim() -> None:
        if failpoint:
            os.environ["SHMKIT_FAILPOINT"] = failpoint
        log[STARTED] = 1
        if case == "sender":
            receiver.close()
            send_all(sender, log, large, most)
        else:
            sender.close()
            receive_some(receiver, lock, log, large, most)

    pid = fork(victim)
    other = fork(lambda: (receiver.close(), send_all(sender, log, True, MESSAGES), None)[-1]) if large else 0  # type: ignore[func-returns-value]
    if case == "sender" or large:
        sender.close()
    if case != "sender" and not large:
        receiver.close()
    if not failpoint:
        wait_until(lambda: log[STARTED], WATCHDOG)
        until = time.perf_counter() + after
        while time.perf_counter() < until:
            if case == "receiver":
                send_one(sender, log)
            elif case == "sender" and receiver.poll(0.001):
                receive_one(receiver, log)
        os.kill(pid, 9)
    count = 0
    if case == "sender":
        count = log[TAKEN]
        try:
            while True:
                check(receiver.recv(), count, large)
                count += 1
        except (EOFError, OSError) as error:
            # In the middle of a small message, or between the two reads of a large one: as the standard library's.
            assert isinstance(error, EOFError) or "end of file" in str(error), what
        assert count >= log[RETURNED], f"lost: {count} of {log[RETURNED]}: {what}"
        killed = reap(pid, f"the victim of {what}") == 9
    elif not large:
        count = log[RETURNED]
        try:
            while count < most:
                send_one(sender, log)
                count += 1
        except (BrokenPipeError, ConnectionResetError):
            pass
        sender.close()
        killed = reap(pid, f"the victim of {what}") == 9
    else:
        killed = reap(pid, f"the victim of {what}") == 9
        seen: list[int] = []
        try:
            while True:
                with lock:
                    got = receiver.recv()
                seen.append(number_of(got))
                check(got, seen[-1], True)
        except (EOFError, OSError):
            pass
        assert reap(other, f"the sender of {what}") == 0
        assert seen == sorted(set(seen)), f"out of order, or twice: {seen}: {what}"
        count = len(seen)
        # Killed in the middle of reading, it has left the rest to the next, as the standard library's: that ends it.
        if failpoint.partition(":")[0] != "wire.read" and not after:
            assert count + log[TAKEN] >= log[RETURNED] - 1, f"lost: {count} and {log[TAKEN]} of {log[RETURNED]}: {what}"
    for end in (receiver, sender):
        end.close()
    got = None
    heap = process_heap()
    keep.append(heap)

    def nothing_held() -> bool:
        heap.collect()
        return bool(heap.statistics()["blocks_held"] == 0)

    wait_until(nothing_held, WATCHDOG, f"all memory back: {heap.statistics()}: {what}")
    return {"killed": killed, "messages": count}


keep: list[object] = []


def send_one(sender: Any, log: Log) -> None:
    sender.send(made(log[RETURNED], False))
    log[RETURNED] += 1


def receive_one(receiver: Any, log: Log) -> None:
    check(receiver.recv(), log[TAKEN], False)
    log[TAKEN] += 1


def main(kind: str, case: str, *words: str) -> None:
    die_with_parent()
    keep.append(process_heap())
    if kind == "failpoints":
        for name in words:
            for skip in SKIPS:
                result = trial(case, zlib.crc32(name.encode()) + skip, f"{name}:{skip}")
                print(json.dumps({"failpoint": name, "skip": skip, **result}), flush=True)
    else:
        trials, seed = int(words[0]), int(words[1])
        chance = random.Random(seed)
        for number in range(trials):
            result = trial(case, seed + number, after=0.0005 + chance.random() ** 2 * 0.03)
            print(json.dumps({"trial": number, **result}), flush=True)


if __name__ == "__main__":
    assert shmkit
    main(*sys.argv[1:])
