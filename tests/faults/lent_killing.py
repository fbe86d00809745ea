"""A program that kills who lends a large message, or borrows it, at one step after the other.

    lent_killing.py CASE NAME…        the victim dies by SIGKILL where it passes NAME (debug build)

CASE says who is killed, and beside whom.  Two children of the program have an end each, and it has none itself:

    sender      the receiver takes what comes, until it is told of the end
    waiter      a sender whose receiver begins when that one is dead and has been swept up after; until then it waits,
                if it gets as far as that, as too much is under way
    slow        a sender that sends the next message when the one before was taken
    receiver    the sender sends until it is told that nobody receives
    waker       a receiver that begins when the sender waits
    copier      a receiver that can hold no block, as it has no descriptors left
    refused     a sender whose receiver has closed its end
    heir        a sender that takes back what a receiver lost, which was killed, and whose fellow goes on receiving
    maker       somebody who makes a pipe for itself

    met-sender, met-receiver: each message is sent as soon as the receiver waits, so that notes go from hand to hand

each of them each way that a pipe can go.  Messages carry their number, and all of their bytes follow from it.  Each
trial has a heap of its own, which is empty and goes when all of them have gone.  Prints a line of JSON per trial.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

from faults.pipe_killing import WATCHDOG, check, fork, made, number_of, reap
from shmkit import multiprocessing as mp
from shmkit._heap import process_heap
from support.log import Log
from support.processes import die_with_parent
from support.waiting import wait_until

SKIPS = (0, 3)
MESSAGES = 25  # of them so many are more than may be under way
WAYS = ("forth", "back", "one way")
# What a log says: sends that returned; messages that were got; that somebody was told of the end; messages that were
# lost; that the one who is waited for has gone; who sends.
RETURNED, TAKEN, TOLD, LOST, GONE, SENDER = range(6)

# At these a sender has not begun to write the message that its call is about, and at those it has written it for good.
UNSENT = ("heap.", "gate.", "pair.filling", "pair.offer", "meet.owned", "meet.stored", "meet.withdrawn")
SENT = ("pair.committed",)
# What was written and is still its sender's goes with it, unless it was taken before.
UNFINISHED = ("wire.written", "meet.telling", "pair.written")


def ends(way: str) -> tuple[Any, Any]:
    """A receiver and a sender."""
    one, other = mp.Pipe(way != "one way")
    return (other, one) if way == "forth" else (one, other)


def send(end: Any, log: Log, most: int, met: bool = False) -> None:
    """Sends what there is; if it is to be met, as soon as the receiver is about to wait."""
    for number in range(most):
        message = made(number, True)
        until = time.perf_counter() + WATCHDOG
        while met and log[TAKEN] < number and not log[GONE]:
            assert time.perf_counter() < until, "the receiver has not taken it"
        try:
            end.send(message)
        except (BrokenPipeError, ConnectionResetError):
            log[TOLD] = 1
            assert end._pair.waiting(end._side) == (0, 0), "it keeps what nobody will take"
            return
        log[RETURNED] = number + 1


def receive(end: Any, log: Log, most: int) -> None:
    for _ in range(most):
        try:
            got = end.recv()
        except (EOFError, ConnectionResetError):
            # No other error: notes are written at once, so that there is no half of one.
            log[TOLD] = 1
            return
        check(got, log[TAKEN], True)
        log[TAKEN] += 1


def receive_few(end: Any, log: Log) -> None:
    receive(end, log, 3)
    end.close()
    # Until then it has a part in what is under way.
    wait_until(lambda: log[GONE], WATCHDOG, "the end of the sender")


def receive_late(end: Any, log: Log, most: int) -> None:
    wait_until(lambda: log[GONE], WATCHDOG, "the end of the sender")
    process_heap().collect()
    receive(end, log, most)


def receive_from_waiting(end: Any, log: Log, most: int) -> None:
    def sleeps() -> bool:
        with open(f"/proc/{log[SENDER]}/stat") as stat:
            return log[RETURNED] > 2 and stat.read().rpartition(")")[2].split()[0] == "S"

    wait_until(sleeps, WATCHDOG, "the sender waits")
    receive(end, log, most)


def make(way: str, log: Log) -> None:
    receiver, sender = ends(way)
    sender.send(made(0, True))
    log[RETURNED] = 1
    receive(receiver, log, 1)


def receive_without_descriptors(end: Any, log: Log, most: int) -> None:
    number = os.dup(0)
    os.close(number)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    receive(end, log, most)


def receive_after(end: Any, log: Log) -> None:
    """What a fellow has left, which has ended before."""
    wait_until(lambda: log[GONE], WATCHDOG, "the end of the other receiver")
    last = log[TAKEN] - 1
    while True:
        try:
            got = end.recv()
        except (EOFError, ConnectionResetError):
            log[TOLD] = 1
            return
        number = number_of(got)
        assert number > last, f"{number} after {last}"
        check(got, number, True)
        log[LOST] += number - last - 1
        last = number
        log[TAKEN] += 1


def start(run: Callable[[], None], failpoint: str, unused: tuple[Any, ...]) -> int:
    """A child that has one end, and dies at the failpoint."""

    def child() -> None:
        if failpoint:
            os.environ["SHMKIT_FAILPOINT"] = failpoint
        for end in unused:
            end.close()
        run()

    return fork(child)


def play(case: str, way: str, failpoint: str, log: Log, what: str) -> bool:
    """All that the children do; whether the victim was killed."""
    receiver, sender = ends(way)
    lost = other = 0
    met = case == "slow" or case.startswith("met-")
    case = "sender" if case == "slow" else case.removeprefix("met-")
    if case in ("sender", "waiter"):
        most = MESSAGES if case == "sender" else 1000 * MESSAGES
        victim = start(lambda: send(sender, log, most, met), failpoint, (receiver,))
        run = receive if case == "sender" else receive_late
        other = start(lambda: run(receiver, log, most + 1), "", (sender,))
    elif case in ("receiver", "waker", "copier"):
        other = log[SENDER] = start(lambda: send(sender, log, 1000 * MESSAGES, met), "", (receiver,))
        run = {"receiver": receive, "waker": receive_from_waiting, "copier": receive_without_descriptors}[case]
        victim = start(lambda: run(receiver, log, MESSAGES), failpoint, (sender,))
    elif case == "refused":
        victim = start(lambda: send(sender, log, 1000 * MESSAGES), failpoint, (receiver,))
        other = start(lambda: receive_few(receiver, log), "", (sender,))
    elif case == "heir":
        lost = start(lambda: receive(receiver, log, MESSAGES), "pair.noted:2", (sender,))
        other = start(lambda: receive_after(receiver, log), "", (sender,))
        victim = start(lambda: send(sender, log, 4 * MESSAGES), failpoint, (receiver,))
        assert reap(lost, f"the first receiver of {what}") == 9
        log[GONE] = 1
    else:
        victim = start(lambda: make(way, log), failpoint, (receiver, sender))
    receiver.close()
    sender.close()
    killed = reap(victim, f"the victim of {what}") == 9
    log[GONE] = 1
    assert not other or reap(other, f"the survivor of {what}") == 0
    return killed


def trial(case: str, way: str, failpoint: str) -> dict[str, Any]:
    heap = process_heap()
    assert segments(), "the heap is in none"
    log = Log()
    what = f"{case}, {way}, {failpoint}"
    killed = play(case, way, failpoint, log, what)
    judge(case, failpoint.partition(":")[0] if killed else "", log, what)

    def empty() -> bool:
        heap.collect()
        found = heap.statistics()
        return bool(found["blocks_held"] == found["blocks_queued"] == 0)

    wait_until(empty, WATCHDOG, f"all memory back: {heap.statistics()}: {what}")
    return {"killed": killed, "returned": log[RETURNED], "taken": log[TAKEN]}


def judge(case: str, name: str, log: Log, what: str) -> None:
    """Whether what the survivor found is what somebody leaves who was killed there (at no name: not at all)."""
    case = "sender" if case == "slow" else case.removeprefix("met-")
    returned, taken = log[RETURNED], log[TAKEN]
    assert log[TOLD] or case in ("refused", "maker"), f"the survivor was not told: {what}"
    if case in ("sender", "waiter"):
        assert returned <= taken <= returned + 1, f"{taken} of {returned}: {what}"
        if name.startswith(UNSENT) or (case == "waiter" and name in UNFINISHED):
            assert taken == returned, f"one came that was not sent: {what}"
        if name in SENT:
            assert taken == returned + 1, f"lost: {what}"
    elif case == "heir":
        # The first receiver had two; the third went with it, which shows once there was a fourth.
        assert log[LOST] == (taken > 2), f"{log[LOST]} lost with the first receiver: {what}"
        assert returned <= taken + 1 <= returned + 1, f"{taken} and 1 of {returned}: {what}"
    else:
        assert taken <= returned + 1, f"{taken} of {returned}: {what}"


def segments() -> list[str]:
    """What this process has of the memory that its children shared."""
    with open("/proc/self/maps") as maps:
        mapped = [line for line in maps if "memfd:" in line]
    names = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return mapped + [name for name in names if os.path.lexists(name) and "memfd:" in os.readlink(name)]


def main(case: str, *names: str) -> None:
    die_with_parent()
    made(0, True)  # a copier cannot import anything
    for name in names:
        for skip in SKIPS:
            for way in WAYS:
                result = trial(case, way, f"{name}:{skip}")
                assert segments() == [], f"left by {case}, {way}, {name}:{skip}: {segments()}"
                print(json.dumps({"failpoint": name, "skip": skip, "way": way, **result}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
