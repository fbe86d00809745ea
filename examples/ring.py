"""A stream of frames from one process to another, without a copy on either side."""

from multiprocessing import Process

import shmkit


def produce(ring: shmkit.Ring) -> None:
    for number in range(100):
        with ring.reserve((480, 640), "uint8", timeout=5.0) as frame:
            frame[:] = number  # sent when the block ends
    ring.close()


def main() -> None:
    ring = shmkit.Ring.create(capacity="2 MiB")
    producer = Process(target=produce, args=(ring,))
    producer.start()
    count = 0
    try:
        while True:
            with ring.recv_view(timeout=5.0) as frame:
                assert frame[0, 0] == frame[-1, -1] == count
                count += 1
    except shmkit.EndOfStream:
        print(count, "frames, each whole and in order")
    producer.join()


if __name__ == "__main__":
    main()
