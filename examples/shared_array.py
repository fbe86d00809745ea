"""One array that several processes work on; then one that a program finds by its name."""

import subprocess
import sys
from multiprocessing import Process

import shmkit


def fill(array: shmkit.SharedArray, row: int) -> None:
    array[row] = row + 1  # the same memory in all of them


def main() -> None:
    array = shmkit.zeros((4, 1000))
    workers = [Process(target=fill, args=(array, row)) for row in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print("rows:", array[:, 0])

    # Another program, which knows nothing but the name.
    named = shmkit.create("example-weights", (3, 3), lifetime="leased")
    named[1, 1] = 42
    program = "import shmkit; print('found:', shmkit.attach('example-weights')[1, 1])"
    subprocess.run([sys.executable, "-c", program], check=True)


if __name__ == "__main__":
    main()
