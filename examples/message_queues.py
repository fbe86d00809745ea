"""Message queues of the kernel: POSIX ones have priorities, System V ones have types; both outlive who sent."""

import os
from multiprocessing import Process

from shmkit.mqueue import PosixMessageQueue, SysVMessageQueue

NAME = f"orders-{os.getpid()}"


def order(name: str) -> None:
    queue = PosixMessageQueue.attach(name)
    queue.send(b"some time", priority=1)
    queue.send(b"at once", priority=9)
    queue.close()


def main() -> None:
    with PosixMessageQueue.create(NAME, max_messages=8, max_message_size=64) as queue:
        try:
            sender = Process(target=order, args=(NAME,))
            sender.start()
            sender.join()
            for _ in range(2):
                message, priority = queue.recv_prioritized(timeout=10.0)
                print(message.decode(), "at priority", priority)
        finally:
            queue.unlink()
    with SysVMessageQueue.create(NAME) as typed:
        try:
            typed.send(b"for the accountant", mtype=2)
            typed.send(b"for the cook", mtype=1)
            print(typed.recv(timeout=10.0, mtype=1).decode(), "comes first to whoever asks for type 1")
        finally:
            typed.unlink()


if __name__ == "__main__":
    main()
