"""A program that kills both ends of a ring at the same time, again and again, and sees what a successor pair finds.

    killing_both.py TRIALS SEED [NAME]      with NAME, the ring has that name, and nobody holds it while both are dead

The victims are those of killing.py.  Their successors are two new processes: one receives what was committed, in order
and whole, from where the dead one was; the other meanwhile sends records with numbers of its own.  Prints a line of
JSON per trial; any broken promise is a traceback and exit status 1.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable

import shmkit
from faults.killing import (
    WATCHDOG,
    consuming_victim,
    fork,
    producing_victim,
    receive_next,
    send_next,
    whole_again,
)
from support.log import Log

HEIRS_FROM = 10_000_000  # the number of the successor's first record
HEIRS = 40
BATCH = 6  # the most records of one call

Find = Callable[[], shmkit.Ring]


def till_death(victim: Callable[[], None]) -> None:
    """Runs a victim.  The one that is killed last may learn of the other's death before its own."""
    try:
        victim()
    except (shmkit.PeerDied, shmkit.Broken):
        signal.pause()


def lagging_victim(ring: shmkit.Ring, log: Log, chance: random.Random) -> None:
    """Leaves most of what is sent in the ring."""
    expected = 0
    while True:
        expected = receive_next(ring, expected, chance, log)
        log[0] = expected - 1
        time.sleep(chance.random() * 0.005)


def heir_of_the_producer(find: Find, seed: int) -> None:
    ring, number, chance = find(), HEIRS_FROM, random.Random(seed)
    while number < HEIRS_FROM + HEIRS:
        try:
            number = send_next(ring, number, chance)
        except shmkit.PeerDied as death:  # noqa: PERF203
            number += getattr(death, "sent", 0)  # the other successor has not come yet, and the ring is full
    ring.close()


def heir_of_the_consumer(find: Find, seed: int, sent: int, received: int, alone: bool) -> None:
    """`sent` and `received` are the numbers of the last records that the victims' calls spoke of."""
    ring, chance = find(), random.Random(seed)
    numbers: list[int] = []
    deaths = 0
    while not (alone and deaths):
        try:
            numbers.append(receive_next(ring, -1, chance) - 1)  # the order is checked below
        except shmkit.PeerDied:  # noqa: PERF203
            deaths += 1  # the other successor may not have come yet
        except shmkit.EndOfStream:
            break
    assert deaths or not alone
    left = [number for number in numbers if number < HEIRS_FROM]
    if left:
        # Told twice only what the dead one still viewed; lost at most what it had in hand.
        assert received <= left[0] <= received + 2, f"received up to {received}; next comes {left[0]}"
        assert left == list(range(left[0], left[0] + len(left)))
        assert sent <= left[-1] <= sent + BATCH, f"sent up to {sent}; the last is {left[-1]}"
    else:
        assert sent <= received + 1, f"sent up to {sent}, received up to {received}, and nothing is left"
    heirs = numbers[len(left) :]
    assert heirs == ([] if alone else list(range(HEIRS_FROM, HEIRS_FROM + len(heirs))))
    assert alone or len(heirs) >= HEIRS
    whole_again(ring)
    ring.close()


def reap(pid: int, who: str, watchdog: float = 2 * WATCHDOG) -> int:
    give_up = time.monotonic() + watchdog
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        if time.monotonic() > give_up:
            os.kill(pid, signal.SIGABRT)
            os.waitpid(pid, 0)
            raise AssertionError(f"{who} hangs")
        time.sleep(0.0005)


def trial(seed: int, name: str | None) -> dict[str, object]:
    chance = random.Random(seed)
    capacity = chance.choice([1024, 2048, 8192])
    alone, lags = chance.random() < 0.3, chance.random() < 0.5
    ring = shmkit.Ring.create(name, capacity, lifetime=None if name is None else "named")
    sent, received = Log(), Log()
    sent[0] = received[0] = -1
    if name is not None:
        ring.close()

    def find() -> shmkit.Ring:
        return ring if name is None else shmkit.Ring.attach(name)

    def consume(ring: shmkit.Ring, log: Log, its_chance: random.Random) -> None:
        lagging_victim(ring, log, its_chance) if lags else consuming_victim(ring, log, its_chance, 1_000_000)

    victims = [
        fork(lambda: till_death(lambda: producing_victim(find(), sent, random.Random(seed + 1), 1_000_000))),
        fork(lambda: till_death(lambda: consume(find(), received, random.Random(seed + 2)))),
    ]
    # Whoever dies before its first call returned may not have been there yet.
    give_up = time.monotonic() + WATCHDOG
    while sent[0] < 0 or received[0] < 0:
        assert time.monotonic() < give_up, "the victims do not begin"
    until = time.perf_counter() + chance.random() ** 2 * 0.02
    while time.perf_counter() < until:
        pass
    chance.shuffle(victims)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    for pid in victims:
        status = os.waitpid(pid, 0)[1]
        assert os.WIFSIGNALED(status), f"a victim ended with status {status}"
    heirs = [fork(lambda: heir_of_the_consumer(find, seed + 3, sent[0], received[0], alone))]
    if not alone:
        heirs.append(fork(lambda: heir_of_the_producer(find, seed + 4)))
        chance.shuffle(heirs)
    for pid in heirs:
        assert reap(pid, f"a successor (seed {seed})") == 0, f"a successor failed (seed {seed})"
    if name is not None:
        ring = shmkit.Ring.attach(name)
        ring.unlink()
    ring.close()
    return {"seed": seed, "alone": alone, "left": sent[0] - received[0]}


def main(trials: str, seed: str, name: str | None = None) -> None:
    for number in range(int(trials)):
        print(json.dumps(trial(int(seed) + 7 * number, name)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
