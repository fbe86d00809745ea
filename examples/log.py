"""A log that survives a crash and a reboot: a writer is killed in the middle of a record, and the next goes on."""

import os
import signal
import tempfile
from multiprocessing import Process

import shmkit


def measure(url: str, first: int, dies: bool) -> None:
    with shmkit.connect(url) as log:
        for number in range(first, first + 3):
            log.send({"number": number, "temperature": 21.5 + number})
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "measurements")
        for first, dies in ((0, True), (3, False)):
            writer = Process(target=measure, args=(f"file://{path}?sync=yes", first, dies))
            writer.start()
            writer.join()
            if dies:
                with open(path, "r+b") as file:  # as a loss of power might leave it: half of one more record
                    file.seek(0, os.SEEK_END)
                    file.write(b"half a record")
        with shmkit.listen(f"file://{path}") as log:  # from the first record on, however often
            for _ in range(6):
                print(log.recv(timeout=10.0))


if __name__ == "__main__":
    main()
