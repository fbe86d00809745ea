"""Signals that carry a number, collected where they are wanted, and sent to the process that was meant."""

import os
import signal
from multiprocessing import Process

import shmkit
from shmkit.signals import ProcessHandle, collecting, queue


def work(boss: int, ready: "shmkit.Event") -> None:
    with collecting(signal.SIGTERM) as signals:  # no handler runs, nothing is interrupted
        ready.set()
        for number in range(3):
            queue(boss, signal.SIGRTMIN, number)
        signals.wait(timeout=10.0)  # until it is told to stop


def main() -> None:
    with collecting(signal.SIGRTMIN) as signals:  # whichever thread of this process they come to
        ready = shmkit.Event()
        worker = Process(target=work, args=(os.getpid(), ready))
        worker.start()
        for _ in range(3):
            came = signals.wait(timeout=10.0)
            assert came is not None
            print("the worker says", came.value)
    assert ready.wait(10.0)
    assert worker.pid is not None
    with ProcessHandle(worker.pid) as process:  # this process, and no other that gets its pid later
        process.send(signal.SIGTERM)
    worker.join()
    print("it ended with status", worker.exitcode)


if __name__ == "__main__":
    main()
