"""A picture in memory without a name, sealed before it is handed over, and counters that wake whoever waits."""

from multiprocessing import Process

import numpy as np

from shmkit.descriptors import EventCounter, MemoryFile

SHAPE = (480, 640)
STRIPES = 4


def brighten(memory: MemoryFile, work: EventCounter, done: EventCounter) -> None:
    memory.require("shrink")  # who sent it cannot make it shorter under our hands
    picture = np.ndarray((STRIPES, SHAPE[0] * SHAPE[1] // STRIPES), "uint8", memory.map())
    while True:
        stripe = work.wait(timeout=10) - 1  # a counter gives all that was added, at once
        if stripe == STRIPES:
            return
        picture[stripe] += stripe + 1
        done.add()


def main() -> None:
    work, done = EventCounter(), EventCounter(semaphore=True)  # of a semaphore wait() takes 1
    with MemoryFile("picture", SHAPE[0] * SHAPE[1]) as memory, work, done:
        memory.seal("shrink", "grow")
        picture = np.ndarray((STRIPES, SHAPE[0] * SHAPE[1] // STRIPES), "uint8", memory.map())
        worker = Process(target=brighten, args=(memory, work, done))
        worker.start()
        for stripe in range(STRIPES):
            work.add(stripe + 1)
            done.wait(timeout=10)  # done.fileno() is for select and event loops
        work.add(STRIPES + 1)
        worker.join()
        print(sorted(memory.seals), picture.mean(axis=1).tolist())


if __name__ == "__main__":
    main()
