"""A work queue whose workers are killed: each task is done all the same, by somebody else."""

import os
import signal
from multiprocessing import Process

import shmkit


def work(tasks: shmkit.Queue, results: shmkit.Queue) -> None:
    while (task := tasks.get()) is not None:
        results.put(("took", os.getpid(), task))
        if task % 7 == 3 and results.statistics()["put"] < 40:
            os.kill(os.getpid(), signal.SIGKILL)  # a bug, or the out-of-memory killer
        results.put(("done", os.getpid(), task))


def start(tasks: shmkit.Queue, results: shmkit.Queue) -> Process:
    worker = Process(target=work, args=(tasks, results))
    worker.start()
    return worker


def main() -> None:
    everything = set(range(30))
    tasks, results = shmkit.Queue(), shmkit.Queue()
    tasks.put_many(everything)
    workers = [start(tasks, results) for _ in range(2)]
    done: set[int] = set()
    in_hand: dict[int, int] = {}  # which process has which task
    dead: list[Process] = []
    killed = 0
    while done != everything:
        try:
            what, pid, task = results.get(timeout=0.05)
        except shmkit.Empty:
            # Those were dead before the queue was found empty: all that they had put has been read.
            for worker in dead:
                workers.remove(worker)
                killed += 1
                if worker.pid in in_hand:
                    tasks.put(in_hand.pop(worker.pid))  # somebody else's, now
                workers.append(start(tasks, results))
            dead = [worker for worker in workers if not worker.is_alive()]
            if not in_hand and tasks.empty():
                tasks.put_many(everything - done)  # taken by one that died before it could say so
            continue
        if what == "took":
            in_hand[pid] = task
        else:
            in_hand.pop(pid)
            done.add(task)
    for _ in workers:
        tasks.put(None)
    for worker in workers:
        worker.join()
    print(len(done), "tasks done,", killed, "workers killed on the way")
    assert killed


if __name__ == "__main__":
    main()
