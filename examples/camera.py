"""A camera and two consumers: a recorder that takes every frame, and a viewer that wants the newest.

The recorder gets a ring, as nothing may be lost; the viewer a topic, as it may hold nobody up.
"""

import time
from multiprocessing import Process

import shmkit

FRAMES, SHAPE = 200, (480, 640)


def record(ring: shmkit.Ring) -> None:
    total = 0
    try:
        while True:
            with ring.recv_view(timeout=10.0) as frame:
                assert frame[0, 0] == total % 256
                total += 1
    except shmkit.EndOfStream:
        print("recorder:", total, "frames")
        assert total == FRAMES


def view(subscriber: shmkit.Subscriber, watching: shmkit.Event) -> None:
    shown = 0
    watching.set()
    try:
        while True:
            frame = subscriber.recv(timeout=10.0)  # a copy of its own
            if subscriber.pending:
                frame = subscriber.latest()
            assert frame.min() == frame.max()  # never a mixture of two
            shown += 1
            time.sleep(0.01)  # a slow screen
    except shmkit.EndOfStream:
        print("viewer:", shown, "frames shown")


def main() -> None:
    ring = shmkit.Ring.create(capacity="2 MiB")
    publisher = shmkit.Publisher(slots=4, slot_size="1 MiB")
    watching = shmkit.Event()
    consumers = [
        Process(target=record, args=(ring,)),
        Process(target=view, args=(publisher.subscriber(), watching)),
    ]
    for consumer in consumers:
        consumer.start()
    watching.wait(timeout=10.0)
    for number in range(FRAMES):
        with ring.reserve(SHAPE, "uint8", timeout=10.0) as frame:
            frame[:] = number % 256  # camera.read_into(frame)
            with publisher.loan(SHAPE, "uint8") as shown:
                shown[:] = frame
    ring.close()
    publisher.close()
    for consumer in consumers:
        consumer.join()
        assert consumer.exitcode == 0


if __name__ == "__main__":
    main()
