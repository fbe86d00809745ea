"""A program that kills one end of a ring, again and again, and sees what the other end finds.

    killing.py failpoints ROLE NAME…        the victim dies by SIGKILL where it passes NAME (debug build)
    killing.py instants ROLE TRIALS SEED    the parent kills the victim after a random time

Each trial forks from this process, which itself never acts on a ring, so that children read SHMKIT_FAILPOINT anew.
Each record carries its number, a length that follows from it, and a checksum.  Prints a line of JSON per trial; any
broken promise is a traceback and exit status 1.
"""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import sys
import time
import traceback
import zlib
from collections.abc import Callable

import numpy as np

import shmkit
from support.log import Log
from support.processes import die_with_parent

WATCHDOG = 20.0
SKIPS = (0, 1, 7, 40)
LARGEST = 300
OVER = 2  # the slot of a Log that says that the victim has ended


def record(number: int) -> bytes:
    """The record with this number: 16 bytes and up, checksummed."""
    body = struct.pack("<Q", number) + bytes((number * 7 + i) % 251 for i in range(number * 37 % LARGEST))
    return struct.pack("<I", zlib.crc32(body)) + body


def number_of(data: object) -> int:
    """The number in a record that is whole; AssertionError for any other."""
    got = bytes(data) if not isinstance(data, np.ndarray) else data.tobytes()
    assert zlib.crc32(got[4:]) == struct.unpack("<I", got[:4])[0], f"torn: {got[:32]!r}"
    number: int = struct.unpack_from("<Q", got, 4)[0]
    assert got == record(number), f"not what was sent as {number}"
    return number


def send_next(ring: shmkit.Ring, number: int, chance: random.Random) -> int:
    """Sends one or more records from `number` on, in one of the ways that there are; returns the next number."""
    way = chance.randrange(6)
    data = record(number)
    if way == 0:
        ring.send(np.frombuffer(data, "u1"), timeout=WATCHDOG)
    elif way == 1:
        with ring.reserve(len(data), timeout=WATCHDOG) as slot:
            slot[:] = data
    elif way == 2:
        with ring.reserve((len(data),), "u1", timeout=WATCHDOG) as array:
            array[:] = np.frombuffer(data, "u1")
    elif way == 3:
        count = chance.randrange(1, 6)
        ring.send_many([record(number + i) for i in range(count)], timeout=WATCHDOG)
        return number + count
    elif way == 4:
        ring.send_many(data, timeout=WATCHDOG, itemsize=len(data))
    else:
        ring.send(data, timeout=WATCHDOG)
    return number + 1


def receive_next(ring: shmkit.Ring, expected: int, chance: random.Random, log: Log | None = None) -> int:
    """Receives one record, which must be `expected`; returns the next number.  A view is logged while it is held."""
    way = chance.randrange(4)
    if way == 0:
        with ring.recv_view(timeout=WATCHDOG) as view:
            number = number_of(view)
            if log is not None:
                log[0] = number
    elif way == 1:
        room = bytearray(LARGEST + 32)
        number = number_of(room[: ring.recv_into(room, timeout=WATCHDOG)])
    elif way == 2:
        (item,) = ring.recv_many(1, timeout=WATCHDOG)
        number = number_of(item)
    else:
        number = number_of(ring.recv(timeout=WATCHDOG))
    assert expected in (number, -1), f"expected {expected}: got {number}"
    return number + 1


def rest(ring: shmkit.Ring, expected: int, chance: random.Random, log: Log, patience: float) -> tuple[int, str]:
    """Receives until there will be no more; returns the next number and how it ended."""
    while True:
        over = log[OVER]
        try:
            if patience < WATCHDOG:
                number = number_of(ring.recv(timeout=patience))
                assert number == expected, f"expected {expected}: got {number}"
                expected += 1
            else:
                expected = receive_next(ring, expected, chance)
                dawdle()
        except shmkit.EndOfStream:
            return expected, "end"
        except shmkit.PeerDied as death:
            return expected, f"died {death.pid}"
        except TimeoutError:
            if over or patience == WATCHDOG:
                return expected, "nobody"


def whole_again(ring: shmkit.Ring) -> None:
    """This process takes both ends: the largest record that can ever fit goes through."""
    largest = bytes(range(256)) * ((ring.capacity - 8) // 256)
    for _ in range(3):
        ring.send(largest, timeout=WATCHDOG)
        assert ring.recv(timeout=WATCHDOG) == largest
    assert len(ring) == 0
    assert ring.statistics().used == 0


_calls = 0
_between = 20  # calls after which something else is done


def dawdle() -> None:
    """Now and then something else is done, for longer than the other end spins: it parks."""
    global _calls
    _calls += 1
    if _calls % _between == 0:
        time.sleep(0.003)


def producing_victim(ring: shmkit.Ring, log: Log, chance: random.Random, records: int) -> None:
    number = 0
    while number < records:
        number = send_next(ring, number, chance)
        log[0] = number - 1
        dawdle()
    ring.close()


def consuming_victim(ring: shmkit.Ring, log: Log, chance: random.Random, records: int) -> None:
    expected = 0
    while expected < records:
        expected = receive_next(ring, expected, chance, log)
        log[0] = expected - 1
        dawdle()
    ring.close()


def consuming_survivor(ring: shmkit.Ring, log: Log, chance: random.Random, victim: int, patience: float) -> str:
    got, end = rest(ring, 0, chance, log, patience)
    committed = log[0] + 1
    # What was committed in the call that was killed may be there as well: at most the batch of one call.
    assert committed <= got <= committed + 6, f"{committed} were committed, {got} came"
    if end.startswith("died"):
        assert end == f"died {victim}", f"{end}: the victim was {victim}"
    whole_again(ring)
    return end.split()[0]


def producing_survivor(ring: shmkit.Ring, log: Log, chance: random.Random, victim: int, patience: float) -> str:
    sent, end = 0, "filled"
    try:
        while sent < 3000:
            if patience < WATCHDOG:
                over = log[OVER]
                try:
                    ring.send(record(sent), timeout=patience)
                except TimeoutError:
                    if over:
                        raise
                    continue
                sent += 1
            else:
                sent = send_next(ring, sent, chance)
                dawdle()
    except shmkit.PeerDied as death:
        assert death.pid == victim
        end = "died"
    except shmkit.Broken:
        end = "end"
    except TimeoutError:
        end = "nobody"
    # This process is the successor too.  A batch that was cut short has put some of its records into the ring.
    got = log[0]
    waiting = len(ring)
    if waiting:
        data = ring.recv(timeout=WATCHDOG)
        # A debug build overwrites what a view is about to give back: killed in between, that comes again.
        first = got if set(bytes(data)) == {0xDD} else number_of(data)
        # Told twice only what the victim still held; lost at most what it had in hand.
        assert got <= first <= got + 2, f"the victim had received up to {got}; next comes {first}"
        expected = first + 1
        while len(ring):
            expected = receive_next(ring, expected, chance)
        assert expected >= sent
    whole_again(ring)
    return end


VICTIMS: dict[str, Callable[[shmkit.Ring, Log, random.Random, int], None]] = {
    "producer": producing_victim,
    "consumer": consuming_victim,
}
SURVIVORS: dict[str, Callable[[shmkit.Ring, Log, random.Random, int, float], str]] = {
    "producer": consuming_survivor,
    "consumer": producing_survivor,
}


def fork(action: Callable[[], object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        die_with_parent()
        action()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def trial(role: str, seed: int, records: int, failpoint: str = "", after: float | None = None) -> tuple[str, bool]:
    """One victim, one survivor; returns what the survivor saw and whether the victim was killed."""
    chance = random.Random(seed)
    ring = shmkit.Ring.create(capacity=chance.choice([1024, 2048, 8192]))
    log = Log()
    log[0] = -1
    log[1] = 0

    def victim() -> None:
        global _between
        if failpoint:
            # The survivor is the slower of the two, on any machine: the victim waits, and passes what waits pass.
            _between = 200
            os.environ["SHMKIT_FAILPOINT"] = failpoint
        VICTIMS[role](ring, log, random.Random(seed + 1), records)

    said, say = os.pipe()
    pid = fork(victim)
    # One who dies while it takes the role was never there: nobody can be told of it but by this process.
    patience = 0.1 if failpoint.startswith("ring.claim") else WATCHDOG

    def survivor() -> None:
        end = SURVIVORS[role](ring, log, random.Random(seed + 2), pid, patience)
        os.write(say, end.encode())

    other = fork(survivor)
    os.close(say)
    if after is not None:
        # Whoever dies before its first call returned may not have been there yet: that is what ring.claim.* is for.
        while log[0] < 0 and os.waitpid(pid, os.WNOHANG)[0] == 0:
            pass
        until = time.perf_counter() + after
        while time.perf_counter() < until:
            pass
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    log[OVER] = 1
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, f"the victim ended with status {status}"
    give_up = time.monotonic() + 2 * WATCHDOG
    while True:
        done, status = os.waitpid(other, os.WNOHANG)
        if done:
            break
        if time.monotonic() > give_up:
            os.kill(other, signal.SIGABRT)
            os.waitpid(other, 0)
            raise AssertionError(f"the survivor of a {role} hangs ({failpoint or after}, seed {seed})")
        time.sleep(0.0005)
    with open(said, "rb") as pipe:
        end = pipe.read().decode()
    assert status == 0, f"the survivor of a {role} failed ({failpoint or after}, seed {seed})"
    ring.close()
    return end, killed


def main(kind: str, role: str, *words: str) -> None:
    if kind == "failpoints":
        for name in words:
            for skip in SKIPS:
                end, killed = trial(
                    role, seed=zlib.crc32(name.encode()) + skip, records=400, failpoint=f"{name}:{skip}"
                )
                print(json.dumps({"failpoint": name, "skip": skip, "killed": killed, "end": end}), flush=True)
    else:
        trials, seed = int(words[0]), int(words[1])
        chance = random.Random(seed)
        for number in range(trials):
            end, killed = trial(role, seed=seed + 3 * number, records=100_000, after=chance.random() ** 2 * 0.02)
            print(json.dumps({"trial": number, "killed": killed, "end": end}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
