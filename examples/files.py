"""Files of several processes: a lock that goes with its holder, a file that is replaced at once, an array."""

import json
import os
import tempfile
from multiprocessing import Process

from shmkit.files import FileLock, memmap, replacing


def count(folder: str) -> None:
    state, lock = os.path.join(folder, "state.json"), FileLock(os.path.join(folder, "lock"))
    for _ in range(50):
        with lock:
            with open(state) as file:
                done = json.load(file)["done"]
            with replacing(state, "w", durable=False) as file:  # who reads without the lock sees the old or the new
                json.dump({"done": done + 1}, file)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = os.path.join(folder, "state.json")
        with replacing(state, "w") as file:
            json.dump({"done": 0}, file)
        workers = [Process(target=count, args=(folder,)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        with open(state) as file:
            print(json.load(file))
        frames = memmap(os.path.join(folder, "frames.raw"), "uint8", "w+", shape=(10, 480, 640))
        frames[3] = 128  # its room is reserved: a full disk would have been an exception above
        print(frames.shape, int(frames.max()))


if __name__ == "__main__":
    main()
