"""Any object between any number of processes; arrays arrive without a copy and are their receiver's own."""

from multiprocessing import Process

import numpy as np

import shmkit


def work(tasks: shmkit.Queue, results: shmkit.Queue) -> None:
    while True:
        try:
            number, image = tasks.get()
        except shmkit.ShutDown:
            return
        image += 1  # it is this process's own
        results.put({"number": number, "mean": float(image.mean())})


def main() -> None:
    tasks, results = shmkit.Queue(maxsize=8), shmkit.Queue()
    workers = [Process(target=work, args=(tasks, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for number in range(20):
        tasks.put((number, np.full((300, 400), number, "float32")))
    tasks.shutdown()  # no more will follow: workers finish what is there
    means = {result["number"]: result["mean"] for result in (results.get(timeout=10) for _ in range(20))}
    for worker in workers:
        worker.join()
    assert means == {number: number + 1 for number in range(20)}
    print(len(means), "images, by two workers")


if __name__ == "__main__":
    main()
