"""Counting in several processes without a lock, and without losing a count."""

from multiprocessing import Process

import shmkit


def count(total: shmkit.AtomicInt64, histogram: shmkit.AtomicArray) -> None:
    for number in range(10_000):
        total.add(1)
        histogram.add(number % 8, 1)


def main() -> None:
    total, histogram = shmkit.AtomicInt64(0), shmkit.AtomicArray(shmkit.zeros(8, "int64"))
    children = [Process(target=count, args=(total, histogram)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    print("total:", total.load(), "- by remainder:", list(histogram))
    assert total.load() == sum(histogram) == 30_000


if __name__ == "__main__":
    main()
