"""At most two at a time, and what a killed process held comes back; and a semaphore that C programs know, too."""

import os
import signal
from multiprocessing import Process

import shmkit


def use(seats: "shmkit.Semaphore", dies: bool) -> None:
    with seats:
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    seats = shmkit.Semaphore(2, undo=True)
    children = [Process(target=use, args=(seats, number < 2)) for number in range(6)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    print([child.exitcode for child in children], "and two seats are free:", seats.acquire(False), seats.acquire(False))
    name = f"example-{os.getpid()}"
    posix = shmkit.PosixSemaphore.create(name, 1)  # sem_open("/example-…") in C
    try:
        with posix:
            print("a POSIX semaphore: one at a time, C programs too")
    finally:
        posix.unlink()
        posix.close()


if __name__ == "__main__":
    main()
