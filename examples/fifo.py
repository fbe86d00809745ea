"""A FIFO has a name in the file system: several children write to one that reads, and shell scripts could."""

import os
import tempfile
from multiprocessing import Process

import shmkit


def report(url: str, me: int, all_there: shmkit.Barrier) -> None:
    with shmkit.connect(url, timeout=10.0) as outbox:
        all_there.wait(10.0)  # the stream ends when all who came have left
        for number in range(3):
            outbox.send(f"{number} from writer {me}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"fifo://{os.path.join(folder, 'reports')}?writers=many"
        with shmkit.listen(url) as inbox:
            all_there = shmkit.Barrier(2)
            writers = [Process(target=report, args=(url, me, all_there)) for me in range(2)]
            for writer in writers:
                writer.start()
            for line in sorted(inbox.recv(timeout=10.0) for _ in range(6)):
                print(line)
            for writer in writers:
                writer.join()


if __name__ == "__main__":
    main()
