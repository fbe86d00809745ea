"""A lock whose holder is killed, and how the next one repairs what it guards; a barrier; an event."""

import os
import signal
from multiprocessing import Process

import shmkit


def die_half_way(lock: shmkit.Lock, account: shmkit.SharedArray) -> None:
    lock.acquire()
    account[0] -= 100
    os.kill(os.getpid(), signal.SIGKILL)  # before the other half


def meet(barrier: shmkit.Barrier, done: shmkit.Event) -> None:
    barrier.wait(timeout=10.0)
    done.set()


def main() -> None:
    lock, account = shmkit.Lock(), shmkit.array([500, 500])
    child = Process(target=die_half_way, args=(lock, account))
    child.start()
    child.join()
    try:
        lock.acquire()
    except shmkit.OwnerDied as death:
        # This process holds the lock now; the sum tells what is missing.
        print(f"process {death.pid} died with the lock: {account} is repaired")
        account[1] += 1000 - account.sum()
        lock.recover()
    lock.release()
    print("accounts:", account)

    barrier, done = shmkit.Barrier(3), shmkit.Event()
    children = [Process(target=meet, args=(barrier, done)) for _ in range(2)]
    for child in children:
        child.start()
    barrier.wait(timeout=10.0)
    print("all have come:", done.wait(timeout=10.0))
    for child in children:
        child.join()


if __name__ == "__main__":
    main()
