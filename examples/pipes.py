"""A pipe to a child: arrays arrive in memory of their own, and the end of the pipe ends the loop."""

from multiprocessing import Process

import numpy as np

import shmkit


def work(sender: shmkit.Channel) -> None:
    for number in range(3):
        sender.send(np.full((480, 640), number, "u1"))
    sender.close()


def main() -> None:
    receiver, sender = shmkit.pair("pipe:")
    child = Process(target=work, args=(sender,))
    child.start()
    sender.close()  # the child has it now
    for frame in receiver:
        print(frame.shape, frame.mean())
    receiver.close()
    child.join()


if __name__ == "__main__":
    main()
