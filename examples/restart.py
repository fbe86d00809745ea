"""A consumer is killed and another takes its place, while the stream goes on: nothing that was not received is lost."""

import os
import signal
from multiprocessing import Process

import shmkit


def consume(ring: shmkit.Ring, seen: shmkit.Queue, most: int) -> None:
    for _ in range(most):
        try:
            number = int(ring.recv(timeout=10.0))
        except shmkit.EndOfStream:
            return
        seen.put(number)
    os.kill(os.getpid(), signal.SIGKILL)


def produce(ring: shmkit.Ring) -> None:
    for number in range(100):
        while True:
            try:
                ring.send(str(number).encode(), timeout=10.0)
                break
            except shmkit.PeerDied:
                continue  # nobody receives just now: a successor will
    ring.close()


def main() -> None:
    ring, seen = shmkit.Ring.create(capacity="64 KiB"), shmkit.Queue()
    producer = Process(target=produce, args=(ring,))
    producer.start()
    for most in (30, 30, 100):
        consumer = Process(target=consume, args=(ring, seen, most))
        consumer.start()
        consumer.join()
        print("consumer", consumer.pid, "was killed" if consumer.exitcode else "came to the end")
    producer.join()
    assert seen.get_many(1000) == list(range(100))
    print("100 records, each once and in order")


if __name__ == "__main__":
    main()
