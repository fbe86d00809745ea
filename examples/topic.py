"""One publisher, which waits for nobody; a subscriber that keeps up, and one that comes late and loses some."""

from multiprocessing import Process

import shmkit


def keep_up(subscriber: shmkit.Subscriber, ready: shmkit.Semaphore) -> None:
    ready.release()
    values = list(subscriber)  # until the publisher closes
    print("in order:", values == sorted(values), "- lost:", subscriber.lost)
    assert len(values) + subscriber.lost == 1000


def main() -> None:
    publisher = shmkit.Publisher(slots=64, slot_size=100)
    late = publisher.subscriber()
    ready = shmkit.Semaphore(0)
    listener = Process(target=keep_up, args=(publisher.subscriber(), ready))
    listener.start()
    ready.acquire(timeout=10.0)
    for number in range(1000):
        publisher.publish(number)
    first, lost = late.recv(timeout=1.0), late.lost
    print(f"late: {lost} were overtaken, so the first one is {first}; the newest is {late.latest()}")
    publisher.close()
    listener.join()


if __name__ == "__main__":
    main()
